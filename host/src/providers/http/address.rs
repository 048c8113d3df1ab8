//! Classifies the addresses to which names resolve. Pure. Follows the registries of special-purpose
//! addresses (RFC 6890 and its successors): an address that is in none of them, and in the space
//! that is allocated, is public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::domain::Reach;

/// The scope of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressKind {
    /// An address of the public internet.
    Public,
    /// An address of this machine.
    Loopback,
    /// A private, link-local (where clouds serve secrets), reserved or unallocated address.
    Private,
    /// Not the address of a single machine: unspecified, multicast or broadcast.
    Nobody,
}

impl AddressKind {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => v4(address),
            IpAddr::V6(address) => v6(address),
        }
    }

    /// Returns whether it may be connected to.
    pub(super) fn is_within(self, reach: Reach) -> bool {
        match self {
            Self::Public => true,
            Self::Loopback => reach >= Reach::Loopback,
            Self::Private => reach >= Reach::Private,
            Self::Nobody => false,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private or special address",
            Self::Nobody => "no address of a single machine",
        }
    }
}

fn v4(address: Ipv4Addr) -> AddressKind {
    match address.octets() {
        [0, ..] | [224..=239, ..] | [255, 255, 255, 255] => AddressKind::Nobody,
        [127, ..] => AddressKind::Loopback,
        // Private networks, carrier-grade NAT, and link-local, where clouds serve instance
        // metadata.
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [169, 254, ..]
        // Protocol assignments, 6to4 relays, benchmarking, documentation, reserved for future use.
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..] => AddressKind::Private,
        _ => AddressKind::Public,
    }
}

fn v6(address: Ipv6Addr) -> AddressKind {
    let low = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] | [0xff00..=0xffff, ..] => AddressKind::Nobody,
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressKind::Loopback,
        // An embedded IPv4 address: mapped, compatible, translated, NAT64 or 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, a, b] | [0, 0, 0, 0, 0xffff, 0, a, b] => low(a, b),
        [0x64, 0xff9b, 0, 0, 0, 0, a, b] | [0x2002, a, b, ..] => low(a, b),
        // Protocol assignments (Teredo among them), documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => {
            AddressKind::Private
        }
        [0x2000..=0x3fff, ..] => AddressKind::Public,
        // Unique local, link-local, site-local, local-use NAT64, and unallocated space.
        _ => AddressKind::Private,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_address_is_known() {
        for (address, expected) in [
            ("8.8.8.8", AddressKind::Public),
            ("1.1.1.1", AddressKind::Public),
            ("172.15.255.255", AddressKind::Public),
            ("172.32.0.0", AddressKind::Public),
            ("100.63.255.255", AddressKind::Public),
            ("100.128.0.0", AddressKind::Public),
            ("192.0.1.1", AddressKind::Public),
            ("127.0.0.1", AddressKind::Loopback),
            ("127.255.255.255", AddressKind::Loopback),
            ("10.0.0.1", AddressKind::Private),
            ("172.16.0.1", AddressKind::Private),
            ("172.31.255.255", AddressKind::Private),
            ("192.168.1.1", AddressKind::Private),
            ("169.254.169.254", AddressKind::Private),
            ("100.64.0.1", AddressKind::Private),
            ("100.127.255.255", AddressKind::Private),
            ("192.0.0.170", AddressKind::Private),
            ("192.0.2.1", AddressKind::Private),
            ("198.18.0.1", AddressKind::Private),
            ("198.19.255.255", AddressKind::Private),
            ("198.51.100.1", AddressKind::Private),
            ("203.0.113.1", AddressKind::Private),
            ("240.0.0.1", AddressKind::Private),
            ("0.0.0.0", AddressKind::Nobody),
            ("0.1.2.3", AddressKind::Nobody),
            ("224.0.0.1", AddressKind::Nobody),
            ("239.255.255.255", AddressKind::Nobody),
            ("255.255.255.255", AddressKind::Nobody),
            ("2606:4700:4700::1111", AddressKind::Public),
            ("2a00::1", AddressKind::Public),
            ("::1", AddressKind::Loopback),
            ("::", AddressKind::Nobody),
            ("ff02::1", AddressKind::Nobody),
            ("fe80::1", AddressKind::Private),
            ("fec0::1", AddressKind::Private),
            ("fc00::1", AddressKind::Private),
            ("fd00:ec2::254", AddressKind::Private),
            ("2001:db8::1", AddressKind::Private),
            ("2001::1", AddressKind::Private),
            ("4000::1", AddressKind::Private),
            ("100::1", AddressKind::Private),
            // Embedded IPv4: mapped, compatible, translated, NAT64, 6to4.
            ("::ffff:127.0.0.1", AddressKind::Loopback),
            ("::ffff:10.0.0.1", AddressKind::Private),
            ("::ffff:0.0.0.0", AddressKind::Nobody),
            ("::ffff:8.8.8.8", AddressKind::Public),
            ("::127.0.0.1", AddressKind::Loopback),
            ("::ffff:0:127.0.0.1", AddressKind::Loopback),
            ("64:ff9b::127.0.0.1", AddressKind::Loopback),
            ("64:ff9b::169.254.169.254", AddressKind::Private),
            ("64:ff9b::8.8.8.8", AddressKind::Public),
            ("64:ff9b:1::8.8.8.8", AddressKind::Private),
            ("2002:7f00:1::1", AddressKind::Loopback),
            ("2002:0a00:1::1", AddressKind::Private),
        ] {
            let parsed: IpAddr = address.parse().expect(address);
            assert_eq!(AddressKind::of(parsed), expected, "{address}");
        }
    }

    #[test]
    fn a_grant_reaches_so_far_and_never_many() {
        use AddressKind::{Loopback, Nobody, Private, Public};
        for (reach, allowed) in [
            (Reach::Public, &[Public][..]),
            (Reach::Loopback, &[Public, Loopback]),
            (Reach::Private, &[Public, Loopback, Private]),
        ] {
            for kind in [Public, Loopback, Private, Nobody] {
                assert_eq!(
                    kind.is_within(reach),
                    allowed.contains(&kind),
                    "{reach:?} {kind:?}"
                );
            }
        }
    }
}
