//! Whether the way to a terminal passes WebSockets, and for how long: a weaver is made, attached and
//! left alone.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use client::{Attach, AttachOptions, Error, Event};
use cluster::doctor::Check;
use tokio::time::timeout;
use weaver::WeaverId;
use wire::api::CreateWeaver;
use wire::frame::Frame;
use wire::problem::Code;

use super::show::Step;
use crate::args::Global;
use crate::server::{self, Api};

const NAME: &str = "websocket";
/// How long the weaver may take until it answers.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is said how far it is.
const TICK: Duration = Duration::from_secs(1);
const TIMEOUTS: &str = "raise the time-outs of what is between (nginx: proxy-read-timeout and \
    proxy-send-timeout; HAProxy: timeout tunnel; AWS ALB: idle_timeout)";

/// The trial; what it has made is deleted by [`WebSocket::clean_up`].
pub(super) struct WebSocket {
    limit: Duration,
    made: Mutex<Option<(Api, WeaverId)>>,
}

/// How it ended.
enum Held {
    /// It was still open at the limit.
    Whole,
    /// The server closed it in order, to restart.
    Restarted,
    /// Something closed it.
    Closed(String),
}

impl WebSocket {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, made: Mutex::new(None) }
    }

    pub(super) async fn check(&self, global: &Global, step: Step) -> Check {
        let variable = std::env::var_os("LOOM_SERVER_URL").is_some_and(|url| !url.is_empty());
        if !(global.local || global.server_url.is_some() || variable) {
            let fix = "pass --server-url URL, with LOOM_TOKEN or LOOM_TOKEN_FILE";
            return Check::warning(NAME, "not tried: no server is given", fix);
        }
        match self.try_it(global, &step).await {
            Ok(check) => check,
            Err(why) => Check::warning(
                NAME,
                format!("it could not be found out whether WebSockets pass: {why}"),
                "make a weaver there by hand: loom new",
            ),
        }
    }

    /// Deletes the weaver and returns it if that cannot be done.
    pub(super) async fn clean_up(&self) -> Option<String> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (api, id) = made?;
        let deleted = api.client.delete(&id).await;
        deleted.err().map(|error| format!("weaver {id}: {error}; `loom rm {id}` deletes it"))
    }

    async fn try_it(&self, global: &Global, step: &Step) -> Result<Check, String> {
        let api = server::connect(global).await.map_err(|failure| failure.to_string())?;
        let url = api.client.server().url.to_string();
        let client = api.client.clone();
        step.say("making a weaver");
        let ask = CreateWeaver { lifetime_hours: Some(1), ..CreateWeaver::default() };
        let view = match client.create(&ask, None).await {
            Ok(view) => view,
            Err(error @ Error::Connect { .. }) => {
                let fix = "look whether handlers run and the ingress leads to them";
                return Ok(Check::failed(NAME, error.to_string(), fix));
            }
            Err(error) => return Err(error.to_string()),
        };
        let id: WeaverId = view.id.parse().map_err(|_| "the server gave no id".to_owned())?;
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some((api, id));
        step.say("waiting until it answers");
        let options = AttachOptions::default();
        let attached = client.attach(&view.attach_url, &options);
        let mut attach = match timeout(PATIENCE, attached).await {
            Err(_) => return Err("the weaver did not answer in time".to_owned()),
            Ok(Err(error)) if is_relays(&error) => return Err(error.to_string()),
            Ok(Err(error)) => return Ok(not_passed(&view.attach_url, &error)),
            Ok(Ok(attach)) => attach,
        };
        timeout(PATIENCE, greeted(&mut attach))
            .await
            .map_err(|_| "the weaver did not answer in time".to_owned())??;
        let begun = service::clock::monotonic();
        let held = self.hold(&mut attach, step).await;
        Ok(told(&url, &held, begun.elapsed()))
    }

    /// Leaves it alone until the limit.
    async fn hold(&self, attach: &mut Attach, step: &Step) -> Held {
        let begun = service::clock::monotonic();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let passed = begun.elapsed();
            if passed >= self.limit {
                return Held::Whole;
            }
            tokio::select! {
                event = attach.next() => match event {
                    Ok(Event::Frame(_)) => {}
                    Ok(Event::Close(close)) if close.may_resume() => return Held::Restarted,
                    Ok(Event::Close(close)) => {
                        return Held::Closed(format!("code {} {}", close.code, close.reason));
                    }
                    Err(error) => return Held::Closed(error.to_string()),
                },
                _ = tick.tick() => {
                    step.say(&format!("open for {} of {} s", passed.as_secs(), self.limit.as_secs()));
                }
            }
        }
    }
}

/// Waits for the weaver's first word.
async fn greeted(attach: &mut Attach) -> Result<(), String> {
    loop {
        match attach.next().await {
            Ok(Event::Frame(Frame::Hello { .. })) => return Ok(()),
            Ok(Event::Frame(_)) => {}
            Ok(Event::Close(close)) => return Err(close.reason),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Tells whether the relay itself may have said no. That there is no such path or weaver is said by
/// somebody else: the weaver has just been made.
fn is_relays(error: &Error) -> bool {
    error.problem().is_some_and(|problem| problem.code != Code::NotFound)
}

fn not_passed(url: &str, error: &Error) -> Check {
    let detail = match error {
        Error::Answer { status, .. } => {
            format!("{url} answers a WebSocket's request with {status} instead of 101")
        }
        error => format!("{url}: {error}"),
    };
    let fix = "let the ingress pass Upgrade and Connection, and lead /api/weavers/*/attach to \
        loom-relay";
    Check::failed(NAME, detail, fix)
}

fn told(url: &str, held: &Held, open: Duration) -> Check {
    let open = open.as_secs();
    match held {
        Held::Whole => Check::ok(
            NAME,
            format!(
                "open for {open} s through {url}, and not closed (--websocket-seconds looks longer; \
                 the relay pings every 20 s)"
            ),
        ),
        Held::Restarted => Check::warning(
            NAME,
            format!("the relay restarted after {open} s: for how long it stays open is not known"),
            "try again",
        ),
        Held::Closed(why) => Check::failed(
            NAME,
            format!("closed after {open} s on the way through {url}: {why}"),
            TIMEOUTS,
        ),
    }
}

#[cfg(test)]
mod tests {
    use cluster::doctor::State;

    use super::*;

    #[test]
    fn what_is_between_is_told_by_how_it_ended() {
        let second = Duration::from_secs(37);
        let state = |held| told("http://a/", &held, second).state;
        assert_eq!(state(Held::Whole), State::Ok);
        assert_eq!(state(Held::Restarted), State::Warning);
        let closed = told("http://a/", &Held::Closed("code 1006".to_owned()), second);
        assert_eq!(closed.state, State::Failed);
        assert!(closed.detail.contains("after 37 s") && closed.detail.contains("1006"));
        let answer = Error::Answer { url: "http://a/".to_owned(), status: 200 };
        assert!(not_passed("ws://a/x", &answer).detail.contains("with 200 instead of 101"));
    }
}
