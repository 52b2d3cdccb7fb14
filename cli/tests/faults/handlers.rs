//! The handlers are killed while weavers are made.

use std::collections::BTreeSet;

use crate::stage::Stage;
use crate::support::{Case, code, show, text, until};

pub(crate) const CASES: &[Case] = &[
    ("handlers::killed_during_creates_there_is_one_pod_a_key_or_none", creates),
    ("handlers::killed_under_a_terminal_nobody_notices", terminals),
];

/// How many are made at once.
const AT_ONCE: usize = 6;

fn creates() {
    let mut stage = Stage::new();
    let mut keys = Vec::new();
    // Killed before a pod is there, after the first one, in the middle of them.
    for seen in [0, 1, AT_ONCE / 2] {
        let first = keys.len();
        keys.extend((first..first + AT_ONCE).map(|nth| format!("key-{nth}")));
        one_round(&mut stage, &keys[first..], seen);
        assert_eq!(stage.kube.weaver_ids().len(), keys.len());
    }
    for (key, id) in keys.iter().map(|key| (key, stage.maker().idle(key).unwrap())) {
        assert!(stage.kube.weaver_ids().contains(&id), "{key} is {id}");
    }
    assert_eq!(stage.weavers().len(), keys.len());
}

/// Makes a weaver a key, and kills the handlers when so many new pods are seen.
fn one_round(stage: &mut Stage, keys: &[String], seen: usize) {
    let (maker, before) = (stage.maker(), stage.kube.weaver_ids().len());
    let acknowledged: Vec<_> = std::thread::scope(|scope| {
        let make = |key: &String| {
            let (maker, key) = (maker.clone(), key.clone());
            scope.spawn(move || maker.idle(&key).ok())
        };
        let calls: Vec<_> = keys.iter().map(make).collect();
        until("there are so many pods", || stage.kube.pods().len() >= before + seen);
        stage.handlers.kill();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    stage.handlers.restart();
    let there = stage.kube.weaver_ids();
    assert!(there.len() <= before + keys.len(), "{there:?}");
    let again: Vec<_> = keys.iter().map(|key| stage.maker().idle(key).unwrap()).collect();
    for (before, now) in acknowledged.into_iter().zip(&again) {
        assert!(before.is_none_or(|before| there.contains(&before) && before == *now));
    }
    assert_eq!(again.iter().collect::<BTreeSet<_>>().len(), keys.len());
}

fn terminals() {
    let mut stage = Stage::new();
    let mut terminal = stage.shell("new");
    stage.handlers.kill();
    let refused = stage.run("ps", &[]);
    assert_eq!(code(&refused), 1, "{}", show(&refused));
    assert_eq!(text(&refused.stderr).lines().count(), 1, "{}", show(&refused));
    terminal.send("echo go''on\r");
    terminal.sees("\ngoon");
    stage.handlers.restart();
    let id = stage.only_id();
    // A node tells of a start a moment after it.
    until("it runs on", || stage.find(&id).unwrap()["status"] == "Running");
    terminal.send("\x04");
    assert_eq!(terminal.end(), 0);
}
