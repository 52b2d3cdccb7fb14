//! What keeps a pod going: probes, restarts, sidecars.

use std::time::Duration;

use libtest_mimic::Failed;
use pod_runtime::Pod;
use pod_runtime::spec::{
    ContainerSpec, ContainerState, Handler, NoteKind, PodStatus, Restart, Volume,
};

use super::fixture::{
    Bench, code, container, end_of, eventually, exec, inside, mount, pod, probe, reason, sh,
    test_of, until,
};
use super::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("a_startup_probe_decides_when_started", Needs::Nothing, a_startup_probe_decides),
    ("a_startup_probe_that_never_succeeds_kills", Needs::Nothing, a_startup_probe_kills),
    ("a_failed_liveness_probe_restarts", Needs::Nothing, a_failed_liveness_probe_restarts),
    ("a_restarted_container_starts_afresh", Needs::Nothing, a_restarted_container_starts_afresh),
    ("a_container_that_keeps_ending_waits", Needs::Nothing, a_container_that_keeps_ending_waits),
    ("readiness_follows_a_web_server", Needs::Nothing, readiness_follows_a_web_server),
    ("ports_are_probed_in_the_pods_network", Needs::Tun, ports_are_probed_in_the_pods_network),
    ("a_probe_that_hangs_is_ended", Needs::Nothing, a_probe_that_hangs_is_ended),
    ("a_sidecar_runs_beside_and_ends_last", Needs::Nothing, a_sidecar_runs_beside_and_ends_last),
    ("a_sidecar_gates_and_returns", Needs::Nothing, a_sidecar_gates_and_returns),
    ("a_stopped_sidecar_ends_after_the_main", Needs::Nothing, a_stopped_sidecar_ends_after),
    ("a_web_server_may_speak_tls", Needs::Nothing, a_web_server_may_speak_tls),
    ("a_server_is_asked_by_grpc", Needs::Nothing, a_server_is_asked_by_grpc),
    ("a_probe_that_cannot_ask_decides_nothing", Needs::Nothing, a_probe_that_cannot_ask),
    ("who_does_not_speak_it_is_told_as_kubernetes_does", Needs::Nothing, who_does_not_speak_it),
];

fn run(pod: &Pod, script: &str) {
    assert_eq!(pod.exec(&exec(&["/bin/sh", "-c", script])).unwrap().wait().unwrap(), 0);
}

fn told(status: &PodStatus, kind: NoteKind) -> Vec<&str> {
    let notes = status.notes.iter().filter(|note| note.kind == kind);
    notes.map(|note| note.message.as_str()).collect()
}

fn a_startup_probe_decides() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("while ! [ -e /tmp/go ]; do sleep 0.01; done; touch /tmp/up; exec sleep 999");
    main.probes.startup = Some(probe(test_of("test -e /tmp/up")));
    main.probes.startup.as_mut().unwrap().failure_threshold = 100;
    main.probes.readiness = Some(probe(test_of("test -e /tmp/ready")));
    let pod = bench.start(&pod(main));
    let running = until(&pod, |status| reason(&status.containers[0].state) == "Running");
    assert!(!running.containers[0].started);
    run(&pod, "touch /tmp/go");
    let started = until(&pod, |status| status.containers[0].started);
    assert!(!started.containers[0].ready);
    run(&pod, "touch /tmp/ready");
    until(&pod, |status| status.containers[0].ready);
    run(&pod, "rm /tmp/ready");
    let lost = until(&pod, |status| !status.containers[0].ready);
    assert!(told(&lost, NoteKind::Unhealthy).contains(&"Readiness probe failed: "), "{lost:?}");
    Ok(())
}

fn a_startup_probe_kills() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("exec sleep 999");
    main.probes.startup = Some(probe(test_of("echo no; exit 1")));
    let startup = main.probes.startup.as_mut().unwrap();
    (startup.failure_threshold, startup.grace_seconds) = (2, Some(0));
    let status = bench.finish(&pod(main));
    let ContainerState::Terminated { exit_code, message, .. } = &status.containers[0].state else {
        panic!("{status:?}")
    };
    assert_eq!((*exit_code, message.as_str()), (137, "Container main failed startup probe"));
    assert_eq!(told(&status, NoteKind::Unhealthy), ["Startup probe failed: no\n"]);
    assert_eq!(told(&status, NoteKind::Killing), ["Container main failed startup probe"]);
    Ok(())
}

