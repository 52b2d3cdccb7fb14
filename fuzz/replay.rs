//! Replays what the fuzzer keeps of this crate's targets, as an ordinary test. Every crate with
//! targets includes this file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::TARGETS;

#[test]
fn every_corpus_is_replayed() {
    let of = env!("CARGO_PKG_NAME");
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(of);
    let found: BTreeSet<String> = fs::read_dir(&corpora)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, known, "a corpus for every target, and a target for every corpus");
    for (name, target) in TARGETS {
        for entry in fs::read_dir(corpora.join(name)).unwrap() {
            let path = entry.unwrap().path();
            // Shown only when the test fails, and then the last one is to blame.
            println!("{}", path.display());
            target(&fs::read(path).unwrap());
        }
    }
}
