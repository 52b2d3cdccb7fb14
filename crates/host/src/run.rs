//! `loom-host run`: from the first line of the weaver to its exit code.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use terminal::{End, Size};
use tokio::task::{JoinSet, LocalSet};

use crate::args::Plan;
use crate::drive::{Driver, Role, Run, sleep_until};
use crate::environment::{Environment, usable};
use crate::generation::Host;
use crate::passwd;
use crate::program::{Program, Terminal};
use crate::repository::Repository;
use crate::serve;
use crate::shell;
use crate::signals::{self, Event, Signals};

/// How long a first viewer is waited for when a command has ended.
const FIRST_VIEWER: Duration = Duration::from_secs(2);
/// How long viewers may take between two acknowledgements of what is left.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long all of them may take when the weaver is to end.
const HURRY: Duration = Duration::from_millis(150);
/// The code of a weaver that was told to end: 128 and SIGTERM's number.
const TERMINATED: u8 = 128 + Signal::TERM.as_raw() as u8;

/// Runs a weaver to its end.
pub(crate) fn run(plan: Plan) -> ExitCode {
    signals::unblock();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = LocalSet::new().block_on(&runtime, weaver(plan));
    code.map_or_else(|error| failed(&error), ExitCode::from)
}

fn failed(error: &io::Error) -> ExitCode {
    eprintln!("loom-host: {error}");
    ExitCode::FAILURE
}

async fn weaver(plan: Plan) -> io::Result<u8> {
    let signals = Signals::listen()?;
    let listener = serve::bind(&crate::socket_path())?;
    let host = Rc::new(Host::new(!plan.no_tty));
    let mut tasks = JoinSet::new();
    tasks.spawn_local(serve::serve(listener, Rc::clone(&host)));
    let environment = Environment::new(passwd::own());
    let mut weaver = Weaver { plan, environment, driver: Driver::new(host, signals) };
    let code = weaver.live().await?;
    weaver.flush().await;
    Ok(code)
}

struct Weaver {
    plan: Plan,
    environment: Environment,
    driver: Driver,
}

/// How a program ended.
enum Ended {
    With(u8),
    /// It could not be started; that was said.
    Never(u8),
}

impl Weaver {
    /// Runs the command once, or one shell after the other; returns the weaver's exit code.
    async fn live(&mut self) -> io::Result<u8> {
        let mut folder = None;
        loop {
            let terminal = self.terminal()?;
            let folder = match &folder {
                Some(folder) => folder,
                None => folder.insert(self.prepare(terminal.as_ref()).await?),
            };
            let ended = match self.driver.stop_at {
                Some(_) => Ended::With(TERMINATED),
                None => self.session(terminal.as_ref(), folder).await?,
            };
            drop(terminal);
            match ended {
                Ended::With(_) if self.plan.is_shell() && self.driver.stop_at.is_none() => {
                    self.driver.host.end(End::Left("exit"));
                    if !self.is_wanted_again().await {
                        return Ok(TERMINATED);
                    }
                }
                Ended::With(_) if self.plan.is_shell() => return Ok(self.end(TERMINATED).await),
                Ended::With(code) | Ended::Never(code) => return Ok(self.end(code).await),
            }
        }
    }

    fn terminal(&self) -> io::Result<Option<Terminal>> {
        let terminal = self.driver.host.tty.then(Terminal::open).transpose()?;
        let size = self.driver.host.current().session.borrow().size();
        terminal.iter().for_each(|terminal| terminal.resize(size));
        Ok(terminal)
    }

    /// Clones the repository, if there is one, and returns where the session starts.
    async fn prepare(&mut self, terminal: Option<&Terminal>) -> io::Result<PathBuf> {
        let workspace = self.environment.workspace();
        let base = match self.plan.repo.clone() {
            Some(url) => self.fetch(&url, &workspace, terminal).await?.unwrap_or(workspace),
            None => workspace,
        };
        let Some(workdir) = &self.plan.workdir else { return Ok(base) };
        let wanted = base.join(workdir);
        let found = usable(&wanted);
        Ok(found.unwrap_or_else(|| {
            self.driver.say(&format!("cannot start in {}", wanted.display()));
            self.environment.fallback()
        }))
    }

    /// Lets git clone and check out; what fails is said, and the session starts all the same.
    async fn fetch(
        &mut self,
        url: &OsStr,
        workspace: &Path,
        terminal: Option<&Terminal>,
    ) -> io::Result<Option<PathBuf>> {
        let repository = Repository::new(url, self.plan.branch.as_deref(), workspace);
        for step in repository.steps(&mut |text| self.driver.say(text)) {
            let mut git = self.command(OsStr::new("git"), workspace);
            git.args(step);
            match self.start(git, Role::Setup, terminal).await {
                Ok(0) => {}
                Ok(code) => {
                    self.driver.say(&format!("git failed with exit code {code}"));
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.driver.say("this image has no git: nothing was cloned");
                    break;
                }
                Err(error) => {
                    self.driver.say(&format!("git cannot be run: {error}"));
                    break;
                }
            }
        }
        Ok(repository.folder.is_dir().then_some(repository.folder))
    }

