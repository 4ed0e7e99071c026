//! `_changes`: one page of the feed, or a connection that stays open until something fits.

use std::{fmt::Write, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    Cht,
    auth::User,
    http::{Fail, JSON, Reply, Req},
    mango, seq,
    state::State,
    store::Current,
};

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Normal,
    Longpoll,
    Continuous,
    EventSource,
}

enum Filter {
    None,
    Selector(serde_json::Map<String, Value>),
    Ids(Vec<String>),
}

/// What a request asks of the feed.
pub(super) struct Feed {
    db: String,
    mode: Mode,
    since: u64,
    limit: u64,
    descending: bool,
    include_docs: bool,
    all_leaves: bool,
    filter: Filter,
    timeout: Duration,
    heartbeat: Option<Duration>,
}

/// How many rows a connection that stays open sends at a time.
const ROWS_AT_ONCE: u64 = 200;

/// A part of the feed: its rows in the form of the mode.
#[derive(Default)]
struct Page {
    text: String,
    rows: u64,
    last: u64,
    pending: u64,
}

impl Feed {
    pub fn read(state: &State, db: &str, req: &Req) -> Result<Self, Fail> {
        let malformed = || {
            let reason = "Malformed sequence supplied in 'since' parameter.";
            let body = json!({ "error": "bad_request", "reason": reason });
            Fail::Reply(Reply::proxied(400, JSON, body.to_string()))
        };
        let at = state.db(db).ok_or_else(Fail::no_database)?;
        let since = match req.param("since").or(req.header("last-event-id")).unwrap_or("0") {
            "now" => at.seq,
            text => seq::decode(text).ok_or_else(malformed)?.min(at.seq),
        };
        let mode = match req.param("feed").unwrap_or("normal") {
            "longpoll" => Mode::Longpoll,
            "continuous" => Mode::Continuous,
            "eventsource" => Mode::EventSource,
            _ => Mode::Normal,
        };
        let body: Value = if req.body.is_empty() {
            json!({})
        } else {
            serde_json::from_slice(&req.body).unwrap_or_default()
        };
        let filter = match req.param("filter") {
            Some("_selector") => {
                if let Some(operator) = mango::unknown_operator(&body["selector"]) {
                    return Err(Fail::couch(
                        400,
                        "invalid_operator",
                        format!("Invalid operator: {operator}"),
                    ));
                }
                Filter::Selector(body["selector"].as_object().cloned().unwrap_or_default())
            }
            Some("_doc_ids") => {
                let listed = match req.json_param("doc_ids")? {
                    Some(ids) => ids,
                    None => body["doc_ids"].clone(),
                };
                let ids = listed.as_array().into_iter().flatten();
                Filter::Ids(ids.filter_map(Value::as_str).map(str::to_owned).collect())
            }
            _ => Filter::None,
        };
        let ms = |name: &str| req.param(name).and_then(|text| text.parse::<u64>().ok());
        let heartbeat = match req.param("heartbeat") {
            Some("true") => Some(60_000),
            _ => ms("heartbeat"),
        };
        Ok(Self {
            db: db.to_owned(),
            mode,
            since,
            limit: ms("limit").map_or(u64::MAX, |limit| limit.max(1)),
            descending: req.flag("descending"),
            include_docs: req.flag("include_docs"),
            all_leaves: req.param("style") == Some("all_docs"),
            filter,
            timeout: Duration::from_millis(ms("timeout").unwrap_or(60_000).min(60_000)),
            heartbeat: heartbeat.map(Duration::from_millis),
        })
    }

    fn fits(&self, current: &Current<'_>) -> bool {
        match &self.filter {
            Filter::None => true,
            Filter::Ids(ids) => ids.iter().any(|id| **id == *current.id),
            Filter::Selector(selector) => mango::matches(selector, &Value::Object(current.json())),
        }
    }

