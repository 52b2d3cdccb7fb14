//! Streams over WebSocket, which `exec`, `attach` and `portforward` have in common.

pub(super) mod session;
pub(super) mod socket;
