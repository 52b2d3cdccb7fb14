//! Weavers that run their image's own program.

use crate::stage::Stage;
use crate::support::{Case, code, show, text, until};

pub(crate) const CASES: &[Case] = &[
    ("entrypoint::on_a_terminal", on_a_terminal),
    ("entrypoint::without_a_terminal", without_a_terminal),
    ("entrypoint::made_now_and_attached_later", made_now_and_attached_later),
    ("entrypoint::an_image_without_a_program_is_named", no_program),
];

fn on_a_terminal() {
    let stage = Stage::new();
    let image = stage.entry_image();
    let new = format!("new --keep-entrypoint --name own --image {image}");
    let mut one = stage.terminal(&new, &[]);
    one.sees("\nloom: this is the image's own program");
    one.send("one\r");
    one.sees("\ngot:one");
    let id = stage.only_id();
    let first = "entry by default in / as 1000 home /home/loom";
    until("its log has what came before", || stage.ok("logs own", &[]).contains(first));
    let view = stage.find(&id).unwrap();
    assert_eq!((&view["status"], &view["keep_entrypoint"]), (&"Running".into(), &true.into()));

    let mut two = stage.terminal("attach own", &[]);
    two.sees("\nloom: this is the image's own program");
    two.send("two\r");
    two.sees("\ngot:two");
    one.sees("\ngot:two");
    assert!(!two.screen().contains("got:one"), "nothing is replayed:\n{}", two.screen());
    one.resize(40, 100);
    one.send("size 40 100\r");
    one.sees("\nis size 40 100");

    assert_eq!(code(&stage.run("exec own -- sh -c", &["exit 9"])), 9);
    assert_ne!(code(&stage.run("exec own -- ls /run/loom", &[])), 0, "nothing of loom is in it");

    one.send("~d");
    one.sees(&format!("detached; come back with: loom attach {id}"));
    assert_eq!(one.end(), 0);
    // The program reads its end of input, and ends with a code of its own.
    two.send("\x04");
    two.sees("\neof");
    assert_eq!(two.end(), 5);
    let over = stage.run("attach own", &[]);
    assert_eq!(code(&over), 255, "{}", show(&over));
    assert!(text(&over.stderr).contains("exit code 5"), "{}", show(&over));
}

fn without_a_terminal() {
    let stage = Stage::new();
    let image = stage.entry_image();
    let new = format!("new --keep-entrypoint --rm --image {image}");
    let output = stage.feed(&format!("{new} -- --flag"), &["$(HOME) $$"], b"a\nb\nexit 7\n");
    assert_eq!(code(&output), 7, "{}", show(&output));
    let said = "entry --flag $(HOME) $$ in / as 1000 home /home/loom\ngot:a\ngot:b\n";
    assert_eq!(text(&output.stdout), said);
    // Nothing is typed: the end of the input is what the program reads.
    let output = stage.run(&new, &[]);
    assert_eq!(code(&output), 5, "{}", show(&output));
    let said = "entry by default in / as 1000 home /home/loom\neof\n";
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), (said, ""));
    until("nothing is left", || stage.weavers().is_empty());
}

fn made_now_and_attached_later() {
    let mut stage = Stage::new();
    let image = stage.entry_image();
    let line = format!("new --no-attach --keep-entrypoint --image {image}");
    let id = stage.ok(&line, &[]).trim().to_owned();
    let mut terminal = stage.terminal(&format!("attach {id}"), &[]);
    terminal.send("one\r");
    terminal.sees("\ngot:one");
    stage.relay.kill();
    terminal.sees("the connection was lost");
    assert_eq!(terminal.end(), 255);
    stage.relay.restart();
    let mut terminal = stage.terminal("attach -", &[]);
    terminal.send("two\r");
    terminal.sees("\ngot:two");
    stage.ok(&format!("rm {id}"), &[]);
    terminal.sees("weaver deleted");
    assert_eq!(terminal.end(), 255);
}

fn no_program() {
    let stage = Stage::new();
    let image = stage.bare_image();
    let output = stage.run(&format!("new --keep-entrypoint --image {image}"), &[]);
    let said = text(&output.stderr);
    assert_eq!(code(&output), 255, "{said}");
    assert!(said.contains("has no program of its own") && said.contains("; deleted W-"), "{said}");
    // What is given behind -- is its program then.
    if image != "loom.local/tools" {
        let line = format!("new --keep-entrypoint --rm --image {image} -- echo");
        assert_eq!(stage.ok(&line, &["given"]), "given\n");
    }
}
