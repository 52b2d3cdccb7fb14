//! A weaver as a pod: `render` writes it, `read` reads it back, side by side.

mod annotation;
mod expansion;
pub(crate) mod phase;
mod read;
mod render;

pub use read::{Unreadable, read};
pub use render::render;

pub(crate) use annotation::stored_spec;
pub(crate) use read::has_command;

#[cfg(test)]
mod tests;
