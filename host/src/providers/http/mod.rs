//! Outgoing HTTP for guests. The hosts that a request may reach are granted by name, and the
//! addresses to which a name resolves are checked when the connection is made. Redirects are not
//! followed: a guest that follows one sends a new request, which is checked again. Proxies from the
//! environment are not used, since they would resolve the names.

mod address;
mod request;
mod resolver;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use url::Host;

use crate::domain::{Effect, HttpGrants, HttpRequest, HttpResponse, Reach, StepError};
use crate::providers::http_body::{causes, chain, read_body};
use address::AddressKind;
use request::Sound;
use resolver::{OutOfReach, Resolver};

/// How long establishing a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The `User-Agent` header, unless the guest sets its own.
const USER_AGENT: &str = concat!("abide/", env!("CARGO_PKG_VERSION"));

/// Sends requests of guests. Each [`Reach`] has a client of its own, so that they share no
/// connections: one that was opened under a wider grant must not serve a narrower one.
pub struct HttpSender {
    public: reqwest::Client,
    loopback: reqwest::Client,
    private: reqwest::Client,
}

/// Why no requests can be sent.
#[derive(Debug, thiserror::Error)]
#[error("HTTP requests of guests cannot be sent: {0}")]
pub struct NoHttp(#[from] reqwest::Error);

impl HttpSender {
    /// Builds the clients, without connecting.
    ///
    /// # Errors
    /// Fails if TLS is unavailable.
    pub fn new() -> Result<Self, NoHttp> {
        // This fails only if a crypto provider is already installed, which is just as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = |reach| {
            reqwest::Client::builder()
                .dns_resolver(std::sync::Arc::new(Resolver(reach)))
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .referer(false)
                .user_agent(USER_AGENT)
                .build()
        };
        Ok(Self {
            public: client(Reach::Public)?,
            loopback: client(Reach::Loopback)?,
            private: client(Reach::Private)?,
        })
    }

    /// Returns the effect that sending this request would have, without sending it.
    ///
    /// # Errors
    /// `Invalid` if the request is malformed, `TooLarge` if its body has more than `limit_bytes` or
    /// its headers more than 32 KiB, `Denied` if it is not granted.
    pub fn classify(
        &self,
        request: &HttpRequest,
        grants: &HttpGrants,
        limit_bytes: u64,
    ) -> Result<Effect, StepError> {
        let sound = Sound::of(request, limit_bytes)?;
        reach(&sound, grants)?;
        Ok(Effect::Http {
            name: sound.name(),
            repeatable: sound.repeatable(),
        })
    }

    /// Sends a request once and reads the whole answer: headers and body of at most `limit_bytes`
    /// together, within `limit`. Dropping the future aborts the request on the wire.
    ///
    /// # Errors
    /// Those of [`HttpSender::classify`]; also `Denied` if none of the host's addresses may be
    /// reached, and `Unavailable` if there is no connection. Once the request was sent: `TooLarge`,
    /// `Failed` or `Timeout` if an answer began that could not be read in full. If no answer began:
    /// `UnknownOutcome`, or, for a repeatable request, `Unavailable` or `Timeout`.
    pub async fn send(
        &self,
        request: &HttpRequest,
        grants: &HttpGrants,
        limit_bytes: u64,
        limit: Duration,
    ) -> Result<HttpResponse, StepError> {
        let deadline = Instant::now() + limit;
        let sound = Sound::of(request, limit_bytes)?;
        let client = match reach(&sound, grants)? {
            Reach::Public => &self.public,
            Reach::Loopback => &self.loopback,
            Reach::Private => &self.private,
        };
        let (name, repeatable) = (sound.name(), sound.repeatable());
        let late = || {
            let limit = humantime::format_duration(limit);
            let why = format!("nothing within {limit} (`limits.step_timeout`)");
            unanswered(&name, repeatable, &why, StepError::Timeout)
        };
        let sending = client
            .request(sound.method, sound.url)
            .headers(sound.headers)
            .body(request.body.clone())
            .send();
        let response = match timeout_at(deadline, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(no_answer(&name, repeatable, &error)),
            Err(_) => return Err(late()),
        };
        let status = response.status().as_u16();
        let headers = response.headers().iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        let headers: Vec<(String, String)> = headers.collect();
        let heads: usize = headers.iter().map(|(n, v)| n.len() + v.len()).sum();
        let answered =
            |what: &str| format!("`{name}` was answered with status {status}, and {what}");
        let body = match timeout_at(deadline, body(response, heads as u64, limit_bytes)).await {
            Ok(Ok(Some(body))) => body,
            Ok(Ok(None)) => {
                return Err(StepError::TooLarge(answered(&format!(
                    "the answer has more than the {limit_bytes} bytes that are allowed \
                     (`limits.event`); what the request did is done"
                ))));
            }
            Ok(Err(error)) => {
                let why = chain(&error.without_url());
                let text = answered(&format!("the answer broke off: {why}"));
                return Err(StepError::Failed(text));
            }
            Err(_) => {
                let limit = humantime::format_duration(limit);
                return Err(StepError::Timeout(answered(&format!(
                    "the answer was not over within {limit} (`limits.step_timeout`)"
                ))));
            }
        };
        Ok(HttpResponse {
            status,
            headers,
            body,
        })
    }
}

