//! What is cloned into a weaver: a public https repository and a branch, tag or commit of it.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::FieldError;
use crate::id::as_str;

/// An `https://` URL without credentials and fragment, at most 2,048 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoUrl(String);

impl RepoUrl {
    /// Returns the URL as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the folder that `git clone` makes of it: the last part of the path without `.git`.
    #[must_use]
    pub fn folder(&self) -> &str {
        let path = self.0.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let last = path.rsplit('/').next().unwrap_or_default();
        last.strip_suffix(".git").unwrap_or(last)
    }
}

impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepoUrl {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let wrong = |why: &str| Err(FieldError::new("repo", why));
        if !text.starts_with("https://") {
            return wrong("must begin with https://");
        }
        let odd = |c: char| {
            c.is_control() || c.is_whitespace() || matches!(c, '\\' | '"' | '\'' | '<' | '>' | '`')
        };
        if text.len() > 2048 || text.contains(odd) {
            return wrong("is not a URL of at most 2,048 characters without spaces and quotes");
        }
        let Ok(url) = Url::parse(text) else {
            return wrong("is not a URL");
        };
        if !url.username().is_empty()
            || url.password().is_some()
            || text[8..].split('/').next().is_some_and(|host| host.contains('@'))
        {
            return wrong("must not carry credentials: they would show in the pod's spec");
        }
        if url.fragment().is_some() {
            return wrong("must not have a part behind '#'; use branch");
        }
        let repo = Self(text.to_owned());
        if matches!(repo.folder(), "" | "." | "..") || url.path() == "/" {
            return wrong("names a server but no repository");
        }
        Ok(repo)
    }
}

/// A branch, tag or commit, by the rules of git-check-ref-format, at most 255 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch(String);

impl Branch {
    /// Returns the name as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Branch {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let odd = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
        let part =
            |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
        let fits = text.len() <= 255 && !text.contains(odd) && text.split('/').all(part);
        let shape = !text.starts_with('-') && !text.ends_with('.') && text != "@";
        if fits && shape && !text.contains("..") && !text.contains("@{") {
            return Ok(Self(text.to_owned()));
        }
        Err(FieldError::new("branch", "is not the name of a branch, tag or commit"))
    }
}

as_str!(RepoUrl, Branch);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_https_repositories_pass() {
        for (text, folder) in [
            ("https://github.com/user/project", "project"),
            ("https://github.com/user/project.git", "project"),
            ("https://host.test:8443/a/b/c.git/", "c"),
        ] {
            assert_eq!(text.parse::<RepoUrl>().unwrap().folder(), folder);
        }
    }

    #[test]
    fn abuse_repositories() {
        for text in [
            "",
            "ext::sh -c id",
            "file:///etc",
            "ssh://host/x",
            "git@host:x",
            "http://host/x",
            "--upload-pack=x",
            "https://user:pw@host/x",
            "https://user@host/x",
            "https://@host/x",
            "https://host/x#--foo",
            "https://host",
            "https://host/",
            "https:///x",
            "https://host/a b",
            "https://host/\u{1b}",
            "https://host/..",
        ] {
            assert_eq!(
                text.parse::<RepoUrl>().map_err(|error| error.field),
                Err("repo"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn abuse_branches() {
        for text in ["main", "feature/a-b", "v1.0", "0123abc"] {
            assert!(text.parse::<Branch>().is_ok(), "{text}");
        }
        for text in [
            "", "-x", "--", "a b", "a..b", "a~1", "a:b", ".a", "a/.b", "a//b", "a.lock", "@",
            "a@{1}", "a\n", "a\\b",
        ] {
            assert_eq!(
                text.parse::<Branch>().map_err(|error| error.field),
                Err("branch"),
                "{text:?}"
            );
        }
    }
}
