//! libFuzzer before every target that a crate offers in its `fuzz` module.
//!
//! ```text
//! LOOM_FUZZ=CRATE/TARGET fuzz [libFuzzer's options] CORPUS…     without it: names the targets
//! ```
#![no_main]

use std::sync::OnceLock;

type Target = fn(&[u8]);

const CRATES: &[(&str, &[(&str, Target)])] = &[
    ("client", client::fuzz::TARGETS),
    ("cluster", cluster::fuzz::TARGETS),
    ("images", images::fuzz::TARGETS),
    ("local-cluster", local_cluster::fuzz::TARGETS),
    ("netstack", netstack::fuzz::TARGETS),
    ("pod-runtime", pod_runtime::fuzz::TARGETS),
    ("terminal", terminal::fuzz::TARGETS),
    ("weaver", weaver::fuzz::TARGETS),
    ("wire", wire::fuzz::TARGETS),
];

static CHOSEN: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        // A panic that is caught is none; one that is not ends the process anyhow.
        let abort = std::panic::take_hook();
        drop(abort);
        CHOSEN.get_or_init(choose);
    },
    |bytes: &[u8]| CHOSEN.get_or_init(choose)(bytes)
);

fn choose() -> Target {
    let wanted = std::env::var("LOOM_FUZZ").unwrap_or_default();
    for (of, targets) in CRATES {
        for (name, target) in *targets {
            match wanted.as_str() {
                "" => println!("{of}/{name}"),
                wanted if wanted == format!("{of}/{name}") => return *target,
                _ => {}
            }
        }
    }
    if !wanted.is_empty() {
        eprintln!("there is no target {wanted}");
    }
    std::process::exit(i32::from(!wanted.is_empty()));
}
