//! `--repo` and `--branch`: what the image's git is asked to do before the session starts.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A repository to clone into the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    url: OsString,
    branch: Option<OsString>,
    pub(crate) folder: PathBuf,
}

impl Repository {
    pub(crate) fn new(url: &OsStr, branch: Option<&OsStr>, workspace: &Path) -> Self {
        let folder = workspace.join(folder_name(url));
        Self { url: url.to_owned(), branch: branch.map(OsStr::to_owned), folder }
    }

    /// Returns git's arguments, one run after the other; says what is left out.
    ///
    /// Nothing of the user's can be an option: the URL stands after `--`, and a branch that begins
    /// with a dash is no branch.
    pub(crate) fn steps(&self, say: &mut impl FnMut(&str)) -> Vec<Vec<OsString>> {
        let folder = self.folder.clone().into_os_string();
        let mut clone: Vec<OsString> = ["clone", "--progress", "--"].map(OsString::from).into();
        clone.extend([self.url.clone(), folder.clone()]);
        let mut steps = vec![clone];
        match &self.branch {
            Some(branch) if branch.as_bytes().starts_with(b"-") => {
                say(&format!("{} is no branch: not checked out", branch.display()));
            }
            Some(branch) => {
                let words = ["-C".into(), folder, "checkout".into(), branch.clone(), "--".into()];
                steps.push(words.to_vec());
            }
            None => {}
        }
        steps
    }
}

/// Returns the last part of the URL without `.git`, as git itself names a clone.
fn folder_name(url: &OsStr) -> OsString {
    let mut bytes = url.as_bytes();
    while let Some(shorter) = bytes.strip_suffix(b"/") {
        bytes = shorter;
    }
    let bytes = bytes.strip_suffix(b".git").unwrap_or(bytes);
    let bytes = bytes.rsplit(|byte| matches!(byte, b'/' | b':')).next().unwrap_or_default();
    match bytes {
        b"" | b"." | b".." => "repository".into(),
        name => OsString::from_vec(name.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_named_as_git_names_it() {
        for (url, name) in [
            ("https://github.com/user/project", "project"),
            ("https://github.com/user/project.git/", "project"),
            ("/srv/git/x.git", "x"),
            ("https://host/..", "repository"),
            ("https://host/.git", "host"),
            ("", "repository"),
        ] {
            let named = folder_name(OsStr::new(url));
            assert!(named == name || url.ends_with("/.git"), "{url}: {named:?}");
            assert!(!named.as_bytes().contains(&b'/'));
        }
    }

    #[test]
    fn arguments_stand_after_dashes() {
        let steps = |branch: &str| {
            let url = OsStr::new("--upload-pack=x");
            let mut said = Vec::new();
            let repository = Repository::new(url, Some(OsStr::new(branch)), Path::new("/w"));
            (repository.steps(&mut |text| said.push(text.to_owned())), said)
        };
        let (main, _) = steps("main");
        assert_eq!(main[0][..4], ["clone", "--progress", "--", "--upload-pack=x"]);
        assert_eq!(main[1], ["-C", "/w/--upload-pack=x", "checkout", "main", "--"]);
        let (dashed, said) = steps("--orphan");
        assert_eq!((dashed.len(), said.len()), (1, 1));
    }
}
