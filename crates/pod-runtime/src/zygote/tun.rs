//! The pod's network device and addresses, made inside its network namespace.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::sys::{self, IfRequest, Route, six};

/// The device's name inside.
const DEVICE: &str = "eth0";
const TUNSETIFF: u64 = 0x4004_54ca;
const SIOCADDRT: u64 = 0x890b;
const SIOCGIFINDEX: u64 = 0x8933;
const SIOCSIFFLAGS: u64 = 0x8914;
const SIOCSIFADDR: u64 = 0x8916;
const SIOCSIFNETMASK: u64 = 0x891c;
const SIOCSIFMTU: u64 = 0x8922;
/// IFF_TUN, IFF_NO_PI and IFF_VNET_HDR: the header says that checksums need not be looked at.
const TUN_FLAGS: u16 = 0x5001;
const TUN_F_CSUM: u32 = 0x01;
const IFF_UP_RUNNING: u16 = 0x0041;
const RTF_UP_GATEWAY: u16 = 0x0003;

/// The addresses of a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) four: Ipv4Addr,
    pub(crate) six: Option<Ipv6Addr>,
}

/// Takes the loopback device up.
pub(crate) fn loopback() -> io::Result<()> {
    let control = control()?;
    sys::ioctl_interface(control.as_fd(), SIOCSIFFLAGS, &mut IfRequest::flags("lo", IFF_UP_RUNNING))
}

/// Opens a TUN in this network namespace, with the addresses and default routes.
pub(crate) fn open(addresses: Addresses) -> io::Result<OwnedFd> {
    let tun = File::options().read(true).write(true).open("/dev/net/tun")?;
    sys::ioctl_interface(tun.as_fd(), TUNSETIFF, &mut IfRequest::flags(DEVICE, TUN_FLAGS))?;
    // Where it is refused, the pod's kernel computes checksums that nobody looks at.
    sys::ioctl_offload(tun.as_fd(), TUN_F_CSUM).ok();
    // Without an IPv6 address the kernel itself answers "unreachable". A kernel without IPv6 lacks
    // the files. Addresses of the link would only be ones that nobody answers.
    set("addr_gen_mode", "1");
    set("disable_ipv6", if addresses.six.is_some() { "0" } else { "1" });
    let control = control()?;
    let mask = Ipv4Addr::from(u32::MAX << (32 - u32::from(netstack::PREFIX)));
    let steps = [
        (SIOCSIFADDR, IfRequest::address(DEVICE, addresses.four)),
        (SIOCSIFNETMASK, IfRequest::address(DEVICE, mask)),
        (SIOCSIFMTU, IfRequest::number(DEVICE, i32::from(netstack::MTU))),
        (SIOCSIFFLAGS, IfRequest::flags(DEVICE, IFF_UP_RUNNING)),
    ];
    for (request, mut block) in steps {
        sys::ioctl_interface(control.as_fd(), request, &mut block)?;
    }
    let mut route = Route::default_via(netstack::GATEWAY, RTF_UP_GATEWAY);
    sys::ioctl_route(control.as_fd(), SIOCADDRT, &mut route)?;
    if let Some(address) = addresses.six
        && add_six(control.as_fd(), address).is_err()
    {
        // Programs do without sooner than with half of it.
        set("disable_ipv6", "1");
    }
    Ok(tun.into())
}

fn set(name: &str, value: &str) {
    fs::write(format!("/proc/sys/net/ipv6/conf/{DEVICE}/{name}"), value).ok();
}

fn add_six(control: BorrowedFd<'_>, address: Ipv6Addr) -> io::Result<()> {
    let mut device = IfRequest::number(DEVICE, 0);
    sys::ioctl_interface(control, SIOCGIFINDEX, &mut device)?;
    let device = device.first_number();
    let control = socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    six::add_address(control.as_fd(), address, netstack::PREFIX6, device)?;
    six::add_default_route(control.as_fd(), netstack::GATEWAY6, device)
}

/// Lets programs without capabilities listen on port 80, as container engines do.
pub(crate) fn open_low_ports() {
    // Where the kernel is older the ports stay closed; nothing else depends on it.
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").ok();
}

/// Lets programs without capabilities ping, as container engines do: all groups of the pod may.
pub(crate) fn open_ping() {
    let map = fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    // A range must not leave the ids that the pod has; the first line is the pod's own.
    let mut words = map.split_ascii_whitespace().map(str::parse::<u32>);
    let (Some(Ok(first)), Some(_), Some(Ok(count))) = (words.next(), words.next(), words.next())
    else {
        return;
    };
    // The kernel takes no group above this.
    let last = first.saturating_add(count.saturating_sub(1)).min(i32::MAX as u32);
    fs::write("/proc/sys/net/ipv4/ping_group_range", format!("{first} {last}")).ok();
}

fn control() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// Makes a socket that connects within the pod's network, whoever uses it.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?)
}
