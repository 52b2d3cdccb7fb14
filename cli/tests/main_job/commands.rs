//! What scripts do: no terminal, codes, ids, files, logs, JSON.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::support::{Case, World, code, show, text, until};

pub(crate) const CASES: &[Case] = &[
    ("commands::without_a_terminal_a_command_is_streamed", without_a_terminal),
    ("commands::without_a_terminal_and_command_the_id_is_printed", the_id_is_printed),
    ("commands::an_image_that_cannot_be_had_is_an_error_at_once", no_image),
    ("commands::ids_as_people_type_them", ids),
    ("commands::the_last_one_used_is_one_that_is_there", the_last_one),
    ("commands::exec_codes_input_and_terminal", exec),
    ("commands::cp_both_ways", cp),
    ("commands::logs_and_follow", logs),
    ("commands::json_shapes", json),
    ("commands::extend", extend),
    ("commands::watch_shows_what_changes", watch),
    ("commands::warnings_are_said_once", said_once),
    ("commands::environment_name_and_tags", environment),
    ("commands::exit_codes", exit_codes),
    ("commands::abuse_fields_are_refused_by_name", fields_are_refused),
    ("commands::a_reader_that_leaves_is_no_failure", a_reader_that_leaves),
];

fn without_a_terminal() {
    let world = World::new();
    let script = "cat; echo err >&2; test -t 0 || echo plain; exit 3";
    let input = vec![b'x'; 300_000];
    let output = world.feed("new --local -- sh -c", &[script], &input);
    assert_eq!(code(&output), 3, "{}", text(&output.stderr));
    assert_eq!(output.stdout.len(), input.len() + "plain\n".len());
    assert!(output.stdout.ends_with(b"xplain\n"));
    assert!(text(&output.stderr).contains("err\n"), "{}", text(&output.stderr));
    let quick = world.run("new --local -- echo ready");
    assert_eq!((code(&quick), text(&quick.stdout)), (0, "ready\n".to_owned()), "{}", show(&quick));
    let missing = world.run("new --local -- /no/such/program");
    assert!(matches!(code(&missing), 126 | 127), "{}", show(&missing));
}

fn the_id_is_printed() {
    let world = World::new();
    let output = world.run("new --local");
    assert_eq!(code(&output), 0, "{}", show(&output));
    assert_eq!(text(&output.stdout), format!("{}\n", world.only_id()));
    assert_eq!(world.weavers()[0]["status"], "Running");
}

fn no_image() {
    let world = World::new();
    for line in ["new --local --image loom.local/no", "new --local --image loom.local/no -- true"] {
        let output = world.run(line);
        let said = text(&output.stderr);
        assert_eq!((code(&output), text(&output.stdout).as_str()), (255, ""), "{said}");
        let (what, id) = said.trim().split_once("; deleted ").unwrap();
        assert_eq!(
            what,
            "loom: ErrImageNeverPull: image loom.local/no cannot be had: this machine has no image \
             loom.local/no; it has loom.local/host"
        );
        assert!(id.starts_with("W-") && id.len() == 38, "{id}");
    }
    world.is_empty();
}

fn ids() {
    let world = World::new();
    let id = world.idle("--name web");
    let other = world.idle("");
    let uuid = id.strip_prefix("W-").unwrap();
    for given in ["web", id.as_str(), uuid, &uuid[..20], &id[..20], &uuid[20..]] {
        let hello = world.ok_with(&format!("exec {given} -- sh -c"), &["echo $LOOM_WEAVER_ID"]);
        assert_eq!(hello.trim(), id, "{given}");
        let last = world.ok_with("exec - -- sh -c", &["echo $LOOM_WEAVER_ID"]);
        assert_eq!(last.trim(), id);
    }
    assert_eq!(world.ok_with(&format!("exec {other} -- echo"), &["x y"]), "x y\n");
    assert_eq!(world.ok("rm web"), format!("deleted {id}\n"));
    let last = world.run("exec - -- true");
    assert_eq!(
        (code(&last), text(&last.stderr)),
        (0, String::new()),
        "what was deleted is not used"
    );
    let unknown = world.run("logs nothing");
    assert_eq!(code(&unknown), 1);
    assert!(text(&unknown.stderr).contains("no weaver is called"), "{}", show(&unknown));
}

