//! The time between asking for a weaver and its program's first word, and what is shown meanwhile.

use std::io::IsTerminal;
use std::time::Duration;

use client::{Attach, AttachOptions, Close, Event};
use indicatif::{ProgressBar, ProgressStyle};
use weaver::{Phase, WeaverId};
use wire::api::{Progress, WeaverView};
use wire::frame::{Frame, Hello};

use super::{End, Signals, tty};
use crate::failure::Failure;
use crate::printable::printable;
use crate::server::Api;

/// Before that nobody sees a spinner, and most starts are over.
const QUICK: Duration = Duration::from_millis(150);
/// How long an attach may still bring the exit code after the weaver was seen to fail.
const GRACE: Duration = Duration::from_secs(2);

/// How often an attach is tried before its end is believed, and how long between two tries.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(300);

/// What waiting came to.
pub(crate) enum Waited {
    /// The host answers.
    Attached(Box<Attach>, Hello),
    /// It was over before that.
    Ended(End),
    /// Somebody pressed Ctrl+C.
    Interrupted,
    /// It has not started and never will.
    Stuck(Failure),
}

/// What waiting without attaching came to.
pub(crate) enum Ready {
    /// It is ready, or was.
    Yes,
    /// Somebody pressed Ctrl+C.
    Interrupted,
    /// It has not started and never will.
    Stuck(Failure),
}

/// Attaches, which takes until the program runs; shows how that goes on.
pub(crate) async fn attached(
    api: &Api,
    view: &WeaverView,
    options: &AttachOptions,
    signals: &mut Signals,
) -> Result<Waited, Failure> {
    let id: WeaverId = view.id.parse()?;
    tokio::select! {
        biased;
        waited = attach(api, view, options) => waited,
        failed = fails(api, &id) => failed,
        () = signals.stop() => Ok(Waited::Interrupted),
    }
}

/// Waits until the weaver is ready.
pub(crate) async fn ready(
    api: &Api,
    id: &WeaverId,
    signals: &mut Signals,
) -> Result<Ready, Failure> {
    tokio::select! {
        ready = is_ready(api, id) => ready,
        () = signals.stop() => Ok(Ready::Interrupted),
    }
}

/// Returns what an attach has from the beginning.
pub(crate) fn options(from_start: bool) -> AttachOptions {
    AttachOptions {
        client: uuid::Uuid::new_v4().simple().to_string(),
        resume: None,
        size: tty::is_interactive().then(tty::size).flatten(),
        from_start,
    }
}

/// Attaches; again when the relay restarts or cannot reach the weaver yet.
async fn attach(api: &Api, view: &WeaverView, options: &AttachOptions) -> Result<Waited, Failure> {
    for _ in 1..TRIES {
        match attach_once(api, view, options).await? {
            Tried::Over(waited) => return Ok(waited),
            Tried::Closed(close) if close.may_resume() => tokio::time::sleep(PAUSE).await,
            Tried::Closed(close) => return Ok(Waited::Ended(End::Lost(close.reason))),
        }
    }
    match attach_once(api, view, options).await? {
        Tried::Over(waited) => Ok(waited),
        Tried::Closed(close) => Ok(Waited::Ended(End::Lost(close.reason))),
    }
}

/// What one attach came to.
enum Tried {
    Over(Waited),
    Closed(Close),
}

async fn attach_once(
    api: &Api,
    view: &WeaverView,
    options: &AttachOptions,
) -> Result<Tried, Failure> {
    let mut attach = api.client.attach(&view.attach_url, options).await?;
    loop {
        match attach.next().await? {
            Event::Frame(Frame::Hello { hello, .. }) => {
                return Ok(Tried::Over(Waited::Attached(Box::new(attach), hello)));
            }
            Event::Frame(Frame::Exit { code }) => {
                return Ok(Tried::Over(Waited::Ended(End::Exit(code))));
            }
            Event::Frame(Frame::Left { .. }) => {
                return Ok(Tried::Over(Waited::Ended(End::Detached)));
            }
            Event::Frame(Frame::Notice { text }) => eprintln!("loom: {}", printable(&text)),
            Event::Frame(_) => {}
            Event::Close(close) => return Ok(Tried::Closed(close)),
        }
    }
}

/// Shows the phases and returns when the weaver has failed for good; else never.
async fn fails(api: &Api, id: &WeaverId) -> Result<Waited, Failure> {
    tokio::time::sleep(QUICK).await;
    let mut show = Show::new();
    let Ok(mut events) = api.client.events(id).await else {
        return std::future::pending().await;
    };
    // A broken stream decides nothing: the attach does.
    while let Ok(Some(event)) = events.next().await {
        if let Some(failure) = show.event(&event) {
            if is_pending(api, id).await {
                return Ok(Waited::Stuck(failure));
            }
            tokio::time::sleep(GRACE).await;
            return Err(failure);
        }
    }
    std::future::pending().await
}

