//! Ports of the machine's loopback that lead into a weaver.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::fields::FieldError;

/// Most ports of one weaver.
const MOST: usize = 64;

/// One port of the machine's loopback, and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The port of 127.0.0.1.
    pub host: u16,
    /// The port inside the weaver.
    pub container: u16,
}

impl Publish {
    /// Checks the ports of one weaver.
    ///
    /// # Errors
    /// When one is 0, is published twice, or there are too many.
    pub fn check(ports: &[Self]) -> Result<(), FieldError> {
        if ports.len() > MOST {
            return Err(wrong(format!("must be at most {MOST}")));
        }
        if ports.iter().any(|port| port.host == 0 || port.container == 0) {
            return Err(wrong("must be 1 to 65535"));
        }
        let mut seen = HashSet::new();
        match ports.iter().find(|port| !seen.insert(port.host)) {
            Some(twice) => Err(wrong(format!("has {} twice", twice.host))),
            None => Ok(()),
        }
    }
}

fn wrong(why: impl Into<String>) -> FieldError {
    FieldError::new("ports", why)
}

/// `8080:80`, or `8080` for the same port on both sides; `127.0.0.1:` may stand in front.
impl FromStr for Publish {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| {
            let digits = text.bytes().all(|c| c.is_ascii_digit());
            let number = text.parse().ok().filter(|number| digits && *number != 0);
            number.ok_or_else(|| wrong("must be like 8080:80, each 1 to 65535"))
        };
        match *text.split(':').collect::<Vec<_>>() {
            [port] => Ok(Self { host: number(port)?, container: number(port)? }),
            ["127.0.0.1" | "localhost", host, container] | [host, container] => {
                Ok(Self { host: number(host)?, container: number(container)? })
            }
            _ => Err(wrong("must be like 8080:80: only 127.0.0.1 is listened on")),
        }
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_ports() {
        let read = |text: &str| text.parse::<Publish>().map(|port| port.to_string());
        assert_eq!(read("8080:80").unwrap(), "8080:80");
        assert_eq!(read("80").unwrap(), "80:80");
        assert_eq!(read("127.0.0.1:8080:80").unwrap(), "8080:80");
        for bad in
            ["", "0", ":80", "80:", "+8:1", "65536", "0.0.0.0:1:1", "1:1:1:1", "[::1]:1:1", "a"]
        {
            assert_eq!(read(bad).unwrap_err().field, "ports", "{bad}");
        }
    }

    #[test]
    fn no_port_of_the_machine_leads_two_ways() {
        let port = |host, container| Publish { host, container };
        assert!(Publish::check(&[port(1, 80), port(2, 80)]).is_ok());
        assert_eq!(Publish::check(&[port(1, 80), port(1, 81)]).unwrap_err().why, "has 1 twice");
        assert!(Publish::check(&[port(0, 80)]).is_err() && Publish::check(&[port(1, 0)]).is_err());
        let many: Vec<_> = (1..=65).map(|host| port(host, 80)).collect();
        assert!(Publish::check(&many).is_err());
    }
}
