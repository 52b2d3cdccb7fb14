//! `/etc/passwd`, read by hand: a static program has no name service.

use std::path::PathBuf;

/// What the file says of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    pub(crate) shell: PathBuf,
}

/// Returns the entry of the user that this process runs as.
pub(crate) fn own() -> Option<Entry> {
    let text = std::fs::read("/etc/passwd").ok()?;
    find(&String::from_utf8_lossy(&text), rustix::process::getuid().as_raw())
}

fn find(text: &str, uid: u32) -> Option<Entry> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        let (home, shell) = (fields.nth(2)?, fields.next()?);
        (id.parse() == Ok(uid)).then(|| Entry {
            name: name.to_owned(),
            home: home.into(),
            shell: shell.into(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_line_is_found() {
        let text =
            "broken\nroot:x:0:0:root:/root:/bin/bash\nada:x:1000:1000:,,,:/home/ada:/bin/zsh\n";
        let ada = Entry { name: "ada".into(), home: "/home/ada".into(), shell: "/bin/zsh".into() };
        assert_eq!(find(text, 1000), Some(ada));
        assert_eq!(find(text, 7), None);
    }
}
