//! What runs inside: programs, their bytes and exit codes, the environment, the log.

use std::collections::BTreeMap;

use cluster::{Error, ExecRequest, Found, LogQuery, Settings, ToolsMount};
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weaver::{Env, Phase};

use crate::setup::{Bench, Case, admit, last_step};

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    vec![
        ("exec_returns_output_errors_and_code", exec),
        ("exec_carries_eight_mebibytes_both_ways", eight_mebibytes),
        ("exec_of_a_program_that_does_not_read_gives_its_output_and_code", deaf),
        ("exec_on_a_terminal_knows_its_size", terminal),
        ("exec_that_cannot_be_says_so", cannot),
        ("exec_ends_when_its_weaver_is_deleted", deleted),
        ("the_users_words_arrive_as_they_are", literal),
        ("the_log_is_kept_and_followed", logs),
        ("a_program_ends_its_weaver_with_its_code", ends),
        ("the_tools_come_by_an_init_container_too", init),
    ]
}

fn request(argv: &[&str]) -> ExecRequest {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    ExecRequest { argv, ..ExecRequest::default() }
}

/// Runs a shell command and returns what it wrote to both, and its code.
async fn shell(bench: &Bench, found: &Found, script: &str) -> (String, String, i32) {
    let mut exec = bench.cluster.exec(found, &request(&["sh", "-c", script])).await.unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    let mut errors = exec.stderr.take().unwrap();
    let (read_out, read_err) =
        tokio::join!(exec.stdout.read_to_string(&mut out), errors.read_to_string(&mut err));
    read_out.unwrap();
    read_err.unwrap();
    (out, err, exec.status().await.unwrap())
}

fn exec(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let found = bench.ready(&[]).await;
        let answer = shell(bench, &found, "echo out; echo err >&2; exit 7").await;
        assert_eq!(answer, ("out\n".to_owned(), "err\n".to_owned(), 7));
        assert_eq!(shell(bench, &found, "true").await.2, 0);
        let script = "echo $LOOM_WEAVER_ID; echo $LOOM_SERVER_URL; echo $NODE_ENV; id -u; \
            touch $HOME/x /workspace/x && pwd";
        let (out, err, code) = shell(bench, &found, script).await;
        let id = found.weaver.id;
        let expected = format!("{id}\nhttps://loom.example\nproduction\n1000\n/workspace\n");
        assert_eq!((out, err.as_str(), code), (expected, "", 0));
    }
    .boxed()
}

fn eight_mebibytes(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let found = bench.ready(&[]).await;
        let sent: Vec<u8> =
            (0..8_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let cat = ExecRequest { stdin: true, ..request(&["cat"]) };
        let mut exec = bench.cluster.exec(&found, &cat).await.unwrap();
        let mut stdin = exec.stdin.take().unwrap();
        let mut received = Vec::new();
        let write = async {
            stdin.write_all(&sent).await.unwrap();
            stdin.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(write, exec.stdout.read_to_end(&mut received));
        read.unwrap();
        assert_eq!(received.len(), sent.len());
        assert_eq!(Sha256::digest(&received), Sha256::digest(&sent));
        assert_eq!(exec.status().await.unwrap(), 0);
    }
    .boxed()
}

/// What it writes and how it ends arrives although nobody takes what is sent to it.
fn deaf(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let found = bench.ready(&[]).await;
        let script = "until [ -e /tmp/full ]; do sleep 0.1; done; \
            head -c 8388608 /dev/zero; exit 7";
        let deaf = ExecRequest { stdin: true, ..request(&["sh", "-c", script]) };
        let mut exec = bench.cluster.exec(&found, &deaf).await.unwrap();
        let mut stdin = exec.stdin.take().unwrap();
        // More than all that lies between may hold: this never ends.
        let typing = async { stdin.write_all(&vec![0; 64 << 20]).await };
        let listening = async {
            assert_eq!(shell(bench, &found, "touch /tmp/full").await.2, 0);
            exec.stdout.read_exact(&mut vec![0; 8 << 20]).await.unwrap();
            // Kubernetes itself does not tell the end while input waits: `kubectl` never sees it.
            if bench.site.image == "loom.local/host" {
                assert_eq!(exec.status().await.unwrap(), 7);
            }
        };
        tokio::select! {
            biased;
            () = listening => {}
            typed = typing => panic!("who took that? {typed:?}"),
        }
    }
    .boxed()
}

fn terminal(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let found = bench.ready(&[]).await;
        let script = "until [ \"$(stty size 2>&1)\" = \"33 101\" ]; do sleep 0.1; done; read line; stty size; exit 3";
        let on_tty = ExecRequest { stdin: true, tty: true, ..request(&["sh", "-c", script]) };
        let mut exec = bench.cluster.exec(&found, &on_tty).await.unwrap();
        assert!(exec.stderr.is_none());
        exec.resizer.clone().unwrap().resize(33, 101).await.unwrap();
        let mut stdin = exec.stdin.take().unwrap();
        stdin.write_all(b"go\n").await.unwrap();
        let mut out = String::new();
        exec.stdout.read_to_string(&mut out).await.unwrap();
        assert!(out.contains("33 101"), "{out:?}");
        assert_eq!(exec.status().await.unwrap(), 3);
    }
    .boxed()
}

