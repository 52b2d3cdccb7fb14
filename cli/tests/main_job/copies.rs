//! More bytes than any buffer on the way holds.

use std::io::{Read, Write};

use crate::support::{Case, World, code, show, text};

pub(crate) const CASES: &[Case] = &[
    ("copies::a_large_file_goes_in_and_comes_back", a_large_file),
    ("copies::exec_takes_and_gives_more_than_any_buffer", exec_both_ways),
    ("copies::exec_ends_with_a_program_that_does_not_read_all", does_not_read_all),
];

const LARGE: usize = 150 * 1024 * 1024;

/// Bytes that say where they belong.
fn numbered(length: usize) -> Vec<u8> {
    (0..length as u64 / 8).flat_map(u64::to_le_bytes).collect()
}

fn a_large_file() {
    let world = World::new();
    world.idle("");
    let (here, back) = (world.path("here"), world.path("back"));
    std::fs::write(&here, numbered(LARGE)).unwrap();
    world.ok_with("cp", &[&here.display().to_string(), "-:/tmp/large"]);
    world.ok_with("cp", &["-:/tmp/large", &back.display().to_string()]);
    assert!(std::fs::read(&back).unwrap() == std::fs::read(&here).unwrap());
}

fn exec_both_ways() {
    let world = World::new();
    world.idle("");
    let mut child = world.piped("exec - -- cat", &[]);
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let sent = numbered(LARGE / 3);
    let mut back = vec![0; sent.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stdin.write_all(&sent).unwrap();
            drop(stdin);
        });
        // Slower than it is written, so that every buffer on the way fills.
        for piece in back.chunks_mut(1000) {
            stdout.read_exact(piece).unwrap();
        }
    });
    assert!(back == sent);
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", show(&output));
}

/// What is not read is of no interest, what the program said and its code are.
fn does_not_read_all() {
    let world = World::new();
    world.idle("");
    for _ in 0..5 {
        for (script, said) in [("head -c 5", "\0\0\0\0\0"), ("sleep 0.2; echo done", "done\n")] {
            let mut command = world.command("exec - -- sh -c", &[&format!("{script}; exit 5")]);
            command.stdin(std::fs::File::open("/dev/zero").unwrap());
            let output = command.output().unwrap();
            let heard = (code(&output), text(&output.stdout));
            assert_eq!(heard, (5, said.to_owned()), "{}", show(&output));
        }
        let mut command = world.command("exec - -- nosuch", &[]);
        command.stdin(std::fs::File::open("/dev/zero").unwrap());
        let output = command.output().unwrap();
        assert_eq!(code(&output), 127, "{}", show(&output));
    }
}
