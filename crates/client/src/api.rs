//! The calls of `/api/weavers`.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use url::Url;
use weaver::{Phase, WeaverId};
use wire::api::{CreateWeaver, Extend, WeaverList, WeaverView};
use wire::problem::Problem;

use crate::stream::{EventStream, LogStream};
use crate::{Error, Server};

/// How long the TCP and TLS handshakes may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a call that ends may take: the server's own deadlines are shorter.
const CALL: Duration = Duration::from_secs(60);
/// Most bytes of a problem that are read.
const MAX_PROBLEM: usize = 64 * 1024;

/// A server's API.
#[derive(Debug, Clone)]
pub struct Client {
    server: Server,
    http: reqwest::Client,
}

/// What narrows a list.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Tags that all must be there.
    pub tags: BTreeMap<String, String>,
    /// Only weavers of this status.
    pub status: Option<Phase>,
    /// Only weavers of this owner.
    pub owner: Option<String>,
    /// Most weavers on a page; the server's choice without it.
    pub limit: Option<u32>,
}

/// What of a log is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogsQuery {
    /// Whether to go on with what is written from now on.
    pub follow: bool,
    /// Only the last lines.
    pub tail: Option<u64>,
}

impl Client {
    /// Makes the client of a server; nothing is sent yet.
    ///
    /// # Errors
    /// The machine's certificates cannot be read.
    pub fn new(server: Server) -> Result<Self, Error> {
        // Whoever comes first decides; all of us decide for ring.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("loom/", env!("CARGO_PKG_VERSION")));
        if server.is_loopback() {
            builder = builder.no_proxy();
        }
        if server.url.scheme() == "http" {
            // Reading the machine's certificates takes milliseconds that nobody needs here.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(Error::Setup)?;
        Ok(Self { server, http })
    }

    /// Returns the server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Makes a weaver. With a key, the same call again finds the same weaver.
    ///
    /// # Errors
    /// As every call here: the server's problem, or why it cannot be reached.
    pub async fn create(&self, ask: &CreateWeaver, key: Option<&str>) -> Result<WeaverView, Error> {
        let mut request = self.call(Method::POST, &["api", "weavers"]).json(ask);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        self.json(request).await
    }

    /// Returns one weaver.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub async fn get(&self, id: &WeaverId) -> Result<WeaverView, Error> {
        self.json(self.call(Method::GET, &["api", "weavers", &id.to_string()])).await
    }

    /// Returns one page of the list, the first one without a cursor.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub async fn list_page(
        &self,
        query: &ListQuery,
        cursor: Option<&str>,
    ) -> Result<WeaverList, Error> {
        let mut url = self.server.at(&["api", "weavers"]);
        query.put(&mut url, cursor);
        self.json(self.request(Method::GET, url).timeout(CALL)).await
    }

    /// Returns the whole list.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub async fn list(&self, query: &ListQuery) -> Result<Vec<WeaverView>, Error> {
        let mut page = self.list_page(query, None).await?;
        let mut all = page.weavers;
        while let Some(cursor) = page.next.take() {
            page = self.list_page(query, Some(&cursor)).await?;
            all.append(&mut page.weavers);
        }
        Ok(all)
    }

    /// Deletes a weaver; one that is gone already is fine.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub async fn delete(&self, id: &WeaverId) -> Result<(), Error> {
        let call = self.call(Method::DELETE, &["api", "weavers", &id.to_string()]);
        self.send(call).await.map(drop)
    }

    /// Sets a weaver's whole lifetime, counted from its creation.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub async fn extend(&self, id: &WeaverId, lifetime_hours: u64) -> Result<WeaverView, Error> {
        let path = ["api", "weavers", &id.to_string(), "extend"];
        self.json(self.call(Method::POST, &path).json(&Extend { lifetime_hours })).await
    }

    /// Follows a weaver's start, from the beginning.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub async fn events(&self, id: &WeaverId) -> Result<EventStream, Error> {
        let url = self.server.at(&["api", "weavers", &id.to_string(), "events"]);
        Ok(EventStream::new(self.sse(url).await?))
    }

    /// Reads what a weaver's program has written.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub async fn logs(&self, id: &WeaverId, query: &LogsQuery) -> Result<LogStream, Error> {
        let mut url = self.server.at(&["api", "weavers", &id.to_string(), "logs"]);
        if query.follow {
            url.query_pairs_mut().append_pair("follow", "true");
        }
        if let Some(tail) = query.tail {
            url.query_pairs_mut().append_pair("tail", &tail.to_string());
        }
        Ok(LogStream::new(self.sse(url).await?))
    }

    async fn sse(&self, url: Url) -> Result<Response, Error> {
        self.send(self.request(Method::GET, url).header(ACCEPT, "text/event-stream")).await
    }

    fn call(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.request(method, self.server.at(path)).timeout(CALL)
    }

    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.server.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, call: RequestBuilder) -> Result<T, Error> {
        let response = self.send(call).await?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.unreachable(error))?;
        serde_json::from_slice(&body).map_err(|_| self.strange(status))
    }

    /// Sends a request and turns every answer that is not a success into an error.
    pub(crate) async fn send(&self, call: RequestBuilder) -> Result<Response, Error> {
        let response = call.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return Error::LoggedOut { url: self.server.url.to_string() };
        }
        let problem = read_some(response).await;
        match serde_json::from_slice::<Problem>(&problem) {
            Ok(problem) => Error::Problem(Box::new(problem)),
            Err(_) => self.strange(status),
        }
    }

    fn strange(&self, status: StatusCode) -> Error {
        Error::Answer { url: self.server.url.to_string(), status: status.as_u16() }
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        let url = self.server.url.to_string();
        if error.is_connect() {
            Error::Connect { url, source: error.without_url() }
        } else if error.is_timeout() {
            Error::Timeout { url }
        } else {
            Error::broken(error.without_url())
        }
    }
}

impl ListQuery {
    fn put(&self, url: &mut Url, cursor: Option<&str>) {
        let mut pairs = url.query_pairs_mut();
        let tags = self.tags.iter().map(|(key, value)| ("tag", format!("{key}={value}")));
        let status = self.status.map(|status| ("status", status.to_string()));
        let owner = self.owner.clone().map(|owner| ("owner", owner));
        let limit = self.limit.map(|limit| ("limit", limit.to_string()));
        let cursor = cursor.map(|cursor| ("cursor", cursor.to_owned()));
        pairs.extend_pairs(tags.chain(status).chain(owner).chain(limit).chain(cursor));
    }
}

/// Reads a body up to a bound; what is cut off is no problem that we wrote.
async fn read_some(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_PROBLEM {
            break;
        }
    }
    body
}
