//! Which addresses are this machine's own, as its kernel would route to them at this moment.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

/// rtnetlink(7): the question, its answer, and the kind of route that leaves the machine.
const RTM_GETROUTE: u16 = 26;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 1;
const RTA_DST: u16 = 1;
const RTN_UNICAST: u8 = 1;
/// Lengths of `nlmsghdr`, `rtmsg` and of the head of an attribute.
const HEADER: usize = 16;
const ROUTE: usize = 12;
const ATTRIBUTE: usize = 4;
/// Where `rtm_type` stands in an answer.
const KIND: usize = HEADER + 7;

/// Asks the kernel instead of keeping a list: addresses come and go with every network that a
/// laptop joins, and a route of type "local" makes whole ranges the machine's own.
#[derive(Debug)]
pub(crate) struct Routes {
    socket: OwnedFd,
    asked: u32,
}

impl Routes {
    /// Opens the way to the kernel's routes of the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // No protocol is protocol 0: NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        // Once connected it hears only the kernel.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, asked: 0 })
    }

    /// Tells whether packets to `address` leave the machine for one other. The machine's own
    /// addresses do not, nor do broadcasts; whatever the kernel has no answer for counts as not.
    pub(crate) fn elsewhere(&mut self, address: IpAddr) -> bool {
        self.kind(address) == Some(RTN_UNICAST)
    }

    fn kind(&mut self, address: IpAddr) -> Option<u8> {
        self.asked = self.asked.wrapping_add(1);
        send(&self.socket, &question(address, self.asked), SendFlags::NOSIGNAL).ok()?;
        let mut answer = [0; 1024];
        loop {
            // The kernel has answered when the question's call returns.
            let (len, _) = recv(&self.socket, &mut answer, RecvFlags::DONTWAIT).ok()?;
            let answer = &answer[..len];
            if word(answer, 8)? == self.asked.to_ne_bytes() {
                let is_route = answer.get(4..6)? == RTM_NEWROUTE.to_ne_bytes();
                return answer.get(KIND).copied().filter(|_| is_route);
            }
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at + 4)?.try_into().ok()
}

/// Writes RTM_GETROUTE for one destination.
fn question(address: IpAddr, number: u32) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(v4) => (AddressFamily::INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AddressFamily::INET6, v6.octets().to_vec()),
    };
    // Neither length is above 48.
    let len = (HEADER + ROUTE + ATTRIBUTE + octets.len()) as u32;
    let attribute = (ATTRIBUTE + octets.len()) as u16;
    let bits = (octets.len() * 8) as u8;
    let mut bytes = Vec::with_capacity(HEADER + ROUTE + ATTRIBUTE + octets.len());
    bytes.extend(len.to_ne_bytes());
    bytes.extend(RTM_GETROUTE.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family.as_raw() as u8, bits]);
    bytes.extend([0; ROUTE - 2]);
    bytes.extend(attribute.to_ne_bytes());
    bytes.extend(RTA_DST.to_ne_bytes());
    bytes.extend(octets);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_never_elsewhere() {
        let mut routes = Routes::open().unwrap();
        for own in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "255.255.255.255", "224.0.0.1"] {
            assert!(!routes.elsewhere(own.parse().unwrap()), "{own}");
        }
    }

    #[test]
    fn a_question_says_its_length_and_whom_it_is_about() {
        let bytes = question("192.0.2.1".parse().unwrap(), 7);
        assert_eq!(word(&bytes, 0), Some(36_u32.to_ne_bytes()));
        assert_eq!((bytes.len(), bytes[16], bytes[17]), (36, 2, 32));
        assert_eq!(bytes[32..], [192, 0, 2, 1]);
        assert_eq!(question("::1".parse().unwrap(), 7).len(), 48);
    }
}
