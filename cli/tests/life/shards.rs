//! Weavers spread over three namespaces: all that people do with them works as in one.

use std::collections::{BTreeMap, BTreeSet};

use wire::api::CreateWeaver;

use crate::stage::Stage;
use crate::support::{Case, code, show, text, until};

pub(crate) const CASES: &[Case] = &[
    ("shards::a_weaver_lives_in_one_of_three_namespaces", lives),
    ("shards::lists_and_sweeps_go_through_all", all),
];

/// Returns in which shard each weaver is.
fn places(stage: &Stage) -> BTreeMap<String, usize> {
    let shards = stage.shards.iter().enumerate();
    shards.flat_map(|(nth, kube)| kube.weaver_ids().into_iter().map(move |id| (id, nth))).collect()
}

fn lives() {
    let stage = Stage::sharded(3);
    let script = "echo from the log; exec sleep 1000";
    let id = stage.weaver("--name api", script);
    let place = places(&stage)[&id];
    assert!(stage.kube.pods().is_empty(), "the namespace without a number is not used");
    assert_eq!(stage.ok(&format!("exec {id} -- echo by exec"), &[]), "by exec\n");
    assert!(stage.ok(&format!("logs {id}"), &[]).contains("from the log"));
    let fed = stage.feed("new --rm -- sh -c", &["read line; echo got $line"], b"this\n");
    assert_eq!((code(&fed), text(&fed.stdout)), (0, "got this\n".to_owned()), "{}", show(&fed));
    let mut terminal = stage.shell("new");
    terminal.send("echo on a ter''minal\r");
    terminal.sees("\non a terminal");
    let before = stage.shards[place].span(&id).1;
    stage.ok(&format!("extend {id} 8"), &[]);
    assert!(stage.shards[place].span(&id).1 > before);
    let twice = stage.run("new --no-attach --name api -- sleep 1000", &[]);
    assert_eq!(code(&twice), 255, "{}", show(&twice));
    stage.ok(&format!("rm {id}"), &[]);
    until("it is gone", || !places(&stage).contains_key(&id));
}

fn all() {
    let stage = Stage::sharded(3);
    let maker = stage.maker();
    let (command, args) = (vec!["sleep".to_owned()], vec!["1000".to_owned()]);
    // No node has that much: the pods cost nothing.
    let resources = Some(wire::api::Resources { cpu_millicores: None, memory_mb: Some(262_144) });
    let ask = CreateWeaver { command, args, resources, ..CreateWeaver::default() };
    let make = |nth: usize| maker.create(&ask, &format!("key-{nth}")).unwrap().id;
    let made: BTreeSet<_> = (0..24).map(make).collect();
    assert_eq!(make(7), make(7), "a key finds its weaver again");
    let places = places(&stage);
    assert_eq!(places.keys().cloned().collect::<BTreeSet<_>>(), made);
    assert_eq!(places.values().collect::<BTreeSet<_>>().len(), 3, "{places:?}");
    let listed = stage.weavers();
    let ids: BTreeSet<_> =
        listed.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((ids, listed.len()), (made.clone(), made.len()));
    made.iter().for_each(|id| stage.shards[places[id]].age(id, 4));
    let report = stage.sweep();
    for (what, many) in [("listed", 24), ("expired", 24), ("deleted", 24), ("failed", 0)] {
        assert_eq!(report[what], many, "{what} in {report}");
    }
    // A page a shard, and a deletion each: again for those that a scheduler has changed meanwhile.
    assert!(report["calls"].as_u64().unwrap() >= 3 + 24, "{report}");
    until("all are gone", || stage.shards.iter().all(|shard| shard.pods().is_empty()));
}
