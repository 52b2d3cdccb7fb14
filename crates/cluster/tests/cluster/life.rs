//! From made to deleted: create, look, list, watch, extend, delete.

use std::pin::pin;

use cluster::{Change, Deletion, Error, Guard, Progress, Query};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use weaver::{Phase, Ttl};

use crate::setup::{Bench, Case, admit};

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("a_weaver_comes_up_step_by_step", comes_up),
        ("a_second_weaver_of_one_id_is_refused", second),
        ("lists_come_in_pages_and_by_tags", pages),
        ("abuse_a_foreign_pod_is_left_out", foreign),
        ("a_watch_tells_of_coming_and_going", watch),
        ("an_extension_loses_to_a_change", extend),
        ("abuse_extend_racing_with_the_sweep", race),
        ("a_deletion_needs_its_guard_to_hold", delete),
        ("it_expires_by_the_clusters_clock", expiry),
    ]
}

fn comes_up(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        bench.cluster.validate_namespace().await.unwrap();
        let spec = bench.spec(&[]);
        let made = bench.create(spec.clone()).await;
        assert_eq!((made.weaver.phase, &made.weaver.spec), (Phase::Pending, &spec));
        assert!(made.weaver.why.is_some());
        let steps: Vec<_> =
            bench.cluster.progress(made.weaver.id).map(Result::unwrap).collect().await;
        let rank = |step: &Progress| match step {
            Progress::Scheduled { node } => (!node.is_empty()).then_some(1),
            Progress::Started => Some(4),
            Progress::Ready(_) => Some(5),
            _ => None,
        };
        assert_eq!(steps.iter().filter_map(rank).collect::<Vec<_>>(), [1, 4, 5], "{steps:?}");
        let found = bench.cluster.get(made.weaver.id).await.unwrap().expect("it is there");
        assert_eq!((found.weaver.phase, &found.weaver.spec), (Phase::Running, &spec));
        assert_eq!((found.weaver.why, found.pod.phase.as_str()), (None, "Running"));
        assert_eq!(found.pod.name, made.weaver.id.pod_name());
    }
    .boxed()
}

fn second(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let admitted = admit(bench.spec(&[]));
        bench.cluster.create(&admitted).await.unwrap();
        let error = bench.cluster.create(&admitted).await.expect_err("there is one");
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    }
    .boxed()
}

fn pages(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        for number in 0..3 {
            let mut spec = bench.spec(&["true"]);
            spec.tags = format!("number={number}").parse().unwrap();
            spec.owner = format!("U-{}", number % 2).parse().unwrap();
            bench.create(spec).await;
        }
        let first = Query { limit: Some(2), ..bench.query() };
        let page = bench.cluster.list(&first).await.unwrap();
        assert_eq!(page.found.len(), 2);
        let second = Query { cursor: page.next.clone(), ..first };
        let rest = bench.cluster.list(&second).await.unwrap();
        assert_eq!((rest.found.len(), rest.next), (1, None));
        assert!(page.found.iter().all(|found| found.weaver.id != rest.found[0].weaver.id));
        let count = async |query: Query| bench.cluster.list(&query).await.unwrap().found.len();
        let tagged = Query { tags: "number=1".parse().unwrap(), ..bench.query() };
        assert_eq!(count(tagged).await, 1);
        assert_eq!(count(Query { owner: Some("U-0".parse().unwrap()), ..bench.query() }).await, 2);
        assert_eq!(count(Query { status: vec![Phase::Unknown], ..bench.query() }).await, 0);
        let broken = Query { cursor: Some("nonsense".to_owned()), ..bench.query() };
        let error = bench.cluster.list(&broken).await.expect_err("no cursor");
        assert!(matches!(error, Error::CursorExpired), "{error}");
    }
    .boxed()
}

fn foreign(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let settings = bench.site.settings();
        let pods = Api::<Pod>::namespaced(bench.site.client().await, &settings.namespace);
        let made = bench.create(bench.spec(&[])).await;
        let mut pod = pods.get(&made.pod.name).await.unwrap();
        pod.status = None;
        pod.metadata = serde_json::from_value(json!({"name": format!("x-{}", made.pod.name),
            "labels": pod.metadata.labels, "annotations": pod.metadata.annotations}))
        .unwrap();
        pod.spec.as_mut().unwrap().node_name = None;
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let page = bench.cluster.list(&bench.query()).await.unwrap();
        assert_eq!((page.found.len(), page.skipped.len()), (1, 1));
        assert_eq!(page.skipped[0].pod, pod.metadata.name.clone().unwrap());
        assert_eq!(page.skipped[0].why.code(), "foreign");
        pods.delete(&page.skipped[0].pod, &kube::api::DeleteParams::default()).await.unwrap();
    }
    .boxed()
}

