//! Resolves names when a connection is made. The client connects to the very addresses that were
//! checked, so a DNS server that answers differently next time (DNS rebinding) cannot evade the
//! check.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::AddressKind;
use crate::domain::Reach;

/// Resolves names as the system does, but returns only addresses that may be reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver(pub(super) Reach);

/// A name that resolves only to addresses that may not be reached.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` is {kind}", kind = kind.as_str())]
pub(super) struct OutOfReach {
    pub(super) name: String,
    pub(super) kind: AddressKind,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let name = name.as_str();
            // The client replaces port 0 by that of the URL.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
            Ok(Box::new(within(reach, name, found)?.into_iter()) as Addrs)
        })
    }
}

fn within(
    reach: Reach,
    name: &str,
    mut found: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, OutOfReach> {
    let first = found.first().map(|address| AddressKind::of(address.ip()));
    found.retain(|address| AddressKind::of(address.ip()).is_within(reach));
    match first {
        Some(kind) if found.is_empty() => Err(OutOfReach {
            name: name.to_owned(),
            kind,
        }),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_reached_is_given() {
        let found = || -> Vec<SocketAddr> {
            ["127.0.0.1:0", "8.8.8.8:0", "[::ffff:10.0.0.1]:0"]
                .iter()
                .map(|address| address.parse().expect("an address"))
                .collect()
        };
        let count = |reach| within(reach, "x", found()).expect("some").len();
        assert_eq!(count(Reach::Public), 1);
        assert_eq!(count(Reach::Loopback), 2);
        assert_eq!(count(Reach::Private), 3);
        let refused = within(Reach::Public, "x", found()[..1].to_vec()).expect_err("none");
        assert_eq!(refused.to_string(), "`x` is a loopback address");
        assert_eq!(within(Reach::Public, "x", Vec::new()).expect("none"), []);
    }

    #[tokio::test]
    async fn localhost_is_resolved_and_looked_at() {
        let resolve = |reach| Resolver(reach).resolve("localhost".parse().expect("a name"));
        let refused = resolve(Reach::Public).await.err().expect("out of reach");
        assert!(refused.downcast_ref::<OutOfReach>().is_some(), "{refused}");
        assert!(resolve(Reach::Loopback).await.is_ok());
    }
}
