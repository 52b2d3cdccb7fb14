//! Programs run inside a weaver: bytes in, bytes out, an exit code.

mod link;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::SinkExt;
use futures::channel::mpsc;
use futures::future::{BoxFuture, FutureExt, Shared};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, TerminalSize};
use kube::core::Request;
use service::task::Task;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, SimplexStream, WriteHalf};
use tokio::task::coop;

use crate::error::{Error, Result};
use crate::found::Found;
use crate::keys;
use crate::weavers::Cluster;

/// A program to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The program and its arguments; found by the container's PATH.
    pub argv: Vec<String>,
    /// Whether it reads what we write.
    pub stdin: bool,
    /// Whether it runs on a terminal; output and errors are then one stream.
    pub tty: bool,
}

impl Cluster {
    /// Runs a program in the main container of exactly this pod.
    ///
    /// # Errors
    /// [`Error::Changed`] when a pod of the same name has taken its place, [`Error::NotRunning`]
    /// when it has no running container.
    pub async fn exec(&self, found: &Found, request: &ExecRequest) -> Result<Exec> {
        let (name, params) = (&found.pod.name, params(request));
        let asked = Request::new(self.pods().resource_url()).exec(name, &request.argv, &params);
        self.stream(found, request, "exec", asked).await
    }

    /// Joins the main process of exactly this pod: what it writes from now on, and what it reads. Of
    /// how it ends only the pod tells: [`Exec::status`] is 0 then.
    ///
    /// # Errors
    /// As [`Cluster::exec`].
    pub async fn attach(&self, found: &Found) -> Result<Exec> {
        let (argv, tty) = (Vec::new(), found.weaver.spec.tty);
        let request = ExecRequest { argv, stdin: true, tty };
        let asked = Request::new(self.pods().resource_url());
        let asked = asked.attach(&found.pod.name, &params(&request));
        self.stream(found, &request, "attach", asked).await
    }

    async fn stream(
        &self,
        found: &Found,
        request: &ExecRequest,
        what: &'static str,
        asked: std::result::Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Exec> {
        let (pods, name) = (self.pods(), &found.pod.name);
        let call = self.call("get", "pods", Some(name.clone()));
        let now = self.within(call, pods.get_metadata(name)).await?;
        if now.metadata.uid.as_deref() != Some(found.pod.uid.as_str()) {
            return Err(Error::Changed { what: name.clone() });
        }
        let mut asked = asked.map_err(|error| Error::unavailable(error.to_string()))?;
        asked.extensions_mut().insert(what);
        let resource = if what == "exec" { "pods/exec" } else { "pods/attach" };
        let call = self.call("create", resource, Some(name.clone()));
        let connection = self.within(call, pods.into_client().connect(asked)).await?;
        Ok(Exec::of(link::open(connection, request)))
    }
}

fn params(request: &ExecRequest) -> AttachParams {
    AttachParams {
        container: Some(keys::CONTAINER.to_owned()),
        stdin: request.stdin,
        stdout: true,
        stderr: !request.tty,
        tty: request.tty,
        ..AttachParams::default()
    }
}

type Ended = Shared<BoxFuture<'static, Option<Status>>>;

/// A program that runs in a weaver. Dropping all of it ends the connection.
pub struct Exec {
    /// Its input, if it was asked for; shutting it down is its end of file.
    pub stdin: Option<ExecInput>,
    /// Its output.
    pub stdout: ExecOutput,
    /// Its errors; none on a terminal.
    pub stderr: Option<ExecOutput>,
    /// Its terminal's size, if it has a terminal.
    pub resizer: Option<Resizer>,
    ended: Ended,
    process: Process,
}

/// Keeps the connection; it ends when the last one who holds this lets go.
type Process = std::sync::Arc<Task>;

impl Exec {
    fn of(link: link::Link) -> Self {
        let ended: Ended = link.ended.map(|told| told.ok()).boxed().shared();
        let process = Process::new(link.task);
        let output =
            |inner| ExecOutput { pipe: Pipe::new(inner, ended.clone()), process: process.clone() };
        Self {
            stdin: link.stdin.map(|inner| ExecInput { inner, process: process.clone() }),
            stdout: output(link.stdout),
            stderr: link.stderr.map(output),
            resizer: link.sizes.map(Resizer),
            ended,
            process,
        }
    }

