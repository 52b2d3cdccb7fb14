//! Who gets in: the host they asked for, the page they come from, the token they show.
//!
//! Nothing here writes an answer: a service turns [`Denied`] into the error of its own protocol.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use http::{HeaderMap, Uri, header};

use crate::secret::{Secret, SecretError};

/// The flags of the guard, the same in every server.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct GuardArgs {
    /// Token that every caller must show
    #[arg(long, env = "LOOM_SERVER_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<Secret>,
    /// File that holds the token
    #[arg(long, env = "LOOM_SERVER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Host names under which this server may be called, separated by commas; any without it,
    /// or loopback names only where it listens on loopback
    #[arg(long, env = "LOOM_SERVER_ALLOWED_HOSTS", value_delimiter = ',', value_name = "HOST")]
    pub allowed_hosts: Vec<String>,
    /// Web pages that may call this server, e.g. https://loom.example, separated by commas
    #[arg(long, env = "LOOM_SERVER_ALLOWED_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    pub allowed_origins: Vec<String>,
}

/// The guard at a server's door.
#[derive(Debug, Clone)]
pub struct Guard {
    token: Secret,
    hosts: Hosts,
    origins: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    Any,
    Loopback,
    Only(BTreeSet<String>),
}

/// Why somebody does not get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The `Host` is not one of ours: a page whose name was made to point here (DNS rebinding).
    #[error("this server is not called by that host name; see LOOM_SERVER_ALLOWED_HOSTS")]
    Host,
    /// A web page that is not allowed to.
    #[error("web pages may not call this server; see LOOM_SERVER_ALLOWED_ORIGINS")]
    Origin,
    /// No token, or not the right one.
    #[error("not logged in: run `loom login` first")]
    Token,
}

/// A guard that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// There is no token: everybody could do everything.
    #[error("a server without a token does not start: set LOOM_SERVER_TOKEN_FILE or --token-file")]
    NoToken,
    /// The token's file does not hold one.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl GuardArgs {
    /// Makes the guard of a server that listens at `listen`.
    ///
    /// # Errors
    /// There is no token, or its file does not hold one.
    pub fn guard(&self, listen: SocketAddr) -> Result<Guard, GuardError> {
        let file = self.token_file.as_deref();
        let token = Secret::either(self.token.as_ref(), file, "LOOM_SERVER_TOKEN")?;
        let token = token.filter(|token| !token.expose().is_empty()).ok_or(GuardError::NoToken)?;
        Ok(Guard {
            token,
            hosts: Hosts::of(&self.allowed_hosts, listen),
            origins: self.allowed_origins.iter().map(|origin| lower(origin)).collect(),
        })
    }
}

impl Guard {
    /// Makes the guard of a server for this machine alone.
    #[must_use]
    pub fn loopback(token: Secret) -> Self {
        Self { token, hosts: Hosts::Loopback, origins: BTreeSet::new() }
    }

    /// Lets a request through: host first, then origin, then token.
    ///
    /// # Errors
    /// Says which of them is wrong.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
        self.check_place(uri, headers)?;
        self.check_token(headers)
    }

    /// Checks host and origin only, for routes that need no token.
    ///
    /// # Errors
    /// Says which of them is wrong.
    pub fn check_place(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
        if !self.hosts.allow(asked_host(uri, headers).as_deref()) {
            return Err(Denied::Host);
        }
        if self.comes_from_a_page(headers) { Err(Denied::Origin) } else { Ok(()) }
    }

    /// Checks the token only.
    ///
    /// # Errors
    /// [`Denied::Token`].
    pub fn check_token(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Denied::Token);
        };
        let Some((scheme, token)) = value.as_bytes().split_at_checked(7) else {
            return Err(Denied::Token);
        };
        let right = scheme.eq_ignore_ascii_case(b"bearer ") && self.token.matches(token);
        if right { Ok(()) } else { Err(Denied::Token) }
    }

    fn comes_from_a_page(&self, headers: &HeaderMap) -> bool {
        if let Some(origin) = headers.get(header::ORIGIN) {
            return !origin.to_str().is_ok_and(|origin| self.origins.contains(&lower(origin)));
        }
        let site = headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes);
        matches!(site, Some(b"cross-site" | b"same-site"))
    }
}

