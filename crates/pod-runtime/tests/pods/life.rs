//! From start to end: exit codes, order, probes, grace, deadline.

use std::time::Duration;

use libtest_mimic::Failed;
use pod_runtime::spec::{ContainerState, Volume};

use super::fixture::{Bench, code, container, end_of, eventually, mount, pod, reason, sh};
use super::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("output_and_exit_code_arrive", Needs::Nothing, output_and_exit_code_arrive),
    ("a_missing_program_is_a_start_error", Needs::Nothing, a_missing_program_is_a_start_error),
    ("init_containers_run_in_order", Needs::Nothing, init_containers_run_in_order),
    ("a_failed_init_container_ends_the_pod", Needs::Nothing, a_failed_init_container_ends_the_pod),
    ("stop_asks_first", Needs::Nothing, stop_asks_first),
    ("stop_kills_what_does_not_listen", Needs::Nothing, stop_kills_what_does_not_listen),
    ("the_deadline_ends_a_pod", Needs::Nothing, the_deadline_ends_a_pod),
];

fn output_and_exit_code_arrive() -> Result<(), Failed> {
    let bench = Bench::new();
    let spec = pod(sh("echo out; sleep 0.2; echo err >&2; printf part; exit 7"));
    let status = bench.finish(&spec);
    assert_eq!(code(&status), 7);
    assert_eq!(reason(&status.containers[0].state), "Error 7");
    let log = bench.log(&spec.id, "main");
    let shapes: Vec<String> = log
        .lines()
        .map(|line| {
            let (time, rest) = line.split_once(' ').unwrap();
            assert!(time.len() == 30 && time.ends_with('Z'), "{time}");
            rest.to_owned()
        })
        .collect();
    assert!(shapes.contains(&"stdout F out".to_owned()), "{log}");
    assert!(shapes.contains(&"stderr F err".to_owned()), "{log}");
    assert!(shapes.contains(&"stdout P part".to_owned()), "{log}");
    Ok(())
}

fn a_missing_program_is_a_start_error() -> Result<(), Failed> {
    let bench = Bench::new();
    let status = bench.finish(&pod(container("main", &["no-such-program"])));
    let ContainerState::Terminated { exit_code, reason, message, .. } = &status.containers[0].state
    else {
        panic!("{status:?}")
    };
    assert_eq!((*exit_code, reason.as_str()), (128, "StartError"));
    assert_eq!(message, r#"exec: "no-such-program": executable file not found in $PATH"#);
    Ok(())
}

fn init_containers_run_in_order() -> Result<(), Failed> {
    let bench = Bench::new();
    let shared = |name: &str, script: &str| {
        let mut container = container(name, &["/bin/sh", "-c", script]);
        container.mounts.push(mount("shared", "/shared"));
        container
    };
    let mut spec = pod(shared("main", "cat /shared/list; ls -d /shared"));
    spec.init_containers =
        vec![shared("one", "echo 1 >>/shared/list"), shared("two", "echo 2 >>/shared/list")];
    spec.volumes.insert("shared".into(), Volume::EmptyDir { memory: false, size_limit: None });
    let status = bench.finish(&spec);
    assert_eq!(bench.output(&spec.id, "main"), "1\n2\n/shared");
    assert!(status.init_containers.iter().all(|init| reason(&init.state) == "Completed 0"));
    Ok(())
}

fn a_failed_init_container_ends_the_pod() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut spec = pod(sh("echo never"));
    spec.init_containers = vec![container("bad", &["/bin/sh", "-c", "exit 3"])];
    let status = bench.finish(&spec);
    assert_eq!(reason(&status.init_containers[0].state), "Error 3");
    assert_eq!(reason(&status.containers[0].state), "Waiting PodInitializing");
    assert_eq!(bench.output(&spec.id, "main"), "");
    Ok(())
}

fn stop_asks_first() -> Result<(), Failed> {
    let bench = Bench::new();
    let spec = pod(sh("trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done"));
    let pod = bench.start(&spec);
    eventually("the trap is set", || bench.output(&spec.id, "main") == "up");
    pod.stop(Duration::from_secs(60)).unwrap();
    assert_eq!(code(&end_of(&pod)), 3);
    Ok(())
}

fn stop_kills_what_does_not_listen() -> Result<(), Failed> {
    let bench = Bench::new();
    let spec = pod(sh("trap '' TERM; echo up; while :; do sleep 0.01; done"));
    let pod = bench.start(&spec);
    eventually("the trap is set", || bench.output(&spec.id, "main") == "up");
    pod.stop(Duration::from_secs(3600)).unwrap();
    pod.stop(Duration::from_millis(1)).unwrap();
    assert_eq!(code(&end_of(&pod)), 137);
    Ok(())
}

fn the_deadline_ends_a_pod() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut spec = pod(sh("exec sleep 999"));
    (spec.active_deadline_seconds, spec.grace_seconds) = (Some(1), 0);
    let status = bench.finish(&spec);
    assert_eq!(status.reason.as_ref().map(|(word, _)| word.as_str()), Some("DeadlineExceeded"));
    assert_eq!(code(&status), 137);
    Ok(())
}