/// `-` is never one that is not there, and does not delete twice.
fn the_last_one() {
    let world = World::new();
    world.ok("dev --detach");
    let none = world.run("exec --local - -- true");
    assert!(text(&none.stderr).contains("no weaver was used before"), "{}", show(&none));
    let [first, second] = [world.idle(""), world.idle("")];
    assert_eq!(world.ok("rm -"), format!("deleted {second}\n"));
    let twice = world.run("rm -");
    assert_eq!(code(&twice), 1, "{}", show(&twice));
    assert_eq!(
        text(&twice.stderr),
        format!(
            "loom: {second}, the last one used, is deleted already; `loom ps` shows what is there\n"
        )
    );
    let before = world.run_with("exec - -- sh -c", &["echo $LOOM_WEAVER_ID"]);
    assert_eq!((code(&before), text(&before.stdout)), (0, format!("{first}\n")));
    let says = format!("loom: {second}, the last one used, is gone; this is {first}\n");
    assert_eq!(text(&before.stderr), says);
    let again = world.run("exec - -- true");
    assert_eq!((code(&again), text(&again.stderr)), (0, String::new()));
    world.ok("new --rm -- true");
    assert_eq!(world.ok_with("exec - -- sh -c", &["echo $LOOM_WEAVER_ID"]).trim(), first);
    // Deleted by somebody else, from a machine with a memory of its own.
    let mut elsewhere = world.command(&format!("rm --local {first}"), &[]);
    elsewhere.env("LOOM_CONFIG_DIR", world.path("elsewhere"));
    assert_eq!(code(&elsewhere.output().unwrap()), 0);
    world.is_empty();
    let gone = world.run("logs -");
    assert_eq!(code(&gone), 1);
    let says = format!("{first}, the last one used, is gone; `loom ps`");
    assert!(text(&gone.stderr).contains(&says), "{}", show(&gone));
    world.ok("dev reset --yes");
    world.ok("dev --detach");
    let none = world.run("logs --local -");
    assert!(text(&none.stderr).contains("no weaver was used before"), "{}", show(&none));
}

/// The size may come a moment after the program has started.
const SIZED: &str =
    "tty; until [ \"$(stty size)\" = '24 80' ]; do :; done; echo sized; cat; exit 4";

fn exec() {
    let world = World::new();
    let id = world.idle("");
    assert_eq!(code(&world.run_with("exec - -- sh -c", &["exit 9"])), 9);
    let input: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let output = world.feed("exec - -- cat", &[], &input);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(output.stdout == input, "{} of {} bytes", output.stdout.len(), input.len());
    let both = world.run_with("exec - -- sh -c", &["echo out; echo err >&2; tty"]);
    assert_eq!(text(&both.stdout), "out\nnot a tty\n");
    assert!(text(&both.stderr).contains("err\n"));
    let mut terminal = world.terminal(&format!("exec -t {id} -- sh -c"), &[SIZED]);
    terminal.wrote("/dev/pts/");
    terminal.sees("\nsized");
    terminal.send("typed\r");
    terminal.sees("\ntyped\ntyped");
    terminal.send("\x04");
    assert_eq!(terminal.end(), 4);
    let killed = world.run_with("exec - -- sh -c", &["kill -9 $$"]);
    assert_eq!(code(&killed), 137, "{}", show(&killed));
    assert!(text(&killed.stderr).contains("killed (signal 9)"), "{}", show(&killed));
    assert_eq!(text(&killed.stderr).lines().count(), 1, "{}", show(&killed));
    let missing = world.run("exec - -- /no/such/program");
    assert!(code(&missing) != 0, "{}", show(&missing));
}