fn watch(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let mut changes = pin!(bench.cluster.watch(&bench.query()));
        assert_eq!(changes.next().await.unwrap().unwrap(), Change::All(Vec::new()));
        let id = bench.create(bench.spec(&[])).await.weaver.id;
        let (mut phases, mut deleted) = (Vec::new(), false);
        loop {
            match changes.next().await.unwrap().unwrap() {
                Change::All(_) => panic!("nothing was lost"),
                Change::Set(found) => {
                    assert_eq!(found.weaver.id, id);
                    phases.push(found.weaver.phase);
                    if found.weaver.phase == Phase::Running && !deleted {
                        deleted = true;
                        let guard = found.uid_guard();
                        assert_eq!(
                            bench.cluster.delete(id, &guard).await.unwrap(),
                            Deletion::Deleted
                        );
                    }
                }
                Change::Gone(gone) => {
                    assert_eq!(gone, id);
                    break;
                }
            }
        }
        assert_eq!(phases[0], Phase::Pending);
        assert!(deleted);
        let mut one = pin!(bench.cluster.watch_one(id));
        assert_eq!(one.next().await.unwrap().unwrap(), None);
        assert!(one.next().await.is_none());
        let steps: Vec<_> = bench.cluster.progress(id).map(Result::unwrap).collect().await;
        assert_eq!(steps, [Progress::Gone]);
    }
    .boxed()
}

fn extend(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let id = bench.ready(&[]).await.weaver.id;
        let day = Ttl::from_hours(24).unwrap();
        // The kubelet's reports are changes too: somebody who extends has to look again then.
        let (seen, longer) = loop {
            let seen = bench.cluster.get(id).await.unwrap().unwrap();
            match bench.cluster.extend(&seen, day).await {
                Ok(longer) => break (seen, longer),
                Err(Error::Changed { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(longer.weaver.expires_at(), day.end(seen.weaver.created_at));
        assert_eq!(longer.weaver.spec.env, seen.weaver.spec.env);
        let read = bench.cluster.get(id).await.unwrap().unwrap();
        assert_eq!(read.weaver.spec, longer.weaver.spec);
        let error = bench.cluster.extend(&seen, Ttl::MAX).await.expect_err("it has changed");
        assert!(matches!(error, Error::Changed { .. }), "{error}");
    }
    .boxed()
}

fn race(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let day = Ttl::from_hours(24).unwrap();
        for sweep_first in [true, false] {
            let seen = bench.ready(&[]).await;
            let id = seen.weaver.id;
            // Whoever comes second sees that it is second: never a deletion of what was extended.
            let (won, lost) = loop {
                let seen = bench.cluster.get(id).await.unwrap().unwrap();
                let guard = seen.guard();
                let (won, lost) = if sweep_first {
                    let won = bench.cluster.delete(id, &guard).await.unwrap();
                    let lost = bench.cluster.extend(&seen, day).await.map(drop);
                    (won == Deletion::Deleted, lost.is_err())
                } else {
                    let won = bench.cluster.extend(&seen, day).await.is_ok();
                    let lost = bench.cluster.delete(id, &guard).await.unwrap();
                    (won, lost == Deletion::Changed)
                };
                if won {
                    break (won, lost);
                }
            };
            assert!(won && lost, "sweep first: {sweep_first}");
            if !sweep_first {
                let kept = bench.cluster.get(id).await.unwrap().expect("it was extended");
                assert!(!kept.pod.deleting && kept.weaver.spec.ttl == day);
            }
        }
    }
    .boxed()
}

fn delete(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let found = bench.ready(&[]).await;
        let id = found.weaver.id;
        let delete = async |guard: &Guard| bench.cluster.delete(id, guard).await.unwrap();
        let other = Guard { uid: Some(uuid::Uuid::new_v4().to_string()), ..Guard::default() };
        assert_eq!(delete(&other).await, Deletion::Changed);
        let old = Guard { resource_version: Some("1".to_owned()), ..found.uid_guard() };
        assert_eq!(delete(&old).await, Deletion::Changed);
        assert_eq!(delete(&found.uid_guard()).await, Deletion::Deleted);
        let mut states = pin!(bench.cluster.watch_one(id));
        while let Some(Some(going)) = states.next().await.map(Result::unwrap) {
            assert!(going.pod.deleting);
        }
        assert_eq!(delete(&found.uid_guard()).await, Deletion::Gone);
        assert_eq!(bench.cluster.get(id).await.unwrap(), None);
    }
    .boxed()
}

fn expiry(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let mut spec = bench.spec(&[]);
        spec.ttl = Ttl::from_hours(1).unwrap();
        let made = bench.create(spec).await;
        let settings = bench.site.settings();
        let pods = Api::<Pod>::namespaced(bench.site.client().await, &settings.namespace);
        let pod = pods.get(&made.pod.name).await.unwrap();
        let stamped = pod.metadata.creation_timestamp.unwrap().0;
        let apart = stamped.duration_since(made.weaver.created_at).as_secs();
        assert!((0..=2).contains(&apart), "{stamped} {}", made.weaver.created_at);
        let now = bench.cluster.now().await.unwrap();
        assert!(!made.weaver.is_expired(now));
        assert!(made.weaver.is_expired(now + jiff::SignedDuration::from_hours(1)));
        let backstop = pod.spec.unwrap().active_deadline_seconds;
        assert_eq!(backstop, Some(48 * 3600 + 600));
    }
    .boxed()
}
