//! Where the API is and with what it is called.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use crate::Error;

/// A server's address and the caller's token.
#[derive(Debug, Clone)]
pub struct Server {
    /// `http://` or `https://`, with a path if the API lives below one.
    pub url: Url,
    /// Sent as bearer token; nothing is sent without it.
    pub token: Option<Token>,
}

/// A bearer token. It prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token as it stands in a file: white space around it does not count.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// Returns the secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Server {
    /// Reads an address as people type it; a bare host means `https`, a bare loopback host `http`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn new(url: &str, token: Option<Token>) -> Result<Self, Error> {
        let given = url.trim();
        let wrong = |why| Error::Address { url: given.to_owned(), why };
        let parsed =
            if given.contains("://") { given.to_owned() } else { format!("https://{given}") };
        let mut url = Url::parse(&parsed).map_err(|_| wrong("it is not a URL"))?;
        if !given.contains("://") && is_loopback(&url) && url.set_scheme("http").is_err() {
            return Err(wrong("it is not a URL"));
        }
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong("it must start with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it must not carry a user or a password"));
        }
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { url, token })
    }

    /// Tells whether the server is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }

    /// Returns the URL of an API path given as its segments.
    pub(crate) fn at(&self, segments: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_type_them() {
        for (given, read) in [
            ("https://loom.example", "https://loom.example/"),
            ("loom.example", "https://loom.example/"),
            ("localhost:8080", "http://localhost:8080/"),
            ("127.0.0.1:1", "http://127.0.0.1:1/"),
            ("https://h/loom?x=1#y", "https://h/loom"),
        ] {
            assert_eq!(Server::new(given, None).unwrap().url.as_str(), read, "{given}");
        }
        for given in ["", "ftp://h", "https://", "https://u:p@h", "a b"] {
            assert!(Server::new(given, None).is_err(), "{given}");
        }
    }

    #[test]
    fn paths_go_below_the_servers_own() {
        let server = Server::new("https://h/loom/", None).unwrap();
        assert_eq!(server.at(&["api", "a/b"]).as_str(), "https://h/loom/api/a%2Fb");
    }

    #[test]
    fn tokens_are_not_printed() {
        assert_eq!(format!("{:?}", Token::new(" secret\n")), "[redacted]");
        assert_eq!(Token::new(" secret\n").expose(), "secret");
    }
}
