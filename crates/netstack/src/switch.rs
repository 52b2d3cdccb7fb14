//! The other pods of a cluster: their packets go from stack to stack, as through a switch.
//!
//! Each pod has a port: a datagram socket in a folder of the cluster, named after the pod's
//! address. A packet for another pod is put into that pod's port whole, and from there into its
//! TUN. The kernels of the two pods speak TCP with each other themselves, so nothing is kept here
//! that could be lost with a process.
//!
//! Whoever may write into the folder can send to all pods: it must be its user's alone. A pod
//! cannot, and its stack lets out only what comes from the pod's own address.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Shutdown};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smoltcp::wire::Ipv4Packet;

use crate::address::{FIRST, LAST};
use crate::counters::{Counters, count};
use crate::host;
use crate::stack::random;

/// How long a packet waits for a pod whose port is full. Then it is lost, as in any switch; what
/// else the sender has to send waits that long too.
const PATIENCE: Duration = Duration::from_millis(2);

/// A pod's address, and its port under it. It is free again once this is released, dropped, or its
/// process has ended.
#[derive(Debug)]
pub struct SwitchPort {
    address: Ipv4Addr,
    released: AtomicBool,
    folder: File,
    socket: UnixDatagram,
}

impl SwitchPort {
    /// Takes an address that no other pod has of those whose ports are in `folder`.
    ///
    /// # Errors
    /// When the folder cannot be written to, or all addresses are taken.
    pub fn take(folder: &Path) -> io::Result<Self> {
        let folder = File::open(folder)?;
        // Who finds a dead pod's port removes it: two at once could remove each other's.
        let lock = path(&folder, "lock");
        let lock = File::options().write(true).create(true).truncate(false).open(lock)?;
        lock.lock()?;
        for address in addresses(random()) {
            if let Some(socket) = bind(&path(&folder, &address.to_string()))? {
                socket.set_write_timeout(Some(PATIENCE))?;
                return Ok(Self { address, released: AtomicBool::new(false), folder, socket });
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "all addresses of pods are taken"))
    }

    /// Returns the address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Gives the address back; from now on nothing arrives.
    pub fn release(&self) {
        if !self.released.swap(true, Ordering::Relaxed) {
            // What is left is found dead by the next who wants it.
            fs::remove_file(path(&self.folder, &self.address.to_string())).ok();
        }
    }

    /// Returns where a packet of the pod goes, if that is another pod's address.
    pub(crate) fn neighbour(&self, packet: &[u8]) -> Option<Ipv4Addr> {
        let ip = Ipv4Packet::new_checked(packet).ok()?;
        let own = ip.version() == 4 && ip.src_addr() == self.address;
        let to = ip.dst_addr();
        (own && to != self.address && is_pod(to)).then_some(to)
    }

    /// Puts a packet into another pod's port, and tells whether there is one.
    pub(crate) fn send(&self, to: Ipv4Addr, packet: &[u8], counters: &Counters) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        match self.socket.send_to(packet, path(&self.folder, &to.to_string())) {
            Ok(_) => true,
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => false,
            Err(_) => {
                count(&counters.packets_lost);
                true
            }
        }
    }

    /// Passes packets of other pods on until [`Self::close`]. `inbox` holds the largest.
    pub(crate) fn deliver(
        &self,
        tun: impl AsFd,
        before: usize,
        inbox: &mut [u8],
        counters: &Counters,
    ) {
        while let Ok(len @ 1..) = host::receive(&self.socket, inbox) {
            let packet = &inbox[..len];
            let welcome = packet.get(before..).is_some_and(|packet| self.is_welcome(packet));
            if !welcome {
                count(&counters.ignored);
            } else if rustix::io::write(&tun, packet).is_err() {
                count(&counters.packets_lost);
            }
        }
    }

    fn is_welcome(&self, packet: &[u8]) -> bool {
        Ipv4Packet::new_checked(packet).is_ok_and(|ip| {
            ip.version() == 4 && ip.dst_addr() == self.address && is_pod(ip.src_addr())
        })
    }

    /// Ends [`Self::deliver`].
    pub(crate) fn close(&self) {
        // A socket that is not connected can be shut down all the same.
        self.socket.shutdown(Shutdown::Both).ok();
    }
}

impl Drop for SwitchPort {
    fn drop(&mut self) {
        self.release();
    }
}

