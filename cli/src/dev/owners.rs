//! Images of an ordinary user who has subordinate ids: their files have the owners that the layers
//! name, so only a process in a user namespace of those ids can make and remove them.
//!
//! ```text
//! AsSubordinate --Order, a line of JSON--> loom pod-shim subordinate loom image-files --> images
//!               <--Trouble, or nothing----
//! ```

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::sync::OnceLock;

use images::unpack::{Bounds, Ownership};
use images::{Error, InProcess, Unpack};
use serde::{Deserialize, Serialize};

/// The first argument of the program when it is to make or remove files of images: see
/// [`image_files`](main).
pub const DOOR: &str = "image-files";
/// This program, also after another was installed in its place.
const SELF: &str = "/proc/self/exe";

#[derive(Serialize, Deserialize)]
enum Order {
    Nothing,
    Flatten { layers: Vec<PathBuf>, into: PathBuf, bounds: Bounds },
    Remove { folder: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
}

/// What [`Error`] can be of an order.
#[derive(Serialize, Deserialize)]
enum Trouble {
    Unsupported(String),
    TooLarge(String),
    Disk(String),
}

/// Unpacks with subordinate ids where they can be had, else as [`Ownership::Flat`].
#[derive(Default)]
pub(super) struct AsSubordinate {
    usable: OnceLock<bool>,
}

impl AsSubordinate {
    fn is_usable(&self) -> bool {
        *self.usable.get_or_init(|| carry_out(&Order::Nothing).is_ok())
    }
}

impl Unpack for AsSubordinate {
    fn flatten(&self, layers: &[PathBuf], into: &Path, bounds: Bounds) -> images::Result<()> {
        if !self.is_usable() {
            return InProcess(Ownership::Flat).flatten(layers, into, bounds);
        }
        let (layers, into) = (layers.to_vec(), into.to_owned());
        carry_out(&Order::Flatten { layers, into, bounds }).map_err(Error::from)
    }

    fn remove(&self, folder: &Path) -> io::Result<()> {
        let order = Order::Remove { folder: folder.to_owned() };
        unless_forbidden(InProcess(Ownership::Flat).remove(folder), &order)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let order = Order::Rename { from: from.to_owned(), to: to.to_owned() };
        unless_forbidden(std::fs::rename(from, to), &order)
    }
}

/// Carries out an order where this process may not do the same.
fn unless_forbidden(done: io::Result<()>, order: &Order) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            carry_out(order).map_err(|trouble| match trouble {
                Trouble::Disk(why) | Trouble::Unsupported(why) | Trouble::TooLarge(why) => {
                    io::Error::other(why)
                }
            })
        }
        other => other,
    }
}

/// Lets another process of this program carry out an order.
fn carry_out(order: &Order) -> Result<(), Trouble> {
    let broken = |error: io::Error| Trouble::Disk(format!("using subordinate ids: {error}"));
    let mut child = start().map_err(broken)?;
    let mut line = serde_json::to_vec(order).map_err(|error| broken(error.into()))?;
    line.push(b'\n');
    // Its input stays open until it has ended: with us, it ends too.
    let mut input = child.stdin.take();
    let told = input.as_mut().map_or(Ok(()), |input| input.write_all(&line));
    let output = child.wait_with_output().map_err(broken)?;
    drop(input);
    match serde_json::from_slice(&output.stdout) {
        _ if output.status.success() => told.map_err(broken),
        Ok(trouble) => Err(trouble),
        Err(_) => Err(broken(io::Error::other(String::from_utf8_lossy(&output.stderr).trim()))),
    }
}

fn start() -> io::Result<Child> {
    let mut command = pod_runtime::as_subordinate(Path::new(SELF))
        .ok_or_else(|| io::Error::other("this user has none"))?;
    command.args([SELF, DOOR]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// Carries out the order on standard input, as root of a user namespace, and returns the program's
/// exit code.
#[must_use]
pub fn main() -> ExitCode {
    match obey() {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            // Who does not listen sees the exit code.
            let _ = serde_json::to_writer(io::stdout(), &trouble);
            ExitCode::FAILURE
        }
    }
}

fn obey() -> Result<(), Trouble> {
    let disk = |error: io::Error| Trouble::Disk(error.to_string());
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(disk)?;
    let order: Order = serde_json::from_str(&line).map_err(|error| disk(error.into()))?;
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        // Nobody waits for this any more, and the folder may be swept away.
        std::process::exit(1);
    });
    let owned = InProcess(Ownership::Real);
    match order {
        Order::Nothing => Ok(()),
        Order::Flatten { layers, into, bounds } => {
            owned.flatten(&layers, &into, bounds).map_err(Trouble::from)
        }
        Order::Remove { folder } => owned.remove(&folder).map_err(disk),
        Order::Rename { from, to } => owned.rename(&from, &to).map_err(disk),
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::Unsupported(why) => Self::Unsupported(why),
            Error::TooLarge(why) => Self::TooLarge(why),
            other => Self::Disk(other.to_string()),
        }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unsupported(why) => Self::Unsupported(why),
            Trouble::TooLarge(why) => Self::TooLarge(why),
            Trouble::Disk(why) => {
                Self::Disk { doing: "unpacking".to_owned(), source: io::Error::other(why) }
            }
        }
    }
}
