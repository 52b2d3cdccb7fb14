//! A whole deployment: a cluster, handlers and relay as programs of their own, and `loom` in front.
//!
//! ```text
//! loom --server-url -> loom-handlers --.
//!   `- terminals ----> loom-relay -----+-> LOOM_TEST_KUBECONFIG, else `loom dev`
//!                      loom-janitor ---'
//! ```
//!
//! `LOOM_TEST_KUBECONFIG` names a cluster, `LOOM_TEST_IMAGE` an image for weavers without a program of
//! its own, `LOOM_TEST_ENTRY_IMAGE` one whose entrypoint is `stage/entry`, and `LOOM_TEST_TOOLS_IMAGE`
//! the one that holds `loom-host`. Nothing else tells one cluster from another.

pub(crate) mod kube;
pub(crate) mod server;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use client::{Client, Token};
use serde_json::Value;
use tokio::runtime::Runtime;
use wire::api::{CreateWeaver, WeaverView};

use self::kube::Kube;
use self::server::Server;
use crate::support::{Terminal, World, code, loom, show, text};

pub(crate) const TOKEN: &str = "a token that only this stage knows";

/// Where weavers run, and of what.
struct Site {
    kubeconfig: PathBuf,
    image: String,
    tools: String,
}

/// Tells whether somebody else's cluster is to be used.
pub(crate) fn is_given() -> bool {
    std::env::var_os("LOOM_TEST_KUBECONFIG").is_some()
}

impl Site {
    fn find(world: &World) -> Self {
        if is_given() {
            let get = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
            return Self {
                kubeconfig: get("LOOM_TEST_KUBECONFIG").into(),
                image: get("LOOM_TEST_IMAGE"),
                tools: get("LOOM_TEST_TOOLS_IMAGE"),
            };
        }
        world.ok("dev --detach");
        Self {
            kubeconfig: world.status()["kubeconfig"].as_str().unwrap().into(),
            image: "loom.local/host".to_owned(),
            tools: "loom.local/tools".to_owned(),
        }
    }
}