/// Returns all addresses of pods, from one of them on: one that was just given back is not given
/// away again at once.
fn addresses(start: u64) -> impl Iterator<Item = Ipv4Addr> {
    let (first, last) = (u64::from(FIRST.to_bits()), u64::from(LAST.to_bits()));
    let count = last - first + 1;
    (0..count).filter_map(move |step| {
        let bits = first + (start % count + step) % count;
        u32::try_from(bits).ok().map(Ipv4Addr::from_bits)
    })
}

fn is_pod(address: Ipv4Addr) -> bool {
    (FIRST..=LAST).contains(&address)
}

/// Returns a path that fits a socket's address, however long that of the folder is.
fn path(folder: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

/// Opens a port, unless a living pod has it.
fn bind(path: &Path) -> io::Result<Option<UnixDatagram>> {
    match UnixDatagram::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        bound => return bound.map(Some),
    }
    match UnixDatagram::unbound()?.connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path)?;
            UnixDatagram::bind(path).map(Some)
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::Pair;
    use crate::{DNS, GATEWAY, POD_IP, packet};

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    /// A packet from one address to another.
    fn packet(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let pair = Pair { pod: (to, 1).into(), peer: (from, 2).into() };
        packet::datagram(&pair, b"hello")
    }

    #[test]
    fn an_address_is_taken_while_its_pod_lives() {
        let folder = folder();
        let path = |address: Ipv4Addr| folder.path().join(address.to_string());
        let first = SwitchPort::take(folder.path()).unwrap();
        // One living port under all names.
        for address in addresses(0).filter(|&address| address != first.address) {
            fs::hard_link(path(first.address), path(address)).unwrap();
        }
        let full = SwitchPort::take(folder.path()).unwrap_err();
        assert_eq!(full.to_string(), "all addresses of pods are taken");
        drop(first);
        let (one, two) = (SwitchPort::take(folder.path()), SwitchPort::take(folder.path()));
        assert_ne!(one.unwrap().address, two.unwrap().address);
    }

    #[test]
    fn only_what_goes_from_pod_to_pod_is_passed_on() {
        let port = SwitchPort::take(folder().path()).unwrap();
        let own = port.address;
        let other = if own == FIRST { LAST } else { FIRST };
        assert_eq!(port.neighbour(&packet(own, other)), Some(other));
        for (from, to) in [(other, other), (own, own), (own, GATEWAY), (own, DNS), (own, POD_IP)] {
            assert_eq!(port.neighbour(&packet(from, to)), None, "{from} to {to}");
        }
        assert!(port.is_welcome(&packet(other, own)));
        for (from, to) in [(other, other), (GATEWAY, own), (Ipv4Addr::LOCALHOST, own)] {
            assert!(!port.is_welcome(&packet(from, to)), "{from} to {to}");
        }
        for cut in 0..20 {
            let packet = &packet(own, other)[..cut];
            assert!(port.neighbour(packet).is_none() && !port.is_welcome(packet));
        }
    }

    #[test]
    fn what_is_delivered_is_what_was_sent() {
        let folder = folder();
        let (one, two) =
            (SwitchPort::take(folder.path()).unwrap(), SwitchPort::take(folder.path()).unwrap());
        let (tun, pod) = UnixDatagram::pair().unwrap();
        let (lost, counters) = (Counters::default(), Counters::default());
        let hello = packet(one.address, two.address);
        assert!(one.send(two.address, &packet(GATEWAY, two.address), &lost));
        assert!(one.send(two.address, &hello, &lost));
        std::thread::scope(|scope| {
            scope.spawn(|| two.deliver(tun, 0, &mut [0; 1500], &counters));
            let mut got = [0; 1500];
            let len = pod.recv(&mut got).unwrap();
            assert_eq!(got[..len], hello[..]);
            two.close();
        });
        assert_eq!((counters.read().ignored, lost.read().packets_lost), (1, 0));
        let address = two.address;
        drop(two);
        assert!(!one.send(address, &hello, &lost), "nobody has the address");
    }

    #[test]
    fn who_does_not_read_costs_the_packet_not_the_sender() {
        let folder = folder();
        let (one, two) =
            (SwitchPort::take(folder.path()).unwrap(), SwitchPort::take(folder.path()).unwrap());
        let (hello, lost) = (packet(one.address, two.address), Counters::default());
        while lost.read().packets_lost == 0 {
            assert!(one.send(two.address, &hello, &lost));
        }
    }
}