    /// Runs the command or the shell.
    async fn session(&mut self, terminal: Option<&Terminal>, folder: &Path) -> io::Result<Ended> {
        let (name, command, role) = match self.plan.command.split_first() {
            Some((name, args)) => {
                let mut command = self.command(name, folder);
                command.args(args);
                (name.clone(), command, Role::Command)
            }
            None => {
                let Some(command) = self.shell(folder) else {
                    self.driver.say("this image has no shell: give a command to run");
                    return Ok(Ended::Never(127));
                };
                (command.get_program().to_owned(), command, Role::Shell)
            }
        };
        Ok(match self.start(command, role, terminal).await {
            Ok(code) => Ended::With(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.driver.say(&format!("{}: command not found", name.display()));
                Ended::Never(127)
            }
            Err(error) => {
                self.driver.say(&format!("{}: cannot be run: {error}", name.display()));
                Ended::Never(126)
            }
        })
    }

    fn command(&self, program: &OsStr, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder);
        self.environment.give(&mut command);
        if let Some(shell) = self.find_shell() {
            command.env("SHELL", shell.path);
        }
        command
    }

    fn shell(&self, folder: &Path) -> Option<Command> {
        let shell = self.find_shell()?;
        let mut command = self.command(shell.path.as_os_str(), folder);
        let host = std::env::current_exe().ok();
        command.args(shell.args(host.as_deref(), &self.environment.path)).arg0(shell.arg0);
        Some(command)
    }

    fn find_shell(&self) -> Option<shell::Shell> {
        let wanted = std::env::var_os("SHELL");
        let Environment { path, entry, .. } = &self.environment;
        shell::find(wanted.as_deref(), entry.as_ref(), path)
    }

    async fn start(
        &mut self,
        command: Command,
        role: Role,
        terminal: Option<&Terminal>,
    ) -> io::Result<u8> {
        let name = command.get_program();
        if !shell::is_path(name) && shell::search(name.as_ref(), &self.environment.path).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let program = match terminal {
            Some(terminal) => terminal.start(command)?,
            None => Program::start(command, role == Role::Setup)?,
        };
        let generation = self.driver.host.current();
        // The terminal got its size when it was opened; viewers may have come since.
        let size = Size::default();
        let driver = &mut self.driver;
        Ok(Run { driver, generation, program, terminal, role, size, killed: false }
            .until_end()
            .await)
    }

    /// Waits for a viewer; says no when the weaver is to end.
    async fn is_wanted_again(&mut self) -> bool {
        while !self.driver.host.is_wanted() {
            let host = Rc::clone(&self.driver.host);
            let driver = &mut self.driver;
            tokio::select! {
                () = host.work.notified() => {}
                event = driver.signals.next() => match event {
                    Event::Terminate => return false,
                    Event::Child => drop(signals::reap(None)),
                    Event::Forward(_) => {}
                },
                () = driver.out.go_on(), if driver.out.waits() => {}
                () = driver.err.go_on(), if driver.err.waits() => {}
            }
        }
        true
    }

    /// Tells the viewers, and waits until they have everything, or do not go on.
    async fn end(&mut self, code: u8) -> u8 {
        if self.driver.stop_at.is_some() {
            self.stop().await;
            return code;
        }
        self.driver.host.end(End::Exit(code.into()));
        let host = Rc::clone(&self.driver.host);
        let generation = host.current();
        let (mut before, mut give_up) = ((0, 0), host.now() + FIRST_VIEWER);
        loop {
            let state = {
                let session = generation.session.borrow();
                (session.progress(), session.viewers())
            };
            if state != before {
                (before, give_up) = (state, host.now() + PATIENCE);
            }
            let all_gone = state.1 == 0 && generation.seen.get();
            if all_gone || host.now() >= give_up {
                return code;
            }
            tokio::select! {
                () = host.work.notified() => {}
                () = sleep_until(Some(host.moment(give_up))) => {}
                event = self.driver.signals.next() => match event {
                    Event::Terminate => return code,
                    Event::Child => drop(signals::reap(None)),
                    Event::Forward(_) => {}
                },
            }
        }
    }

    /// Lets the viewers have what was written last, and no exit code: whoever told this weaver to
    /// end did not mean the program, and the relay knows whether it was deleted or has expired.
    async fn stop(&mut self) {
        let host = Rc::clone(&self.driver.host);
        let generation = host.current();
        let give_up = host.now() + HURRY;
        loop {
            let all_seen = {
                let session = generation.session.borrow();
                session.progress() == session.written() * session.viewers() as u64
            };
            if all_seen || host.now() >= give_up {
                return;
            }
            tokio::select! {
                () = host.work.notified() => {}
                () = sleep_until(Some(host.moment(give_up))) => {}
            }
        }
    }

    /// Gives the log a last chance.
    async fn flush(&mut self) {
        let driver = &mut self.driver;
        let patience = if driver.stop_at.is_some() { 100 } else { 1000 };
        let all = async {
            while driver.out.waits() {
                driver.out.go_on().await;
            }
            while driver.err.waits() {
                driver.err.go_on().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(patience), all).await;
    }
}
