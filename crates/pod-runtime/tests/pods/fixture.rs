//! Pods as tests like them: small specs, fluent changes, everything removed at the end.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use pod_runtime::spec::{
    ContainerSpec, ContainerState, ExecSpec, Handler, Image, Limits, Mould, Mount, Network,
    PodSpec, PodStatus, Probe, Probes, Restart, Volume,
};
use pod_runtime::{Error, Exec, Pod, Runtime, RuntimeConfig};

/// How often a condition is looked at; with the pause between, far longer than anything takes.
const LOOKS: u32 = 18_000;
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

static NEXT: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Whether the pods of the test on this thread are started in spares, where they fit.
    pub(crate) static IN_SPARES: Cell<bool> = const { Cell::new(false) };
}

/// A runtime with a state folder of its own, removed with all its pods.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) state: PathBuf,
    in_spares: bool,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let mut bench = Self::cold();
        bench.in_spares = IN_SPARES.get();
        bench
    }

    /// Never makes a spare by itself.
    pub(crate) fn cold() -> Self {
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("loom-pods-{}-{number}", std::process::id());
        Self::at(std::env::temp_dir().join(name))
    }

    /// Keeps its state there.
    pub(crate) fn at(state: PathBuf) -> Self {
        let binary = std::env::current_exe().unwrap();
        let runtime = Runtime::open(RuntimeConfig { state_dir: state.clone(), binary }).unwrap();
        Self { runtime, state, in_spares: false }
    }

    pub(crate) fn start(&self, spec: &PodSpec) -> Pod {
        if self.in_spares {
            self.prepare(spec);
            let spare = self.state.join("spares").read_dir().unwrap().next().unwrap().unwrap();
            let spare = made(&spare.path());
            let pod = self.begin(spec);
            let fits = spec.init_containers.is_empty() && spec.containers.len() == 1;
            let fits = fits && spec.restart == Restart::Never;
            assert!(!fits || made(&self.state.join("pods").join(&spec.id)) == spare, "not used");
            return pod;
        }
        self.begin(spec)
    }

    /// Starts a pod while others do; one of them gets the spare.
    pub(crate) fn start_in_any(&self, spec: &PodSpec) -> Pod {
        if self.in_spares {
            self.prepare(spec);
        }
        self.begin(spec)
    }

    fn prepare(&self, spec: &PodSpec) {
        self.runtime.release();
        self.runtime.prepare(&mould(spec.network, &spec.containers[0])).unwrap();
    }

    fn begin(&self, spec: &PodSpec) -> Pod {
        self.runtime.start(spec).unwrap_or_else(|error| panic!("{}", words(&error)))
    }

    /// Starts a pod and waits until its main container runs.
    pub(crate) fn running(&self, spec: &PodSpec) -> Pod {
        let pod = self.start(spec);
        until(&pod, |status| matches!(status.containers[0].state, ContainerState::Running { .. }));
        pod
    }

    /// Runs a pod to its end; returns the final status.
    pub(crate) fn finish(&self, spec: &PodSpec) -> PodStatus {
        end_of(&self.start(spec))
    }

    /// The same for a pod that the spare of its container does not fit.
    pub(crate) fn finish_cold(&self, spec: &PodSpec) -> PodStatus {
        end_of(&self.begin(spec))
    }

    /// Runs a shell script in a pod; returns its exit code and output.
    pub(crate) fn script(&self, script: &str) -> (i32, String) {
        let spec = pod(sh(script));
        let status = self.finish(&spec);
        (code(&status), self.output(&spec.id, "main"))
    }

    /// Runs this binary's `inside` in a pod; returns what it printed.
    pub(crate) fn inside(&self, args: &[&str]) -> String {
        let spec = pod(inside(args));
        let status = self.finish(&spec);
        format!("{:?}: {}", code(&status), self.output(&spec.id, "main").trim())
    }

    pub(crate) fn log(&self, id: &str, container: &str) -> String {
        let path = self.state.join("pods").join(id).join(format!("logs/{container}.log"));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// The log of a container's run before.
    pub(crate) fn previous(&self, id: &str, container: &str) -> String {
        let path = self.state.join("pods").join(id).join(format!("logs/{container}.log.previous"));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// The log without what the CRI format puts in front.
    pub(crate) fn output(&self, id: &str, container: &str) -> String {
        let log = self.log(id, container);
        let lines = log.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default());
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for id in self.runtime.list().unwrap() {
            self.runtime.remove(&id).unwrap_or_else(|error| eprintln!("{}", words(&error)));
        }
        self.runtime.release();
        fs::remove_dir_all(&self.state).unwrap();
    }
}

/// Tells a folder from all others, whatever its path.
fn made(folder: &Path) -> (u64, SystemTime) {
    let found = fs::metadata(folder).unwrap();
    (found.ino(), found.created().unwrap())
}

pub(crate) fn words(error: &Error) -> String {
    format!("{error}: {:?}", std::error::Error::source(error).map(ToString::to_string))
}

