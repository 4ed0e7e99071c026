//! A stateful OpenMRS: REST and idgen to write, FHIR2 (R4) to read and write, with the quirks of a recorded server.
//!
//! Core 2.8.9, webservices.rest 3.4.1, fhir2 4.2.0, idgen 5.0.4, time zone UTC+3. It keeps what a real one would keep,
//! duplicates included, and counts them; what a recording cannot show is a switch (`Switches`). Served by
//! `OpenMrs::router`; looked into by the methods of `OpenMrs` or below `/_standin/openmrs`.

mod auth;
mod clerk;
mod edit;
mod fhir;
mod generate;
mod http;
pub mod idgen;
mod ids;
mod import;
mod metadata;
mod model;
mod options;
mod rest;
mod standin;
mod tables;
mod time;
mod validate;

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufReader, BufWriter},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use axum::{
    Router,
    extract::{Request, State as Shared},
    http::Method,
    response::Response,
};
use serde_json::{Value, json};

use crate::clock::Clock;
pub use clerk::{ClerkEdit, Seen, SeenIdentifier};
use http::{Call, Reply, html};
pub use options::{Options, Pace, Rewrite, Stamps, Switches};
pub use tables::Counts;
use tables::Tables;

/// The connector's user: name and password.
pub const CONNECTOR: (&str, &str) = ("cht.connector", "Connector123");
/// A user that may read and nothing else.
pub const READER: (&str, &str) = ("cht.reader", "Reader123");
/// A user without any privilege.
pub const NO_PRIVILEGE: (&str, &str) = ("cht.nopriv", "Nopriv123");
/// A user whose password holds a colon, so that it can never log in.
pub const COLON: (&str, &str) = ("cht.colon", "Colon:123");
/// A user like the connector, to be locked out.
pub const LOCK: (&str, &str) = ("cht.lock", "Lock123");
/// The user that may do everything.
pub const ADMIN: (&str, &str) = ("admin", "Admin123");
/// The identifier type that every patient made by REST must have.
pub const OPENMRS_ID: &str = "05a29f94-c0ed-11e2-94be-8c13b969e334";
/// The identifier type of CHT contacts.
pub const CHT_ID: &str = "c6552b22-f191-4557-a432-1f4df872d473";
/// The identifier type of national IDs: 5 to 18 digits.
pub const NATIONAL_ID: &str = "49af6cdc-7968-4abb-bf46-de10d7f4859f";
/// The attribute type of telephone numbers.
pub const TELEPHONE: &str = "14d4f066-15f5-102d-96e4-000c29c2a5d7";
/// The identifier source of OpenMRS IDs.
pub const SOURCE: &str = "8549f706-7e85-4c1d-9424-217d50a2988b";
/// A location.
pub const LOCATION: &str = "a1111111-0000-4000-8000-000000000001";

const LARGEST_BODY: usize = 64 << 20;

/// Everything that a request may change.
pub(crate) struct State {
    tables: Tables,
    auth: auth::Auth,
    searches: VecDeque<fhir::Search>,
    switches: Switches,
}

/// The server.
pub struct OpenMrs {
    clock: Clock,
    state: Mutex<State>,
    /// When the next request of each class may be answered, by the real clock.
    turns: Mutex<[f64; 4]>,
}

impl OpenMrs {
    /// A server with the recorded metadata and no patients.
    pub fn new(options: Options, clock: Clock) -> Arc<Self> {
        Self::with(Tables::new(options.seed), options, clock)
    }

    fn with(tables: Tables, options: Options, clock: Clock) -> Arc<Self> {
        let state = State {
            tables,
            auth: auth::Auth::new(options.seed),
            searches: VecDeque::new(),
            switches: options.switches,
        };
        Arc::new(Self { clock, state: Mutex::new(state), turns: Mutex::default() })
    }

    /// A server with the rows of a file: one that [`OpenMrs::save`] wrote, or the state that recordings start from.
    /// Sessions, stored searches and locks are gone, as after a restart.
    pub fn load(path: &Path, clock: Clock) -> anyhow::Result<Arc<Self>> {
        let file = File::open(path).with_context(|| format!("cannot open the state {}", path.display()))?;
        let value: Value = serde_json::from_reader(BufReader::new(file)).context("the state is not JSON")?;
        let mut tables = match value.get("tables") {
            Some(tables) => serde_json::from_value(tables.clone()).context("the state has another format")?,
            None => import::recorded(&value),
        };
        tables.reindex();
        let switches =
            value.get("switches").cloned().map(serde_json::from_value).transpose()?.unwrap_or_default();
        Ok(Self::with(tables, Options { seed: 0, switches }, clock))
    }

