//! `loom completions`: the script that a shell reads.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::failure::Failure;
use crate::out;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(loom completions bash)
  loom completions zsh  >~/.zfunc/_loom
  loom completions fish >~/.config/fish/completions/loom.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::args::Cli::command(), "loom", &mut script);
    out::print_bytes(&script)?;
    Ok(0)
}
