//! Debian's `docker-registry` on loopback, with images in it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::support::show;

const CONFIG: &str = "version: 0.1
http: {addr: '127.0.0.1:0'}
log: {level: info}
";
/// The password `secret`, as `htpasswd -B` writes it.
const PASSWORDS: &str = "ada:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

static HOST: OnceLock<String> = OnceLock::new();
static FOLDER: OnceLock<PathBuf> = OnceLock::new();
static IMAGES: OnceLock<()> = OnceLock::new();

/// It runs until this is dropped.
pub(crate) struct Registry {
    process: Child,
    folder: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Starts it, or says why it does not.
pub(crate) fn start() -> Option<Registry> {
    let folder = tempfile::Builder::new().prefix("lr").tempdir_in("/tmp").unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let mut config = CONFIG.to_owned();
    writeln!(config, "storage: {{filesystem: {{rootdirectory: '{}'}}}}", at("data")).unwrap();
    writeln!(config, "auth: {{htpasswd: {{realm: loom, path: '{}'}}}}", at("passwords")).unwrap();
    std::fs::write(at("passwords"), PASSWORDS).unwrap();
    std::fs::write(at("config.yml"), config).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(at("config.yml")).stdin(Stdio::null());
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
    let host = said.by_ref().find_map(|line| {
        let (_, address) = line.split_once("listening on ")?;
        Some(
            address
                .trim_end_matches(|end: char| !end.is_ascii_digit())
                .split('"')
                .next()?
                .to_owned(),
        )
    });
    // Nobody reads what it says from now on, but it must not wait for that.
    std::thread::spawn(move || said.for_each(drop));
    let registry = Registry { process, folder };
    if host.is_none() {
        eprintln!("docker-registry did not start");
    }
    FOLDER.set(registry.folder.path().to_owned()).unwrap();
    HOST.set(host?).unwrap();
    Some(registry)
}

/// Returns the registry's address, once the images are there.
pub(crate) fn with_images() -> &'static str {
    let host = HOST.get().unwrap();
    IMAGES.get_or_init(|| {
        let folder = FOLDER.get().unwrap();
        std::fs::write(folder.join("auth.json"), login(host)).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", include_str!("images.sh"), "sh", host]).arg(folder);
        shell.args(std::env::var_os("LOOM_TEST_DEBIAN"));
        let output = shell.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", show(&output));
    });
    host
}

/// Returns docker's `config.json` of somebody who has signed in.
pub(crate) fn login(host: &str) -> String {
    serde_json::json!({"auths": {host: {"auth": "YWRhOnNlY3JldA=="}}}).to_string()
}
