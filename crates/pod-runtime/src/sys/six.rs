//! IPv6's own ioctls: an address and a route for a device.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

const SIOCADDRT: u64 = 0x890b;
const SIOCSIFADDR: u64 = 0x8916;
/// RTF_UP and RTF_GATEWAY, and the metric of routes that nobody gave one.
const UP_GATEWAY: u32 = 0x0003;
const USUAL_METRIC: u32 = 1024;

/// The kernel's `in6_ifreq`.
#[repr(C)]
struct Address {
    ip: [u8; 16],
    prefix: u32,
    device: i32,
}

/// The kernel's `in6_rtmsg`.
#[repr(C)]
struct Route {
    destination: [u8; 16],
    source: [u8; 16],
    gateway: [u8; 16],
    kind: u32,
    destination_bits: u16,
    source_bits: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    device: i32,
}

/// Gives an address to a device; `control` is an IPv6 socket.
pub(crate) fn add_address(
    control: BorrowedFd<'_>,
    ip: Ipv6Addr,
    prefix: u8,
    device: i32,
) -> io::Result<()> {
    let request = Address { ip: ip.octets(), prefix: prefix.into(), device };
    // SAFETY: the request reads one in6_ifreq, which has this layout and outlives the call.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), SIOCSIFADDR as _, &raw const request) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends what goes elsewhere through a device; `control` is an IPv6 socket.
pub(crate) fn add_default_route(
    control: BorrowedFd<'_>,
    gateway: Ipv6Addr,
    device: i32,
) -> io::Result<()> {
    let request = Route {
        destination: [0; 16],
        source: [0; 16],
        gateway: gateway.octets(),
        kind: 0,
        destination_bits: 0,
        source_bits: 0,
        metric: USUAL_METRIC,
        info: 0,
        flags: UP_GATEWAY,
        device,
    };
    // SAFETY: the request reads one in6_rtmsg, which has this layout and outlives the call.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), SIOCADDRT as _, &raw const request) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