fn a_failed_liveness_probe_restarts() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done");
    main.probes.liveness = Some(probe(test_of("! test -e /tmp/bad")));
    main.probes.liveness.as_mut().unwrap().failure_threshold = 1;
    let mut spec = pod(main);
    spec.restart = Restart::OnFailure;
    let pod = bench.running(&spec);
    eventually("the trap is set", || bench.output(&spec.id, "main") == "up");
    run(&pod, "touch /tmp/bad");
    let again = until(&pod, |status| status.containers[0].restarts == 1);
    assert_eq!(reason(&again.containers[0].state), "Running");
    assert_eq!(reason(again.containers[0].last.as_ref().unwrap()), "Error 9");
    let killing = "Container main failed liveness probe, will be restarted";
    assert_eq!(told(&again, NoteKind::Killing), [killing]);
    eventually("the trap is set again", || bench.output(&spec.id, "main") == "up");
    pod.stop(Duration::from_secs(60)).unwrap();
    let last = end_of(&pod);
    assert_eq!((code(&last), last.over), (9, Some(true)));
    Ok(())
}

fn a_restarted_container_starts_afresh() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("ls -A /tmp | wc -l; id -u; touch /tmp/old /shared/seen; \
                       while ! [ -e /tmp/die ]; do sleep 0.01; done; exit 1");
    main.mounts.push(mount("shared", "/shared"));
    let mut spec = pod(main);
    spec.restart = Restart::Always;
    spec.volumes.insert("shared".into(), Volume::EmptyDir { memory: false, size_limit: None });
    let pod = bench.start(&spec);
    eventually("it speaks", || bench.output(&spec.id, "main") == "0\n1000");
    // It may be killed with the container before it ends.
    pod.exec(&exec(&["touch", "/tmp/die"])).unwrap().wait().ok();
    until(&pod, |status| status.containers[0].restarts == 1);
    eventually("it speaks again", || bench.output(&spec.id, "main") == "0\n1000");
    run(&pod, "test -e /shared/seen");
    assert!(bench.previous(&spec.id, "main").contains("F 1000"));
    Ok(())
}

fn a_container_that_keeps_ending_waits() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut spec = pod(sh("exit 4"));
    spec.restart = Restart::OnFailure;
    let pod = bench.start(&spec);
    let waiting = |status: &PodStatus| reason(&status.containers[0].state);
    let waits = until(&pod, |status| waiting(status) == "Waiting CrashLoopBackOff");
    assert_eq!(waits.containers[0].restarts, 1);
    assert_eq!(reason(waits.containers[0].last.as_ref().unwrap()), "Error 4");
    until(&pod, |status| !told(status, NoteKind::BackOff).is_empty());
    pod.stop(Duration::ZERO).unwrap();
    assert_eq!(end_of(&pod).over, Some(true));
    Ok(())
}

fn web(path: &str) -> Handler {
    Handler::Http {
        port: 8080,
        path: path.to_owned(),
        headers: vec![("X-A".into(), "b".into())],
        tls: false,
    }
}

fn readiness_follows_a_web_server() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = inside(&["serve", "8080"]);
    main.probes.readiness = Some(probe(web("/healthz?x=1")));
    let spec = pod(main);
    let pod = bench.start(&spec);
    until(&pod, |status| {
        told(status, NoteKind::Unhealthy).iter().any(|note| note.contains("malformed HTTP"))
    });
    run(&pod, "echo 204 Fine >/tmp/answer");
    until(&pod, |status| status.containers[0].ready);
    let asked = || bench.output(&spec.id, "main").contains("GET /healthz?x=1 HTTP/1.1");
    eventually("it says what it was asked", asked);
    run(&pod, "echo 503 Not now >/tmp/answer");
    let lost = until(&pod, |status| !status.containers[0].ready);
    let why = "Readiness probe failed: HTTP probe failed with statuscode: 503";
    assert!(told(&lost, NoteKind::Unhealthy).contains(&why), "{lost:?}");
    Ok(())
}

fn a_web_server_may_speak_tls() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = inside(&["serve-tls", "8443"]);
    let ask =
        |tls, path: &str| Handler::Http { port: 8443, path: path.into(), headers: vec![], tls };
    main.probes.readiness = Some(probe(ask(true, "/well")));
    main.probes.startup = Some(probe(ask(true, "/begun")));
    let spec = pod(main);
    let pod = bench.running(&spec);
    run(&pod, "echo 200 Fine >/tmp/answer");
    until(&pod, |status| status.containers[0].ready);
    let asked = || bench.output(&spec.id, "main").contains("GET /well HTTP/1.1");
    eventually("it says what it was asked", asked);
    run(&pod, "echo 500 Not now >/tmp/answer");
    let lost = until(&pod, |status| !status.containers[0].ready);
    let why = "Readiness probe failed: HTTP probe failed with statuscode: 500";
    assert!(told(&lost, NoteKind::Unhealthy).contains(&why), "{lost:?}");
    // Who asks without TLS hears no HTTP.
    let mut plain = inside(&["serve-tls", "8443"]);
    plain.probes.readiness = Some(probe(ask(false, "/")));
    let plain = bench.start(&super::fixture::pod(plain));
    until(&plain, |status| {
        let said = told(status, NoteKind::Unhealthy);
        said.iter()
            .any(|why| why.contains("Get \"http://127.0.0.1:8443/\": ") && !why.contains("refused"))
    });
    Ok(())
}