    /// Writes all rows and the switches to a file.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let file =
            File::create(path).with_context(|| format!("cannot write the state {}", path.display()))?;
        let state = self.lock();
        let whole = json!({"tables": &state.tables, "switches": &state.switches});
        serde_json::to_writer(BufWriter::new(file), &whole).context("cannot write the state")
    }

    /// The routes: `/openmrs/...` as the real server, `/_standin/openmrs/...` to look in and to switch.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(serve).with_state(Arc::clone(self))
    }

    /// What there is, and what is there twice.
    pub fn counts(&self) -> Counts {
        self.lock().tables.counts()
    }

    /// The switches as they stand.
    pub fn switches(&self) -> Switches {
        self.lock().switches.clone()
    }

    /// Sets all switches.
    pub fn set_switches(&self, switches: Switches) {
        self.lock().switches = switches;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, and how long the server takes for it.
    fn respond(self: &Arc<Self>, call: Call) -> (Reply, Duration) {
        if let Some(path) = call.path.strip_prefix("/_standin/openmrs/") {
            return (standin::answer(self, &call, path), Duration::ZERO);
        }
        let wait = self.turn(&call);
        if !(call.is_write() && call.path.starts_with("/openmrs/ws/")) || is_side_call(&call.path) {
            return (self.dispatch(&call), wait);
        }
        let mut state = self.lock();
        if spend(&mut state.switches.late_writes) {
            let (server, due) = (Arc::clone(self), call.now + state.switches.late_write_ms);
            drop(state);
            self.clock.at(due, move || {
                let now = server.clock.now_ms();
                server.dispatch(&Call { now, ..call });
            });
            return (html(504, "Gateway Timeout"), wait);
        }
        if spend(&mut state.switches.success_without_write) {
            let before = state.tables.clone();
            let reply = dispatch(&mut state, &call);
            state.tables = before;
            return (reply, wait);
        }
        let hide = spend(&mut state.switches.error_with_write);
        let reply = dispatch(&mut state, &call);
        (if hide && reply.status < 300 { html(500, "Internal Server Error") } else { reply }, wait)
    }

    fn dispatch(&self, call: &Call) -> Reply {
        dispatch(&mut self.lock(), call)
    }

    /// Takes the next turn of the class of a request; with a manual clock nothing waits.
    fn turn(&self, call: &Call) -> Duration {
        let pace = self.lock().switches.pace;
        let tail = call.path.rsplit('/').next().unwrap_or_default();
        let is_page = call.path.contains("/fhir2/")
            && (call.path.ends_with("/R4") || tail.starts_with(char::is_uppercase));
        let (class, per_second) = match (call.is_write(), tail) {
            (true, "patient" | "Patient") => (0, pace.creates_per_s),
            (true, _) => (1, pace.edits_per_s),
            (false, _) if is_page => (3, pace.pages_per_s),
            (false, _) => (2, pace.reads_per_s),
        };
        if per_second <= 0.0 || self.clock.is_manual() {
            return Duration::ZERO;
        }
        let now = call.now as f64;
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let done = turns[class].max(now) + 1000.0 / per_second;
        turns[class] = done;
        Duration::from_secs_f64(((done - now) / 1000.0).max(0.0))
    }
}

/// Uses up one of a number of times.
fn spend(times: &mut u32) -> bool {
    let any = *times > 0;
    *times = times.saturating_sub(1);
    any
}

/// Calls that store no record: logins and numbers.
fn is_side_call(path: &str) -> bool {
    path.ends_with("/session") || path.contains("/idgen/")
}

async fn serve(Shared(server): Shared<Arc<OpenMrs>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_BODY).await else {
        return html(400, "The request body cannot be read").into_response();
    };
    server.clock.run_due();
    let call = Call::new(parts.method, &parts.uri, parts.headers, body, server.clock.now_ms());
    let (reply, wait) = server.respond(call);
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    reply.into_response()
}

fn dispatch(state: &mut State, call: &Call) -> Reply {
    let rest = call.path.strip_prefix("/openmrs/ws/rest/v1/");
    let fhir = call.path.strip_prefix("/openmrs/ws/fhir2/R4");
    if rest.is_none() && fhir.is_none() {
        let path = call.path.replace('/', "&#47;");
        return html(404, &format!("The requested resource [{path}] is not available"));
    }
    let caller = match state.auth.identify(call, rest.is_some()) {
        Ok(caller) => caller,
        Err(reply) => return reply,
    };
    let answer = match (rest, fhir) {
        (Some(path), _) => rest::answer(state, call, &caller, path),
        (_, path) => fhir::answer(state, call, &caller, path.unwrap_or_default()),
    };
    let reply = answer.unwrap_or_else(|reply| reply);
    match caller.is_new && call.method != Method::HEAD {
        true => reply.with("set-cookie", format!("JSESSIONID={}; Path=/openmrs; HttpOnly", caller.session)),
        false => reply,
    }
}
