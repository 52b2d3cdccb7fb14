//! Finds a program as a shell does and executes it, with Kubernetes' words when that fails.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::failure::Failure;

/// Where programs are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Executes the program; returns only when it cannot.
pub(crate) fn execute(argv: &[String], env: &[(String, String)]) -> Result<Infallible, Failure> {
    let name = argv.first().map(String::as_str).unwrap_or_default();
    let path = find(name, env)?;
    let text = |text: String| {
        CString::new(text).map_err(|_| said(name, "an argument or variable holds a zero byte"))
    };
    let file = text(path.to_string_lossy().into_owned())?;
    let argv: Vec<CString> = argv.iter().cloned().map(text).collect::<Result<_, _>>()?;
    let env: Vec<CString> = last_wins(env).map(text).collect::<Result<_, _>>()?;
    let Err(error) = nix::unistd::execve(&file, &argv, &env);
    Err(said(name, &error.desc().to_lowercase()))
}

/// Finds the file to execute.
fn find(name: &str, env: &[(String, String)]) -> Result<PathBuf, Failure> {
    if name.contains('/') {
        return match std::fs::metadata(name) {
            Err(_) => Err(said(name, &format!("stat {name}: no such file or directory"))),
            Ok(meta) if meta.is_dir() => Err(said(name, "is a directory")),
            Ok(meta) if meta.mode() & 0o111 == 0 => Err(said(name, "permission denied")),
            Ok(_) => Ok(name.into()),
        };
    }
    let path = env.iter().rev().find(|(key, _)| key == "PATH");
    let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    path.split(':')
        .filter(|folder| folder.starts_with('/') && !name.is_empty())
        .map(|folder| Path::new(folder).join(name))
        .find(is_program)
        .ok_or_else(|| said(name, "executable file not found in $PATH"))
}

fn said(name: &str, why: &str) -> Failure {
    Failure::Program(format!("exec: {name:?}: {why}"))
}

fn last_wins(env: &[(String, String)]) -> impl Iterator<Item = String> + '_ {
    env.iter().enumerate().filter_map(|(at, (key, value))| {
        let later = env[at + 1..].iter().any(|(other, _)| other == key);
        (!later).then(|| format!("{key}={value}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_path_only_where_they_can_run() {
        let path = |value: &str| [("PATH".to_owned(), value.to_owned())];
        assert_eq!(find("sh", &path("/nowhere:/bin")).unwrap(), PathBuf::from("/bin/sh"));
        let missing = find("no-such", &path("/bin")).unwrap_err().to_string();
        assert_eq!(missing, r#"exec: "no-such": executable file not found in $PATH"#);
        let missing = find("/no/such", &[]).unwrap_err().to_string();
        assert_eq!(missing, r#"exec: "/no/such": stat /no/such: no such file or directory"#);
        assert_eq!(
            find("/etc/passwd", &[]).unwrap_err().to_string(),
            r#"exec: "/etc/passwd": permission denied"#
        );
    }

    #[test]
    fn the_last_of_equal_variables_counts() {
        let env = [("A", "1"), ("B", "2"), ("A", "3")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(last_wins(&env).collect::<Vec<_>>(), ["B=2", "A=3"]);
    }
}
