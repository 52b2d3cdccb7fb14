//! Drives the real `loom`: a world of its own for each test, and terminals with a screen.

mod terminal;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

pub(crate) use terminal::Terminal;

/// How long anything may take before a test gives up; never a measure of speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Returns the program under test.
pub(crate) fn loom() -> PathBuf {
    std::env::var_os("LOOM_TEST_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_loom")), PathBuf::from)
}

/// Folders of its own, and a local cluster once something asks for one.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// Makes the folders; their paths are short because sockets lie in them.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("lt").tempdir_in("/tmp").unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Returns the environment of every program here.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let path = |below: &str| self.path(below).display().to_string();
        [
            ("LOOM_STATE_DIR", path("s")),
            ("LOOM_CONFIG_DIR", path("c")),
            ("HOME", path("h")),
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("TERM", "xterm-256color".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }

    /// Prepares a command; `line` is split at white space.
    pub(crate) fn command(&self, line: &str, more: &[&str]) -> Command {
        let mut command = Command::new(loom());
        command.args(line.split_whitespace()).args(more);
        command.env_clear().envs(self.variables()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, line: &str) -> Output {
        self.run_with(line, &[])
    }

    /// Runs a command whose last words hold spaces.
    pub(crate) fn run_with(&self, line: &str, more: &[&str]) -> Output {
        self.command(line, more).output().unwrap()
    }

    /// Runs a command that must succeed and returns its standard output.
    pub(crate) fn ok(&self, line: &str) -> String {
        self.ok_with(line, &[])
    }

    pub(crate) fn ok_with(&self, line: &str, more: &[&str]) -> String {
        let output = self.run_with(line, more);
        assert_eq!(code(&output), 0, "loom {line}: {}", show(&output));
        text(&output.stdout)
    }

    /// Runs a command with an input.
    pub(crate) fn feed(&self, line: &str, more: &[&str], input: &[u8]) -> Output {
        let mut child = self.piped(line, more);
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// Starts a command on pipes.
    pub(crate) fn piped(&self, line: &str, more: &[&str]) -> Child {
        let mut command = self.command(line, more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Starts a command on a terminal of 24 lines and 80 columns.
    pub(crate) fn terminal(&self, line: &str, more: &[&str]) -> Terminal {
        let words = line.split_whitespace().map(str::to_owned);
        let args = words.chain(more.iter().map(|word| (*word).to_owned())).collect();
        Terminal::start(&loom(), args, self.variables())
    }

    /// Starts a weaver with a shell on a terminal and waits for its prompt.
    pub(crate) fn shell(&self, line: &str) -> Terminal {
        let mut terminal = self.terminal(line, &[]);
        // What is typed before the shell reads is echoed twice; the answer is what counts.
        terminal.send("echo re''ady\r");
        terminal.sees("\nready");
        terminal
    }

    /// Makes a weaver that only waits, and returns its id.
    pub(crate) fn idle(&self, flags: &str) -> String {
        let id = self.ok(&format!("new --local --no-attach {flags} -- sleep 1000"));
        let id = id.trim().to_owned();
        assert!(id.starts_with("W-") && id.len() == 38, "{id:?}");
        id
    }

    /// Returns the weavers as `ps --json` tells them.
    pub(crate) fn weavers(&self) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.ok("ps --local --json")).unwrap();
        list["weavers"].as_array().unwrap().clone()
    }

    /// Waits until what was deleted has ended: a pod is listed until then.
    pub(crate) fn is_empty(&self) {
        until("all weavers are gone", || self.weavers().is_empty());
    }

    /// Returns one weaver, if it is there.
    pub(crate) fn weaver(&self, id: &str) -> Option<Value> {
        self.weavers().into_iter().find(|weaver| weaver["id"] == id)
    }

    /// Waits until a weaver's status is this one, and returns what `ps` then tells of it: a
    /// terminal shows what happens in a weaver before its cluster knows.
    pub(crate) fn becomes(&self, id: &str, status: &str) -> Value {
        let mut seen = None;
        until(&format!("{id} is {status}"), || {
            seen = self.weaver(id);
            seen.as_ref().is_some_and(|weaver| weaver["status"] == status)
        });
        seen.unwrap()
    }

    /// Returns the only weaver's id.
    pub(crate) fn only_id(&self) -> String {
        let weavers = self.weavers();
        assert_eq!(weavers.len(), 1, "{weavers:?}");
        weavers[0]["id"].as_str().unwrap().to_owned()
    }

    /// Returns what `dev status` says.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.ok("dev status --json")).unwrap()
    }

    /// Returns the daemon's process.
    pub(crate) fn daemon(&self) -> rustix::process::Pid {
        let pid = self.status()["pid"].as_i64().unwrap();
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
    }

    /// Returns the daemon's process as it is written down, without asking any build of `loom`.
    pub(crate) fn pid_of_daemon(&self) -> rustix::process::Pid {
        let found = std::fs::read(self.path("s/daemon.json")).unwrap();
        let found: Value = serde_json::from_slice(&found).unwrap();
        let pid = i32::try_from(found["pid"].as_i64().unwrap()).unwrap();
        rustix::process::Pid::from_raw(pid).unwrap()
    }

    /// Makes a `loom` that takes itself for another build.
    pub(crate) fn another_build(&self) -> PathBuf {
        let mut program = std::fs::read(loom()).unwrap();
        // The note with the build id: the sizes of its owner and of the id, its type, its owner.
        let head = [&4u32.to_ne_bytes()[..], &20u32.to_ne_bytes(), &3u32.to_ne_bytes(), b"GNU\0"];
        let head = head.concat();
        let at = program.windows(16).position(|bytes| bytes == head).unwrap();
        program[at + 16] ^= 1;
        let (bytes, other) = (self.path("other-bytes"), self.path("other-loom"));
        std::fs::write(&bytes, program).unwrap();
        install(&bytes, &other);
        other
    }
}

/// Makes a program of a file, by a process of its own: one that this process writes may be open for
/// writing in a child of another test's thread, and then it is a "text file busy".
pub(crate) fn install(from: &Path, to: &Path) {
    let made = Command::new("install").arg("-m755").args([from, to]).status();
    assert!(made.unwrap().success());
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        let reset = self.run("dev reset --yes");
        if code(&reset) != 0 {
            eprintln!("cannot clean up: {}", show(&reset));
        }
    }
}