impl Hosts {
    fn of(allowed: &[String], listen: SocketAddr) -> Self {
        if !allowed.is_empty() {
            return Self::Only(allowed.iter().map(|host| lower(host)).collect());
        }
        if listen.ip().is_loopback() { Self::Loopback } else { Self::Any }
    }

    fn allow(&self, host: Option<&str>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Loopback, Some(host)) => is_loopback_name(host),
            (Self::Only(hosts), Some(host)) => hosts.contains(host),
            (Self::Loopback | Self::Only(_), None) => false,
        }
    }
}

/// Returns the one host a request names, in lower case and without its port.
fn asked_host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::HOST).iter();
    let named = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok()?,
        (None, _) => uri.authority()?.as_str(),
        (Some(_), Some(_)) => return None,
    };
    let authority: http::uri::Authority = named.parse().ok()?;
    Some(lower(authority.host().trim_matches(['[', ']'])))
}

fn is_loopback_name(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn lower(text: &str) -> String {
    text.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, headers: &[(&str, &str)]) -> Result<(), Denied> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        guard.check(&Uri::from_static("/api/weavers"), &map)
    }

    const TOKEN: (&str, &str) = ("authorization", "Bearer hush");

    #[test]
    fn abuse_local_server_hosts() {
        let guard = Guard::loopback(Secret::new("hush"));
        for host in ["localhost", "127.0.0.1:8080", "[::1]:80", "LOCALHOST:1", "a.localhost"] {
            assert_eq!(check(&guard, &[("host", host), TOKEN]), Ok(()), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1", ""] {
            assert_eq!(check(&guard, &[("host", host), TOKEN]), Err(Denied::Host), "{host}");
        }
        let twice = [("host", "localhost"), ("host", "evil.example"), TOKEN];
        assert_eq!(check(&guard, &twice), Err(Denied::Host));
        assert_eq!(check(&guard, &[TOKEN]), Err(Denied::Host));
    }

    #[test]
    fn abuse_local_server_pages() {
        let guard = Guard::loopback(Secret::new("hush"));
        for page in ["https://evil.example", "null", "http://localhost:8080"] {
            let asked = [("host", "localhost"), ("origin", page), TOKEN];
            assert_eq!(check(&guard, &asked), Err(Denied::Origin), "{page}");
        }
        let fetched = [("host", "localhost"), ("sec-fetch-site", "cross-site"), TOKEN];
        assert_eq!(check(&guard, &fetched), Err(Denied::Origin));
    }

    #[test]
    fn abuse_local_server_tokens() {
        let guard = Guard::loopback(Secret::new("hush"));
        let host = ("host", "localhost");
        assert_eq!(check(&guard, &[host]), Err(Denied::Token));
        for value in ["Bearer", "Bearer ", "Bearer hus", "Basic hush", "hush", "Bearer  hush"] {
            let shown = [host, ("authorization", value)];
            assert_eq!(check(&guard, &shown), Err(Denied::Token), "{value}");
        }
        assert_eq!(check(&guard, &[host, TOKEN, TOKEN]), Err(Denied::Token));
        assert_eq!(check(&guard, &[host, ("authorization", "bearer hush")]), Ok(()));
    }

    #[test]
    fn what_is_configured_is_allowed() {
        let args = GuardArgs {
            token: Some(Secret::new("hush")),
            allowed_hosts: vec!["loom.example".to_owned()],
            allowed_origins: vec!["https://loom.example".to_owned()],
            ..GuardArgs::default()
        };
        let guard = args.guard(SocketAddr::from(([0, 0, 0, 0], 80))).unwrap();
        let page = ("origin", "https://loom.example");
        assert_eq!(check(&guard, &[("host", "loom.example"), page, TOKEN]), Ok(()));
        assert_eq!(check(&guard, &[("host", "localhost"), TOKEN]), Err(Denied::Host));
    }

    #[test]
    fn without_a_token_no_server_starts() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 80));
        assert!(matches!(GuardArgs::default().guard(listen), Err(GuardError::NoToken)));
        let blank = GuardArgs { token: Some(Secret::new(" ")), ..GuardArgs::default() };
        assert!(matches!(blank.guard(listen), Err(GuardError::NoToken)));
    }
}
