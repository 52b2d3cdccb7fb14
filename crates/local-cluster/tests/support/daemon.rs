//! The daemon as a process of its own, to be killed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use local_cluster::{Config, LocalCluster};
use tokio::io::AsyncReadExt;

/// Serves the state folder in `args` until its stdin ends; says `ready` when it serves.
pub(crate) fn serve(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let state_dir = PathBuf::from(args.next().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Config {
            state_dir,
            binary: std::env::current_exe().unwrap(),
            listen: ([127, 0, 0, 1], 0).into(),
        };
        let cluster = match LocalCluster::start(config).await {
            Ok(cluster) => cluster,
            Err(error) => {
                println!("{error}: {:?}", std::error::Error::source(&error));
                return ExitCode::FAILURE;
            }
        };
        println!("ready {}", cluster.kubeconfig_path().display());
        let mut rest = Vec::new();
        tokio::io::stdin().read_to_end(&mut rest).await.unwrap();
        cluster.stop().await;
        ExitCode::SUCCESS
    })
}
