//! One file a verb; here they are told apart, and the runtime starts for those that talk.

pub(crate) mod attach;
pub(crate) mod completions;
pub(crate) mod cp;
pub(crate) mod delete;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod extend;
pub(crate) mod logs;
pub(crate) mod new;
pub(crate) mod ps;
mod version;

use std::future::Future;

use crate::args::{Global, Verb};
use crate::failure::{Doing, Failure};

/// Runs one verb and returns the exit code of its success.
pub(crate) fn run(verb: Verb, global: &Global) -> Result<u8, Failure> {
    match verb.plain() {
        Verb::New(args) => block_on(new::run(args, global)),
        Verb::Attach(args) => block_on(attach::run(args, global)),
        Verb::Ps(args) => block_on(ps::run(args, global)),
        Verb::Rm(args) => block_on(delete::run(args, global)),
        Verb::Logs(args) => block_on(logs::run(args, global)),
        Verb::Exec(args) => block_on(exec::run(args, global)),
        Verb::Cp(args) => block_on(cp::run(args, global)),
        Verb::Extend(args) => block_on(extend::run(args, global)),
        Verb::Dev(args) => dev::run(args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Version { json } => version::run(json),
        Verb::Weaver(_) => Err(Failure::usage("a verb is missing")),
    }
}

/// Runs on one thread: more would only cost time at the start.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing("cannot start")?;
    let result = runtime.block_on(work);
    // A name that is still being looked up must not hold the end back.
    runtime.shutdown_background();
    result
}
