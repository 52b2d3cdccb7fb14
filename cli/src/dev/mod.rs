//! The local cluster of this user: found, started in the background, stopped.
//!
//! ```text
//! ensure: daemon.json -> alive and of this build? -> its URL
//!              `-> start.lock -> probe -> `loom dev --background` -> one line on its stdout
//! ```

pub(crate) mod build;
pub(crate) mod images;
mod keychain;
mod owners;
pub(crate) mod process;
pub(crate) mod serve;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod userns;

use std::path::PathBuf;

use client::{Server, Token};
use url::Url;

use crate::config::Dirs;
use crate::failure::Failure;
pub use owners::{DOOR as IMAGE_FILES, main as image_files};
pub(crate) use state::Running;

/// Returns the running daemon, after starting it when there is none of this build.
pub(crate) async fn ensure(dirs: &Dirs) -> Result<Running, Failure> {
    match Running::find(dirs)? {
        Some(running) if running.build == build::id()? => Ok(running),
        _ => start::start(dirs),
    }
}

/// Returns the file with the token of this user's daemon.
pub(crate) fn token_file(dirs: &Dirs) -> PathBuf {
    dirs.state.join("token")
}

/// Returns the token if `url` is where this user's daemon listens.
pub(crate) fn token_at(dirs: &Dirs, url: &Url) -> Option<Token> {
    let running = Running::find(dirs).ok().flatten()?;
    let same = Url::parse(&running.url).ok()?.origin() == url.origin();
    same.then(|| crate::server::read_token(&token_file(dirs)).ok()).flatten()
}

impl Running {
    /// Returns how it is called.
    pub(crate) fn server(&self, dirs: &Dirs) -> Result<Server, Failure> {
        let token = crate::server::read_token(&token_file(dirs))?;
        Ok(Server::new(&self.url, Some(token))?)
    }
}
