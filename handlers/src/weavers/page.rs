//! Lists: page by page from the cluster, each weaver once.

use std::collections::HashSet;

use cluster::{Found, Page, Query};
use weaver::WeaverId;

use crate::{ApiError, App};

/// How often a list that the cluster forgot in the middle is begun again.
const RESTARTS: usize = 3;

/// Reads a whole list. When the cluster forgets where it was, the list is begun again and what was
/// given already is left out.
pub(crate) struct Pages {
    app: App,
    query: Query,
    given: HashSet<WeaverId>,
    restarts: usize,
    over: bool,
}

impl Pages {
    pub(crate) fn new(app: App, query: Query) -> Self {
        Self { app, query, given: HashSet::new(), restarts: 0, over: false }
    }

    /// Returns the next weavers; `None` when there are no more.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Found>>, ApiError> {
        if self.over {
            return Ok(None);
        }
        let page = self.page().await?;
        self.over = page.next.is_none();
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
                result => return Ok(result?),
            }
        }
    }
}