fn a_server_is_asked_by_grpc() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = inside(&["serve-grpc", "9000"]);
    main.probes.readiness = Some(probe(Handler::Grpc { port: 9000, service: "store".into() }));
    let spec = pod(main);
    let pod = bench.running(&spec);
    let says = |words: &str| {
        let why = format!("Readiness probe failed: {words}");
        until(&pod, |status| told(status, NoteKind::Unhealthy).contains(&why.as_str()));
    };
    run(&pod, "echo 1 >/tmp/answer");
    until(&pod, |status| status.containers[0].ready);
    let asked = |what| bench.output(&spec.id, "main").contains(what);
    eventually("it was asked for its health", || asked("/grpc.health.v1.Health/Check"));
    eventually("it was asked for the service", || asked("store"));
    run(&pod, "echo 2 >/tmp/answer");
    says("service unhealthy (responded with \"NOT_SERVING\")");
    until(&pod, |status| !status.containers[0].ready);
    run(&pod, "echo code 5 >/tmp/answer");
    says("error: health rpc probe failed: rpc error: code = NotFound desc = no luck");
    run(&pod, "echo code 12 >/tmp/answer");
    says(
        "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): \
         no luck",
    );
    Ok(())
}

fn a_probe_that_cannot_ask() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("exec sleep 999");
    let missing = Handler::Exec { argv: vec!["nope".into()] };
    main.probes.liveness = Some(probe(missing.clone()));
    let liveness = main.probes.liveness.as_mut().unwrap();
    (liveness.failure_threshold, liveness.grace_seconds) = (1, Some(0));
    main.probes.readiness = Some(probe(missing));
    let pod = bench.running(&pod(main));
    let why = "Liveness probe errored and resulted in unknown state: rpc error: code = Unknown \
               desc = failed to exec in container: ";
    let many = until(&pod, |status| {
        told(status, NoteKind::Unhealthy).iter().filter(|note| note.starts_with(why)).count() > 2
    });
    assert_eq!(reason(&many.containers[0].state), "Running");
    assert!(!many.containers[0].ready);
    assert_eq!(told(&many, NoteKind::Killing), Vec::<&str>::new());
    Ok(())
}

fn who_does_not_speak_it() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = inside(&["serve", "8080"]);
    main.probes.readiness = Some(probe(Handler::Grpc { port: 8080, service: String::new() }));
    let tls = Handler::Http { port: 8080, path: "/".into(), headers: vec![], tls: true };
    main.probes.liveness = Some(probe(tls));
    main.probes.liveness.as_mut().unwrap().failure_threshold = 1000;
    let pod = bench.running(&pod(main));
    let whys = [
        "Readiness probe failed: timeout: failed to connect service \"127.0.0.1:8080\" within \
         5s: context deadline exceeded",
        "Liveness probe failed: Get \"https://127.0.0.1:8080/\": http: server gave HTTP response \
         to HTTPS client",
    ];
    run(&pod, "echo 200 Fine >/tmp/answer");
    for why in whys {
        until(&pod, |status| told(status, NoteKind::Unhealthy).contains(&why));
    }
    Ok(())
}

fn ports_are_probed_in_the_pods_network() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = inside(&["serve", "8080"]);
    main.probes.startup = Some(probe(Handler::Tcp { port: 8080 }));
    main.probes.readiness = Some(probe(Handler::Tcp { port: 8081 }));
    let mut spec = pod(main);
    spec.network = pod_runtime::spec::Network::User;
    let pod = bench.start(&spec);
    let started = until(&pod, |status| status.containers[0].started);
    let refused = until(&pod, |status| !told(status, NoteKind::Unhealthy).is_empty());
    let why = format!(
        "Readiness probe failed: dial tcp {}:8081: connect: connection refused",
        started.ip.unwrap()
    );
    assert!(told(&refused, NoteKind::Unhealthy).contains(&why.as_str()), "{refused:?}");
    Ok(())
}

