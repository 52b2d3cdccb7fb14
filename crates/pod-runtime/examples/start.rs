//! Measures how long a pod takes: `cargo run --release -p pod-runtime --example start [COUNT]`.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pod_runtime::spec::{
    ContainerSpec, ExecSpec, Image, Limits, Network, PodSpec, Probes, Restart,
};
use pod_runtime::{Runtime, RuntimeConfig};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == "pod-shim").is_some() {
        return pod_runtime::shim_main(args);
    }
    let count = args.next().and_then(|count| count.into_string().ok()?.parse().ok());
    match measure(count.unwrap_or(20)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}: {:?}", error.source().map(ToString::to_string));
            ExitCode::FAILURE
        }
    }
}

fn measure(count: usize) -> Result<(), Box<dyn Error>> {
    let state_dir = std::env::temp_dir().join(format!("loom-bench-{}", std::process::id()));
    let binary = std::env::current_exe()?;
    let runtime = Runtime::open(RuntimeConfig { state_dir: state_dir.clone(), binary })?;
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for index in 0..count {
        cycle(&runtime, &format!("bench-{index}"), |what, time| {
            times.entry(what).or_default().push(time);
        })?;
    }
    std::fs::remove_dir_all(&state_dir)?;
    for (what, mut times) in times {
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!("{what:<24} p50 {:>9.2?}  p90 {:>9.2?}", at(50), at(90));
    }
    Ok(())
}

fn cycle(
    runtime: &Runtime,
    id: &str,
    mut took: impl FnMut(&'static str, Duration),
) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let pod = runtime.start(&spec(id))?;
    took("1 start returns", begin.elapsed());
    wait_for_output(&pod.log_path("main"));
    took("2 first byte logged", begin.elapsed());
    let exec_begin = Instant::now();
    let argv = ["/bin/echo", "hello"].map(str::to_owned).to_vec();
    let spec = ExecSpec { container: "main".into(), argv, tty: false, stdin: false };
    let exec = pod.exec(&spec)?;
    let mut byte = [0];
    std::fs::File::from(exec.stdout.try_clone()?).read_exact(&mut byte)?;
    took("3 exec to first byte", exec_begin.elapsed());
    exec.wait()?;
    let stop_begin = Instant::now();
    let updates = pod.subscribe()?;
    pod.stop(Duration::ZERO)?;
    BufReader::new(updates).lines().for_each(drop);
    took("4 stop to the end", stop_begin.elapsed());
    pod.remove()?;
    took("5 stop and remove", stop_begin.elapsed());
    took("6 whole cycle", begin.elapsed());
    Ok(())
}

fn wait_for_output(path: &PathBuf) {
    while std::fs::metadata(path).map_or(0, |meta| meta.len()) == 0 {
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn spec(id: &str) -> PodSpec {
    let main = ContainerSpec {
        name: "main".into(),
        image: Image::Host,
        argv: ["/bin/sh", "-c", "echo ready; exec sleep 1000"].map(str::to_owned).to_vec(),
        env: Vec::new(),
        workdir: "/workspace".into(),
        uid: 1000,
        gid: 1000,
        capabilities: Vec::new(),
        mounts: Vec::new(),
        read_only_root: false,
        limits: Limits { cpu_millis: Some(2000), memory_bytes: Some(2 << 30) },
        probes: Probes::default(),
        sidecar: false,
        tty: false,
        stdin: false,
    };
    PodSpec {
        id: id.into(),
        hostname: id.into(),
        network: Network::User,
        volumes: BTreeMap::new(),
        init_containers: Vec::new(),
        containers: vec![main],
        restart: Restart::Never,
        active_deadline_seconds: None,
        grace_seconds: 5,
    }
}
