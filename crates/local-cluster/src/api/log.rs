//! `pods/log`: what a container wrote, from CRI files, and on as it writes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use jiff::{SignedDuration, Timestamp};
use rustix::fs::inotify;
use serde_json::Value;
use tokio::io::unix::AsyncFd;

use super::request::{Query, Target};
use super::respond::{self, Answer};
use super::status::Refusal;
use super::{Api, pod_of};
use crate::clock;
use crate::store::Key;

/// Answers with a log.
pub(crate) async fn answer(api: &Api, target: &Target, query: &Query) -> Result<Answer, Refusal> {
    let pod = pod_of(api, target)?;
    let container = container(&pod, query, true)?;
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    let previous = query.flag("previous");
    let mut path = api.pods.log_path(uid, &container);
    if previous {
        path.set_extension("log.previous");
    }
    if previous && !path.exists() {
        let name = &target.name;
        return Err(Refusal::bad_request(format!(
            "previous terminated container {container:?} in pod {name:?} not found"
        )));
    }
    if let Some(reason) = waiting(&pod, &container).filter(|_| !path.exists()) {
        return Err(Refusal::bad_request(format!(
            "container {container:?} in pod {:?} is waiting to start: {reason}",
            target.name
        )));
    }
    let log = Log::open(api, target, uid, container, path, query)?;
    let frames = stream::unfold(log, |mut log| async move {
        let bytes = log.next().await?;
        Some((Ok(Frame::data(bytes)), log))
    });
    let body = StreamBody::new(frames).boxed();
    Ok(respond::with_body(StatusCode::OK, "text/plain", body))
}

/// Returns which container is meant.
pub(crate) fn container(pod: &Value, query: &Query, init: bool) -> Result<String, Refusal> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let names = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.map(|container| container["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let mains = names("containers");
    match query.get("container").filter(|given| !given.is_empty()) {
        Some(given) => {
            let known = mains.iter().any(|name| name == given)
                || init && names("initContainers").iter().any(|name| name == given);
            if known {
                return Ok(given.into());
            }
            Err(Refusal::bad_request(format!("container {given} is not valid for pod {name}")))
        }
        None => match mains.as_slice() {
            [only] => Ok(only.clone()),
            many => Err(Refusal::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                many.join(" ")
            ))),
        },
    }
}

fn state<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten())
        .find(|status| status["name"] == container)
        .map(|status| &status["state"])
}

fn waiting(pod: &Value, container: &str) -> Option<String> {
    match state(pod, container) {
        None => Some("ContainerCreating".into()),
        Some(state) => state["waiting"]["reason"].as_str().map(str::to_owned),
    }
}

/// A log being read.
struct Log {
    api: Api,
    key: Key,
    uid: String,
    container: String,
    path: PathBuf,
    /// Older files first.
    files: VecDeque<File>,
    /// The inode of the newest file that was opened.
    newest: u64,
    unread: Vec<u8>,
    skip: usize,
    since: Option<Timestamp>,
    limit: Option<u64>,
    timestamps: bool,
    follow: bool,
    wake: Option<AsyncFd<OwnedFd>>,
    ended: bool,
}

impl Log {
    fn open(
        api: &Api,
        target: &Target,
        uid: &str,
        container: String,
        path: PathBuf,
        query: &Query,
    ) -> Result<Self, Refusal> {
        let failed = |error: io::Error| Refusal::internal(format!("reading the log: {error}"));
        let follow = query.flag("follow") && !query.flag("previous");
        let wake = follow.then(|| watch(&path)).transpose().map_err(failed)?;
        let older = match path.extension() == Some("log".as_ref()) {
            true => path.with_extension("log.1"),
            // Of the run before only the newest file is kept.
            false => PathBuf::from("/dev/null"),
        };
        let tail = query.number::<usize>("tailLines")?;
        let total = if tail.is_some() { lines(&older) + lines(&path) } else { 0 };
        let mut log = Self {
            api: api.clone(),
            key: Key::new(target.kind.resource, &target.namespace, &target.name),
            uid: uid.into(),
            container,
            files: File::open(older).into_iter().collect(),
            path,
            newest: 0,
            unread: Vec::new(),
            skip: tail.map_or(0, |tail| total.saturating_sub(tail)),
            since: since(query)?,
            limit: query.number("limitBytes")?,
            timestamps: query.flag("timestamps"),
            follow,
            wake,
            ended: false,
        };
        log.open_newest();
        Ok(log)
    }

