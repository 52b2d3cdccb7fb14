//! What a weaver is: ids, what may be asked for, who admits it, when it ends.
//!
//! Pure: no clock, no sockets, no Kubernetes. Time is an argument; a pod is somebody else's word.
//!
//! ```text
//! text from outside -> fields -> WeaverSpec -> Policy::admit -> Admitted -> (cluster writes a pod)
//! ```

pub mod env;
pub mod fields;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod id;
pub mod image;
pub mod policy;
pub mod publish;
pub mod repo;
pub mod spec;
pub mod tags;
pub mod ttl;
mod weaver;

pub use env::{Env, EnvError};
pub use fields::{FieldError, WeaverName, Workdir};
pub use id::{OrgId, OwnerId, WeaverId};
pub use image::Image;
pub use policy::{Admitted, Policy, Refusal};
pub use publish::Publish;
pub use repo::{Branch, RepoUrl};
pub use spec::{Resources, Terminal, WeaverSpec};
pub use tags::Tags;
pub use ttl::Ttl;
pub use weaver::{Phase, Weaver, Why};
