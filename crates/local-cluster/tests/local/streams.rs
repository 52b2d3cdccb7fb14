//! Streams to pods by the real `kubectl`: attach and port-forward.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{LogParams, PostParams};
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::inside::bytes;
use crate::kubectl::{command, fails, ok, run};
use crate::support::daemon::Daemon;
use crate::support::{Needs, block_on, client, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name, test| trial(name, Needs::Kubectl, test);
    vec![
        test("kubectl_runs_a_program_and_removes_it", run_and_remove),
        test("kubectl_runs_a_program_in_a_terminal", run_in_a_terminal),
        test("kubectl_attaches_leaves_and_attaches_again", attach_again),
        test("kubectl_forwards_many_connections_at_once", forward),
        test("kubectl_says_that_a_forwarded_port_is_refused", forward_refused),
        trial("a_client_forwards_a_port_without_spdy", Needs::Pods, forward_plain),
    ]
}

fn pod(name: &str, script: &str, more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, \
         terminationGracePeriodSeconds: 1, containers: [{{name: main, image: loom.local/host, \
         command: [bash, -c, {script:?}], {more}}}]}}}}"
    )
}

fn start(daemon: &Daemon, name: &str, script: &str, more: &str) {
    ok(daemon, &["create", "-f", "-"], &pod(name, script, more));
    let pod = format!("pod/{name}");
    ok(daemon, &["wait", &pod, "--for=condition=Ready", "--timeout=60s"], "");
}

const RUN: &[&str] = &["--image=loom.local/host", "--restart=Never", "--quiet", "--rm"];

fn run_and_remove() {
    let daemon = Daemon::start();
    let program = ["run", "one", "-i", "--", "sh", "-c", "cat; echo over >&2; exit 7"];
    let output = run(&daemon, &[&program[..3], RUN, &program[3..]].concat(), "input\n");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8(output.stderr));
    assert!(out.starts_with("input\n"), "{out} {err:?}");
    assert_eq!(output.status.code(), Some(7), "{out} {err:?}");
    assert!(err.unwrap().contains("over\n"));
    assert_eq!(ok(&daemon, &["get", "pods", "-o", "name"], ""), "");
}

