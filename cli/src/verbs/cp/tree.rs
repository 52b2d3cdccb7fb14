//! This machine's side of a copy: files and folders as a stream of tar or of plain bytes.
//!
//! What comes out of a weaver is not trusted: it stays inside the folder it was asked for.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use crate::failure::{Doing, Failure};

/// Gives bytes until it is done; runs on a thread of its own.
pub(super) type Source = Box<dyn FnOnce(mpsc::Sender<Bytes>) -> Result<(), Failure> + Send>;
/// Takes bytes until there are no more; runs on a thread of its own.
pub(super) type Sink = Box<dyn FnOnce(mpsc::Receiver<Bytes>) -> Result<(), Failure> + Send>;

/// Bytes that travel in one frame.
const PIECE: usize = 64 * 1024;

/// Tells a folder from a file; a link counts as what it points to.
pub(super) fn is_dir(path: &Path) -> Result<bool, Failure> {
    Ok(fs::metadata(path).doing(path.display())?.is_dir())
}

/// Packs what is in a folder.
pub(super) fn pack_folder(folder: &Path) -> Source {
    let folder = folder.to_owned();
    Box::new(move |to| {
        let mut tar = tar::Builder::new(writer(to));
        tar.follow_symlinks(false);
        let packed = tar.append_dir_all(".", &folder).and_then(|()| tar.into_inner()?.flush());
        unless_unread(packed).doing(format!("cannot read {}", folder.display()))
    })
}

/// Packs one file under another name.
pub(super) fn pack_file(file: &Path, name: &str) -> Source {
    let (file, name) = (file.to_owned(), name.to_owned());
    Box::new(move |to| {
        let mut tar = tar::Builder::new(writer(to));
        let packed =
            tar.append_path_with_name(&file, &name).and_then(|()| tar.into_inner()?.flush());
        unless_unread(packed).doing(format!("cannot read {}", file.display()))
    })
}

/// Reads one file as it is.
pub(super) fn read_file(file: &Path) -> Source {
    let file = file.to_owned();
    Box::new(move |to| {
        let mut to = writer(to);
        let copied = File::open(&file).and_then(|mut from| io::copy(&mut from, &mut to));
        let flushed = copied.and_then(|_| to.flush());
        unless_unread(flushed).doing(format!("cannot read {}", file.display()))
    })
}

/// Unpacks into a folder, which is made if it is missing.
pub(super) fn unpack_folder(folder: PathBuf) -> Sink {
    Box::new(move |from| {
        let unpack = || {
            fs::create_dir_all(&folder)?;
            let mut tar = tar::Archive::new(Incoming::new(from));
            tar.set_preserve_permissions(false);
            tar.set_overwrite(true);
            for entry in tar.entries()? {
                // It refuses what would leave the folder, also through links made before.
                entry?.unpack_in(&folder)?;
            }
            Ok::<_, io::Error>(())
        };
        unpack().doing(format!("cannot write into {}", folder.display()))
    })
}

/// Takes the one file of an archive under a name of our choice.
pub(super) fn unpack_file(target: PathBuf) -> Sink {
    Box::new(move |from| {
        let unpack = || {
            let mut tar = tar::Archive::new(Incoming::new(from));
            for entry in tar.entries()? {
                let mut entry = entry?;
                if entry.header().entry_type().is_file() {
                    let mode = entry.header().mode()? & 0o777;
                    return replace(&target, &mut entry, Some(mode));
                }
            }
            Err(io::Error::other("it is not a file"))
        };
        unpack().doing(format!("cannot write {}", target.display()))
    })
}

/// Writes one file as it comes.
pub(super) fn write_file(target: PathBuf) -> Sink {
    Box::new(move |from| {
        replace(&target, &mut Incoming::new(from), None)
            .doing(format!("cannot write {}", target.display()))
    })
}

/// Replaces a file as a whole, so that a broken copy leaves the old one.
fn replace(target: &Path, from: &mut impl Read, mode: Option<u32>) -> io::Result<()> {
    let next = target.with_added_extension(format!("loom-{}", std::process::id()));
    let mut write = || {
        let mut file = File::create(&next)?;
        io::copy(from, &mut file)?;
        if let Some(mode) = mode {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        fs::rename(&next, target)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&next);
    }
    written
}

