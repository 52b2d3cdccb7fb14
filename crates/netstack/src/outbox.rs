//! The way to the pod, and the shape in which smoltcp wants to see it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::counters::{Counters, count};

/// Writes packets to the TUN. One that the pod's kernel does not take is lost, as on any link.
#[derive(Debug)]
pub(crate) struct Outbox {
    tun: OwnedFd,
    mtu: usize,
    buffer: Vec<u8>,
    counters: Arc<Counters>,
}

impl Outbox {
    pub(crate) fn new(tun: OwnedFd, mtu: u16, counters: Arc<Counters>) -> Result<Self, Errno> {
        fcntl_setfl(&tun, fcntl_getfl(&tun)? | OFlags::NONBLOCK)?;
        let mtu = usize::from(mtu);
        Ok(Self { tun, mtu, buffer: vec![0; mtu], counters })
    }

    pub(crate) fn tun(&self) -> BorrowedFd<'_> {
        self.tun.as_fd()
    }

    pub(crate) fn mtu(&self) -> usize {
        self.mtu
    }

    pub(crate) fn send(&self, packet: &[u8]) {
        if rustix::io::write(&self.tun, packet).is_err() {
            count(&self.counters.packets_lost);
        }
    }
}

/// A device that receives at most one packet, the one in hand, and sends to the outbox.
pub(crate) struct Port<'a> {
    pub(crate) packet: Option<&'a [u8]>,
    pub(crate) outbox: &'a mut Outbox,
}

impl Device for Port<'_> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Sending<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let packet = self.packet.take()?;
        Some((Received(packet), Sending(self.outbox)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        Some(Sending(self.outbox))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.outbox.mtu;
        // Written but not verified: see `packet`.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

/// A packet on its way into smoltcp.
pub(crate) struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// A packet about to be written by smoltcp.
pub(crate) struct Sending<'a>(&'a mut Outbox);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let Outbox { buffer, .. } = &mut *self.0;
        let result = write(&mut buffer[..len]);
        self.0.send(&self.0.buffer[..len]);
        result
    }
}
