//! The addresses of a pod's own little network, the same in every pod.
//!
//! Pods cannot see each other, so all may use one subnet. It must only not hide a network that
//! the user wants to reach from inside, hence a /24 that common tools leave alone: not QEMU's,
//! VirtualBox's and slirp's 10.0.2.0/24, podman's 10.88.0.0/16, k3s' 10.42.0.0/15, kubeadm's
//! 10.96.0.0/12, flannel's 10.244.0.0/16, Docker's 172.17.0.0/16 or libvirt's 192.168.122.0/24.
//! RFC 1918 space (and not RFC 2544 or 6598 space) is what programs recognise as private.

use std::net::Ipv4Addr;

/// Address of the pod's end of the TUN.
pub const POD_IP: Ipv4Addr = Ipv4Addr::new(10, 117, 0, 2);
/// Default route of the pod. It answers ping and refuses everything else.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 117, 0, 1);
/// The pod's name server: UDP and TCP port 53 are forwarded to the host's resolvers.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 117, 0, 53);
/// Prefix length of the pod's subnet.
pub const PREFIX: u8 = 24;
/// MTU of the TUN in bytes: large, because nothing on the way has a smaller one and each packet
/// costs two system calls. (65,535 less the headers, rounded down to a multiple of 16.)
pub const MTU: u16 = 65520;
