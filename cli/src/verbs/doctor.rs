//! `loom doctor`: what weavers need, tried one by one: of this machine, or of a cluster.

mod cluster;
mod machine;
mod show;
mod web_socket;

use crate::args::Global;
use crate::failure::Failure;

/// Try what weavers need, on this machine or of a cluster, and say what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  loom doctor                           can local weavers run on this machine?
  loom doctor --cluster                 is the cluster of the current kubeconfig fit for weavers?
  loom doctor --cluster --context prod --server-url https://loom.example
                                        another one, and the way to its terminals too

With --cluster small pods are made in the weavers' namespace for a moment, and one weaver when a
server is given. They are deleted at the end, also after Ctrl+C.

Exit code: 0 when all is well or only warned of, 1 when something has to be changed.")]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Look at a Kubernetes cluster instead of this machine
    #[arg(long)]
    cluster: bool,
    #[command(flatten)]
    aims: cluster::Aims,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<u8, Failure> {
    if args.cluster {
        super::block_on(cluster::run(args.aims, args.json, global))
    } else {
        machine::run(args.json)
    }
}