    /// Waits until the program has ended and returns its exit code. Its output has to be read
    /// meanwhile: what nobody reads holds it up.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the connection ended first, [`Error::NotRunning`] when the
    /// program could not be started.
    pub fn status(&self) -> impl Future<Output = Result<i32>> + Send + use<> {
        let (ended, process) = (self.ended.clone(), self.process.clone());
        async move {
            let status = ended.await;
            drop(process);
            exit_code(status)
        }
    }
}

/// Why a program could not be started, as shells tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CannotRun {
    /// The exit code: 127 for what is not there, 126 for what cannot be run.
    pub code: i32,
    /// The reason.
    pub why: &'static str,
}

impl CannotRun {
    /// Reads what container runtimes say; `None` if it is about something else.
    ///
    /// runc: `exec: "NAME": executable file not found in $PATH`, or `stat NAME: no such file or
    /// directory`, or `permission denied`; crun: ``executable file `NAME` not found in $PATH``.
    #[must_use]
    pub fn read(error: &Error) -> Option<Self> {
        let Error::NotRunning { message } = error else { return None };
        let said = message.to_ascii_lowercase();
        let (_, said) =
            said.split_once("exec: \"").or_else(|| said.split_once("executable file"))?;
        let reasons = [
            ("not found", 127, "command not found"),
            ("no such file or directory", 127, "no such file or directory"),
            ("permission denied", 126, "permission denied"),
            ("is a directory", 126, "is a directory"),
            ("exec format error", 126, "cannot execute: wrong format"),
        ];
        let (_, code, why) = reasons.into_iter().find(|(part, ..)| said.contains(part))?;
        Some(Self { code, why })
    }
}