/// A deployment in a namespace of its own; what it started ends with it.
pub(crate) struct Stage {
    // Ended in this order: the servers, their weavers, the cluster.
    pub(crate) handlers: Server,
    pub(crate) relay: Server,
    pub(crate) kube: Kube,
    variables: Vec<(String, String)>,
    pub(crate) image: String,
    world: World,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// Makes one whose servers have more settings.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let world = World::new();
        let site = Site::find(&world);
        let kube = Kube::create_namespace(&site.kubeconfig);
        std::fs::write(world.path("server-token"), TOKEN).unwrap();
        let mut variables = variables(&world, &site, &kube.namespace);
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        variables.extend(settings.iter().map(own));
        let log = |name: &str| world.path(name);
        let relay =
            Server::start("loom-relay", "LOOM_SERVER_RELAY_LISTEN", &variables, log("relay.log"));
        let relay_url = format!("ws://{}", relay.address);
        variables.push(("LOOM_SERVER_RELAY_URL".to_owned(), relay_url));
        let handlers =
            Server::start("loom-handlers", "LOOM_SERVER_LISTEN", &variables, log("handlers.log"));
        Self { handlers, relay, kube, variables, image: site.image, world }
    }

    /// Returns an image whose entrypoint is `stage/entry`, with the arguments `by default`.
    pub(crate) fn entry_image(&self) -> String {
        if let Ok(given) = std::env::var("LOOM_TEST_ENTRY_IMAGE") {
            return given;
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stage");
        let mut shell = Command::new("sh");
        shell.arg(format!("{folder}/image.sh")).arg(self.world.path("i"));
        let made = shell.arg(format!("{folder}/entry")).output().unwrap();
        assert!(made.status.success(), "{}", show(&made));
        self.world.ok(&format!("dev load {}", self.world.path("i/image.tar").display()));
        "r.example/entry:1".to_owned()
    }

    /// Returns an image that has neither an entrypoint nor a command.
    pub(crate) fn bare_image(&self) -> String {
        if is_given() { self.image.clone() } else { "loom.local/tools".to_owned() }
    }

    /// Prepares `loom` for this deployment; `line` is split at white space.
    pub(crate) fn command(&self, line: &str, more: &[&str]) -> Command {
        let mut command = self.world.command(&self.line(line), more);
        command.env("LOOM_TOKEN_FILE", self.world.path("server-token"));
        command
    }

    fn line(&self, line: &str) -> String {
        format!("--server-url http://{} {line}", self.handlers.address)
    }

    /// Runs `loom` to its end.
    pub(crate) fn run(&self, line: &str, more: &[&str]) -> Output {
        self.command(line, more).output().unwrap()
    }

    /// Runs what must succeed and returns its standard output.
    pub(crate) fn ok(&self, line: &str, more: &[&str]) -> String {
        let output = self.run(line, more);
        assert_eq!(code(&output), 0, "loom {line}: {}", show(&output));
        text(&output.stdout)
    }

    /// Runs `loom` with an input.
    pub(crate) fn feed(&self, line: &str, more: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(line, more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input));
            child.wait_with_output().unwrap()
        })
    }

    /// Runs `loom` on a terminal.
    pub(crate) fn terminal(&self, line: &str, more: &[&str]) -> Terminal {
        let line = self.line(line);
        let words = line.split_whitespace().chain(more.iter().copied());
        let mut variables = self.world.variables();
        let token = self.world.path("server-token").display().to_string();
        variables.push(("LOOM_TOKEN_FILE".to_owned(), token));
        Terminal::start(&loom(), words.map(str::to_owned).collect(), variables)
    }

    /// Starts a weaver with a shell on a terminal and waits until it answers.
    pub(crate) fn shell(&self, line: &str) -> Terminal {
        let mut terminal = self.terminal(line, &[]);
        terminal.send("echo re''ady\r");
        terminal.sees("\nready");
        terminal
    }

    /// Makes a weaver that runs a script until somebody ends it; returns its id when it is ready.
    pub(crate) fn weaver(&self, flags: &str, script: &str) -> String {
        let id = self.ok(&format!("new --no-attach {flags} -- sh -c"), &[script]);
        id.trim().to_owned()
    }

    /// Returns the weavers as `ps --json` tells them.
    pub(crate) fn weavers(&self) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.ok("ps --json", &[])).unwrap();
        list["weavers"].as_array().unwrap().clone()
    }

    /// Returns one weaver, if it is there.
    pub(crate) fn find(&self, id: &str) -> Option<Value> {
        self.weavers().into_iter().find(|weaver| weaver["id"] == id)
    }

    /// Returns the only weaver's id.
    pub(crate) fn only_id(&self) -> String {
        let weavers = self.weavers();
        assert_eq!(weavers.len(), 1, "{weavers:?}");
        weavers[0]["id"].as_str().unwrap().to_owned()
    }

    /// Prepares one run of `loom-janitor`, as a CronJob has it.
    pub(crate) fn janitor(&self) -> Command {
        let mut command = Command::new(server::program("loom-janitor"));
        command.args(["--once", "--report", "json"]).env_clear();
        command.envs(self.variables.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// Lets the janitor sweep once and returns its report.
    pub(crate) fn sweep(&self) -> Value {
        let output = self.janitor().output().unwrap();
        assert_eq!(code(&output), 0, "{}", show(&output));
        serde_json::from_str(&text(&output.stdout)).unwrap()
    }

    /// Returns the caller of this deployment's API.
    pub(crate) fn maker(&self) -> Maker {
        Maker::new(&format!("http://{}", self.handlers.address), TOKEN)
    }
}

/// The settings of all servers here.
fn variables(world: &World, site: &Site, namespace: &str) -> Vec<(String, String)> {
    let path = |below: &str| world.path(below).display().to_string();
    [
        ("HOME", path("h")),
        ("PATH", std::env::var("PATH").unwrap_or_default()),
        ("LOOM_LOG_FORMAT", "json".to_owned()),
        ("LOOM_SERVER_KUBECONFIG", site.kubeconfig.display().to_string()),
        ("LOOM_SERVER_TOKEN_FILE", path("server-token")),
        ("LOOM_SERVER_WEAVER_NAMESPACE", namespace.to_owned()),
        ("LOOM_SERVER_WEAVER_IMAGE", site.image.clone()),
        ("LOOM_SERVER_TOOLS_IMAGE", site.tools.clone()),
        // Little, so that all cases fit one node at once.
        ("LOOM_SERVER_WEAVER_CPU_REQUEST", "10m".to_owned()),
        ("LOOM_SERVER_WEAVER_MEMORY_REQUEST", "16Mi".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}

/// Makes weavers by calls that may be cut off and made again.
#[derive(Clone)]
pub(crate) struct Maker {
    client: Client,
    runtime: Arc<Runtime>,
}

impl Maker {
    pub(crate) fn new(url: &str, token: &str) -> Self {
        let server = client::Server::new(url, Some(Token::new(token))).unwrap();
        Self { client: Client::new(server).unwrap(), runtime: Arc::new(kube::runtime()) }
    }

    /// Makes the weaver that belongs to a key.
    pub(crate) fn create(
        &self,
        ask: &CreateWeaver,
        key: &str,
    ) -> Result<WeaverView, client::Error> {
        self.runtime.block_on(self.client.create(ask, Some(key)))
    }

    /// Sets a weaver's lifetime; tells whether the server did so.
    pub(crate) fn extend(&self, id: &str, hours: u64) -> bool {
        self.runtime.block_on(self.client.extend(&id.parse().unwrap(), hours)).is_ok()
    }

    /// Makes a weaver that only waits.
    pub(crate) fn idle(&self, key: &str) -> Result<String, client::Error> {
        let (command, args) = (vec!["sleep".to_owned()], vec!["1000".to_owned()]);
        let ask = CreateWeaver { command, args, tty: Some(false), ..CreateWeaver::default() };
        self.create(&ask, key).map(|view| view.id)
    }
}
