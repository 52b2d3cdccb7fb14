//! The addresses of the pods' network: every cluster has the same.
//!
//! It must not hide a network that the user wants to reach from inside, hence a /22 (more pods
//! than a machine runs) that common tools leave alone: not QEMU's,
//! VirtualBox's and slirp's 10.0.2.0/24, podman's 10.88.0.0/16, k3s' 10.42.0.0/15, kubeadm's
//! 10.96.0.0/12, flannel's 10.244.0.0/16, Docker's 172.17.0.0/16 or libvirt's 192.168.122.0/24.
//! RFC 1918 space (and not RFC 2544 or 6598 space) is what programs recognise as private.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The first address that [`crate::SwitchPort`] gives to a pod; those below are left for services.
pub(crate) const FIRST: Ipv4Addr = Ipv4Addr::new(10, 117, 0, 64);

/// The last one; the address behind it is that of broadcasts.
pub(crate) const LAST: Ipv4Addr = Ipv4Addr::new(10, 117, 3, 254);

/// Address of a pod without a place among others.
pub const POD_IP: Ipv4Addr = Ipv4Addr::new(10, 117, 0, 2);
/// Default route of the pod. It answers ping and refuses everything else.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 117, 0, 1);
/// The pod's name server: UDP and TCP port 53 are forwarded to the host's resolvers.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 117, 0, 53);
/// Prefix length of the pods' subnet.
pub const PREFIX: u8 = 22;
/// Default route of the pod by IPv6. It answers ping and refuses everything else.
pub const GATEWAY6: Ipv6Addr = six(1);
/// Prefix length of the pods' IPv6 subnet, which is of unique local addresses (RFC 4193).
pub const PREFIX6: u8 = 64;
/// MTU of the TUN in bytes: large, because nothing on the way has a smaller one and each packet
/// costs two system calls. (65,535 less the headers, rounded down to a multiple of 16.)
pub const MTU: u16 = 65520;

/// Returns the IPv6 address of the pod that has `address`.
pub const fn pod_ip6(address: Ipv4Addr) -> Ipv6Addr {
    six(address.to_bits())
}

const fn six(last: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x117, 0, 0, 0, (last >> 16) as u16, last as u16)
}
