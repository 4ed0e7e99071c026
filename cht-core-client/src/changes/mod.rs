//! The changes feed: pages, long polling, a continuous stream, and a follower that goes from one to the next.
//!
//! It guarantees: places in the feed ([`Seq`]) are kept as they came and never interpreted; a row that cannot be read
//! is one [`RowError`] and not a lost page; it does not matter how the network cuts the body; a feed that falls
//! silent for longer than its heartbeats allow ends in an error. It does not wait, reconnect or store anything.
//!
//! Rows can repeat, and a document comes more than once (sentinel adds a revision a moment after each creation):
//! whoever reads must not mind. A deletion by `DELETE` leaves only an id, so a filter on fields never shows it;
//! [`Changes::selector`] therefore lets every deletion through.

mod row;
mod split;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use http::Method;
use serde_json::{Value, json};

pub use row::{Change, DocKind, RowError, Seq};
use row::{Line, read_end, read_line};
use split::{Splitter, Unsplittable};

use crate::client::{Call, is_page};
use crate::docs::Database;
use crate::error::Error;
use crate::transport::{Body, TransportErrorKind};

/// The heartbeat asked for where nothing else is said.
pub const HEARTBEAT: Duration = Duration::from_secs(20);

/// A part of the feed.
pub struct Page {
    /// The changes, in the order of the feed.
    pub rows: Vec<Result<Change, RowError>>,
    /// Where to go on once every row is dealt with.
    pub last_seq: Seq,
    /// How many more there are, if the server says so.
    pub pending: Option<u64>,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("rows", &self.rows.len())
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

/// What a continuous feed brings.
#[derive(Debug)]
pub enum Event {
    /// A change, or a row that cannot be read.
    Row(Result<Change, RowError>),
    /// The server ended the feed. Nothing follows.
    End {
        /// Where to go on.
        last_seq: Seq,
        /// How many more there are.
        pending: Option<u64>,
    },
}

#[derive(Clone)]
enum Filter {
    None,
    Selector(Value),
    DocIds(Vec<String>),
}

/// A question to the changes feed of a database.
#[derive(Clone)]
#[must_use = "nothing is sent before page, wait or follow"]
pub struct Changes {
    database: Database,
    since: Option<Seq>,
    limit: Option<usize>,
    include_docs: bool,
    all_leaves: bool,
    descending: bool,
    filter: Filter,
    heartbeat: Option<Duration>,
    timeout: Option<Duration>,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("limit", &self.limit)
            .field("include_docs", &self.include_docs)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// The changes feed of this database.
    pub fn changes(&self) -> Changes {
        Changes {
            database: self.clone(),
            since: None,
            limit: None,
            include_docs: false,
            all_leaves: false,
            descending: false,
            filter: Filter::None,
            heartbeat: None,
            timeout: None,
        }
    }
}

impl Changes {
    /// Where to begin; from the very first change if not given.
    pub fn since(mut self, since: Seq) -> Self {
        self.since = Some(since);
        self
    }

    /// How many changes at most.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Also return the documents, in their newest revision.
    pub fn include_docs(mut self) -> Self {
        self.include_docs = true;
        self
    }

    /// Name all leaf revisions, conflicting and deleted ones too (`style=all_docs`).
    pub fn all_leaves(mut self) -> Self {
        self.all_leaves = true;
        self
    }

    /// The newest change first.
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// Only documents that match a Mango selector, and every deletion.
    pub fn selector(self, selector: Value) -> Self {
        self.selector_without_deletions(json!({ "$or": [selector, { "_deleted": true }] }))
    }

    /// Only documents that match a Mango selector. A document removed by `DELETE` has no fields and never matches.
    pub fn selector_without_deletions(mut self, selector: Value) -> Self {
        self.filter = Filter::Selector(selector);
        self
    }

    /// Only documents with these ids.
    pub fn doc_ids<S: Into<String>>(mut self, ids: impl IntoIterator<Item = S>) -> Self {
        self.filter = Filter::DocIds(ids.into_iter().map(Into::into).collect());
        self
    }

    /// How often the server shall show that it is there while nothing changes.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = Some(every);
        self
    }

