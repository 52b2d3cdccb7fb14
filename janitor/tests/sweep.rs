//! Sweeps over a fake Kubernetes with real preconditions and a clock of its own.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "../../handlers/tests/fake/mod.rs"]
mod fake;

use std::process::Output;
use std::time::Duration;

use cluster::{Cluster, Found};
use fake::{Fake, Fault};
use janitor::{Report, SweepOptions, run_every, sweep};
use jiff::SignedDuration;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weaver::{Policy, Ttl, Weaver, WeaverId};

/// Makes a weaver with the sample's lifetime of four hours.
async fn made(cluster: &Cluster) -> Found {
    let id = WeaverId::from_uuid(Uuid::new_v4());
    // A look at the API server's clock, which the tests set back and forth.
    assert_eq!(cluster.get(id).await.unwrap(), None);
    let admitted = Policy::default().admit(id, Weaver::sample().spec).unwrap();
    cluster.create(&admitted).await.unwrap()
}

/// A fake, and a client that has seen its clock.
async fn rig() -> (Fake, Cluster) {
    let fake = Fake::start().await;
    let cluster = fake.cluster().await;
    (fake, cluster)
}

async fn swept(cluster: &Cluster) -> Report {
    let report = sweep(cluster, SweepOptions::default()).await.unwrap();
    Report { milliseconds: 0, ..report }
}

/// Sets the API server's clock to that long after the sample's four hours, counted from here.
fn after_deadline(fake: &Fake, late: SignedDuration) {
    fake.skew(SignedDuration::from_hours(4) + late);
}

const MINUTE: SignedDuration = SignedDuration::from_secs(60);

#[tokio::test]
async fn what_has_expired_is_deleted_and_nothing_else() {
    let (fake, cluster) = rig().await;
    for _ in 0..3 {
        made(&cluster).await;
    }
    let extended = made(&cluster).await;
    cluster.extend(&extended, Ttl::MAX).await.unwrap();
    assert_eq!(swept(&cluster).await, Report { listed: 4, kept: 4, calls: 1, ..Report::default() });
    after_deadline(&fake, MINUTE);
    let report =
        Report { listed: 4, expired: 3, deleted: 3, kept: 1, calls: 4, ..Report::default() };
    assert_eq!(swept(&cluster).await, report);
    assert_eq!(fake.store().pods().len(), 1);
    assert!(cluster.get(extended.weaver.id).await.unwrap().is_some());
}

#[tokio::test]
async fn abuse_clocks_only_the_api_servers_counts() {
    for minutes in [-5, 5] {
        let skew = SignedDuration::from_mins(minutes);
        let fake = Fake::start().await;
        fake.skew(skew);
        let cluster = fake.cluster().await;
        let found = made(&cluster).await;
        // By this machine's clock the deadline is 4 h - 5 min or 4 h + 5 min away.
        let almost = SignedDuration::from_hours(4) - SignedDuration::from_secs(60);
        fake.skew(skew + almost);
        assert_eq!(swept(&cluster).await.deleted, 0, "{minutes}: a minute before its deadline");
        assert!(cluster.get(found.weaver.id).await.unwrap().is_some());
        fake.skew(skew + SignedDuration::from_hours(4) + SignedDuration::from_secs(2));
        assert_eq!(swept(&cluster).await.deleted, 1, "{minutes}: at its deadline");
    }
}

