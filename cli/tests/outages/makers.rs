//! Weavers are made, again and again, while a part of the cluster is away.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use wire::problem::Code;

use crate::stage::{Maker, Stage};
use crate::support::until;

/// Settings by which no node has room for a weaver: their pods cost nothing.
pub(crate) const NO_ROOM: &[(&str, &str)] =
    &[("LOOM_SERVER_WEAVER_CPU_REQUEST", "4000"), ("LOOM_SERVER_WEAVER_CPU_LIMIT", "4000")];

/// How many make weavers at once.
const MAKERS: usize = 3;
/// Between two calls of one of them.
const PAUSE: Duration = Duration::from_millis(200);

/// What was promised, and what was not.
#[derive(Default)]
pub(crate) struct Made {
    promised: BTreeSet<String>,
    refused: usize,
}

/// Makes weavers until `outage` has passed. Those with a key are made again until that succeeds.
pub(crate) fn during(stage: &Stage, outage: impl FnOnce()) -> Made {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let keyed = |nth| keyed(&stage.maker(), nth, &over);
        let makers: Vec<_> = (0..MAKERS).map(|nth| scope.spawn(move || keyed(nth))).collect();
        let unkeyed = scope.spawn(|| unkeyed(&stage.maker(), &over));
        until("each has made some", || stage.kube.pods().len() > MAKERS);
        outage();
        over.store(true, SeqCst);
        let mut all = unkeyed.join().unwrap();
        for made in makers.into_iter().map(|maker| maker.join().unwrap()) {
            all.promised.extend(made.promised);
            all.refused += made.refused;
        }
        all
    })
}

/// One pod a promise and none beside: what nobody was told of is deleted.
pub(crate) fn each_is_there_once(stage: &Stage, made: &Made) {
    assert!(made.refused > 0, "nothing was asked for meanwhile");
    until("exactly what was promised is there", || stage.kube.weaver_ids() == made.promised);
    assert_eq!(stage.weavers().len(), made.promised.len());
}

fn keyed(maker: &Maker, nth: usize, over: &AtomicBool) -> Made {
    let mut made = Made::default();
    for number in 0.. {
        let key = format!("key-{nth}-{number}");
        let id = loop {
            match maker.idle(&key) {
                Ok(id) => break id,
                Err(error) => made.refused += told(&error),
            }
            std::thread::sleep(PAUSE);
        };
        assert_eq!(maker.idle(&key).ok().filter(|again| *again != id), None, "{key}");
        made.promised.insert(id);
        if over.load(SeqCst) {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    made
}

fn unkeyed(maker: &Maker, over: &AtomicBool) -> Made {
    let mut made = Made::default();
    while !over.load(SeqCst) {
        match maker.idle_once() {
            Ok(id) => drop(made.promised.insert(id)),
            Err(error) => made.refused += told(&error),
        }
        std::thread::sleep(PAUSE);
    }
    made
}

/// The server says in time that it cannot now: its own words, not the caller's patience.
fn told(error: &client::Error) -> usize {
    let code = error.code();
    assert!(matches!(code, Some(Code::Unavailable | Code::Timeout)), "{error}");
    1
}
