//! A CHT as its clients see it: a stateful server with CouchDB's revisions and feed, logins and permissions, both
//! generations of the api, and sentinel, which changes documents behind the client's back.
//!
//! It accepts duplicates and counts them. Delayed work is due by the clock and done when a request comes (on a real
//! clock also by a ticker, so that open feeds wake up); on a manual clock nothing waits for real time.

mod auth;
mod changes;
mod contacts;
mod couch;
mod datasource;
mod export;
mod generated;
mod http;
mod info;
mod lineage;
mod lookup;
mod mango;
mod persist;
mod phone;
mod query;
mod records;
mod rev;
mod routes;
mod sentinel;
mod seq;
mod settings;
mod sms;
mod standin;
mod state;
mod store;
mod time;
mod transitions;
mod users;
mod views;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use axum::{Router, extract::Request, response::Response};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use self::{
    couch::Answer,
    http::{Fail, MAX_BODY, Req},
    state::State,
    store::Json,
};
pub use self::{
    generated::Generate,
    standin::Counts,
    state::{Calls, Sentinel, Switches},
};
use crate::clock::Clock;

/// How often a real clock looks for due work while nobody calls.
const TICK: Duration = Duration::from_millis(20);

/// How a new CHT starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The configuration (`settings` of the document `settings`).
    pub settings: Value,
    /// Name of the administrator.
    pub admin: String,
    /// Password of the administrator.
    pub password: String,
    /// Online or offline users: name, password, roles.
    pub users: Vec<(String, String, Vec<String>)>,
    /// Ids, shortcodes and message ids follow from it.
    pub seed: u64,
    /// What else is switched on from the start.
    pub switches: Switches,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settings: settings::default_settings(),
            admin: "medic".into(),
            password: "password".into(),
            users: Vec::new(),
            seed: 1,
            switches: Switches::default(),
        }
    }
}

impl Options {
    /// Adds a user that can log in; `mm-online` among the roles makes it an online one.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str, roles: &[&str]) -> Self {
        self.users.push((name.into(), password.into(), roles.iter().map(|role| (*role).into()).collect()));
        self
    }
}

/// The server; clones of the [`Arc`] share it.
pub struct Cht {
    state: Mutex<State>,
    clock: Clock,
    changed: watch::Sender<u64>,
}

impl Cht {
    /// A CHT with its own documents (configuration, forms, design documents) and no contacts.
    pub fn new(options: Options, clock: Clock) -> Arc<Self> {
        let state = persist::fresh(options, clock.now_ms());
        Self::with(state, clock)
    }

    /// A CHT as [`Cht::save`] left it.
    pub fn load(path: impl AsRef<Path>, clock: Clock) -> io::Result<Arc<Self>> {
        Ok(Self::with(persist::load(path.as_ref(), clock.now_ms())?, clock))
    }