fn run_in_a_terminal() {
    let daemon = Daemon::start();
    let line = format!(
        "stty rows 33 cols 99; kubectl --kubeconfig {} run one -it {} -- \
         sh -c 'tty; until stty size | grep -v ^0; do sleep 0.02; done; read word; echo said $word'",
        daemon.kubeconfig().display(),
        RUN.join(" "),
    );
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = script.spawn().unwrap();
    let (mut said, mut out) = (String::new(), child.stdout.take().unwrap());
    while !said.contains("33 99") {
        let mut chunk = [0; 100];
        let count = out.read(&mut chunk).unwrap();
        assert!(count > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
    child.stdin.as_mut().unwrap().write_all(b"hello\r").unwrap();
    out.read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert!(said.contains("said hello"), "{said}");
}

fn attach_again() {
    let daemon = Daemon::start();
    let script = "while read word; do echo got $word; [ $word != end ] || exit 0; done";
    start(&daemon, "one", script, "stdin: true");
    for (word, got) in [("a", "got a\n"), ("b", "got b\n"), ("end", "got end\n")] {
        let mut attach = command(&daemon, &["attach", "-q", "-i", "one"]);
        let mut child = attach.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(format!("{word}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, got);
        // The end of its input ends the session, and not the program's.
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }
    ok(&daemon, &["wait", "pod/one", "--for=jsonpath={.status.phase}=Succeeded"], "");
    assert_eq!(ok(&daemon, &["logs", "one"], ""), "got a\ngot b\ngot end\n");
    assert!(fails(&daemon, &["attach", "one"], "").contains("completed pod"));
    assert!(fails(&daemon, &["attach", "two"], "").contains("pods \"two\" not found"));
}

const SERVER: &str = "{apiVersion: v1, kind: Pod, metadata: {name: one}, spec: {restartPolicy: \
    Never, terminationGracePeriodSeconds: 1, volumes: [{name: t, image: {reference: \
    loom.local/tools}}], containers: [{name: main, image: loom.local/host, command: \
    [/run/loom/tools/loom-host, inside, serve, '8080'], volumeMounts: [{name: t, mountPath: \
    /run/loom/tools}]}]}}";

fn start_server(daemon: &Daemon) {
    ok(daemon, &["create", "-f", "-"], SERVER);
    ok(daemon, &["wait", "pod/one", "--for=condition=Ready", "--timeout=60s"], "");
    while !ok(daemon, &["logs", "one"], "").contains("listening") {}
}

/// A running `kubectl port-forward` and its address here.
fn forwarding(daemon: &Daemon, port: &str) -> (Child, SocketAddr) {
    let mut forward = command(daemon, &["port-forward", "one", port]);
    forward.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = forward.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.split(' ').nth(2).unwrap_or_else(|| panic!("{line}"));
    (child, address.parse().unwrap())
}

fn ask(mut stream: impl Read + Write, head: &str, body: &[u8]) -> impl Read + Write {
    stream.write_all(format!("{head} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

fn body(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    &answer[end + 4..]
}

fn forward() {
    let daemon = Daemon::start();
    start_server(&daemon);
    let (mut child, address) = forwarding(&daemon, ":8080");
    let get = move |count: usize| {
        let mut answer = Vec::new();
        let stream = TcpStream::connect(address).unwrap();
        ask(stream, &format!("GET /{count}"), b"").read_to_end(&mut answer).unwrap();
        assert!(body(&answer) == bytes(count), "{count}: {} bytes", answer.len());
    };
    let mut many: Vec<_> =
        (0..40).map(|number| std::thread::spawn(move || get(number * 30_000))).collect();
    many.push(std::thread::spawn(move || get(64 << 20)));
    // Up and down, with an end of each direction by itself.
    many.push(std::thread::spawn(move || {
        let sent = bytes(64 << 20);
        let stream = TcpStream::connect(address).unwrap();
        drop(ask(stream.try_clone().unwrap(), "POST /", &sent));
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        (&stream).read_to_end(&mut answer).unwrap();
        assert!(body(&answer) == sent, "{} bytes", answer.len());
    }));
    // One who leaves at once disturbs nobody.
    drop(TcpStream::connect(address).unwrap());
    many.into_iter().for_each(|one| one.join().unwrap());
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

fn forward_refused() {
    let daemon = Daemon::start();
    start_server(&daemon);
    let (mut child, address) = forwarding(&daemon, ":9");
    let mut answer = Vec::new();
    // kubectl closes it, one way or the other.
    TcpStream::connect(address).unwrap().read_to_end(&mut answer).ok();
    assert!(answer.is_empty());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("connection refused"), "{said}");
    assert!(!child.wait().unwrap().success());
    assert!(fails(&daemon, &["port-forward", "two", ":80"], "").contains("\"two\" not found"));
}

fn forward_plain() {
    block_on(async {
        let daemon = Daemon::start();
        let pods: Api<Pod> = Api::default_namespaced(client(&daemon.kubeconfig()).await);
        let pod: Pod = serde_yaml_ng::from_str(SERVER).unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let log = LogParams::default();
        until(|| async { pods.logs("one", &log).await.ok().filter(|log| !log.is_empty()) }).await;
        crate::pods::in_phase(&pods, "one", &["Running"]).await;
        let mut forward = pods.portforward("one", &[8080, 9]).await.unwrap();
        let refused = forward.take_error(9).unwrap();
        let mut stream = forward.take_stream(8080).unwrap();
        stream.write_all(b"GET /3000000 HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(body(&answer) == bytes(3_000_000), "{} bytes", answer.len());
        assert!(refused.await.unwrap().contains("connection refused"));
    });
}
