//! Carries a pod's TCP, UDP and DNS to ordinary sockets of the host, without any privilege there.
//!
//! A pod has a TUN in its own network namespace and nothing else. Whoever made it hands over the
//! file descriptor; [`run`] reads the packets, ends TCP with smoltcp, and opens a socket of the
//! host for each connection. No veth, no NAT, no nftables on anybody's machine.
//!
//! ```text
//! pod's kernel --packets--> TUN fd --> packet --> policy --refused--> RST / ICMP, no socket
//!                                                   |
//!                                                   +--> tcp: smoltcp <-> host socket
//!                                                   +--> udp: NAT table <-> host socket
//!                                                   +--> dns: the host's resolver
//!                                                   +--> echo: ping socket of the host
//!                  packet --> switch --> port of another pod --> its TUN
//! ```
//!
//! What it is not: it publishes no ports, speaks IPv6 only to a pod that was given an address (give
//! it none where the host [has none](reaches_ipv6), so that its kernel answers "unreachable" by
//! itself), carries no IPv6 from pod to pod, forwards no ICMP but ping (where the host allows its
//! users to), and knows nothing of pods beyond their addresses.
//!
//! One thread, one epoll, no polling: it sleeps until a packet, a socket or a timer is due. A
//! second one, if there is a [`SwitchPort`], sleeps until another pod sends something.
//!
//! **Memory.** A connection has two buffers, [`TO_HOST`] and [`TO_POD`], zero pages until used.
//! glibc keeps that promise only for mapped allocations, and by default it stops mapping them
//! after the first was freed: the process should call `mallopt(M_MMAP_THRESHOLD, 65536)` or be
//! started with `MALLOC_MMAP_THRESHOLD_=65536`. Without it all works, with 0.75 MiB a connection.

mod address;
mod clock;
mod core;
mod counters;
mod echo;
mod flow;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod host;
mod nat;
mod outbox;
mod own;
mod packet;
mod policy;
mod resolv;
mod route;
mod stack;
mod switch;
mod tcp;
mod timers;
mod udp;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use address::{DNS, GATEWAY, GATEWAY6, MTU, POD_IP, PREFIX, PREFIX6, pod_ip6};
pub use counters::{Counters, Reading};
pub use host::reaches_ipv6;
pub use policy::Policy;
pub use resolv::resolvers;
pub use switch::SwitchPort;

/// Bytes a connection may hold on their way to the host: four packets of the largest size.
pub const TO_HOST: usize = 256 * 1024;
/// Bytes a connection may hold on their way to the pod, which are kept until it acknowledges
/// them; with half as many the rate sinks by a third.
pub const TO_POD: usize = 512 * 1024;
/// Connections of one pod at a time; each holds one file descriptor of the process. A pod that
/// stalls all of them makes the process hold 1.5 GiB, a usual one next to nothing.
pub const MAX_FLOWS: usize = 2048;

/// Everything a stack needs to know about its pod.
#[derive(Debug)]
pub struct Config {
    /// A TUN without packet information (`IFF_TUN | IFF_NO_PI`, see also `offload`), made inside the pod's network
    /// namespace. It is made non-blocking.
    pub tun: OwnedFd,
    /// The pod's only IPv4 address; packets from others are ignored.
    pub pod_ip: Ipv4Addr,
    /// The pod's only IPv6 address, if it has one; its default route is then [`GATEWAY6`]. See
    /// [`reaches_ipv6`].
    pub pod_ip6: Option<Ipv6Addr>,
    /// The pod's default route; it answers ping.
    pub gateway: Ipv4Addr,
    /// Where the pod finds its name server, UDP and TCP port 53; it answers ping.
    pub dns: Ipv4Addr,
    /// Name servers of the host, asked in turn when one does not answer. These may be loopback
    /// addresses. None: DNS is refused.
    pub resolvers: Vec<SocketAddr>,
    /// MTU of the TUN in bytes.
    pub mtu: u16,
    /// The TUN has a header before each packet (`IFF_VNET_HDR`, of 10 bytes) and leaves checksums
    /// undone (`TUN_F_CSUM`): neither side looks at bytes that cannot have been damaged.
    pub offload: bool,
    /// The pod's way to other pods, if it has one; its address must be `pod_ip`. All pods of a
    /// cluster must have the same `mtu` and `offload`.
    pub switch: Option<Arc<SwitchPort>>,
    /// Where the pod may not go.
    pub policy: Policy,
    /// Connections at a time; more are refused.
    pub max_flows: usize,
    /// What has happened so far.
    pub counters: Arc<Counters>,
}

impl Config {
    /// Returns the configuration with this crate's addresses and limits and the host's resolvers.
    pub fn new(tun: OwnedFd) -> Self {
        Self {
            tun,
            pod_ip: POD_IP,
            pod_ip6: None,
            gateway: GATEWAY,
            dns: DNS,
            resolvers: resolvers(),
            mtu: MTU,
            offload: false,
            switch: None,
            policy: Policy::for_subnet(POD_IP, PREFIX),
            max_flows: MAX_FLOWS,
            counters: Arc::default(),
        }
    }
}

/// Why a stack could not start or had to end. Troubles of single connections are theirs alone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The MTU is below what IPv4 demands of every link (RFC 791: 576 is always accepted).
    #[error("an MTU of {0} is too small for IPv4: at least 576")]
    Mtu(u16),
    /// The event queue could not be made or waited on.
    #[error("the event queue does not work")]
    Events(#[source] rustix::io::Errno),
    /// The kernel does not say which addresses are the machine's own (rtnetlink).
    #[error("the kernel's routes cannot be read")]
    Routes(#[source] rustix::io::Errno),
    /// The thread that hears other pods could not be started.
    #[error("no thread can be started")]
    Thread(#[source] std::io::Error),
    /// The TUN could not be prepared or read, for example because its namespace is gone.
    #[error("the TUN does not work")]
    Tun(#[source] rustix::io::Errno),
}

/// Serves the pod until `stop` becomes readable (a pipe's end or an eventfd; closing the other end
/// of a pipe counts) and then drops every connection.
///
/// It blocks the calling thread: give it one of its own. Host sockets are opened in the network
/// namespace of that thread. The end of the pod is not noticed here, because the TUN's descriptor
/// keeps the pod's network namespace alive: whoever sees the pod die closes `stop`.
///
/// # Errors
/// When the TUN or the event queue fails. Nothing a pod sends is an error.
pub fn run(config: Config, stop: OwnedFd) -> Result<(), Error> {
    stack::run(config, &stop)
}
