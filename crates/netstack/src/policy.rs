//! Which addresses a pod may not reach through its host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses at which clouds answer questions about the host's identity, beside link-local ones:
/// Alibaba, Azure's host agent, and AWS over IPv6.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Ranges of IPv6 that are refused whole, with the lengths of their prefixes.
const IPV6: [(Ipv6Addr, u32); 10] = [
    // Unspecified, loopback, and addresses that say nothing but IPv4 ones (RFC 4291): a socket of
    // the host would take the latter for IPv4.
    (Ipv6Addr::UNSPECIFIED, 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    // NAT64 of somebody's own (RFC 8215): where the IPv4 address stands is not known.
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    // Discarded (RFC 6666), and for documentation (RFC 3849, RFC 9637).
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    // Unique local with the pods' own subnet, link-local, site-local, multicast.
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Decides by destination address alone; ports are not looked at.
///
/// Refused are the host's loopback, "this network", link-local addresses with the metadata
/// services, multicast, broadcast and reserved space, the pod's own subnet, of IPv6 also unique local
/// and documentation addresses, and every IPv6 form that carries one of those IPv4 addresses. The name server inside the subnet is not an address
/// of the host and is routed before policy is asked.
///
/// The machine's other addresses change with its networks: unless
/// [`Policy::reaching_this_machine`] allows them, the stack asks the kernel about each destination
/// and refuses those that do not leave the machine. Services often listen on all addresses and
/// trust whoever is inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    subnet: u32,
    mask: u32,
    this_machine: bool,
}

impl Policy {
    /// Returns the policy for a pod in the subnet of `address` with a prefix of `prefix` bits.
    pub fn for_subnet(address: Ipv4Addr, prefix: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        Self { subnet: address.to_bits() & mask, mask, this_machine: false }
    }

    /// Returns the policy that also lets the pod talk to addresses of the machine's own, except
    /// those that [`Policy::refused`] names.
    #[must_use]
    pub fn reaching_this_machine(self) -> Self {
        Self { this_machine: true, ..self }
    }

    /// Tells whether addresses of the machine's own are allowed.
    pub(crate) fn reaches_this_machine(&self) -> bool {
        self.this_machine
    }

    /// Tells whether the pod may not talk to `address`.
    pub fn refused(&self, address: IpAddr) -> bool {
        METADATA.contains(&address)
            || match address {
                IpAddr::V4(v4) => self.refused_v4(v4),
                IpAddr::V6(v6) => self.refused_v6(v6),
            }
    }

    fn refused_v4(&self, address: Ipv4Addr) -> bool {
        address.octets()[0] == 0
            || address.is_loopback()
            || address.is_link_local()
            || address.is_multicast()
            || address.octets()[0] >= 240
            || address.to_bits() & self.mask == self.subnet
    }

    fn refused_v6(&self, address: Ipv6Addr) -> bool {
        IPV6.iter().any(|(prefix, len)| within(address, *prefix, *len))
            || embedded_v4(address).is_some_and(|v4| self.refused(IpAddr::V4(v4)))
    }
}

fn within(address: Ipv6Addr, prefix: Ipv6Addr, len: u32) -> bool {
    (address.to_bits() ^ prefix.to_bits()).leading_zeros() >= len
}

/// Returns the IPv4 address that an IPv6 address stands for: translated (RFC 2765), NAT64
/// (RFC 6052), 6to4 (RFC 3056) and Teredo's client (RFC 4380).
pub(crate) fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0xffff, 0) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(join(g, h)),
        (0x2001, 0, ..) => Some(join(!g, !h)),
        (0x2002, ..) => Some(join(b, c)),
        _ => None,
    }
}

fn join(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> Policy {
        Policy::for_subnet(crate::POD_IP, crate::PREFIX)
    }

    fn refused(text: &str) -> bool {
        policy().refused(text.parse().unwrap())
    }

    #[test]
    fn the_host_and_its_neighbourhood_are_refused() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.0.1",
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "10.117.0.0",
            "10.117.0.1",
            "10.117.0.2",
            "10.117.0.53",
            "10.117.0.255",
            "10.117.3.255",
        ] {
            assert!(refused(text), "{text}");
        }
    }

    #[test]
    fn ipv6_forms_of_them_are_refused() {
        for text in [
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.117.0.7",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "::ffff:168.63.129.16",
            "::ffff:192.0.2.1",
            "::192.0.2.1",
            "64:ff9b:1::1",
            "64:ff9b:1:ffff::1",
            "100::1",
            "2001:0:c000:201:0:0:80ff:fffe",
            "2001:db8::1",
            "3fff:fff::1",
            "fc00::1",
            "fd00::1",
            "fd00:10:117::1",
            "fdff:ffff::1",
            "fec0::1",
            "ff0e::1",
        ] {
            assert!(refused(text), "{text}");
        }
    }

    #[test]
    fn other_networks_are_not() {
        for text in [
            "1.1.1.1",
            "10.0.2.2",
            "10.116.255.255",
            "10.117.4.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "169.255.0.0",
            "172.17.0.1",
            "192.0.2.1",
            "192.168.0.1",
            "223.255.255.255",
            "2001:2::1",
            "2606::1",
            "100:0:0:1::1",
            "2002:c000:201::1",
            "2001:0:c000:201:0:0:3fff:fdfe",
            "64:ff9b::192.0.2.1",
        ] {
            assert!(!refused(text), "{text}");
        }
    }

    #[test]
    fn every_prefix_length_is_usable() {
        assert!(Policy::for_subnet(crate::POD_IP, 0).refused("192.0.2.1".parse().unwrap()));
        let host = Policy::for_subnet(crate::POD_IP, 32);
        assert!(host.refused(crate::POD_IP.into()));
        assert!(!host.refused(crate::GATEWAY.into()));
    }

    proptest! {
        #[test]
        fn a_translated_address_is_judged_like_the_plain_one(bits: u32) {
            let [a, b, c, d] = bits.to_be_bytes().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low);
            let six_to_four = Ipv6Addr::new(0x2002, high, low, 1, 2, 3, 4, 5);
            let plain = policy().refused(Ipv4Addr::from_bits(bits).into());
            prop_assert_eq!(policy().refused(nat64.into()), plain);
            prop_assert_eq!(policy().refused(six_to_four.into()), plain);
        }
    }
}
