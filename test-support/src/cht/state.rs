//! Everything that the stand-in knows: its databases, the indexes kept while writing, and the one way to write a
//! document of `medic`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    auth::{Account, Lockout},
    generated::mix,
    rev::Rev,
    settings::Settings,
    store::{Db, Json, take_apart},
};

/// How sentinel, the CHT's worker behind the scenes, keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sentinel {
    /// It handles nothing; the backlog grows.
    Off,
    /// Each change 0.1 s after it was made, however many there are.
    Fast,
    /// The same, but ten changes a second, as a small server does.
    Slow,
}

/// Which of the newer calls are there; the others are unknown paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Calls {
    /// `people`, `places` and CouchDB only; the release is 4.2.0.
    #[serde(rename = "4.2")]
    V42,
    /// Also `person`, `place` and `report`, without lists by ids and summaries.
    #[serde(rename = "5.2")]
    V52,
    /// All, as on the server that was recorded (it calls itself 5.2.0 too).
    #[serde(rename = "5.3")]
    V53,
}

/// What can be switched while it runs (`PUT /_standin/cht/settings`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// The api is starting: 200 and a page, or 503 for those who accept JSON.
    pub starting: bool,
    /// CouchDB cannot be reached: 500, monitoring full of -1.
    pub couchdb_down: bool,
    /// The worker's pace.
    pub sentinel: Sentinel,
    /// Changes that sentinel handles in a second; 0 is what `sentinel` says.
    pub sentinel_per_s: f64,
    /// Every answer waits so long (on a real clock).
    pub latency_ms: u64,
    /// The generation of the api.
    pub calls: Calls,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            starting: false,
            couchdb_down: false,
            sentinel: Sentinel::Fast,
            sentinel_per_s: 0.0,
            latency_ms: 0,
            calls: Calls::V53,
        }
    }
}

/// Milliseconds from a change until sentinel has handled it, on a quiet system.
pub(super) const SENTINEL_DELAY_MS: i64 = 100;

impl Switches {
    /// Milliseconds that sentinel spends on one change.
    fn pace_ms(&self) -> i64 {
        let per_s = match self.sentinel {
            _ if self.sentinel_per_s > 0.0 => self.sentinel_per_s,
            Sentinel::Slow => 10.0,
            Sentinel::Fast | Sentinel::Off => return 0,
        };
        (1000.0 / per_s) as i64
    }
}

/// Another revision was there.
#[derive(Debug)]
pub(super) struct Conflict;

#[derive(Default)]
pub(super) struct Index {
    /// Ids of contacts by the id of their type.
    pub contacts: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// Ids of reports by form.
    pub reports: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// Ids of contacts by `field:value`, lower case.
    exact: HashMap<Box<str>, Vec<Arc<str>>>,
    /// Ids of reports that hold messages to send.
    pub outgoing: BTreeSet<Arc<str>>,
    /// Ids that gateways gave to the messages they brought.
    pub messages: BTreeSet<String>,
}

/// Whether the messages of a task are still to be sent.
fn waits(task: &Value) -> bool {
    matches!(task["state"].as_str(), Some("pending" | "forwarded-to-gateway"))
}

/// The fields of a contact that can be looked up at once.
const EXACT: [&str; 5] = ["patient_id", "place_id", "phone", "external_id", "rc_code"];

impl Index {
    fn update(&mut self, id: &Arc<str>, doc: &Json, settings: &Settings, add: bool) {
        let change =
            |set: &mut BTreeSet<Arc<str>>| _ = if add { set.insert(id.clone()) } else { set.remove(id) };
        if doc.get("type").and_then(Value::as_str) == Some("data_record") {
            let form = doc.get("form").and_then(Value::as_str).unwrap_or_default();
            change(self.reports.entry(form.to_owned()).or_default());
            if doc.get("tasks").and_then(Value::as_array).into_iter().flatten().any(waits) {
                change(&mut self.outgoing);
            }
            let brought = doc.get("sms_message").and_then(|message| message["gateway_ref"].as_str());
            self.messages.extend(brought.map(str::to_owned));
        } else if let Some(contact_type) = settings.contact_type_of(doc) {
            change(self.contacts.entry(contact_type.to_owned()).or_default());
            for field in EXACT {
                if let Some(value) = doc.get(field).and_then(Value::as_str) {
                    self.list(field, value, id, add);
                }
            }
        }
    }

    fn list(&mut self, field: &str, value: &str, id: &Arc<str>, add: bool) {
        let key = format!("{field}:{}", value.to_lowercase()).into_boxed_str();
        let ids = self.exact.entry(key).or_default();
        match (ids.binary_search(id), add) {
            (Err(at), true) => ids.insert(at, id.clone()),
            (Ok(at), false) => _ = ids.remove(at),
            (Ok(_), true) | (Err(_), false) => {}
        }
    }

    /// Contacts that have this value in one of the indexed fields; `None` when the field is not indexed.
    pub fn exact(&self, field: &str, value: &str) -> Option<Vec<Arc<str>>> {
        EXACT.contains(&field).then(|| {
            let key = format!("{field}:{}", value.to_lowercase());
            self.exact.get(key.as_str()).cloned().unwrap_or_default()
        })
    }
}