/// Reads the status that Kubernetes sends at the end (`v4.channel.k8s.io`).
fn exit_code(status: Option<Status>) -> Result<i32> {
    let Some(status) = status else {
        return Err(Error::unavailable("the connection ended before the program did"));
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let mut causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let code = causes.find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = code.and_then(|cause| cause.message.as_deref()?.parse().ok());
    code.ok_or_else(|| Error::NotRunning { message: status.message.unwrap_or_default() })
}

/// What the program reads.
pub struct ExecInput {
    inner: WriteHalf<SimplexStream>,
    #[expect(dead_code, reason = "keeps the connection while somebody may still write")]
    process: Process,
}

impl AsyncWrite for ExecInput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What the program writes. Ends with an error when the connection ended before the program.
pub struct ExecOutput {
    pipe: Pipe,
    #[expect(dead_code, reason = "keeps the connection while somebody still reads")]
    process: Process,
}

impl AsyncRead for ExecOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

/// Bytes that end with the program.
struct Pipe {
    inner: ReadHalf<SimplexStream>,
    ended: Ended,
    /// What [`Pipe::ended`] has said, which it says once: whether it came from the program.
    orderly: Option<bool>,
}

impl Pipe {
    fn new(inner: ReadHalf<SimplexStream>, ended: Ended) -> Self {
        Self { inner, ended, orderly: None }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let orderly = match self.orderly {
            Some(orderly) => orderly,
            None => ready!(self.ended.poll_unpin(cx)).is_some(),
        };
        self.orderly = Some(orderly);
        Poll::Ready(orderly)
    }
}

impl AsyncRead for Pipe {
    /// The pipe alone is not enough: when the connection breaks, nobody closes it.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(cx, buffer) {
            return Poll::Ready(read);
        }
        let orderly = ready!(self.poll_end(cx));
        if !coop::has_budget_remaining() {
            // The pipe says "not yet" to a task that has had its turn, whatever it holds.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Whatever was written before the end is in the pipe by now.
        match Pin::new(&mut self.inner).poll_read(cx, buffer) {
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending if orderly => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// Changes the size of a program's terminal.
#[derive(Clone)]
pub struct Resizer(mpsc::Sender<TerminalSize>);

impl Resizer {
    /// Tells the program its terminal's new size.
    ///
    /// # Errors
    /// When the program has ended.
    pub async fn resize(&mut self, rows: u16, cols: u16) -> Result<()> {
        let size = TerminalSize { width: cols, height: rows };
        self.0.send(size).await.map_err(|_| Error::unavailable("the program has ended"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn status(text: &str) -> Option<Status> {
        Some(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn exit_codes_are_read() {
        assert_eq!(exit_code(status(r#"{"status":"Success"}"#)).unwrap(), 0);
        let failed = r#"{"status":"Failure","reason":"NonZeroExitCode","message":"7",
            "details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;
        assert_eq!(exit_code(status(failed)).unwrap(), 7);
        let missing = r#"{"status":"Failure","reason":"InternalError","message":"no such file"}"#;
        assert!(matches!(exit_code(status(missing)), Err(Error::NotRunning { .. })));
        assert!(matches!(exit_code(None), Err(Error::Unavailable { .. })));
    }

    #[test]
    fn runtimes_say_why_a_program_cannot_be_run() {
        let read = |message: &str| {
            let error = Error::NotRunning { message: message.to_owned() };
            CannotRun::read(&error).map(|cannot| (cannot.code, cannot.why))
        };
        let containerd = "Internal error occurred: Internal error occurred: error executing \
            command in container: failed to exec in container: failed to start exec \"3f2a\": OCI \
            runtime exec failed: exec failed: unable to start container process: ";
        for (said, means) in [
            (
                "exec: \"x\": executable file not found in $PATH: unknown",
                (127, "command not found"),
            ),
            (
                "exec: \"/x\": stat /x: no such file or directory: unknown",
                (127, "no such file or directory"),
            ),
            ("exec: \"/x\": permission denied: unknown", (126, "permission denied")),
            ("exec: \"/x\": is a directory: unknown", (126, "is a directory")),
            ("exec /x: exec format error", (126, "cannot execute: wrong format")),
        ] {
            let whole = match said.starts_with("exec /") {
                true => format!("{containerd}exec: \"/x\": {said}"),
                false => format!("{containerd}{said}"),
            };
            assert_eq!(read(&whole), Some(means), "{said}");
        }
        let crun = "exec failed: crun: executable file `x` not found in $PATH: No such file or \
            directory: OCI runtime attempted to invoke a command that was not found";
        assert_eq!(read(crun), Some((127, "command not found")));
        assert_eq!(read("unable to upgrade connection: container not found (\"weaver\")"), None);
        assert_eq!(read("chdir to cwd (\"/x\") failed: no such file or directory"), None);
    }

    #[tokio::test]
    async fn all_that_was_written_before_the_end_is_read() {
        // More reads than a task has in one turn.
        let written: Vec<u8> = (0..1000_u16).map(|number| number.to_le_bytes()[0]).collect();
        for (end, whole) in [(status(r#"{"status":"Success"}"#), true), (None, false)] {
            let (inner, mut writer) = tokio::io::simplex(link::BUFFER);
            writer.write_all(&written).await.unwrap();
            let mut pipe = Pipe::new(inner, async { end }.boxed().shared());
            let mut read = Vec::new();
            let last = loop {
                match pipe.read_u8().await {
                    Ok(byte) => read.push(byte),
                    Err(error) => break error,
                }
            };
            assert_eq!(read.len(), written.len(), "{last}");
            assert_eq!(read, written);
            assert_eq!(last.kind(), io::ErrorKind::UnexpectedEof);
            // Only a lost connection is an error by itself.
            assert_eq!(pipe.read(&mut [0]).await.is_ok(), whole);
        }
    }
}