impl World {
    /// Shows what the daemon and the pods' shims have said.
    fn show_logs(&self) {
        let pods = std::fs::read_dir(self.path("s/pods")).into_iter().flatten().flatten();
        let files = pods.flat_map(|pod| ["shim.log", "status.json"].map(|f| pod.path().join(f)));
        for file in files.chain([self.path("s/daemon.log")]) {
            let said = std::fs::read_to_string(&file).unwrap_or_default();
            eprintln!("--{}\n{said}", file.display());
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub(crate) fn show(output: &Output) -> String {
    format!(
        "{}\n--stdout\n{}--stderr\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// Waits until `is` says so.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = now() + PATIENCE;
    while !is() {
        assert!(now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[expect(clippy::disallowed_methods, reason = "a test gives up some time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A test by its name.
pub(crate) type Case = (&'static str, fn());

/// A shell's job in the background ignores SIGINT, and so would everything that is started here:
/// then this program starts itself anew without.
fn heed_interrupts() {
    use std::os::unix::process::CommandExt;
    const SIGINT: u64 = 1 << 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    if u64::from_str_radix(ignored.trim(), 16).unwrap() & SIGINT != 0 {
        let mut again = Command::new("env");
        again.arg("--default-signal=INT,QUIT").arg(std::env::current_exe().unwrap());
        panic!("{}", again.args(std::env::args_os().skip(1)).exec());
    }
}

/// Runs the tests; those that need a local cluster are ignored, with the reason, where it cannot be.
pub(crate) fn main(local: &[Case], anywhere: &[Case]) -> ExitCode {
    heed_interrupts();
    let args = Arguments::from_args();
    let why = unsupported();
    if let Some(why) = &why {
        eprintln!("ignored, because local weavers cannot run here: {why}");
    }
    let trial = |(name, run): &Case| {
        let run = *run;
        Trial::test(*name, move || {
            std::panic::catch_unwind(run).map_err(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                Failed::from(text.unwrap_or_else(|| "panicked".to_owned()))
            })
        })
    };
    let needs = local.iter().map(|case| trial(case).with_ignored_flag(why.is_some()));
    let trials = needs.chain(anywhere.iter().map(trial)).collect();
    libtest_mimic::run(&args, trials).exit_code()
}

/// Returns why there can be no local cluster here.
fn unsupported() -> Option<String> {
    let doctor = Command::new(loom()).args(["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    if report["ok"] == true {
        return None;
    }
    let broken = report["checks"].as_array()?.iter();
    let needed = |check: &&Value| check["needed"] == true && check["ok"] == false;
    Some(broken.filter(needed).map(|check| check["detail"].to_string()).collect())
}

/// Reads what a test must not find broken.
pub(crate) fn has_controls(text: &str) -> bool {
    text.chars().any(|c| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}'))
}

pub(crate) fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o077 == 0
}
