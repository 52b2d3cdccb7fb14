//! The socket: it is there before anything else, and every connection is served on its own.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::generation::Host;
use crate::link;

/// Most connections at once; a relay needs one.
const CONNECTIONS: usize = 64;

/// Makes the socket, for this user alone; what an earlier host left there is removed.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves connections for ever; dropping it ends them all.
pub(crate) async fn serve(listener: UnixListener, host: Rc<Host>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(stream, &host, &mut links),
                Err(error) => {
                    eprintln!("loom-host: accept: {error}");
                    // Such as too many open files: until one is closed, or a while.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = links.join_next() => {}
        }
    }
}

fn admit(stream: UnixStream, host: &Rc<Host>, links: &mut JoinSet<()>) {
    if links.len() < CONNECTIONS {
        links.spawn_local(link::serve(stream, Rc::clone(host)));
    }
}
