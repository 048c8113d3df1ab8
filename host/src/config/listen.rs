//! The addresses to listen on: one, or a list.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Addresses in the order in which they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listen(pub(super) Vec<SocketAddr>);

/// The default port.
const DEFAULT_PORT: u16 = 7420;

impl Default for Listen {
    fn default() -> Self {
        Self(vec![(Ipv4Addr::LOCALHOST, DEFAULT_PORT).into()])
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListenVisitor;
        impl<'de> de::Visitor<'de> for ListenVisitor {
            type Value = Listen;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address with its port, or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
                match text.parse() {
                    Ok(address) => Ok(Listen(vec![address])),
                    Err(_) => Err(E::custom(format_args!(
                        "`{text}` is not an IP address with a port"
                    ))),
                }
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Listen, A::Error> {
                let mut addresses = Vec::new();
                while let Some(Listen(one)) = list.next_element()? {
                    addresses.extend(one);
                }
                Ok(Listen(addresses))
            }
        }
        deserializer.deserialize_any(ListenVisitor)
    }
}

impl JsonSchema for Listen {
    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "items": { "type": "string" },
            "description": "An IP address with its port, or a list of them.",
            "examples": ["127.0.0.1:7420", "[::1]:7420", ["127.0.0.1:7420", "10.0.0.7:7420"]],
        })
    }
}

/// Returns whether `address` is reachable only from this machine.
pub(super) fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Returns whether the kernel refuses to bind `b` while `a` is bound. `[::]` covers IPv4 as well.
pub(super) fn collide(a: &SocketAddr, b: &SocketAddr) -> bool {
    let covers = |wide: IpAddr, other: IpAddr| match wide {
        IpAddr::V4(ip) => ip.is_unspecified() && other.is_ipv4(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}