    /// After what time without a change the server shall end the feed. Without effect beside a heartbeat.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn call(&self, feed: Option<&'static str>) -> Result<Call, Error> {
        let (method, filter, body) = match &self.filter {
            Filter::None => (Method::GET, None, None),
            Filter::Selector(selector) => {
                (Method::POST, Some("_selector"), Some(json!({ "selector": selector })))
            }
            Filter::DocIds(ids) => (Method::POST, Some("_doc_ids"), Some(json!({ "doc_ids": ids }))),
        };
        let mut call = self
            .database
            .call(method)?
            .at("_changes")?
            .query_if("feed", feed)
            .query_if("filter", filter)
            .query_if("since", self.since.as_ref().map(Seq::as_str))
            .query_if("limit", self.limit)
            .query_if("include_docs", self.include_docs.then_some(true))
            .query_if("style", self.all_leaves.then_some("all_docs"))
            .query_if("descending", self.descending.then_some(true))
            .query_if("heartbeat", self.heartbeat.map(|time| time.as_millis()))
            .query_if("timeout", self.timeout.map(|time| time.as_millis()));
        if let Some(body) = body {
            call = call.json(&body)?;
        }
        Ok(match (self.heartbeat, self.timeout) {
            (Some(heartbeat), _) => call.idle(heartbeat.saturating_mul(3)),
            (None, Some(timeout)) => call.idle(timeout.saturating_add(HEARTBEAT)),
            (None, None) => call,
        })
    }

    fn with_some_heartbeat(&self) -> Self {
        let mut changes = self.clone();
        if changes.timeout.is_none() {
            changes.heartbeat = changes.heartbeat.or(Some(HEARTBEAT));
        }
        changes
    }

    /// What there is now.
    pub async fn page(&self) -> Result<Page, Error> {
        self.read_page(None).await
    }

    /// What there is, or else the next change when it comes (`feed=longpoll`).
    pub async fn wait(&self) -> Result<Page, Error> {
        self.with_some_heartbeat().read_page(Some("longpoll")).await
    }

    async fn read_page(&self, feed: Option<&'static str>) -> Result<Page, Error> {
        let max = self.database.client.max_body();
        let mut body = self.open(feed).await?;
        let mut splitter = Splitter::of_page(max);
        let mut rows = Vec::new();
        let mut size = 0;
        while let Some(bytes) = body.next().await {
            let bytes = bytes?;
            size += bytes.len();
            if size > max {
                return Err(too_long());
            }
            splitter.push(&bytes, |piece| rows.push(Change::read(&piece))).map_err(unreadable)?;
        }
        let end = splitter.finish().map_err(unreadable)?;
        let end = read_end(&end).ok_or_else(|| match end.trim_ascii_end().last() {
            Some(b'}') => Error::Unreadable { path: "last_seq".to_owned() },
            _ => broken(),
        })?;
        Ok(Page { rows, last_seq: end.last_seq, pending: end.pending })
    }

    /// Every change as it comes (`feed=continuous`), until the server ends the feed or an error ends the stream.
    pub async fn follow(&self) -> Result<BoxStream<'static, Result<Event, Error>>, Error> {
        let changes = self.with_some_heartbeat();
        let state = Following {
            body: Some(changes.open(Some("continuous")).await?),
            splitter: Splitter::of_lines(changes.database.client.max_body()),
            ready: VecDeque::new(),
        };
        let events = stream::unfold(state, |mut state| async move {
            let event = state.next().await?;
            Some((event, state))
        });
        Ok(events.boxed())
    }

    async fn open(&self, feed: Option<&'static str>) -> Result<Body, Error> {
        let answer = self.database.client.open(self.call(feed)?).await?;
        if is_page(answer.headers()) {
            return Err(Error::page_instead_of_data(answer.status(), b""));
        }
        Ok(answer.into_body())
    }

    /// A reader that begins here, catches up page by page and then waits for changes.
    pub fn follower(self) -> Follower {
        Follower { changes: self, behind: true }
    }
}

struct Following {
    body: Option<Body>,
    splitter: Splitter,
    ready: VecDeque<Result<Event, Error>>,
}

impl Following {
    async fn next(&mut self) -> Option<Result<Event, Error>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                if !matches!(event, Ok(Event::Row(_))) {
                    self.body = None;
                    self.ready.clear();
                }
                return Some(event);
            }
            match self.body.as_mut()?.next().await {
                Some(Ok(bytes)) => {
                    let ready = &mut self.ready;
                    if let Err(error) = self.splitter.push(&bytes, |line| ready.push_back(event_of(&line))) {
                        self.ready.push_back(Err(unreadable(error)));
                    }
                }
                Some(Err(error)) => self.ready.push_back(Err(error.into())),
                None => self.ready.push_back(Err(broken())),
            }
        }
    }
}

fn event_of(line: &[u8]) -> Result<Event, Error> {
    match read_line(line) {
        Line::Row(row) => Ok(Event::Row(row)),
        Line::End(end) => Ok(Event::End { last_seq: end.last_seq, pending: end.pending }),
        Line::ServerError => Err(Error::Server { status: 200, code: None }),
    }
}

fn unreadable(error: Unsplittable) -> Error {
    match error {
        Unsplittable::TooLong => too_long(),
        Unsplittable::NotAFeed => Error::Unreadable { path: "results".to_owned() },
        Unsplittable::Truncated => broken(),
    }
}

fn too_long() -> Error {
    Error::Unreadable { path: "results (longer than max_body; ask for fewer with limit)".to_owned() }
}

fn broken() -> Error {
    Error::Transport(TransportErrorKind::Closed.into())
}

/// Reads a feed from a place on: pages while there is a backlog, long polling afterwards.
#[derive(Debug)]
pub struct Follower {
    changes: Changes,
    behind: bool,
}

impl Follower {
    /// The next page, which may be empty. After an error the place is unchanged: call again when it suits.
    pub async fn next_page(&mut self) -> Result<Page, Error> {
        let changes = self.changes.with_some_heartbeat();
        let page = if self.behind { changes.page().await? } else { changes.wait().await? };
        self.behind = match page.pending {
            Some(pending) => pending > 0,
            None => !page.rows.is_empty(),
        };
        self.changes.since = Some(page.last_seq.clone());
        Ok(page)
    }

    /// The place after the last page: what to keep in order to resume.
    pub fn since(&self) -> Option<&Seq> {
        self.changes.since.as_ref()
    }

    /// Whether the last page was the end of the feed for now.
    pub fn caught_up(&self) -> bool {
        !self.behind
    }
}