#[tokio::test]
async fn abuse_an_extension_between_list_and_delete_wins() {
    let (fake, cluster) = rig().await;
    let found = made(&cluster).await;
    after_deadline(&fake, MINUTE);
    let name = found.pod.name.clone();
    let end = Ttl::MAX.end(found.weaver.created_at).to_string();
    fake.before("delete", move |store| {
        store.edit(&name, |pod| {
            let annotations = &mut pod["metadata"]["annotations"];
            let spec = annotations["loom.dev/spec"].as_str().unwrap();
            let spec = spec.replace(r#""lifetime_hours":4"#, r#""lifetime_hours":48"#);
            annotations["loom.dev/spec"] = json!(spec);
            annotations["loom.dev/expires-at"] = json!(end);
        });
    });
    let report = Report { listed: 1, expired: 1, kept: 1, calls: 3, ..Report::default() };
    assert_eq!(swept(&cluster).await, report);
    let kept = cluster.get(found.weaver.id).await.unwrap().unwrap();
    assert_eq!(kept.weaver.spec.ttl, Ttl::MAX);
}

#[tokio::test]
async fn a_status_that_changes_does_not_save_it() {
    let (fake, cluster) = rig().await;
    let found = made(&cluster).await;
    after_deadline(&fake, MINUTE);
    let name = found.pod.name.clone();
    fake.before("delete", move |store| store.run(&name));
    assert_eq!(swept(&cluster).await.deleted, 1);
    assert!(fake.store().pods().is_empty());
}

#[tokio::test]
async fn abuse_extend_racing_with_the_sweep_has_one_winner() {
    let (fake, cluster) = rig().await;
    // Two clients, as two processes have.
    let other = fake.cluster().await;
    let (mut extended, mut deleted) = (0, 0);
    for nth in 0..2000 {
        if nth >= 100 && extended > 0 && deleted > 0 {
            return;
        }
        fake.skew(SignedDuration::ZERO);
        let found = made(&cluster).await;
        after_deadline(&fake, MINUTE);
        // They meet at another point each time.
        let (head_start, behind) = if nth % 2 == 0 { (nth, 0) } else { (0, nth) };
        let extending = async {
            pause(behind).await;
            let found = other.get(found.weaver.id).await.unwrap()?;
            other.extend(&found, Ttl::MAX).await.ok()
        };
        let sweeping = async {
            pause(head_start).await;
            swept(&cluster).await
        };
        let (winner, report) = tokio::join!(extending, sweeping);
        let there = cluster.get(found.weaver.id).await.unwrap();
        assert_eq!(winner.is_some(), there.is_some(), "{report}");
        assert_eq!(winner.is_some(), report.deleted == 0, "{report}");
        extended += u32::from(winner.is_some());
        deleted += u32::from(winner.is_none());
        cluster.delete(found.weaver.id, &cluster::Guard::default()).await.unwrap();
    }
    panic!("they never met: {extended} extended, {deleted} deleted");
}

async fn pause(turns: usize) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn two_janitors_at_once_do_no_harm() {
    let (fake, cluster) = rig().await;
    for _ in 0..50 {
        made(&cluster).await;
    }
    after_deadline(&fake, MINUTE);
    let other = fake.cluster().await;
    let (one, two) = tokio::join!(swept(&cluster), swept(&other));
    assert_eq!((one.deleted + two.deleted, one.failed + two.failed), (50, 0));
    assert!(fake.store().pods().is_empty());
}

#[tokio::test]
async fn abuse_what_cannot_be_read_is_left_and_reported() {
    let (fake, cluster) = rig().await;
    let broken = made(&cluster).await;
    fake.store().edit(&broken.pod.name, |pod| {
        pod["metadata"]["annotations"]["loom.dev/expires-at"] = json!("1970-01-01T00:00:00Z");
    });
    let missing = made(&cluster).await;
    fake.store().edit(&missing.pod.name, |pod| {
        pod["metadata"]["annotations"] = json!({});
    });
    let newer = made(&cluster).await;
    fake.store().edit(&newer.pod.name, |pod| {
        let annotation = &mut pod["metadata"]["annotations"]["loom.dev/spec"];
        *annotation =
            json!(annotation.as_str().unwrap().replace(r#""version":1"#, r#""version":2"#));
    });
    fake.store().plant(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "stranger", "uid": "s", "labels": {"app": "loom-weaver"}},
        "spec": {"containers": []}}));
    after_deadline(&fake, SignedDuration::from_hours(1000));
    let report = Report { listed: 4, skipped: 4, calls: 1, ..Report::default() };
    assert_eq!(swept(&cluster).await, report);
    assert_eq!(fake.store().pods().len(), 4);
}