fn cp() {
    let world = World::new();
    world.idle("");
    let here = world.path("here");
    std::fs::create_dir_all(here.join("sub/deep")).unwrap();
    std::fs::write(here.join("sub/deep/file"), vec![1; 1_000_000]).unwrap();
    std::fs::write(here.join("one"), "one\n").unwrap();
    let path = |below: &str| here.join(below).display().to_string();
    world.ok_with("cp", &[&path("one"), "-:/tmp/"]);
    world.ok_with("cp", &[&path("one"), "-:/tmp/other name"]);
    world.ok_with("cp", &[&path("sub"), "-:/tmp"]);
    let seen = world
        .ok_with("exec - -- sh -c", &["cat /tmp/one '/tmp/other name'; wc -c </tmp/sub/deep/file"]);
    assert_eq!(seen, "one\none\n1000000\n");
    world.ok_with("cp", &["-:/tmp/sub", &path("back")]);
    assert_eq!(std::fs::read(here.join("back/deep/file")).unwrap(), vec![1; 1_000_000]);
    world.ok_with("cp", &["-:/tmp/other name", &path("")]);
    assert_eq!(std::fs::read_to_string(here.join("other name")).unwrap(), "one\n");
    let missing = world.run_with("cp", &["-:/no/such", &path("x")]);
    assert_eq!(code(&missing), 1, "{}", show(&missing));
    let denied = world.run_with("cp", &[&path("one"), "-:/proc/x/"]);
    assert_eq!(code(&denied), 1, "{}", show(&denied));
    assert_eq!(code(&world.run("cp a b")), 2);
}

fn logs() {
    let world = World::new();
    let script = "echo one; until [ -e /tmp/go ]; do sleep 0.05; done; echo two";
    let id = world.ok_with("new --local --no-attach -- sh -c", &[script]);
    until("the first line", || world.ok("logs -").contains("one"));
    let mut follow = world.piped(&format!("logs -f {}", id.trim()), &[]);
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = || lines.next().map(|line| line.unwrap().trim_end().to_owned());
    assert_eq!(next().as_deref(), Some("one"));
    world.ok("exec - -- touch /tmp/go");
    assert_eq!(next().as_deref(), Some("two"));
    assert_eq!(next(), None);
    assert!(follow.wait().unwrap().success());
    assert_eq!(world.ok("logs --tail 1 -").trim_end(), "two");
}

fn json() {
    let world = World::new();
    let made: Value =
        serde_json::from_str(&world.ok("new --local --json --name js --tag a=b")).unwrap();
    let weaver = &world.weavers()[0];
    for view in [&made, weaver] {
        for key in ["id", "image", "status", "created_at", "lifetime_hours", "expires_at", "name"] {
            assert!(!view[key].is_null(), "{key} in {view}");
        }
        assert_eq!((&view["name"], &view["tags"]["a"]), (&"js".into(), &"b".into()));
    }
    assert_eq!(made["lifetime_hours"], 4);
    let list: Value = serde_json::from_str(&world.ok("weaver ps --json")).unwrap();
    assert!(list["next"].is_null());
    assert_eq!(world.status()["running"], true);
    let tagged: Value = serde_json::from_str(&world.ok("ps --json --tag a=c")).unwrap();
    assert_eq!(tagged["weavers"].as_array().unwrap().len(), 0);
    let deleted: Value = serde_json::from_str(&world.ok("rm js --json")).unwrap();
    assert_eq!(deleted["deleted"][0], made["id"]);
}

fn extend() {
    let world = World::new();
    let id = world.idle("--ttl 2");
    assert_eq!(world.weaver(&id).unwrap()["lifetime_hours"], 2);
    let said = world.ok("extend - 1d");
    assert!(said.contains("24h after it was made"), "{said}");
    assert_eq!(world.weaver(&id).unwrap()["lifetime_hours"], 24);
    assert_eq!(code(&world.run("extend - 49")), 2);
    let shorter = world.run("extend - 3");
    assert_eq!(code(&shorter), 1, "{}", show(&shorter));
    let said = text(&shorter.stderr);
    assert!(said.contains("lives 24h since it was made; 3h would end it sooner; "), "{said}");
    assert_eq!(world.weaver(&id).unwrap()["lifetime_hours"], 24);
    world.ok("extend - 3 --shorten");
    assert_eq!(world.weaver(&id).unwrap()["lifetime_hours"], 3);
}

fn watch() {
    let world = World::new();
    let one = world.idle("");
    let terminal = world.terminal("ps --watch", &[]);
    terminal.sees(&one);
    let two = world.idle("");
    terminal.sees(&two);
    world.ok(&format!("rm {one} {two}"));
    terminal.gone(&two);
    terminal.gone(&one);
    terminal.sees("\nID  ");
}

