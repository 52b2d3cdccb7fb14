//! What needs no local cluster: help, usage, and servers that answer with hostile words.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::{Case, World, code, has_controls, show, text};

pub(crate) const CASES: &[Case] = &[
    ("plain::help_teaches", help_teaches),
    ("plain::a_slip_is_told_what_to_type", hints),
    ("plain::doctor_names_every_probe", doctor),
    ("plain::completions", completions),
    ("plain::abuse_terminal_escapes_from_a_server", escapes),
    ("plain::environment_names_the_server_and_the_token", environment),
];

const NASTY: &str = "\u{1b}]52;c;aGk=\u{7}\u{9b}2J\r\u{202e}x\n";

/// Serves one answer to every request, and gives back what was asked.
fn server(status: &str, kind: &str, body: &Value) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let (to, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => request.extend_from_slice(&piece[..count]),
                }
            }
            let _ = to.send(text(&request));
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    (url, asked)
}

fn weaver() -> Value {
    json!({
        "id": NASTY, "image": NASTY, "status": "Failed", "created_at": "2025-03-03T10:00:00Z",
        "lifetime_hours": 4, "expires_at": "2025-03-03T14:00:00Z", "pod_name": NASTY,
        "pod_phase": NASTY, "pod_ip": null, "age_hours": 1.5, "remaining_hours": null,
        "name": NASTY, "reason": NASTY, "message": NASTY, "exit_code": null, "org_id": NASTY,
        "owner": NASTY, "owner_name": NASTY, "repo": null, "branch": null, "command": [NASTY],
        "args": [], "workdir": null, "tags": {NASTY: NASTY}, "resources": {}, "tty": true,
        "warnings": [NASTY], "attach_url": NASTY
    })
}

fn escapes() {
    let world = World::new();
    let (url, _asked) =
        server("200 OK", "application/json", &json!({"weavers": [weaver()], "next": null}));
    for line in ["ps", "ps --json", "attach nothing", "rm x"] {
        let output = world.run(&format!("{line} --server-url {url}"));
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!said.is_empty() && !has_controls(&said), "{line}: {said:?}");
    }
    let table = world.ok(&format!("ps --server-url {url}"));
    assert_eq!(table.lines().count(), 2, "{table}");
    let problem = json!({"type": "about:blank", "title": NASTY, "status": 409, "code": "conflict", "detail": NASTY});
    let (url, _asked) = server("409 Conflict", "application/problem+json", &problem);
    let output = world.run(&format!("new --no-attach --server-url {url}"));
    assert_eq!(code(&output), 255);
    let said = text(&output.stderr);
    assert!(said.lines().count() == 1 && !has_controls(&said), "{said:?}");
}

fn environment() {
    let world = World::new();
    let (url, asked) = server("200 OK", "application/json", &json!({"weavers": [], "next": null}));
    let file = world.path("token-file");
    std::fs::write(&file, "from-file\n").unwrap();
    let run = |key: &str, value: &str| {
        let output = world.command("ps", &[]).env("LOOM_SERVER_URL", &url).env(key, value).output();
        assert_eq!(code(&output.unwrap()), 0);
        asked.recv().unwrap().to_ascii_lowercase()
    };
    assert!(run("LOOM_TOKEN", "from-env").contains("authorization: bearer from-env\r\n"));
    let path = file.display().to_string();
    assert!(run("LOOM_TOKEN_FILE", &path).contains("authorization: bearer from-file\r\n"));
    assert!(!run("OTHER", "x").contains("authorization"));
}

fn help_teaches() {
    let world = World::new();
    let verbs = ["new", "attach", "ps", "rm", "logs", "exec", "cp", "extend", "dev", "completions"];
    for verb in verbs {
        let help = world.ok(&format!("{verb} --help"));
        assert!(help.contains("Examples:") && help.contains("loom "), "{verb}: {help}");
    }
    let whole = world.ok("--help");
    for word in ["LOOM_SERVER_URL", "LOOM_STATE_DIR", "Exit codes", "loom new --local"] {
        assert!(whole.contains(word), "{word}");
    }
    assert_eq!(world.ok("help"), whole);
    assert_eq!(world.ok("help new"), world.ok("new --help"));
    let usage = world.run("weaver");
    assert_eq!(code(&usage), 2, "{}", show(&usage));
}

fn hints() {
    let world = World::new();
    for (line, says) in [
        ("new make test", "a program goes behind --: loom new -- make test"),
        ("cp README.md tour", "did you mean: loom cp README.md tour:"),
        ("cp /etc/passwd /tmp", "one of the two must be in a weaver, written ID:PATH"),
    ] {
        let output = world.run(line);
        let said = text(&output.stderr);
        assert_eq!((code(&output), said.lines().count()), (2, 1), "{line}: {said}");
        assert!(said.contains(says), "{line}: {said}");
    }
}

fn doctor() {
    let world = World::new();
    let output = world.run("doctor --json");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(code(&output) == 0, report["ok"] == true);
    let names: Vec<_> =
        report["checks"].as_array().unwrap().iter().map(|check| &check["name"]).collect();
    for name in ["user-namespaces", "mounts", "tun", "cgroups"] {
        assert!(names.contains(&&Value::from(name)), "{name} in {names:?}");
    }
    for check in report["checks"].as_array().unwrap() {
        let fine = check["ok"] == true || check["needed"] == false;
        assert!(fine || check["fix"].is_string(), "what to do about {check}?");
    }
}

fn completions() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.ok(&format!("completions {shell}")).contains("loom"), "{shell}");
    }
}