/// When nobody reads any more the other side knows why.
fn unless_unread(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}

fn writer(to: mpsc::Sender<Bytes>) -> BufWriter<Outgoing> {
    BufWriter::with_capacity(PIECE, Outgoing(to))
}

struct Outgoing(mpsc::Sender<Bytes>);

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        let sent = self.0.blocking_send(Bytes::copy_from_slice(piece));
        sent.map(|()| piece.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Incoming {
    from: mpsc::Receiver<Bytes>,
    held: Bytes,
}

impl Incoming {
    fn new(from: mpsc::Receiver<Bytes>) -> Self {
        Self { from, held: Bytes::new() }
    }
}

impl Read for Incoming {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.held.is_empty() {
            match self.from.blocking_recv() {
                Some(bytes) => self.held = bytes,
                None => return Ok(0),
            }
        }
        let count = to.len().min(self.held.len());
        self.held.copy_to_slice(&mut to[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a sink on the bytes of a source.
    fn pass(source: Source, sink: Sink) -> Result<(), Failure> {
        let (to, from) = mpsc::channel(1);
        let giving = std::thread::spawn(move || source(to));
        let taken = sink(from);
        giving.join().unwrap()?;
        taken
    }

    fn bytes(data: Vec<u8>) -> Source {
        Box::new(move |to| {
            let _ = to.blocking_send(data.into());
            Ok(())
        })
    }

    #[test]
    fn a_folder_arrives_as_it_was() {
        let here = tempfile::tempdir().unwrap();
        let (from, to) = (here.path().join("from"), here.path().join("to"));
        fs::create_dir_all(from.join("a/empty")).unwrap();
        fs::write(from.join("a/big"), vec![7; 300_000]).unwrap();
        fs::set_permissions(from.join("a/big"), fs::Permissions::from_mode(0o755)).unwrap();
        let long = "x".repeat(200);
        fs::write(from.join(&long), "long").unwrap();
        std::os::unix::fs::symlink("a/big", from.join("link")).unwrap();
        for _ in 0..2 {
            pass(pack_folder(&from), unpack_folder(to.clone())).unwrap();
        }
        assert_eq!(fs::read(to.join("a/big")).unwrap(), vec![7; 300_000]);
        assert_eq!(fs::metadata(to.join("a/big")).unwrap().permissions().mode() & 0o111, 0o111);
        assert_eq!(fs::read_to_string(to.join(long)).unwrap(), "long");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("a/big"));
        assert!(to.join("a/empty").is_dir());
    }

    #[test]
    fn a_file_arrives_under_its_new_name() {
        let here = tempfile::tempdir().unwrap();
        let (from, to) = (here.path().join("from"), here.path().join("to"));
        fs::write(&from, "text").unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o750)).unwrap();
        pass(pack_file(&from, "other"), unpack_file(to.clone())).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "text");
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o750);
        pass(read_file(&from), write_file(to.clone())).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "text");
    }

    #[test]
    fn a_broken_copy_leaves_the_old_file() {
        let here = tempfile::tempdir().unwrap();
        let to = here.path().join("to");
        fs::write(&to, "old").unwrap();
        assert!(pass(bytes(b"no tar at all".to_vec()), unpack_file(to.clone())).is_err());
        assert_eq!(fs::read_to_string(&to).unwrap(), "old");
        assert_eq!(fs::read_dir(here.path()).unwrap().count(), 1);
    }

    #[test]
    fn abuse_archives_stay_inside() {
        let here = tempfile::tempdir().unwrap();
        let to = here.path().join("to");
        let mut tar = tar::Builder::new(Vec::new());
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "out", "..").unwrap();
        for name in ["../evil", "out/evil", "/evil", "a/../../evil"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            header.set_mode(0o644);
            let field = &mut header.as_mut_bytes()[..name.len()];
            field.copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, &b"x"[..]).unwrap();
        }
        let _ = pass(bytes(tar.into_inner().unwrap()), unpack_folder(to));
        assert!(!here.path().join("evil").exists());
        assert!(!Path::new("/evil").exists());
    }
}
