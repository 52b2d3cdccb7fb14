//! The only crate that speaks Kubernetes: weavers as pods, their logs and their programs.
//!
//! What it is not: policy (that is `weaver`), HTTP for users (`handlers`, `relay`), a store of
//! anything. Whether the other side is a real cluster or the local one is never asked.
//!
//! ```text
//! Admitted -> pod::render -> create ----+
//! Query    -> label selector -> list ---+--> kube client -> clock layer -> API server
//! Found    -> exec, logs, extend, delete+
//!
//! Pod      -> pod::read -> Found { weaver (phase, why), pod facts }   or Unreadable
//! ```

mod clock;
mod connect;
mod error;
mod exec;
mod found;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod keys;
mod logs;
pub mod pod;
mod progress;
mod select;
mod settings;
mod watch;
mod weavers;
mod why;

pub use error::{Call, Error, Result};
pub use exec::{CannotRun, Exec, ExecInput, ExecOutput, ExecRequest, Resizer};
pub use found::{Change, Deletion, Found, Guard, Page, PodFacts, Query, Skipped};
pub use logs::LogQuery;
pub use progress::Progress;
pub use settings::{Amounts, ClusterArgs, PullPolicy, Settings, ToolsMount, mebibytes, millicores};
pub use weavers::Cluster;
