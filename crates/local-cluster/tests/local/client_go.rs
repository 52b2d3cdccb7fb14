//! A Go program that uses client-go, `tests/client-go` built as `LOOM_TEST_CLIENT_GO`, on the local
//! cluster and on the one of `LOOM_TEST_KUBECONFIG`: it sees the same, but for [`DIFFERENT`].

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;

use crate::support::daemon::Daemon;
use crate::support::{Needs, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let compare = trial("client_go_sees_the_same_on_a_real_cluster", Needs::Pods, compare);
    let given = |name| std::env::var_os(name).is_some();
    let ready = given("LOOM_TEST_KUBECONFIG") && given("LOOM_TEST_CLIENT_GO");
    vec![if ready { compare } else { compare.with_ignored_flag(true) }]
}

/// Steps, how their lines begin that are only here (`-`) or only there (`+`), and why;
/// docs/LOCAL-CLUSTER.md has the reasons in a table.
const DIFFERENT: &[(&str, &[&str], &str)] = &[
    (
        "resources are discovered",
        &[
            "+ v1 namespaces/finalize",
            "+ v1 nodes/proxy",
            "+ v1 pods/binding",
            "+ v1 pods/ephemeralcontainers",
            "+ v1 pods/proxy",
            "+ v1 pods/resize",
        ],
        "fewer subresources",
    ),
    (
        "resources are discovered",
        &["+   UnexpectedServerResponse"],
        "a path of no kind is a Status",
    ),
    ("kinds that are not known beforehand", &["+   UnexpectedServerResponse"], "the same"),
    (
        "objects are made, read, changed and deleted, as JSON",
        &["+ managed by"],
        "managers are kept from the first apply on",
    ),
    ("the same, as protobuf", &["+ managed by"], "the same"),
    (
        "who changes an old version is told",
        &["- 409 Conflict", "+ 409 Conflict"],
        "there is no etcd whose key could be named",
    ),
    (
        "patches",
        &["+   FieldValueInvalid metadata.labels", "- not json", "+ not json"],
        "a cause is told once; a JSON parser has words of its own",
    ),
    (
        "lists come in pages",
        &[
            "- 400 BadRequest: continue key",
            "+ 400 BadRequest: invalid continue",
            "- 400 BadRequest: invalid value",
            "+ 400 BadRequest: invalid resource version",
        ],
        "without Go's words for a bad number",
    ),
    (
        "preconditions, dry runs and many at once",
        &["- 400 BadRequest: invalid dryRun", "+ 422 Invalid", "+   FieldValueNotSupported dryRun"],
        "a bad option is a bad request",
    ),
    ("finalizers", &["+   FieldValueForbidden"], "a cause is told once"),
    (
        "other kinds",
        &["- services: false", "+ services: true", "- deployments: false", "+ deployments: true"],
        "there are none",
    ),
    ("who may do what", &["- impersonate", "+ impersonate"], "nobody can be impersonated"),
    (
        "a watch tells of every change",
        &["- 400 BadRequest: invalid value", "+ 500 : resourceVersion"],
        "a bad number is a bad request",
    ),
    (
        "programs are run in it",
        &["- unable to upgrade", "+ Internal error occurred"],
        "an exec without a command is refused before a container hears of it",
    ),
    (
        "its log is read",
        &["- 400 BadRequest: invalid value", "+ 422 Invalid", "+   FieldValueInvalid tailLines"],
        "a bad number is a bad request",
    ),
    (
        "its status is written",
        &["- a deadline: 422 Invalid", "-   FieldValueForbidden spec", "+ a deadline: fine"],
        "nothing of a spec can be changed",
    ),
];

/// What the program prints: steps, and the lines of each.
fn ask(kubeconfig: &Path, image: &str) -> Vec<(String, Vec<String>)> {
    let program = std::env::var_os("LOOM_TEST_CLIENT_GO").unwrap();
    let output = Command::new(program).arg(kubeconfig).args(["client-go", image]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let steps = said.split("== ").skip(1).map(|step| {
        let mut lines = step.lines().map(str::to_owned);
        (lines.next().unwrap(), lines.collect())
    });
    steps.collect()
}

/// Returns the lines that only one of them has, in order: `- ` the first, `+ ` the second.
fn difference(here: &[String], there: &[String]) -> Vec<String> {
    let (mut left, mut only) = (there.to_vec(), Vec::new());
    for line in here {
        match left.iter().position(|other| other == line) {
            Some(at) => drop(left.remove(at)),
            None => only.push(format!("- {line}")),
        }
    }
    only.extend(left.into_iter().map(|line| format!("+ {line}")));
    only
}

fn compare() {
    let daemon = Daemon::start();
    let real = std::env::var("LOOM_TEST_KUBECONFIG").unwrap();
    let image = std::env::var("LOOM_TEST_IMAGE").unwrap();
    let (here, there) = std::thread::scope(|scope| {
        let there = scope.spawn(|| ask(Path::new(&real), &image));
        (ask(&daemon.kubeconfig(), "loom.local/host"), there.join().unwrap())
    });
    assert!(here.len() > 20, "{here:?}");
    let names = |steps: &[(String, Vec<String>)]| -> Vec<String> {
        steps.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&here), names(&there));
    let known: BTreeSet<(&str, &str)> = DIFFERENT
        .iter()
        .flat_map(|(step, lines, _)| lines.iter().map(move |line| (*step, *line)))
        .collect();
    let (mut unknown, mut met) = (Vec::new(), BTreeSet::new());
    for ((step, here), (_, there)) in here.iter().zip(&there) {
        for line in difference(here, there) {
            let why = known.iter().find(|(of, begin)| of == step && line.starts_with(begin));
            match why {
                Some(why) => drop(met.insert(*why)),
                None => unknown.push(format!("{step}: {line}")),
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert_eq!(met, known);
}