/// Follows a pod until its shim is gone; returns the last status.
pub(crate) fn end_of(pod: &Pod) -> PodStatus {
    let last = match pod.subscribe() {
        Ok(stream) => BufReader::new(stream)
            .lines()
            .map_while(Result::ok)
            .last()
            .map(|line| serde_json::from_str::<PodStatus>(&line).unwrap()),
        Err(_) => None,
    };
    match (last, pod.status()) {
        (Some(last), _) => last,
        (None, Err(Error::Gone { last, .. })) => *last.expect("a final status"),
        (None, other) => panic!("{other:?}"),
    }
}

/// Follows a pod until its status is as wanted.
pub(crate) fn until(pod: &Pod, wanted: impl Fn(&PodStatus) -> bool) -> PodStatus {
    let lines = BufReader::new(pod.subscribe().unwrap()).lines();
    for line in lines {
        let status: PodStatus = serde_json::from_str(&line.unwrap()).unwrap();
        if wanted(&status) {
            return status;
        }
    }
    panic!("the pod ended before")
}

/// Waits for a condition that nothing announces.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if condition() {
            return;
        }
        sleep(PAUSE);
    }
    panic!("never: {what}")
}

pub(crate) fn code(status: &PodStatus) -> i32 {
    match &status.containers[0].state {
        ContainerState::Terminated { exit_code, .. } => *exit_code,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn reason(state: &ContainerState) -> String {
    match state {
        ContainerState::Waiting { reason, .. } => format!("Waiting {reason}"),
        ContainerState::Running { .. } => "Running".to_owned(),
        ContainerState::Terminated { exit_code, reason, .. } => format!("{reason} {exit_code}"),
    }
}

/// Everything a program says, and its exit code.
pub(crate) fn told(exec: Exec, input: &[u8]) -> (i32, String, String) {
    if let Some(stdin) = exec.stdin {
        fs::File::from(stdin).write_all(input).unwrap();
    }
    let (mut out, mut err) = (String::new(), String::new());
    fs::File::from(exec.stdout).read_to_string(&mut out).unwrap();
    if let Some(stderr) = exec.stderr {
        fs::File::from(stderr).read_to_string(&mut err).unwrap();
    }
    let mut line = String::new();
    BufReader::new(exec.control).read_line(&mut line).unwrap();
    let end: serde_json::Value = serde_json::from_str(&line).unwrap();
    (i32::try_from(end["exit"].as_i64().unwrap()).unwrap(), out, err)
}

pub(crate) fn exec(argv: &[&str]) -> ExecSpec {
    let argv = argv.iter().map(|&arg| arg.to_owned()).collect();
    ExecSpec { container: "main".to_owned(), argv, tty: false, stdin: false }
}

pub(crate) fn container(name: &str, argv: &[&str]) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        image: Image::Host,
        argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
        env: vec![("HOME".to_owned(), "/home/loom".to_owned())],
        workdir: "/workspace".to_owned(),
        uid: 1000,
        gid: 1000,
        capabilities: Vec::new(),
        mounts: vec![mount("tools", "/run/loom/tools")],
        read_only_root: false,
        limits: Limits::default(),
        probes: Probes::default(),
        sidecar: false,
        tty: false,
        stdin: false,
    }
}

pub(crate) fn mount(volume: &str, path: &str) -> Mount {
    Mount { volume: volume.to_owned(), path: path.to_owned(), sub_path: None, read_only: false }
}

/// A probe every second, of three tries.
pub(crate) fn probe(handler: Handler) -> Probe {
    Probe {
        handler,
        initial_delay_seconds: 0,
        period_seconds: 1,
        timeout_seconds: 5,
        success_threshold: 1,
        failure_threshold: 3,
        grace_seconds: None,
    }
}

pub(crate) fn test_of(script: &str) -> Handler {
    Handler::Exec { argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec() }
}

pub(crate) fn sh(script: &str) -> ContainerSpec {
    container("main", &["/bin/sh", "-c", script])
}

pub(crate) fn inside(args: &[&str]) -> ContainerSpec {
    container("main", &[&["/run/loom/tools/loom-host", "inside"], args].concat())
}

pub(crate) fn mould(network: Network, main: &ContainerSpec) -> Mould {
    Mould { network, image: main.image.clone(), uid: main.uid, gid: main.gid }
}

pub(crate) fn pod(main: ContainerSpec) -> PodSpec {
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    PodSpec {
        id: format!("test-{}-{number}", std::process::id()),
        hostname: "weaver-test".to_owned(),
        network: Network::None,
        volumes: BTreeMap::from([("tools".to_owned(), Volume::Image(Image::Tools))]),
        init_containers: Vec::new(),
        containers: vec![main],
        restart: Restart::Never,
        active_deadline_seconds: None,
        grace_seconds: 30,
    }
}

/// Returns a number of seconds that no other test sleeps, nor this one when it runs in a spare.
pub(crate) fn marker() -> String {
    format!("9{:04}{}", NEXT.fetch_add(1, Ordering::SeqCst), std::process::id())
}

/// Pids of this machine whose command line holds the text.
pub(crate) fn pids_with(text: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"));
        line.is_ok_and(|line| String::from_utf8_lossy(&line).replace('\0', " ").contains(text))
    })
    .collect()
}
