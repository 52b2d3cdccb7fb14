//! `loom cp`: files and folders into a weaver and out of it.
//!
//! ```text
//! here -> tree::pack -> exec `tar -x` in the weaver        (a single file without tar: `cat >`)
//! exec `tar -c` in the weaver -> tree::unpack -> here      (a single file without tar: `cat`)
//! ```

use std::path::{Path, PathBuf};

use crate::args::Global;
use crate::failure::Failure;
use crate::{ids, server};

mod remote;
mod tree;

use remote::{Kind, Remote};

/// Copy files and folders between here and a weaver
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  loom cp notes.txt web:/workspace/          into the weaver called web
  loom cp -:/workspace/dist ./dist           out of the last one used
  loom cp src -:                             into the folder where its program started

A folder is copied with all that is in it. What is there under the same name is replaced.")]
pub(crate) struct Args {
    /// What to copy: a path here, or ID:PATH in a weaver
    #[arg(allow_hyphen_values = true)]
    from: Place,
    /// Where to: a path here, or ID:PATH in a weaver
    #[arg(allow_hyphen_values = true)]
    to: Place,
}

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Here(PathBuf),
    There { id: String, path: String },
}

impl std::str::FromStr for Place {
    type Err = std::convert::Infallible;

    /// A colon before any slash separates a weaver from a path; `./a:b` is a file here.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once(':') {
            Some((id, path)) if !id.is_empty() && !id.contains('/') => {
                let path = if path.is_empty() { "." } else { path };
                Self::There { id: id.to_owned(), path: path.to_owned() }
            }
            _ => Self::Here(PathBuf::from(text)),
        })
    }
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<u8, Failure> {
    let both = || {
        let failure = Failure::usage("one of the two must be in a weaver, written ID:PATH");
        match without_colon(&args.from, &args.to) {
            Some(meant) => failure.next(format!("did you mean: {meant}")),
            None => failure,
        }
    };
    let (id, outward) = match (&args.from, &args.to) {
        (Place::Here(_), Place::There { id, .. }) => (id, false),
        (Place::There { id, .. }, Place::Here(_)) => (id, true),
        (Place::Here(_), Place::Here(_)) | (Place::There { .. }, Place::There { .. }) => {
            return Err(both());
        }
    };
    let api = server::connect(global).await?;
    let view = api.client.get(&ids::resolve(&api, id).await?).await?;
    let remote = Remote { client: &api.client, attach_url: &view.attach_url };
    match (&args.from, &args.to) {
        (Place::Here(from), Place::There { path, .. }) if !outward => {
            put(&remote, from, path).await
        }
        (Place::There { path, .. }, Place::Here(to)) => get(&remote, path, to).await,
        _ => Err(both()),
    }?;
    Ok(0)
}

/// Returns what was meant when the target is a weaver without its colon.
fn without_colon(from: &Place, to: &Place) -> Option<String> {
    let (Place::Here(from), Place::Here(to)) = (from, to) else { return None };
    let is_name = to.components().count() == 1 && !to.to_string_lossy().contains(['/', '.']);
    (is_name && !to.exists()).then(|| format!("loom cp {} {}:", from.display(), to.display()))
}

/// Copies into a weaver.
async fn put(remote: &Remote<'_>, from: &Path, to: &str) -> Result<(), Failure> {
    let is_dir = tree::is_dir(from)?;
    let found = remote.look(to).await?;
    let into = found.kind == Kind::Folder || to.ends_with('/');
    let target = if into { join(to, &own_name(from)?) } else { to.to_owned() };
    if !found.tar && is_dir {
        return Err(Failure::new("the image has no tar, so only single files can be copied"));
    }
    if is_dir {
        let script = r#"mkdir -p -- "$1" && exec tar -xof - -C "$1""#;
        return remote.feed(script, &target, tree::pack_folder(from)).await;
    }
    if !found.tar {
        return remote.feed(r#"exec cat >"$1""#, &target, tree::read_file(from)).await;
    }
    let (folder, name) = split(&target);
    let script = r#"mkdir -p -- "$1" && exec tar -xof - -C "$1""#;
    remote.feed(script, folder, tree::pack_file(from, name)).await
}

/// Copies out of a weaver.
async fn get(remote: &Remote<'_>, from: &str, to: &Path) -> Result<(), Failure> {
    let found = remote.look(from).await?;
    let named = || Failure::new(format!("{from:?} has no name of its own")).next("name the target");
    let target = match (to.is_dir(), split(from).1) {
        (true, "" | "." | "..") if found.kind == Kind::Folder => to.to_owned(),
        (true, "" | "." | "..") => return Err(named()),
        (true, name) => to.join(name),
        (false, _) => to.to_owned(),
    };
    match (found.kind, found.tar) {
        (Kind::Missing, _) => Err(Failure::new(format!("there is no {from:?} in the weaver"))),
        (Kind::Folder, true) => {
            let script = r#"exec tar -cf - -C "$1" ."#;
            remote.drain(script, from, tree::unpack_folder(target)).await
        }
        (Kind::Folder, false) => {
            Err(Failure::new("the image has no tar, so only single files can be copied"))
        }
        (Kind::File, true) => {
            // The folder may be named by a link, the file is what the link points to.
            let script =
                r#"cd -- "$(dirname -- "$1")" && exec tar -chf - -- "$(basename -- "$1")""#;
            remote.drain(script, from, tree::unpack_file(target)).await
        }
        (Kind::File, false) => {
            remote.drain(r#"exec cat -- "$1""#, from, tree::write_file(target)).await
        }
    }
}

/// Returns the name under which something arrives in a folder.
fn own_name(path: &Path) -> Result<String, Failure> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = whole.file_name().and_then(|name| name.to_str());
    let missing = || Failure::new(format!("{} has no name of its own", path.display()));
    name.map(str::to_owned).ok_or_else(missing)
}

fn join(folder: &str, name: &str) -> String {
    format!("{}/{name}", if folder == "/" { "" } else { folder.trim_end_matches('/') })
}

/// Splits a path in the weaver into folder and last part.
fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None => (".", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_as_people_type_them() {
        let there = |id: &str, path: &str| Place::There { id: id.into(), path: path.into() };
        for (text, place) in [
            ("web:/a", there("web", "/a")),
            ("-:a", there("-", "a")),
            ("web:", there("web", ".")),
            ("./a:b", Place::Here("./a:b".into())),
            ("/a:b", Place::Here("/a:b".into())),
            (":a", Place::Here(":a".into())),
            ("a", Place::Here("a".into())),
        ] {
            assert_eq!(text.parse::<Place>(), Ok(place), "{text}");
        }
    }

    #[test]
    fn paths_in_the_weaver() {
        assert_eq!(split("/a/b/"), ("/a", "b"));
        assert_eq!(split("/a"), ("/", "a"));
        assert_eq!(split("a"), (".", "a"));
        assert_eq!(split("/"), (".", ""));
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/x/", "a"), "/x/a");
    }
}