pub(super) struct State {
    pub medic: Db,
    pub sentinel: Db,
    pub users: Db,
    pub others: BTreeMap<String, Db>,
    pub index: Index,
    pub settings: Settings,
    pub accounts: BTreeMap<String, Account>,
    pub credentials: BTreeMap<String, String>,
    pub lockout: Lockout,
    pub switches: Switches,
    /// Sequence of the last change that sentinel handled, and when it is free for the next.
    pub processed: u64,
    pub sentinel_free_at: i64,
    pub shortcode_length: usize,
    pub started_ms: i64,
    pub admin: String,
    pub seed: u64,
    pub drawn: u64,
    pub nonce: u32,
    /// Texts sent to a number lately, for the state `duplicate`.
    pub sent: HashMap<String, Vec<i64>>,
}

impl State {
    pub fn db(&self, name: &str) -> Option<&Db> {
        match name {
            "medic" => Some(&self.medic),
            "medic-sentinel" => Some(&self.sentinel),
            "_users" => Some(&self.users),
            other => self.others.get(other),
        }
    }

    pub fn db_mut(&mut self, name: &str) -> Option<&mut Db> {
        match name {
            "medic" => Some(&mut self.medic),
            "medic-sentinel" => Some(&mut self.sentinel),
            "_users" => Some(&mut self.users),
            other => self.others.get_mut(other),
        }
    }

    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.seed ^ mix(self.drawn))
    }

    /// The next of those ids of 32 hex digits that CouchDB gives: they count up from a prefix.
    pub fn new_id(&mut self) -> String {
        self.drawn += 1;
        let prefix = u128::from(mix(self.seed)) << 40 | u128::from(mix(self.seed + 1) >> 24);
        format!("{prefix:026x}{:06x}", self.drawn & 0xff_ffff)
    }

    /// A UUID of version 7, as the records calls give.
    pub fn new_uuid(&mut self, now: i64) -> String {
        let (a, b) = (self.draw(), self.draw());
        let mut bytes = [0_u8; 16];
        bytes[..6].copy_from_slice(&(now as u64).to_be_bytes()[2..]);
        bytes[6..8].copy_from_slice(&(a as u16).to_be_bytes());
        bytes[8..].copy_from_slice(&b.to_be_bytes());
        bytes[6] = bytes[6] & 0x0f | 0x70;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        uuid::Uuid::from_bytes(bytes).to_string()
    }

    /// Writes a document of `medic`; `_id` names it, `_rev` is what it replaces, `_deleted` deletes it.
    pub fn put(&mut self, doc: Json, now: i64) -> Result<Rev, Conflict> {
        let (id, base, deleted, body) = take_apart(doc);
        let base = match base {
            None => None,
            Some(text) => Some(Rev::parse(&text).ok_or(Conflict)?),
        };
        self.write(&id, deleted, body, |db, deleted, body| db.put(&id, base, deleted, body, now))
            .ok_or(Conflict)
    }

    /// Writes a revision of `medic` as replication does.
    pub fn graft(&mut self, doc: Json, path: &[Rev], now: i64) {
        let (id, _, deleted, body) = take_apart(doc);
        self.write(&id, deleted, body, |db, deleted, body| {
            db.graft(&id, path, deleted, body, now);
            path.first().copied()
        });
    }

    /// Writes and keeps the indexes in step.
    fn write(
        &mut self,
        id: &str,
        deleted: bool,
        body: Json,
        write: impl FnOnce(&mut Db, bool, &Json) -> Option<Rev>,
    ) -> Option<Rev> {
        let old = self.medic.json(id);
        let rev = write(&mut self.medic, deleted, &body)?;
        let key = self.medic.key(id);
        if let Some(old) = old {
            self.index.update(&key, &old, &self.settings, false);
        }
        let winner = self.medic.get(id).filter(|current| !current.deleted);
        let new = winner.map(|current| if current.rev == rev { body } else { current.json() });
        if let Some(new) = new {
            self.index.update(&key, &new, &self.settings, true);
        }
        if id == "settings" {
            self.reload_settings();
        }
        Some(rev)
    }

    /// Takes over the document `settings`; the contact types decide what is a contact, so the indexes follow.
    pub fn reload_settings(&mut self) {
        let doc = self.medic.json("settings").unwrap_or_default();
        let settings = Settings::new(doc.get("settings").cloned().unwrap_or_else(|| json!({})));
        let types_changed =
            settings.value().get("contact_types") != self.settings.value().get("contact_types");
        self.settings = settings;
        if types_changed {
            self.rebuild_index();
        }
    }

    pub fn rebuild_index(&mut self) {
        let mut index = Index::default();
        for current in self.medic.live() {
            index.update(&Arc::from(&*current.id), &current.json(), &self.settings, true);
        }
        self.index = index;
    }

    /// A text for a place in a feed, another one at every request.
    pub fn seq_text(&self, seq: u64) -> String {
        super::seq::encode(seq, self.nonce)
    }

    /// Lets sentinel handle what is due by now, each change at its own time.
    pub fn tick(&mut self, now: i64) {
        let stopped = self.switches.sentinel == Sentinel::Off || self.switches.couchdb_down;
        if stopped || self.settings.suspends_sentinel() {
            return;
        }
        let pace = self.switches.pace_ms();
        while let Some((seq, id, written)) = self.medic.stored_after(self.processed) {
            let due = (written + SENTINEL_DELAY_MS).max(self.sentinel_free_at);
            if due > now {
                break;
            }
            self.sentinel_free_at = due + pace;
            self.processed = seq;
            super::sentinel::handle(self, &id, seq, due);
        }
    }

    /// Changes that sentinel has not handled yet.
    pub fn backlog(&self) -> u64 {
        self.medic.stored_pending(self.processed)
    }
}