/// What the cluster cannot do is said with the first weaver and not again.
fn said_once() {
    let world = World::new();
    let warned = |output: std::process::Output| {
        assert_eq!(code(&output), 0, "{}", show(&output));
        text(&output.stderr).matches("warning: ").count()
    };
    let first = warned(world.run("new --local -- true"));
    let warnings: Vec<_> = world
        .weavers()
        .iter()
        .flat_map(|weaver| weaver["warnings"].as_array().unwrap().clone())
        .collect();
    assert_eq!(first, warnings.len(), "{warnings:?}");
    assert_eq!(warned(world.run("new --local -- true")), 0);
}

fn environment() {
    let world = World::new();
    let line = "new --local -e A=1 -e API_TOKEN=s --name n --tag t=v -- sh -c";
    let output = world.run_with(line, &["echo $A$API_TOKEN"]);
    assert_eq!((code(&output), text(&output.stdout)), (0, "1s\n".to_owned()), "{}", show(&output));
    assert!(text(&output.stderr).contains("API_TOKEN can be read"), "{}", show(&output));
    let twice = world.run("new --local --name n -- true");
    assert_eq!(code(&twice), 255, "{}", show(&twice));
    let lang = |value: Option<&str>| {
        let mut command = world.command("new --rm -- sh -c", &["echo $LANG"]);
        command.env_remove("LANG").envs(value.map(|value| ("LANG", value)));
        text(&command.output().unwrap().stdout)
    };
    assert_eq!(lang(None), "C.UTF-8\n");
    assert_eq!(lang(Some("de_DE.UTF-8")), "de_DE.UTF-8\n");
}

fn exit_codes() {
    let world = World::new();
    world.idle("");
    for (line, wanted) in [
        ("ps", 0),
        ("version", 0),
        ("--help", 0),
        ("rm W-00000000-0000-0000-0000-000000000000", 0),
        ("logs W-00000000-0000-0000-0000-000000000000", 1),
        ("attach W-00000000-0000-0000-0000-000000000000", 255),
        ("attach --server-url http://127.0.0.1:1", 255),
        ("ps --server-url http://127.0.0.1:1", 1),
        ("ps --server-url ftp://a", 2),
        ("frobnicate", 2),
        ("", 2),
    ] {
        let output = world.run(line);
        assert_eq!(code(&output), wanted, "loom {line}: {}", show(&output));
        if !matches!(wanted, 0) && !line.is_empty() {
            let said = text(&output.stderr);
            assert_eq!(said.lines().count(), 1, "loom {line}: {said}");
        }
    }
}

fn fields_are_refused() {
    let world = World::new();
    world.idle("");
    for (flag, value, named) in [
        ("--image", "a b", "image"),
        ("--image", "http://a/b", "image"),
        ("--image", "a\nb", "image"),
        ("--image", "a@sha256:bad", "image"),
        ("--ttl", "49", "1 to 48"),
        ("--ttl", "-1", "1 to 48"),
        ("--repo", "ext::sh -c id", "repo"),
        ("--env", "A B=c", "env"),
        ("--env", "LOOM_X=1", "env"),
        ("--tag", "loom.dev/owner=x", "tag"),
        ("--name", "\u{1b}[2J", "name"),
        ("--cpu", "999", "--cpu must be 10 to 64000 thousandths of a CPU"),
        ("--memory", "1Mi", "--memory must be 16 to"),
    ] {
        let output = world.run_with("new --no-attach", &[flag, value]);
        let said = text(&output.stderr);
        assert_eq!(code(&output), 2, "{flag} {value:?}: {said}");
        assert!(said.contains(named) && said.lines().count() == 1, "{flag} {value:?}: {said}");
        assert!(!crate::support::has_controls(&said), "{said:?}");
    }
    assert_eq!(world.weavers().len(), 1);
}

fn a_reader_that_leaves() {
    let world = World::new();
    let mut child = world.piped("new --local -- yes", &[]);
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "y\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 255, "{}", show(&output));
    assert!(!text(&output.stderr).contains("panicked"), "{}", show(&output));
}
