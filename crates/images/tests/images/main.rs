//! Images from hostile and from ordinary hands.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod layer;
mod load;
mod pull;
mod registry;
mod unpack;
