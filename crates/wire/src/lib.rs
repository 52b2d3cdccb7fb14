//! The bytes and the JSON between our programs: API bodies, problems, terminal frames.
//!
//! Pure: it turns values into bytes and back. Sizes are checked before anything is allocated, and no
//! input makes it panic. It does not move bytes and does not know who may send them.
//!
//! ```text
//! cli, client <- api, problem -> handlers
//! cli, client <- frame, v1    -> relay <- link(frame) -> host
//! ```

pub mod api;
pub mod frame;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod link;
pub mod object;
pub mod problem;
pub mod unique;
pub mod v1;
