//! More bytes than any buffer on the way holds.

use std::io::{Read, Write};

use crate::support::{Case, World, code, show};

pub(crate) const CASES: &[Case] = &[
    ("copies::a_large_file_goes_in_and_comes_back", a_large_file),
    ("copies::exec_takes_and_gives_more_than_any_buffer", exec_both_ways),
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
