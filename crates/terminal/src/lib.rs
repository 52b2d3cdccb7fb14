//! One session of a terminal, shared by viewers: what each of them is sent next, and which input
//! reaches the program.
//!
//! Pure: it decides, somebody else moves the bytes. It has no clock (`now` is an argument, counted
//! from any start), no sockets, and knows neither the wire's numbers nor how a program is started.
//!
//! ```text
//! program --output--> Session [ring, screen model] --next(viewer)--> viewers
//! program <-pending-- Session [clients, line]      <--input, ack, resize-- viewers
//! ```

mod charset;
mod flow;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod input;
mod line;
mod ring;
mod scan;
mod screen;
mod session;
mod size;
mod viewer;

pub use flow::Flow;
pub use input::{Accepted, InputError, Pending};
pub use ring::{Chunk, Ring, Stream};
pub use screen::Screen;
pub use session::{Join, Limits, Resume, Session};
pub use size::Size;
pub use viewer::{End, Event, Role, ViewerKey};
