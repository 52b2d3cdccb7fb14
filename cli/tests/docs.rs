//! docs/CONFIGURATION.md is written from the programs' own settings; LOOM_WRITE_DOCS=1 writes it.

use std::fmt::Write;
use std::path::Path;

use clap::CommandFactory;

const HEAD: &str = "\
# Configuration

Every setting is a flag and a variable; the flag wins. This page is written by `task docs` from the
programs themselves, and a test compares it.

## loom

| variable | flag | default | what |
|---|---|---|---|
| `LOOM_SERVER_URL` | `--server-url` | the current context | Server to talk to |
| `LOOM_TOKEN` | | | Token for that server |
| `LOOM_TOKEN_FILE` | | | File that holds the token |
| `LOOM_CONFIG_DIR` | | `$XDG_CONFIG_HOME/loom`, `~/.config/loom` | Contexts, and what was used last |
| `LOOM_STATE_DIR` | | root: `/var/lib/loom`; `$XDG_DATA_HOME/loom`, `~/.local/share/loom` | The local cluster: objects, pods, token, log |
| `LOOM_REGISTRY_MIRROR` | | | Registries that the local cluster asks instead of others: `docker.io=mirror.example,ghcr.io=…` |
| `DOCKER_CONFIG` | | `~/.docker` | Folder whose `config.json` says who you are for registries |
| `LOOM_LOG` | | `info` | What `loom dev` logs, e.g. `debug` |

`loom dev` runs the three services below with their defaults and reads their variables too, but
listens on loopback only and has two images of its own: `loom.local/host`, `loom.local/tools`.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for command in [handlers::Args::command(), relay::Args::command(), janitor::Args::command()] {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {}\n\n{}", command.get_name(), service::config_table(&command));
    }
    page
}

#[test]
fn the_configuration_page_is_what_the_programs_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIGURATION.md");
    if std::env::var_os("LOOM_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "run `task docs`: docs/CONFIGURATION.md is not what the programs say"
    );
}
