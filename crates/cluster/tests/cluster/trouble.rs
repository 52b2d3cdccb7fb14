//! What does not work, and what is said about it.

use std::pin::pin;

use cluster::{Amounts, Cluster, Error, Progress, Settings};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use weaver::{Phase, Resources, WeaverId, Why};

use crate::setup::{Bench, Case, admit};

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("an_image_that_is_not_there_is_named", image),
        ("what_no_node_can_hold_is_named", unschedulable),
        ("too_much_memory_is_named", memory),
        ("a_missing_namespace_is_named", namespace),
        ("what_the_cluster_refuses_is_in_its_words", refused),
    ]
}

/// Returns the first trouble that is told.
async fn trouble(cluster: &Cluster, id: WeaverId) -> Why {
    let mut steps = pin!(cluster.progress(id));
    loop {
        match steps.next().await.expect("it goes on").unwrap() {
            Progress::Waiting(why) | Progress::Stuck(why) => return why,
            Progress::Ready(_) | Progress::Ended(_) | Progress::Gone => panic!("no trouble"),
            Progress::Scheduled { .. }
            | Progress::Pulling
            | Progress::Fetched { .. }
            | Progress::Pulled => {}
            Progress::Started => {}
        }
    }
}

fn image(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let mut spec = bench.spec(&[]);
        spec.image = "127.0.0.1:1/no/such:1".parse().unwrap();
        let id = bench.create(spec).await.weaver.id;
        let why = trouble(&bench.cluster, id).await;
        // Not every node asks a registry.
        assert!(["ErrImagePull", "ErrImageNeverPull"].contains(&why.reason.as_str()), "{why:?}");
        assert!(why.message.contains("image 127.0.0.1:1/no/such:1"), "{}", why.message);
        let found = bench.cluster.get(id).await.unwrap().unwrap();
        assert_eq!(found.weaver.phase, Phase::Pending);
    }
    .boxed()
}

fn unschedulable(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let requests = Amounts { cpu_millicores: 4_000_000, memory_mb: 16 };
        let limits = Amounts { cpu_millicores: 4_000_000, memory_mb: 64 };
        let settings = Settings { requests, limits, ..bench.site.settings() };
        let cluster = bench.site.connect(settings).await;
        let made = cluster.create(&admit(bench.spec(&[]))).await.unwrap();
        let why = trouble(&cluster, made.weaver.id).await;
        assert_eq!(why.reason, "Unschedulable");
        assert_eq!(why.message, "the cluster has not enough cpu left for it; it waits for some");
    }
    .boxed()
}

fn memory(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let mut spec = bench.spec(&["dd", "if=/dev/zero", "of=/dev/null", "bs=512M", "count=1"]);
        spec.resources = Resources { cpu_millicores: None, memory_mb: Some(64) };
        let found = bench.ended(spec).await;
        if let Some(why) = found.pod.limits_not_enforced {
            eprintln!("limits are not enforced here: {why}");
            return;
        }
        let why = found.weaver.why.expect("it has failed");
        assert_eq!((found.weaver.phase, why.reason.as_str()), (Phase::Failed, "OOMKilled"));
        assert_eq!(why.message, "it used more memory than its limit of 64Mi");
    }
    .boxed()
}

fn namespace(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let namespace = format!("loom-missing-{}", uuid::Uuid::new_v4().simple());
        let settings = Settings { namespace: namespace.clone(), ..bench.site.settings() };
        let cluster = bench.site.connect(settings).await;
        let expected = format!("namespace {namespace} does not exist");
        let error = cluster.validate_namespace().await.expect_err("it is missing");
        assert!(error.to_string().starts_with(&expected), "{error}");
        let error = cluster.create(&admit(bench.spec(&[]))).await.expect_err("it is missing");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    .boxed()
}

fn refused(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let settings =
            Settings { runtime_class: Some("Not A Name".to_owned()), ..bench.site.settings() };
        let cluster = bench.site.connect(settings).await;
        let error = cluster.create(&admit(bench.spec(&[]))).await.expect_err("it is refused");
        assert!(matches!(error, Error::Invalid { .. } | Error::Refused { .. }), "{error}");
        assert!(error.to_string().contains("Not A Name"), "{error}");
    }
    .boxed()
}