fn a_probe_that_hangs_is_ended() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("exec sleep 999");
    main.probes.liveness = Some(probe(test_of("sleep 998")));
    let liveness = main.probes.liveness.as_mut().unwrap();
    (liveness.timeout_seconds, liveness.failure_threshold) = (1, 1);
    liveness.grace_seconds = Some(0);
    let status = bench.finish(&pod(main));
    let [note] = told(&status, NoteKind::Unhealthy)[..] else { panic!("{status:?}") };
    assert!(note.ends_with("timed out after 1s"), "{note}");
    assert_eq!(code(&status), 137);
    Ok(())
}

fn sidecar(name: &str, script: &str) -> ContainerSpec {
    let mut container = container(name, &["/bin/sh", "-c", script]);
    container.mounts.push(mount("shared", "/shared"));
    container.sidecar = true;
    container
}

fn with_sidecars(main: &str, sidecars: Vec<ContainerSpec>) -> pod_runtime::spec::PodSpec {
    let mut main = sh(main);
    main.mounts.push(mount("shared", "/shared"));
    let mut spec = pod(main);
    spec.init_containers = sidecars;
    spec.volumes.insert("shared".into(), Volume::EmptyDir { memory: false, size_limit: None });
    spec
}

const WRITES_ITS_END: &str =
    "trap 'echo end $NAME; exit 0' TERM; touch /shared/up; while :; do sleep 0.01; done";

fn a_sidecar_runs_beside_and_ends_last() -> Result<(), Failed> {
    let bench = Bench::new();
    let waits = "while ! [ -e /shared/up ]; do sleep 0.01; done; echo seen";
    let spec = with_sidecars(waits, vec![sidecar("side", WRITES_ITS_END)]);
    let status = bench.finish(&spec);
    assert_eq!(code(&status), 0);
    assert_eq!(bench.output(&spec.id, "main"), "seen");
    assert_eq!(bench.output(&spec.id, "side"), "end");
    assert_eq!(reason(&status.init_containers[0].state), "Completed 0");
    assert_eq!(status.over, Some(true));
    Ok(())
}

fn a_sidecar_gates_and_returns() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut first = sidecar(
        "first",
        "while ! [ -e /shared/first ]; do sleep 0.01; done; \
                                      touch /tmp/up; \
         while ! [ -e /tmp/die ]; do sleep 0.01; done",
    );
    first.probes.startup = Some(probe(test_of("test -e /tmp/up")));
    first.probes.startup.as_mut().unwrap().failure_threshold = 100;
    let mut init = container("init", &["/bin/sh", "-c", "touch /shared/init"]);
    init.mounts.push(mount("shared", "/shared"));
    let spec = with_sidecars("ls /shared; exec sleep 999", vec![first, init]);
    let pod = bench.start(&spec);
    let begun = until(&pod, |status| reason(&status.init_containers[0].state) == "Running");
    assert_eq!(reason(&begun.init_containers[1].state), "Waiting PodInitializing");
    let mut touch = exec(&["touch", "/shared/first"]);
    touch.container = "first".into();
    assert_eq!(pod.exec(&touch).unwrap().wait().unwrap(), 0);
    until(&pod, |status| reason(&status.containers[0].state) == "Running");
    eventually("it looks", || bench.output(&spec.id, "main") == "first\ninit");
    let mut end = exec(&["touch", "/tmp/die"]);
    end.container = "first".into();
    pod.exec(&end).unwrap().wait().ok();
    let again = until(&pod, |status| status.init_containers[0].restarts == 1);
    assert_eq!(reason(&again.containers[0].state), "Running");
    Ok(())
}

fn a_stopped_sidecar_ends_after() -> Result<(), Failed> {
    let bench = Bench::new();
    let main = "trap 'sleep 0.3; touch /shared/main-ended; exit 0' TERM; touch /shared/on; \
                while :; do sleep 0.01; done";
    let looks = "trap 'ls /shared; exit 0' TERM; echo up; while :; do sleep 0.01; done";
    let spec = with_sidecars(main, vec![sidecar("side", looks)]);
    let pod = bench.running(&spec);
    eventually("the sidecar's trap is set", || bench.output(&spec.id, "side") == "up");
    eventually("the trap is set", || {
        pod.exec(&exec(&["test", "-e", "/shared/on"])).unwrap().wait().unwrap() == 0
    });
    pod.stop(Duration::from_secs(60)).unwrap();
    let status = end_of(&pod);
    assert_eq!(bench.output(&spec.id, "side"), "up\nmain-ended\non");
    assert_eq!(reason(&status.init_containers[0].state), "Completed 0");
    Ok(())
}