async fn is_ready(api: &Api, id: &WeaverId) -> Result<Ready, Failure> {
    let mut show = Show::new();
    let mut events = api.client.events(id).await?;
    while let Some(event) = events.next().await? {
        if event == Progress::Ready {
            return Ok(Ready::Yes);
        }
        if let Some(failure) = show.event(&event) {
            let stuck = is_pending(api, id).await;
            return if stuck { Ok(Ready::Stuck(failure)) } else { Err(failure) };
        }
    }
    let view = api.client.get(id).await?;
    match view.status {
        Phase::Running | Phase::Succeeded => Ok(Ready::Yes),
        Phase::Pending | Phase::Failed | Phase::Unknown => Err(why(&view)),
    }
}

/// Tells whether a weaver that nothing will come of has not even begun.
async fn is_pending(api: &Api, id: &WeaverId) -> bool {
    api.client.get(id).await.is_ok_and(|view| view.status == Phase::Pending)
}

/// Says why a weaver is not running.
pub(crate) fn why(view: &WeaverView) -> Failure {
    let text = view.message.as_deref().or(view.reason.as_deref()).unwrap_or("no reason was given");
    Failure::new(format!("{} is {}: {text}", view.id, view.status))
        .next(format!("`loom logs {0}` may say more, `loom rm {0}` removes it", view.id))
}

/// The spinner; lines for a file where nobody looks at a terminal.
struct Show {
    bar: Option<ProgressBar>,
    said: Option<String>,
}

impl Show {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let bar = ProgressBar::new_spinner().with_message("waiting for a node");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, said: None }
    }

    /// Shows one event; returns the failure that nothing will follow.
    fn event(&mut self, event: &Progress) -> Option<Failure> {
        let text = match event {
            Progress::Scheduled => "found a node".to_owned(),
            Progress::Pulling { done, total } => pulling(done.zip(*total)),
            Progress::Pulled => "starting".to_owned(),
            Progress::Started => "waiting for its program".to_owned(),
            Progress::Ready => "ready".to_owned(),
            Progress::Deleted => return Some(Failure::new("the weaver was deleted")),
            Progress::Failed { reason, message, last } => {
                let text = format!("{reason}: {message}");
                if *last {
                    return Some(Failure::new(text).next("`loom logs -` may say more"));
                }
                let text = format!("{}{}", printable(&text), advice(reason, message));
                self.trouble(&text);
                return None;
            }
        };
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
        None
    }

    fn trouble(&mut self, text: &str) {
        if self.said.as_deref() == Some(text) {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => eprintln!("loom: still waiting: {text}"),
        }
        self.said = Some(text.to_owned());
    }
}

/// Says how far an image is, as far as that is told.
fn pulling(bytes: Option<(u64, u64)>) -> String {
    const MIB: u64 = 1 << 20;
    match bytes {
        Some((done, total)) if total > 0 && done >= total => "unpacking the image".to_owned(),
        Some((done, total)) if total >= 10 * MIB => {
            format!("pulling the image: {} of {} MiB", done / MIB, total / MIB)
        }
        _ => "pulling the image".to_owned(),
    }
}

/// Says what somebody can do about a weaver that does not fit, or whose image does not come.
fn advice(reason: &str, message: &str) -> String {
    if reason == "ErrImagePull" {
        return "; it is tried again for half a minute, Ctrl+C gives up now".to_owned();
    }
    if reason != "Unschedulable" {
        return String::new();
    }
    let less = [("cpu", "--cpu 100m"), ("memory", "--memory 128Mi")];
    let less = less.into_iter().filter(|(lacking, _)| message.contains(lacking));
    let less = less.map(|(_, flag)| flag).collect::<Vec<_>>().join(" ");
    let or = if less.is_empty() { String::new() } else { format!(", or ask for less: {less}") };
    format!("; `loom ps` shows what is there, `loom rm` makes room{or}")
}

impl Drop for Show {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_image_is_told_in_mebibytes() {
        let mib = |mib: u64| mib << 20;
        assert_eq!(pulling(Some((mib(34), mib(120)))), "pulling the image: 34 of 120 MiB");
        assert_eq!(pulling(Some((mib(120), mib(120)))), "unpacking the image");
        for short in [None, Some((0, 0)), Some((1, mib(9)))] {
            assert_eq!(pulling(short), "pulling the image");
        }
    }

    #[test]
    fn who_does_not_fit_is_told_what_to_do() {
        let room = "; `loom ps` shows what is there, `loom rm` makes room";
        for (reason, message, says) in [
            ("Unschedulable", "not enough cpu left", ", or ask for less: --cpu 100m"),
            (
                "Unschedulable",
                "not enough cpu and memory left",
                ", or ask for less: --cpu 100m --memory 128Mi",
            ),
            ("Unschedulable", "no node takes it", ""),
        ] {
            assert_eq!(advice(reason, message), format!("{room}{says}"));
        }
        assert!(advice("ErrImagePull", "not enough memory").ends_with("Ctrl+C gives up now"));
        assert_eq!(advice("HostPortUnavailable", "not enough memory"), "");
    }
}