#[tokio::test]
async fn what_cannot_be_deleted_is_counted_and_the_rest_goes_on() {
    let (fake, cluster) = rig().await;
    for _ in 0..3 {
        made(&cluster).await;
    }
    after_deadline(&fake, MINUTE);
    fake.fail_once("delete", Fault::Status(500, "InternalError", "no leader"));
    let report = swept(&cluster).await;
    assert_eq!((report.expired, report.deleted, report.failed), (3, 2, 1));
    assert_eq!(swept(&cluster).await.deleted, 1);
}

#[tokio::test]
async fn it_waits_as_told_and_starts_again_when_the_list_is_lost() {
    let (fake, cluster) = rig().await;
    let sample = made(&cluster).await;
    let pod = fake.store().pods()[0].clone();
    for nth in 0..1000 {
        let (mut pod, id) = (pod.clone(), format!("018e2b3c-4d5e-7f8a-9b0c-{nth:012}"));
        pod["metadata"]["name"] = json!(format!("weaver-{id}"));
        pod["metadata"]["labels"]["weaver-id"] = json!(format!("W-{id}"));
        fake.store().plant(pod);
    }
    fake.fail_once("list", Fault::TooMany(1));
    fake.fail_once("list continued", Fault::Status(410, "Expired", "too old"));
    let report = swept(&cluster).await;
    assert_eq!((report.listed, report.kept), (1001, 1001));
    assert!(cluster.get(sample.weaver.id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_an_error() {
    let failed = sweep(&fake::nobody().await, SweepOptions::default()).await;
    assert_eq!(failed.unwrap_err().to_string(), "weavers cannot be listed");
    let (fake, cluster) = rig().await;
    fake.fail("list", Some(Fault::Hang));
    let short = SweepOptions { deadline: Duration::from_millis(200), ..SweepOptions::default() };
    assert!(sweep(&cluster, short).await.is_err());
}

#[tokio::test]
async fn the_schedule_sweeps_until_the_shutdown() {
    let (fake, cluster) = rig().await;
    let shutdown = CancellationToken::new();
    let every = Duration::from_secs(1);
    let options = SweepOptions::default();
    let running = run_every(fake.cluster().await, every, options, shutdown.clone());
    let running = service::Task::spawn(running);
    for _ in 0..2 {
        fake.skew(SignedDuration::ZERO);
        made(&cluster).await;
        after_deadline(&fake, MINUTE);
        let gone = async {
            while !fake.store().pods().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it is swept");
    }
    shutdown.cancel();
    running.join().await.unwrap().unwrap();
}

/// Runs the program itself.
async fn program(fake: &Fake, flags: &[&str]) -> Output {
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_loom-janitor"));
    program.args(flags).arg("--kubeconfig").arg(fake.kubeconfig()).env_clear();
    program.kill_on_drop(true).output().await.unwrap()
}

#[tokio::test]
async fn the_program_sweeps_once_and_prints_one_line() {
    let (fake, cluster) = rig().await;
    made(&cluster).await;
    let kept = program(&fake, &["--once"]).await;
    let line = String::from_utf8(kept.stdout).unwrap();
    assert!(line.starts_with("listed 1, expired 0, deleted 0, kept 1"), "{line}");
    after_deadline(&fake, MINUTE);
    let swept = program(&fake, &["--once", "--report", "json"]).await;
    let report: serde_json::Value = serde_json::from_slice(&swept.stdout).unwrap();
    assert_eq!((&report["expired"], &report["deleted"]), (&json!(1), &json!(1)));
    assert!(swept.status.success() && fake.store().pods().is_empty());
}

#[tokio::test]
async fn the_program_fails_when_something_could_not_be_deleted() {
    let (fake, cluster) = rig().await;
    made(&cluster).await;
    after_deadline(&fake, MINUTE);
    let words = "User \"x\" cannot delete resource \"pods\"";
    fake.fail("delete", Some(Fault::Status(403, "Forbidden", words)));
    let failed = program(&fake, &["--once"]).await;
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(said.contains("delete pods in namespace loom-weavers"), "{said}");
    assert!(said.ends_with("1 expired weavers could not be deleted; see the log\n"), "{said}");
}