    fn add_row(&self, state: &State, page: &mut Page, seq: u64, current: &Current<'_>) {
        let row = &mut page.text;
        match self.mode {
            Mode::EventSource => row.push_str("data: "),
            Mode::Normal | Mode::Longpoll if page.rows > 0 => row.push_str(",\n"),
            Mode::Normal | Mode::Longpoll | Mode::Continuous => {}
        }
        page.rows += 1;
        let id = Value::from(current.id.as_ref());
        let _ = write!(row, r#"{{"seq":"{}","id":{id},"changes":["#, state.seq_text(seq));
        let revs = if self.all_leaves { current.leaf_revs() } else { vec![current.rev] };
        for (at, rev) in revs.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(row, r#"{comma}{{"rev":"{rev}"}}"#);
        }
        row.push(']');
        if current.deleted {
            row.push_str(r#","deleted":true"#);
        }
        if self.include_docs {
            row.push_str(r#","doc":"#);
            current.write_text(row);
        }
        row.push('}');
        match self.mode {
            Mode::Continuous => row.push('\n'),
            Mode::EventSource => row.push_str("\n\n"),
            Mode::Normal | Mode::Longpoll => {}
        }
    }

    /// What the feed holds after `since`.
    fn page(&self, state: &State, since: u64, limit: u64) -> Page {
        let mut page = Page { last: since, ..Page::default() };
        let Some(db) = state.db(&self.db) else { return page };
        if matches!(self.mode, Mode::Normal | Mode::Longpoll) {
            page.text.push_str("{\"results\":[\n");
        }
        if self.descending {
            page.last = 0;
            let fitting = db.newest_first().filter(|(_, current)| self.fits(current));
            for (seq, current) in fitting.take(limit as usize) {
                page.last = seq;
                self.add_row(state, &mut page, seq, &current);
            }
            page.pending = db.pending(0);
        } else {
            while page.rows < limit {
                let Some((seq, current)) = db.after(page.last) else {
                    page.last = db.seq.max(since);
                    break;
                };
                page.last = seq;
                if self.fits(&current) {
                    self.add_row(state, &mut page, seq, &current);
                }
            }
            page.pending = db.pending(if matches!(self.filter, Filter::Ids(_)) { since } else { page.last });
        }
        if matches!(self.mode, Mode::Normal | Mode::Longpoll) {
            let last = state.seq_text(page.last);
            let _ = write!(page.text, "\n],\n\"last_seq\":\"{last}\",\"pending\":{}}}\n", page.pending);
        }
        page
    }

    /// The answer, if it need not wait.
    pub fn at_once(&self, state: &State, may_wait: bool) -> Option<Reply> {
        if may_wait && matches!(self.mode, Mode::Continuous | Mode::EventSource) {
            return None;
        }
        let mut page = self.page(state, self.since, self.limit);
        match self.mode {
            Mode::Longpoll if page.rows == 0 && may_wait => None,
            Mode::Longpoll => Some(Reply::proxied(200, JSON, page.text)),
            Mode::EventSource => Some(Reply::proxied(200, "text/event-stream", page.text)),
            Mode::Continuous => {
                page.text.push_str(&end_line(state, &page));
                Some(Reply::proxied(200, JSON, page.text))
            }
            Mode::Normal => {
                let etag = format!("\"{:X}\"", super::generated::mix(page.last));
                let reply = Reply::proxied(200, JSON, page.text).with("etag", etag);
                Some(if self.db == "medic" { reply } else { reply.with("www-authenticate", "Cookie") })
            }
        }
    }

    /// The answer that stays open: rows as they come, heartbeats in between.
    pub fn open(self, cht: Arc<Cht>) -> Response {
        let (sender, receiver) = mpsc::channel::<Bytes>(16);
        let mode = self.mode;
        tokio::spawn(self.follow(cht, sender));
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
            let bytes = receiver.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(bytes), receiver))
        });
        let content_type = if mode == Mode::EventSource { "text/event-stream" } else { JSON };
        let mut response = Response::new(Body::from_stream(stream));
        response.headers_mut().insert("content-type", http::HeaderValue::from_static(content_type));
        response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
        response
    }

    async fn follow(self, cht: Arc<Cht>, sender: mpsc::Sender<Bytes>) {
        let mut changed = cht.watch();
        let mut since = self.since;
        let mut sent = 0;
        let opening: &'static [u8] = match self.mode {
            Mode::Longpoll => b"{\"results\":[\n",
            Mode::EventSource => b"\n",
            Mode::Normal | Mode::Continuous => b"",
        };
        if !opening.is_empty() && sender.send(Bytes::from_static(opening)).await.is_err() {
            return;
        }
        let beat = match self.mode {
            Mode::EventSource => Bytes::from_static(b"event: heartbeat\ndata: \n\n"),
            Mode::Normal | Mode::Longpoll | Mode::Continuous => Bytes::from_static(b"\n"),
        };
        loop {
            changed.mark_unchanged();
            let limit =
                (self.limit - sent).min(if self.mode == Mode::Longpoll { u64::MAX } else { ROWS_AT_ONCE });
            let (page, end) = cht.with_state(|state| {
                let page = self.page(state, since, limit);
                let end = end_line(state, &page);
                (page, end)
            });
            since = page.last;
            sent += page.rows;
            if self.mode == Mode::Longpoll {
                if page.rows > 0 {
                    let _ = sender.send(rest_of(&page)).await;
                    return;
                }
            } else if page.rows > 0 && sender.send(page.text.into()).await.is_err() {
                return;
            }
            let waited = match page.rows {
                _ if sent >= self.limit => Wait::Over,
                rows if rows == limit => Wait::Changed,
                _ => self.wait(&mut changed, &sender, &beat).await,
            };
            match (waited, self.mode) {
                (Wait::Changed, _) => {}
                (Wait::Gone, _) | (Wait::Over, Mode::EventSource) => return,
                (Wait::Over, Mode::Longpoll) => {
                    let _ = sender.send(cht.with_state(|state| rest_of(&self.page(state, since, 0)))).await;
                    return;
                }
                (Wait::Over, Mode::Normal | Mode::Continuous) => {
                    let _ = sender.send(end.into()).await;
                    return;
                }
            }
        }
    }

    async fn wait(
        &self,
        changed: &mut tokio::sync::watch::Receiver<u64>,
        sender: &mpsc::Sender<Bytes>,
        beat: &Bytes,
    ) -> Wait {
        loop {
            let pause = self.heartbeat.unwrap_or(self.timeout);
            tokio::select! {
                result = changed.changed() => return if result.is_ok() { Wait::Changed } else { Wait::Over },
                () = sender.closed() => return Wait::Gone,
                () = tokio::time::sleep(pause) => {
                    if self.heartbeat.is_none() {
                        return Wait::Over;
                    }
                    if sender.send(beat.clone()).await.is_err() {
                        return Wait::Gone;
                    }
                }
            }
        }
    }
}

fn end_line(state: &State, page: &Page) -> String {
    let end = json!({ "last_seq": state.seq_text(page.last), "pending": page.pending });
    format!("{end}\n")
}

/// A page whose opening was sent before.
fn rest_of(page: &Page) -> Bytes {
    page.text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default().into()
}

enum Wait {
    Changed,
    Over,
    Gone,
}

/// The few documents that every offline user gets whatever it may see.
pub(super) fn default_ids(user: &User) -> Vec<String> {
    let own = format!("org.couchdb.user:{}", user.name);
    vec!["_design/medic-client".into(), "service-worker-meta".into(), "settings".into(), own]
}

/// `_changes` of an offline user.
pub(super) fn offline(state: &State, user: &User) -> Reply {
    let mut rows = Vec::new();
    for id in default_ids(user) {
        if let (Some(doc), Some(current)) = (state.medic.docs.get(id.as_str()), state.medic.get(&id)) {
            let seq = state.seq_text(doc.seq);
            rows.push(json!({ "seq": seq, "id": id, "changes": [{ "rev": current.rev.to_string() }] }));
        }
    }
    Reply::api(&json!({ "results": rows, "last_seq": state.seq_text(state.medic.seq) }))
}