/// Returns how far a request may reach.
fn reach(sound: &Sound, grants: &HttpGrants) -> Result<Reach, StepError> {
    let target = &sound.target;
    let reach = grants.reach(target).ok_or_else(|| {
        StepError::Denied(format!(
            "HTTP to `{target}` is not granted; add it to the plugin's `capabilities.http`"
        ))
    })?;
    // The client connects to a literal address without the resolver, so check it here.
    let kind = match target.host {
        Host::Ipv4(address) => AddressKind::of(address.into()),
        Host::Ipv6(address) => AddressKind::of(address.into()),
        Host::Domain(_) => return Ok(reach),
    };
    if kind.is_within(reach) {
        Ok(reach)
    } else {
        let kind = kind.as_str();
        Err(StepError::Denied(format!(
            "`{target}` is {kind}: nothing is sent there"
        )))
    }
}

/// Reads the whole body. Returns `None` if it has too many bytes together with the `before` bytes
/// that preceded it.
async fn body(
    response: reqwest::Response,
    before: u64,
    limit_bytes: u64,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let room = limit_bytes.saturating_sub(before);
    if before > limit_bytes {
        return Ok(None);
    }
    // A number that exceeds `usize` exceeds this machine's memory too.
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    read_body(response, room).await
}

fn no_answer(name: &str, repeatable: bool, error: &reqwest::Error) -> StepError {
    if let Some(OutOfReach { name, kind }) = out_of_reach(error) {
        let kind = kind.as_str();
        return StepError::Denied(format!(
            "`{name}` resolves to {kind}; if it shall be reached, add {name} to the plugin's \
             `capabilities.http_private`"
        ));
    }
    let why = causes(error);
    if error.is_builder() {
        return StepError::Invalid(format!("`{name}` cannot be sent: {why}"));
    }
    if error.is_connect() {
        return StepError::Unavailable(format!(
            "`{name}` was not sent, for there is no connection: {why}"
        ));
    }
    unanswered(name, repeatable, &why, StepError::Unavailable)
}

/// Returns the error of a request that was sent and got no answer.
fn unanswered(
    name: &str,
    repeatable: bool,
    why: &str,
    known: impl Fn(String) -> StepError,
) -> StepError {
    let text = format!("`{name}` was sent and no answer came ({why})");
    if repeatable {
        known(format!("{text}; it does no harm to send it again"))
    } else {
        StepError::UnknownOutcome(format!(
            "{text}; it may or may not have happened: find out before sending it again"
        ))
    }
}

fn out_of_reach(error: &reqwest::Error) -> Option<&OutOfReach> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
