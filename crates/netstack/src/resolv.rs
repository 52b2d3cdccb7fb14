//! Where the host asks for names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// glibc's MAXNS: further `nameserver` lines are ignored there too.
const MAX_RESOLVERS: usize = 3;

/// Returns the name servers of the host from /etc/resolv.conf, in its order, at most three.
///
/// As in glibc, a missing file or one without a usable line means the server on this machine.
pub fn resolvers() -> Vec<SocketAddr> {
    parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

/// Reads resolv.conf(5). Addresses with a zone (`fe80::1%eth0`) are skipped.
pub(crate) fn parse(text: &str) -> Vec<SocketAddr> {
    let found: Vec<_> = text.lines().filter_map(nameserver).take(MAX_RESOLVERS).collect();
    if found.is_empty() { vec![(Ipv4Addr::LOCALHOST, 53).into()] } else { found }
}

fn nameserver(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_ascii_whitespace();
    let ("nameserver", address) = (words.next()?, words.next()?) else { return None };
    Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, 53))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_come_in_order_and_noise_is_skipped() {
        let text = "# nameserver 9.9.9.9\nsearch example.org\nnameserver 192.0.2.1 # first\n\
                    nameserver fe80::1%eth0\nnameserver\nnameserver nonsense\n\
                    nameserver\t2001:db8::53\nnameserverx 192.0.2.9\noptions edns0\n";
        assert_eq!(parse(text), ["192.0.2.1:53", "[2001:db8::53]:53"].map(|a| a.parse().unwrap()));
    }

    #[test]
    fn three_at_most_and_the_local_one_by_default() {
        let many: String = (1..9).map(|n| format!("nameserver 192.0.2.{n}\n")).collect();
        assert_eq!(parse(&many).len(), 3);
        assert_eq!(parse(""), ["127.0.0.1:53".parse().unwrap()]);
    }
}
