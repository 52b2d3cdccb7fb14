//! The pod's network device and addresses, made inside its network namespace.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::sys::{self, IfRequest, Route};

/// The device's name inside.
const DEVICE: &str = "eth0";
const TUNSETIFF: u64 = 0x4004_54ca;
const SIOCADDRT: u64 = 0x890b;
const SIOCSIFFLAGS: u64 = 0x8914;
const SIOCSIFADDR: u64 = 0x8916;
const SIOCSIFNETMASK: u64 = 0x891c;
const SIOCSIFMTU: u64 = 0x8922;
const IFF_TUN_NO_PI: u16 = 0x1001;
const IFF_UP_RUNNING: u16 = 0x0041;
const RTF_UP_GATEWAY: u16 = 0x0003;

/// Takes the loopback device up.
pub(crate) fn loopback() -> io::Result<()> {
    let control = control()?;
    sys::ioctl_interface(control.as_fd(), SIOCSIFFLAGS, &mut IfRequest::flags("lo", IFF_UP_RUNNING))
}

/// Opens a TUN in this network namespace, with address and default route.
pub(crate) fn open() -> io::Result<OwnedFd> {
    let tun = File::options().read(true).write(true).open("/dev/net/tun")?;
    sys::ioctl_interface(tun.as_fd(), TUNSETIFF, &mut IfRequest::flags(DEVICE, IFF_TUN_NO_PI))?;
    // It has no IPv6 address, so that the kernel itself answers "unreachable". A kernel without
    // IPv6 lacks the file.
    fs::write(format!("/proc/sys/net/ipv6/conf/{DEVICE}/disable_ipv6"), "1").ok();
    let control = control()?;
    let mask = Ipv4Addr::from(u32::MAX << (32 - u32::from(netstack::PREFIX)));
    let steps = [
        (SIOCSIFADDR, IfRequest::address(DEVICE, netstack::POD_IP)),
        (SIOCSIFNETMASK, IfRequest::address(DEVICE, mask)),
        (SIOCSIFMTU, IfRequest::number(DEVICE, i32::from(netstack::MTU))),
        (SIOCSIFFLAGS, IfRequest::flags(DEVICE, IFF_UP_RUNNING)),
    ];
    for (request, mut block) in steps {
        sys::ioctl_interface(control.as_fd(), request, &mut block)?;
    }
    let mut route = Route::default_via(netstack::GATEWAY, RTF_UP_GATEWAY);
    sys::ioctl_route(control.as_fd(), SIOCADDRT, &mut route)?;
    Ok(tun.into())
}

/// Lets programs without capabilities listen on port 80, as container engines do.
pub(crate) fn open_low_ports() {
    // Where the kernel is older the ports stay closed; nothing else depends on it.
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").ok();
}

fn control() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// Makes a socket that connects within the pod's network, whoever uses it.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?)
}
