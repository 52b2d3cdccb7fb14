//! One GET of a web server, as Kubernetes' probes ask it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::tls;
use crate::clock;

/// The longest answer that is looked at.
const MOST: usize = 64 << 10;
pub(super) const USER_AGENT: &str = "kube-probe/1.33";
const OWN: [(&str, &str); 3] =
    [("User-Agent", USER_AGENT), ("Accept", "*/*"), ("Connection", "close")];

/// What is asked for.
pub(super) struct Url<'a> {
    pub(super) tls: bool,
    pub(super) address: SocketAddr,
    pub(super) path: &'a str,
}

impl std::fmt::Display for Url<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.address, rooted(self.path))
    }
}

/// A connection that fails when the time is over, however often it is asked for more.
pub(super) struct Timed {
    stream: TcpStream,
    until: Duration,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Asks; an answer that is a failure comes back in words.
pub(super) fn get(
    stream: TcpStream,
    url: &Url<'_>,
    headers: &[(String, String)],
    until: Duration,
) -> io::Result<Option<String>> {
    let stream = Timed { stream, until };
    let request = request(url.address, url.path, headers);
    if url.tls {
        exchange(tls::client(stream, url.address)?, &request)
    } else {
        exchange(stream, &request)
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Option<String>> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    loop {
        if let Some(code) = status(&answer)? {
            let fine = (200..400).contains(&code);
            return Ok((!fine).then(|| format!("HTTP probe failed with statuscode: {code}")));
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk)? {
            0 => return Err(io::Error::other("EOF")),
            count => answer.extend(&chunk[..count]),
        }
    }
}

/// Says as Go does what went wrong.
pub(super) fn explain(url: &Url<'_>, error: &io::Error) -> String {
    let late = matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
        || error.to_string().ends_with("i/o timeout");
    let no_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let why = match no_tls {
        _ if late => {
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into()
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            "http: server gave HTTP response to HTTPS client".into()
        }
        Some(_) | None => error.to_string(),
    };
    format!("Get \"{url}\": {why}")
}

fn left(until: Duration) -> io::Result<Duration> {
    let left = until.saturating_sub(clock::uptime());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn rooted(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn request(address: SocketAddr, path: &str, headers: &[(String, String)]) -> String {
    let given = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let mut text = format!("GET {} HTTP/1.1\r\n", rooted(path));
    if !given("Host") {
        text += &format!("Host: {address}\r\n");
    }
    for (name, value) in OWN.iter().filter(|(name, _)| !given(name)) {
        text += &format!("{name}: {value}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

/// Returns the code once the status line is whole.
fn status(answer: &[u8]) -> io::Result<Option<u16>> {
    let malformed = || io::Error::other("malformed HTTP response");
    let Some(end) = answer.iter().position(|byte| *byte == b'\n') else {
        return if answer.len() > MOST { Err(malformed()) } else { Ok(None) };
    };
    let line = String::from_utf8_lossy(&answer[..end]);
    let mut words = line.split_whitespace();
    let proto = words.next().filter(|proto| proto.starts_with("HTTP/1."));
    let code = words.next().and_then(|code| code.parse().ok());
    match proto.and(code) {
        // 1xx is not the answer, and nobody who is asked so plainly sends it.
        Some(code) => Ok(Some(code)),
        None => Err(malformed()),
    }
}

/// An answer as a fuzzer gives it: once there is a code, more bytes do not change it.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let whole = status(bytes).ok();
    if let Some(first) = (1..bytes.len()).find_map(|end| status(&bytes[..end]).ok().flatten()) {
        assert_eq!(whole, Some(Some(first)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_who_asks() {
        let to = "10.0.0.1:80".parse().unwrap();
        let plain = request(to, "healthz?x=1", &[]);
        assert!(plain.starts_with("GET /healthz?x=1 HTTP/1.1\r\nHost: 10.0.0.1:80\r\n"), "{plain}");
        assert!(plain.ends_with("\r\n\r\n") && plain.contains("User-Agent: kube-probe/"));
        let own = [("host".to_owned(), "a".to_owned()), ("X".to_owned(), "y".to_owned())];
        let own = request(to, "/", &own);
        assert!(!own.contains("10.0.0.1") && own.contains("\r\nhost: a\r\nX: y\r\n"), "{own}");
    }

    #[test]
    fn status_lines_are_read_once_they_are_whole() {
        assert_eq!(status(b"HTTP/1.1 20").unwrap(), None);
        assert_eq!(status(b"HTTP/1.0 204 No Content\r\nA: b").unwrap(), Some(204));
        assert!(status(b"SSH-2.0-OpenSSH\r\n").is_err());
        assert!(status(&[b'x'; MOST + 1]).is_err());
    }
}
