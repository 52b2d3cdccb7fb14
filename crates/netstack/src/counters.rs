//! What a running stack has done so far, readable from other threads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Defines the counters once: the atomics, the readings and the copy between them.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Counters of one stack, shared with whoever keeps a clone of the `Arc` in the config.
        #[derive(Debug, Default)]
        pub struct Counters { $(pub(crate) $name: AtomicU64),+ }

        /// The values of [`Counters`] at one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Reading { $($(#[$doc])* pub $name: u64),+ }

        impl Counters {
            /// Returns the present values.
            pub fn read(&self) -> Reading {
                Reading { $($name: self.$name.load(Ordering::Relaxed)),+ }
            }
        }
    };
}

counters! {
    /// Sockets opened on the host, TCP and UDP, DNS included.
    host_sockets,
    /// TCP connections whose host side was established.
    tcp_opened,
    /// TCP connections that ended, however.
    tcp_closed,
    /// TCP connections and UDP datagrams refused by policy, without a host socket.
    refused,
    /// TCP connections refused because the table was full or the host out of sockets.
    exhausted,
    /// Packets from the pod that could not be used: malformed, fragments, wrong source.
    ignored,
    /// Packets and datagrams lost because one side could not take them.
    packets_lost,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
