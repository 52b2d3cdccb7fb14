//! Where a packet of the pod is taken: a host address, the host's resolver, or nowhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::own::Routes;
use crate::policy::embedded_v4;
use crate::{Config, Error, GATEWAY6, Policy};

/// The answer for one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// A socket of the host may be opened to this address.
    Host(SocketAddr),
    /// As `Host`, and the address is one of several name servers.
    Resolver(SocketAddr),
    /// No socket may be opened.
    Refused,
}

/// Policy, with the name server taken out of the subnet it lies in.
#[derive(Debug)]
pub(crate) struct Router {
    policy: Policy,
    /// Asked about every destination, unless the machine's own addresses are allowed.
    routes: Option<Routes>,
    gateway: Ipv4Addr,
    dns: Ipv4Addr,
    resolvers: Vec<SocketAddr>,
    current: usize,
}

impl Router {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let ask = !config.policy.reaches_this_machine();
        Ok(Self {
            policy: config.policy.clone(),
            routes: ask.then(Routes::open).transpose().map_err(Error::Routes)?,
            gateway: config.gateway,
            dns: config.dns,
            resolvers: config.resolvers.clone(),
            current: 0,
        })
    }

    pub(crate) fn route(&mut self, peer: SocketAddr) -> Route {
        if peer.ip() == self.dns && peer.port() == 53 {
            let resolver = self.resolvers.get(self.current).copied();
            return resolver.map_or(Route::Refused, Route::Resolver);
        }
        let allowed = peer.port() != 0 && self.allows(peer.ip());
        if allowed { Route::Host(peer) } else { Route::Refused }
    }

    /// Tells whether the pod may talk to `address` at all.
    pub(crate) fn allows(&mut self, address: IpAddr) -> bool {
        // What a translator on the way would make of it must not be the machine's own either.
        let inner = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(six) => embedded_v4(six).map(IpAddr::V4),
        };
        !self.policy.refused(address)
            && self.routes.as_mut().is_none_or(|routes| {
                routes.elsewhere(address) && inner.is_none_or(|inner| routes.elsewhere(inner))
            })
    }

    /// Passes on from a resolver that did not answer, unless that has been done already.
    pub(crate) fn give_up_on(&mut self, resolver: SocketAddr) {
        if self.resolvers.get(self.current) == Some(&resolver) {
            self.current = (self.current + 1) % self.resolvers.len();
        }
    }

    /// Tells whether `address` is one of this stack's own, which answer ping.
    pub(crate) fn answers_ping(&self, address: IpAddr) -> bool {
        address == self.gateway || address == self.dns || address == GATEWAY6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(resolvers: &[&str]) -> Router {
        Router {
            policy: Policy::for_subnet(crate::POD_IP, crate::PREFIX),
            routes: None,
            gateway: crate::GATEWAY,
            dns: crate::DNS,
            resolvers: resolvers.iter().map(|a| a.parse().unwrap()).collect(),
            current: 0,
        }
    }

    fn peer(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_port_53_of_the_name_server_is_forwarded_even_to_loopback() {
        let mut router = router(&["127.0.0.53:53"]);
        let resolver = "127.0.0.53:53".parse().unwrap();
        assert_eq!(router.route(peer("10.117.0.53:53")), Route::Resolver(resolver));
        for refused in ["10.117.0.53:80", "10.117.0.1:53", "127.0.0.53:53", "192.0.2.1:0"] {
            assert_eq!(router.route(peer(refused)), Route::Refused, "{refused}");
        }
        let host = peer("192.0.2.1:53");
        assert_eq!(router.route(host), Route::Host(host));
    }

    #[test]
    fn a_silent_resolver_is_passed_over_once() {
        let mut router = router(&["192.0.2.1:53", "[2001:db8::1]:53"]);
        let first = "192.0.2.1:53".parse().unwrap();
        let second = "[2001:db8::1]:53".parse().unwrap();
        router.give_up_on(first);
        router.give_up_on(first);
        assert_eq!(router.route(peer("10.117.0.53:53")), Route::Resolver(second));
        router.give_up_on(second);
        assert_eq!(router.route(peer("10.117.0.53:53")), Route::Resolver(first));
    }

    #[test]
    fn without_resolvers_dns_is_refused() {
        let mut router = router(&[]);
        assert_eq!(router.route(peer("10.117.0.53:53")), Route::Refused);
        router.give_up_on("192.0.2.1:53".parse().unwrap());
    }
}
