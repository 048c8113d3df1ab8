//! Who sent a request: how much that may ask for, and until when.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::domain::{AccessToken, Principal, PrincipalName, TokenLimits, UnixMillis};

/// How often the end of a token is looked at: the wall clock, by which it expires, may be set.
const EXPIRY_CHECK_EVERY: Duration = Duration::from_secs(10);
/// The seconds after which a request may be sent again that came while others are answered.
const AT_ONCE_RETRY: Duration = Duration::from_secs(1);

/// Who sent a request.
#[derive(Debug)]
pub struct Holder {
    pub principal: Principal,
    /// Of the holder of an access token.
    token: Option<AccessToken>,
    /// Requests by the minute, if there is a limit.
    rate: Option<DefaultDirectRateLimiter>,
    /// Requests that may still come while others are answered, if there is a limit.
    at_once: Option<Arc<Semaphore>>,
    revoked: CancellationToken,
}

/// A request that was let in: to be kept until its response is sent.
#[derive(Debug)]
pub struct Admission {
    _place: Option<OwnedSemaphorePermit>,
}

/// A limit of an access token is reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the token may send {limit} requests {of}; send again later, or let an admin make another token"
)]
pub struct TooMuch {
    pub limit: NonZeroU32,
    of: &'static str,
    /// When it is worth sending again.
    pub retry_after: Duration,
}

impl Holder {
    /// Somebody without limits, whose rights end with the worker at the earliest.
    pub fn lasting(principal: Principal) -> Self {
        Self {
            principal,
            token: None,
            rate: None,
            at_once: None,
            revoked: CancellationToken::new(),
        }
    }

    pub(super) fn of(token: AccessToken) -> Self {
        let TokenLimits {
            requests_per_minute,
            requests_at_once,
        } = token.limits;
        let rate = requests_per_minute.map(|count| RateLimiter::direct(Quota::per_minute(count)));
        let at_once = requests_at_once.map(|count| Arc::new(Semaphore::new(count.get() as usize)));
        Self {
            principal: token.principal(),
            token: Some(token),
            rate,
            at_once,
            revoked: CancellationToken::new(),
        }
    }

    pub fn name(&self) -> &PrincipalName {
        &self.principal.name
    }

    pub(super) fn token(&self) -> Option<&AccessToken> {
        self.token.as_ref()
    }

    /// Lets a request in, or refuses it because of the token's limits.
    pub fn admit(&self) -> Result<Admission, TooMuch> {
        let limits = self.token.as_ref().map(|token| token.limits);
        let limits = limits.unwrap_or_default();
        let place = match (&self.at_once, limits.requests_at_once) {
            (Some(places), Some(limit)) => match places.clone().try_acquire_owned() {
                Ok(place) => Some(place),
                Err(_) => {
                    return Err(TooMuch {
                        limit,
                        of: "at once",
                        retry_after: AT_ONCE_RETRY,
                    });
                }
            },
            _ => None,
        };
        if let (Some(rate), Some(limit)) = (&self.rate, limits.requests_per_minute)
            && let Err(wait) = rate.check()
        {
            return Err(TooMuch {
                limit,
                of: "a minute",
                retry_after: wait.wait_time_from(DefaultClock::default().now()),
            });
        }
        Ok(Admission { _place: place })
    }

    /// Returns when the token expired, if it has.
    pub fn expired_at(&self, now: UnixMillis) -> Option<UnixMillis> {
        let token = self.token.as_ref()?;
        token.expires_at.filter(|_| token.has_expired(now))
    }

    /// Whether the rights can end while a response is sent.
    pub fn may_end(&self) -> bool {
        self.token.is_some()
    }

    /// Waits until the token is revoked or has expired; pending forever for others.
    pub async fn ended(&self) {
        let expired = async {
            while self.expired_at(UnixMillis::now()).is_none() {
                tokio::time::sleep(EXPIRY_CHECK_EVERY).await;
            }
        };
        let expires = self.token.as_ref().and_then(|token| token.expires_at);
        tokio::select! {
            () = self.revoked.cancelled() => {}
            () = expired, if expires.is_some() => {}
        }
    }

    pub(super) fn revoke(&self) {
        self.revoked.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AccessRole, TokenName};

    fn holder(requests_per_minute: Option<u32>, requests_at_once: Option<u32>) -> Holder {
        Holder::of(AccessToken {
            name: TokenName::new("ci").unwrap(),
            role: AccessRole::Client,
            approve: false,
            sessions: vec!["*".to_owned()],
            created_at: UnixMillis(1),
            created_by: "config".to_owned(),
            expires_at: None,
            limits: TokenLimits {
                requests_per_minute: requests_per_minute.and_then(NonZeroU32::new),
                requests_at_once: requests_at_once.and_then(NonZeroU32::new),
            },
        })
    }

    #[test]
    fn requests_at_once_are_counted_until_they_are_answered() {
        let holder = holder(None, Some(2));
        let (first, _second) = (holder.admit().unwrap(), holder.admit().unwrap());
        let refused = holder.admit().unwrap_err();
        assert!(
            refused.to_string().contains("2 requests at once"),
            "{refused}"
        );
        drop(first);
        assert!(holder.admit().is_ok());
    }

    #[test]
    fn a_minute_has_so_many_requests() {
        let holder = holder(Some(3), None);
        for _ in 0..3 {
            holder.admit().unwrap();
        }
        let refused = holder.admit().unwrap_err();
        assert!(
            refused.to_string().contains("3 requests a minute"),
            "{refused}"
        );
        let wait = refused.retry_after;
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_secs(20),
            "{wait:?}"
        );
    }

    #[test]
    fn who_has_no_limits_is_let_in() {
        let others = [holder(None, None), Holder::lasting(Principal::anybody())];
        for holder in others {
            let admitted: Vec<_> = (0..1000).map(|_| holder.admit().unwrap()).collect();
            assert_eq!(admitted.len(), 1000);
        }
    }
}