    /// Opens the newest file unless it is the one that is being read.
    fn open_newest(&mut self) -> bool {
        let Ok(file) = File::open(&self.path) else { return false };
        let inode = file.metadata().map_or(0, |meta| meta.ino());
        if inode == self.newest {
            return false;
        }
        self.newest = inode;
        self.files.push_back(file);
        true
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.limit == Some(0) {
                return None;
            }
            let mut chunk = vec![0; 64 << 10];
            let count = self.files.front_mut().map_or(0, |file| file.read(&mut chunk).unwrap_or(0));
            if count > 0 {
                self.unread.extend_from_slice(&chunk[..count]);
                let bytes = self.take_lines();
                if !bytes.is_empty() {
                    return Some(bytes);
                }
            } else if !self.more().await {
                return None;
            }
        }
    }

    /// Finds more to read, waiting for it if that is wanted.
    async fn more(&mut self) -> bool {
        if self.files.len() > 1 {
            self.files.pop_front();
            return true;
        }
        if self.open_newest() {
            return true;
        }
        if !self.follow || self.ended {
            return false;
        }
        let mut changes = self.api.store.subscribe();
        changes.borrow_and_update();
        // What was written before the end was seen is read once more.
        self.ended = self.has_ended();
        if self.ended {
            return true;
        }
        let written = async {
            match &self.wake {
                Some(fd) => drop(fd.async_io(tokio::io::Interest::READABLE, drain).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = written => true,
            changed = changes.changed() => changed.is_ok(),
            () = self.api.shutdown.cancelled() => false,
        }
    }

    fn has_ended(&self) -> bool {
        let Some(pod) = self.api.store.get(&self.key) else { return true };
        let over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let done = state(&pod, &self.container).is_some_and(|s| s.get("terminated").is_some());
        over || done || pod["metadata"]["uid"] != self.uid.as_str()
    }

    /// Takes the whole lines that have come, as the client wants them.
    fn take_lines(&mut self) -> Bytes {
        let mut bytes = Vec::new();
        let whole = self.unread.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let unread = self.unread.split_off(whole);
        for line in std::mem::replace(&mut self.unread, unread).split_inclusive(|b| *b == b'\n') {
            if self.skip > 0 {
                self.skip -= 1;
            } else if let Some(line) = CriLine::parse(line) {
                line.write(self.since, self.timestamps, &mut bytes);
            }
        }
        if let Some(limit) = &mut self.limit {
            bytes.truncate(usize::try_from(*limit).unwrap_or(usize::MAX));
            *limit -= bytes.len() as u64;
        }
        bytes.into()
    }
}

/// `TIME STREAM F|P TEXT`, as the container runtime interface has it.
struct CriLine<'a> {
    time: &'a str,
    whole: bool,
    text: &'a [u8],
}

impl<'a> CriLine<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.strip_suffix(b"\n")?.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let (_stream, tag, text) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
        Some(Self { time, whole: tag.first() == Some(&b'F'), text })
    }

    fn write(&self, since: Option<Timestamp>, timestamps: bool, out: &mut Vec<u8>) {
        let early = |since: Timestamp| self.time.parse::<Timestamp>().is_ok_and(|at| at < since);
        if since.is_some_and(early) {
            return;
        }
        if timestamps {
            out.extend_from_slice(self.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(self.text);
        if self.whole {
            out.push(b'\n');
        }
    }
}

fn since(query: &Query) -> Result<Option<Timestamp>, Refusal> {
    if let Some(seconds) = query.number::<u32>("sinceSeconds")? {
        return Ok(Some(clock::now() - SignedDuration::from_secs(seconds.into())));
    }
    query.number("sinceTime")
}

fn lines(path: &Path) -> usize {
    let Ok(file) = File::open(path) else { return 0 };
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let mut count = 0;
    loop {
        let Ok(chunk) = reader.fill_buf() else { return count };
        if chunk.is_empty() {
            return count;
        }
        count += chunk.iter().filter(|byte| **byte == b'\n').count();
        let used = chunk.len();
        reader.consume(used);
    }
}

/// Returns what becomes readable when something happens in the log's folder.
fn watch(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let folder = path.parent().unwrap_or(path);
    let events =
        inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&fd, folder, events)?;
    super::ready::ready(fd)
}

fn drain(fd: &OwnedFd) -> io::Result<()> {
    let mut events = [0; 4096];
    rustix::io::read(fd, &mut events)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cri_lines_become_what_was_written() {
        let mut out = Vec::new();
        for line in [
            &b"2026-01-01T00:00:00.5Z stdout P part\n"[..],
            b"2026-01-01T00:00:01Z stderr F  of a line\n",
            b"2026-01-01T00:00:02Z stdout F \n",
            b"garbage\n",
        ] {
            if let Some(line) = CriLine::parse(line) {
                line.write(None, false, &mut out);
            }
        }
        assert_eq!(out, b"part of a line\n\n");
        out.clear();
        let line = CriLine::parse(b"2026-01-01T00:00:01Z stdout F x\n").unwrap();
        line.write("2026-01-01T00:00:02Z".parse().ok(), true, &mut out);
        assert!(out.is_empty());
        line.write(None, true, &mut out);
        assert_eq!(out, b"2026-01-01T00:00:01Z x\n");
    }
}
