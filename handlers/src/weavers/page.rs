//! Lists: page by page from the cluster, each weaver once.

use std::collections::HashSet;
use std::time::Duration;

use cluster::{Found, Page, Query};
use weaver::WeaverId;

use crate::{ApiError, App};

/// How often a list that the cluster forgot in the middle is begun again.
const RESTARTS: usize = 3;
/// How often a page is asked for again when the cluster asks to wait.
const WAITS: usize = 3;
/// How long it may ask for: whoever reads the list waits too, for a minute in all.
const LONGEST: Duration = Duration::from_secs(15);

/// Reads a whole list. When the cluster forgets where it was, the list is begun again and what was
/// given already is left out; when it asks to wait in the middle, that is done.
pub(crate) struct Pages {
    app: App,
    query: Query,
    given: HashSet<WeaverId>,
    restarts: usize,
    waits: usize,
    /// Something was given: from then on nobody can be told to come back later.
    begun: bool,
    over: bool,
}

impl Pages {
    pub(crate) fn new(app: App, query: Query) -> Self {
        Self { app, query, given: HashSet::new(), restarts: 0, waits: 0, begun: false, over: false }
    }

    /// Returns the next weavers; `None` when there are no more.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Found>>, ApiError> {
        if self.over {
            return Ok(None);
        }
        let page = self.page().await?;
        self.over = page.next.is_none();
        self.begun = true;
        self.query.cursor = page.next;
        let mut found = page.found;
        found.retain(|found| self.given.insert(found.weaver.id));
        Ok(Some(found))
    }

    async fn page(&mut self) -> Result<Page, ApiError> {
        loop {
            match self.app.cluster().list(&self.query).await {
                Err(cluster::Error::CursorExpired) if self.restarts < RESTARTS => {
                    self.restarts += 1;
                    self.query.cursor = None;
                }
                Err(cluster::Error::TooMany { retry_after }) if self.may_wait(retry_after) => {
                    self.waits += 1;
                    tokio::time::sleep(retry_after).await;
                }
                result => return Ok(result?),
            }
        }
    }

    fn may_wait(&self, wait: Duration) -> bool {
        self.begun && self.waits < WAITS && wait <= LONGEST
    }
}
