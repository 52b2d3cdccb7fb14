//! The way to the pod, and the shape in which smoltcp wants to see it.

use std::io::IoSlice;
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
    /// Bytes of a header before each packet.
    before: usize,
    counters: Arc<Counters>,
}

/// Length of `virtio_net_hdr`.
const VNET_HEADER: usize = 10;
/// The header of a packet that is as it should be.
const PLAIN: [u8; VNET_HEADER] = [0; VNET_HEADER];
/// Where a header says at which byte of the packet TCP starts, and that for IPv4 and IPv6.
const START: std::ops::Range<usize> = 6..8;
const STARTS: ([u8; 2], [u8; 2]) = (20_u16.to_ne_bytes(), 40_u16.to_ne_bytes());
/// The header of a TCP segment behind 20 bytes of IPv4 whose checksum need not be looked at:
/// VIRTIO_NET_HDR_F_NEEDS_CSUM, and where it starts and stands.
const TCP: [u8; VNET_HEADER] = {
    let (start, at) = (STARTS.0, 16_u16.to_ne_bytes());
    [1, 0, 0, 0, 0, 0, start[0], start[1], at[0], at[1]]
};

impl Outbox {
    /// `offload`: see [`crate::Config`].
    pub(crate) fn new(
        tun: OwnedFd,
        mtu: u16,
        offload: bool,
        counters: Arc<Counters>,
    ) -> Result<Self, Errno> {
        fcntl_setfl(&tun, fcntl_getfl(&tun)? | OFlags::NONBLOCK)?;
        let (mtu, before) = (usize::from(mtu), if offload { VNET_HEADER } else { 0 });
        let mut buffer = vec![0; VNET_HEADER + mtu];
        buffer[..VNET_HEADER].copy_from_slice(&TCP);
        Ok(Self { tun, mtu, buffer, before, counters })
    }

    /// Returns how many bytes stand before a packet that is read from the TUN.
    pub(crate) fn before(&self) -> usize {
        self.before
    }

    pub(crate) fn tun(&self) -> BorrowedFd<'_> {
        self.tun.as_fd()
    }

    pub(crate) fn mtu(&self) -> usize {
        self.mtu
    }

    pub(crate) fn send(&self, packet: &[u8]) {
        let header = IoSlice::new(&PLAIN[..self.before]);
        let sent = rustix::io::writev(&self.tun, &[header, IoSlice::new(packet)]);
        if sent.is_err() {
            count(&self.counters.packets_lost);
        }
    }

    fn send_segment(&self, len: usize) {
        let segment = &self.buffer[VNET_HEADER - self.before..VNET_HEADER + len];
        if rustix::io::write(&self.tun, segment).is_err() {
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
        let offload = self.outbox.before > 0;
        capabilities.checksum.tcp = if offload { Checksum::None } else { Checksum::Tx };
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
        let result = write(&mut buffer[VNET_HEADER..VNET_HEADER + len]);
        let start = if buffer[VNET_HEADER] >> 4 == 4 { STARTS.0 } else { STARTS.1 };
        buffer[START].copy_from_slice(&start);
        self.0.send_segment(len);
        result
    }
}