fn cannot(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let mut found = bench.ready(&[]).await;
        let no_program = request(&["/no/such/program"]);
        let error = match bench.cluster.exec(&found, &no_program).await {
            Ok(exec) => exec.status().await.expect_err("there is no such program"),
            Err(error) => error,
        };
        assert!(matches!(error, Error::NotRunning { .. }), "{error}");
        let real = std::mem::replace(&mut found.pod.uid, uuid::Uuid::new_v4().to_string());
        let error = bench.cluster.exec(&found, &no_program).await.err().expect("another pod");
        assert!(matches!(error, Error::Changed { .. }), "{error}");
        found.pod.uid = real;
        let over = bench.ended(bench.spec(&["true"])).await;
        let error = match bench.cluster.exec(&over, &request(&["true"])).await {
            Ok(exec) => exec.status().await.expect_err("it has ended"),
            Err(error) => error,
        };
        assert!(matches!(error, Error::NotRunning { .. }), "{error}");
    }
    .boxed()
}

fn deleted(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let found = bench.ready(&[]).await;
        let cat = ExecRequest { stdin: true, ..request(&["cat"]) };
        let mut exec = bench.cluster.exec(&found, &cat).await.unwrap();
        let mut stdin = exec.stdin.take().unwrap();
        stdin.write_all(b"x").await.unwrap();
        assert_eq!(exec.stdout.read_u8().await.unwrap(), b'x');
        bench.cluster.delete(found.weaver.id, &found.uid_guard()).await.unwrap();
        // However it ends, it ends, and not as if all were well.
        let mut rest = Vec::new();
        let _cut = exec.stdout.read_to_end(&mut rest).await;
        assert!(!matches!(exec.status().await, Ok(0)));
    }
    .boxed()
}

const ODD: &str = "$(HOME) $$(X) $$ $ `id` \"q\" \\n é";

fn literal(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let mut spec =
            bench.spec(&["sh", "-c", "printf '%s|' \"$ODD\" \"$@\"", "$(HOME)", ODD, "--"]);
        spec.env = Env::try_from(BTreeMap::from([("ODD".to_owned(), ODD.to_owned())])).unwrap();
        let over = bench.ended(spec.clone()).await;
        assert_eq!(over.weaver.spec, spec);
        let log = bench.cluster.logs(over.weaver.id, LogQuery::default()).await.unwrap();
        let pieces: Vec<_> = log.try_collect().await.unwrap();
        assert_eq!(String::from_utf8(pieces.concat()).unwrap(), format!("{ODD}|{ODD}|--|"));
    }
    .boxed()
}

fn logs(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let script = "for n in 1 2 3; do echo $n; done; while [ ! -e /tmp/go ]; do sleep 0.1; done; \
            echo 4";
        let found = bench.ready(&["sh", "-c", script]).await;
        let id = found.weaver.id;
        let follow = LogQuery { follow: true, ..LogQuery::default() };
        let mut log = std::pin::pin!(bench.cluster.logs(id, follow).await.unwrap());
        let mut text = Vec::new();
        while text != b"1\n2\n3\n" {
            text.extend(log.try_next().await.unwrap().expect("the log goes on"));
        }
        assert_eq!(shell(bench, &found, "touch /tmp/go").await.2, 0);
        while let Some(piece) = log.try_next().await.unwrap() {
            text.extend(piece);
        }
        assert_eq!(text, b"1\n2\n3\n4\n");
        let tail = LogQuery { tail: Some(2), ..LogQuery::default() };
        let last: Vec<_> =
            bench.cluster.logs(id, tail).await.unwrap().try_collect().await.unwrap();
        assert_eq!(last.concat(), b"3\n4\n");
    }
    .boxed()
}

fn ends(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let failed = bench.ended(bench.spec(&["sh", "-c", "exit 7"])).await.weaver;
        assert_eq!((failed.phase, failed.exit_code), (Phase::Failed, Some(7)));
        assert_eq!(failed.why.unwrap().message, "its command ended with exit code 7");
        let well = bench.ended(bench.spec(&["true"])).await.weaver;
        assert_eq!((well.phase, well.exit_code, well.why), (Phase::Succeeded, Some(0), None));
    }
    .boxed()
}

fn init(bench: &Bench) -> BoxFuture<'_, ()> {
    async {
        let settings = Settings { tools_mount: ToolsMount::Init, ..bench.site.settings() };
        let cluster = bench.site.connect(settings).await;
        let made = cluster.create(&admit(bench.spec(&[]))).await.unwrap();
        let last = last_step(&cluster, made.weaver.id).await;
        assert!(matches!(last, cluster::Progress::Ready(_)), "{last:?}");
    }
    .boxed()
}
