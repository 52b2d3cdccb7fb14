//! Clients that go without a word.

use kube::api::AttachParams;
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::pods::{create, in_phase, pod, pods, run};
use crate::support::daemon::Daemon;
use crate::support::{Needs, block_on, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    let name = "a_program_whose_client_is_gone_is_ended_though_it_does_not_read";
    vec![trial(name, Needs::Pods, unread)]
}

fn unread() {
    let daemon = Daemon::start();
    block_on(async {
        let pods = pods(&daemon).await;
        create(&pods, pod("p", "sleep 1000")).await;
        in_phase(&pods, "p", &["Running"]).await;
        let params = AttachParams::default().stdin(true).stderr(false);
        let deaf = ["sh", "-c", "echo $$; exec sleep 1000"];
        let mut process = pods.exec("p", deaf, &params).await.unwrap();
        let (mut stdin, mut stdout) = (process.stdin().unwrap(), process.stdout().unwrap());
        let mut pid = Vec::new();
        while !pid.ends_with(b"\n") {
            pid.push(stdout.read_u8().await.unwrap());
        }
        // Far more than its pipe takes.
        stdin.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
        process.abort();
        drop(process);
        let pid = String::from_utf8(pid).unwrap();
        let gone = format!("! kill -0 {pid}");
        until(|| async { (run(&pods, "p", &["sh", "-c", &gone]).await.1 == 0).then_some(()) })
            .await;
    });
}