    /// Writes everything to a file, complete or not at all.
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.with_state(|state| persist::save(state, path.as_ref()))
    }

    fn with(state: State, clock: Clock) -> Arc<Self> {
        let (changed, _) = watch::channel(0);
        Arc::new(Self { state: Mutex::new(state), clock, changed })
    }

    /// The routes. On a real clock, inside a runtime, it also starts the ticker, which ends with the last handle.
    pub fn router(self: &Arc<Self>) -> Router {
        if !self.clock.is_manual()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(tick(Arc::downgrade(self)));
        }
        let cht = self.clone();
        Router::new().fallback(move |request: Request| {
            let cht = cht.clone();
            async move { cht.serve(request).await }
        })
    }

    async fn serve(self: Arc<Self>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let read = axum::body::to_bytes(body, MAX_BODY).await;
        let whole = read.is_ok();
        let req = Req::new(parts.method, &parts.uri, parts.headers, read.unwrap_or_default());
        self.clock.run_due();
        let latency = self.with_state(|state| state.switches.latency_ms);
        if latency > 0 && !self.clock.is_manual() {
            tokio::time::sleep(Duration::from_millis(latency)).await;
        }
        let is_head = req.method == "HEAD";
        let now = self.clock.now_ms();
        let may_wait = !self.clock.is_manual();
        let answer = self.with_state(|state| {
            state.nonce = state.nonce.wrapping_add(1);
            state.tick(now);
            let result = if whole {
                routes::answer(state, &req, now)
            } else {
                Err(Fail::api(413, "Payload Too Large"))
            };
            let answer = result.unwrap_or_else(|fail| Answer::Reply(fail.reply(&req)));
            match answer {
                Answer::Feed(feed) => {
                    feed.at_once(state, may_wait).map_or_else(|| Answer::Feed(feed), Answer::Reply)
                }
                other => other,
            }
        });
        match answer {
            Answer::Feed(feed) => feed.open(self),
            Answer::Cut => {
                let broken = futures_util::stream::once(async {
                    Err::<bytes::Bytes, _>(io::ErrorKind::ConnectionReset)
                });
                Response::new(axum::body::Body::from_stream(broken.map_err(io::Error::from)))
            }
            Answer::Reply(mut reply) => {
                if reply.status == 401 {
                    self.with_state(|state| state.lockout.failed(&req, now));
                }
                if is_head {
                    reply.body = bytes::Bytes::new();
                }
                reply.into_response()
            }
        }
    }

    /// Runs on the state and wakes the open feeds when it changed something.
    fn with_state<T>(&self, run: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = state.medic.seq + state.sentinel.seq;
        let result = run(&mut state);
        let after = state.medic.seq + state.sentinel.seq;
        drop(state);
        if after != before {
            self.changed.send_replace(after);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Does what is due by now, as the next request would.
    pub fn tick(&self) {
        self.clock.run_due();
        let now = self.clock.now_ms();
        self.with_state(|state| state.tick(now));
    }

    /// All live stored documents of the main database, with `_id` and `_rev`, in the order of ids.
    pub fn docs(&self) -> Vec<Value> {
        self.tick();
        self.with_state(|state| state.medic.live().map(|current| Value::Object(current.json())).collect())
    }

    /// One live document.
    pub fn doc(&self, id: &str) -> Option<Value> {
        self.tick();
        self.with_state(|state| state.medic.json(id)).map(Value::Object)
    }

    /// The revisions of the winning branch of a document, newest first.
    pub fn revisions(&self, id: &str) -> Vec<String> {
        self.with_state(|state| {
            let tree = state.medic.docs.get(id).map(|doc| &doc.tree);
            tree.map(|tree| tree.path(tree.winner().rev).iter().map(ToString::to_string).collect())
        })
        .unwrap_or_default()
    }

    /// Writes a document as a person at the CHT would: fields are merged into what is there, `null` takes one away, a
    /// missing document is made. Answers the new revision.
    pub fn edit(&self, id: &str, fields: Value) -> String {
        self.tick();
        let now = self.clock.now_ms();
        self.with_state(|state| standin::edit(state, id, fields, now))
    }

    /// Deletes a document as the app does, leaving nothing but the tombstone. Says whether there was one.
    pub fn delete(&self, id: &str) -> bool {
        self.tick();
        let now = self.clock.now_ms();
        self.with_state(|state| {
            let Some(doc) = state.medic.json(id) else { return false };
            let mut tombstone = Json::new();
            tombstone.insert("_id".into(), id.into());
            tombstone.insert("_rev".into(), doc.get("_rev").cloned().unwrap_or_default());
            tombstone.insert("_deleted".into(), true.into());
            state.put(tombstone, now).is_ok()
        })
    }

    /// What there is and what is there twice.
    pub fn counts(&self) -> Counts {
        self.tick();
        self.with_state(|state| standin::counts(state))
    }

    /// Makes persons that exist only while they are read.
    pub fn generate(&self, spec: Generate) {
        let now = self.clock.now_ms();
        self.with_state(|state| standin::generate(state, spec, now));
    }

    /// Changes the switches.
    pub fn switch(&self, change: impl FnOnce(&mut Switches)) {
        self.with_state(|state| change(&mut state.switches));
    }

    /// The feed of the main database up to now: sequence number, id and revision of each document's last change.
    pub fn update_seq(&self) -> u64 {
        self.tick();
        self.with_state(|state| state.medic.seq)
    }
}

async fn tick(cht: Weak<Cht>) {
    loop {
        tokio::time::sleep(TICK).await;
        match cht.upgrade() {
            Some(cht) => cht.tick(),
            None => return,
        }
    }
}
