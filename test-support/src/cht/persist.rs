//! The state in a file, one JSON line per thing, so that a restarted stand-in goes on where it stopped.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Options,
    auth::{Account, Lockout},
    generated::Batch,
    rev::Tree,
    settings::Settings,
    standin,
    state::{Index, State, Switches},
    store::{Db, Doc, Json},
    users,
};

const OTHER_DATABASES: [&str; 3] = ["medic-users-meta", "medic-logs", "medic-vault"];

fn empty(now: i64) -> State {
    State {
        medic: Db::default(),
        sentinel: Db::default(),
        users: Db::default(),
        others: OTHER_DATABASES.iter().map(|name| ((*name).to_owned(), Db::default())).collect(),
        index: Index::default(),
        settings: Settings::default(),
        accounts: BTreeMap::new(),
        credentials: BTreeMap::new(),
        lockout: Lockout::default(),
        switches: Switches::default(),
        processed: 0,
        sentinel_free_at: 0,
        shortcode_length: 5,
        started_ms: now,
        admin: String::new(),
        seed: 0,
        drawn: 0,
        nonce: 0,
        sent: HashMap::new(),
    }
}

pub(super) fn fresh(options: Options, now: i64) -> State {
    let mut state = empty(now);
    state.seed = options.seed;
    state.admin.clone_from(&options.admin);
    state.switches = options.switches;
    for doc in standin::own_documents(&options.settings) {
        let _ = state.put(doc, now);
    }
    state.reload_settings();
    let admin_roles = ["admin".to_owned(), "mm-online".to_owned()];
    users::add(&mut state, &options.admin, &options.password, &admin_roles, now);
    for (name, password, roles) in &options.users {
        users::add(&mut state, name, password, roles, now);
    }
    state.processed = state.medic.seq;
    state
}

#[derive(Serialize, Deserialize)]
struct Header {
    processed: u64,
    sentinel_free_at: i64,
    shortcode_length: usize,
    admin: String,
    seed: u64,
    drawn: u64,
    nonce: u32,
    switches: Switches,
    accounts: BTreeMap<String, Account>,
    credentials: BTreeMap<String, String>,
    sent: HashMap<String, Vec<i64>>,
}

#[derive(Serialize, Deserialize)]
enum Line {
    Header(Box<Header>),
    Seq { db: String, seq: u64 },
    Batch { db: String, batch: Batch },
    Local { db: String, id: String, rev: u64, body: Json },
    Doc { db: String, id: String, seq: u64, written_ms: i64, tree: Tree },
}

fn all(state: &State) -> impl Iterator<Item = (&str, &Db)> {
    let main = [("medic", &state.medic), ("medic-sentinel", &state.sentinel), ("_users", &state.users)];
    main.into_iter().chain(state.others.iter().map(|(name, db)| (name.as_str(), db)))
}

/// Written beside the file and then moved over it.
pub(super) fn save(state: &State, path: &Path) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = BufWriter::new(File::create(&beside)?);
    let mut line = |line: &Line| -> io::Result<()> {
        serde_json::to_writer(&mut file, line)?;
        file.write_all(b"\n")
    };
    line(&Line::Header(Box::new(Header {
        processed: state.processed,
        sentinel_free_at: state.sentinel_free_at,
        shortcode_length: state.shortcode_length,
        admin: state.admin.clone(),
        seed: state.seed,
        drawn: state.drawn,
        nonce: state.nonce,
        switches: state.switches.clone(),
        accounts: state.accounts.clone(),
        credentials: state.credentials.clone(),
        sent: state.sent.clone(),
    })))?;
    for (name, db) in all(state) {
        line(&Line::Seq { db: name.into(), seq: db.seq })?;
        for batch in &db.batches {
            line(&Line::Batch { db: name.into(), batch: batch.clone() })?;
        }
        for (id, (rev, body)) in &db.local {
            line(&Line::Local { db: name.into(), id: id.clone(), rev: *rev, body: body.clone() })?;
        }
        for (id, Doc { tree, seq, written_ms }) in &db.docs {
            let (seq, written_ms) = (*seq, *written_ms);
            line(&Line::Doc { db: name.into(), id: id.to_string(), seq, written_ms, tree: tree.clone() })?;
        }
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(beside, path)
}

pub(super) fn load(path: &Path, now: i64) -> io::Result<State> {
    let mut state = empty(now);
    for line in BufReader::new(File::open(path)?).lines() {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "no such database");
        match serde_json::from_str(&line?)? {
            Line::Header(header) => {
                state.processed = header.processed;
                state.sentinel_free_at = header.sentinel_free_at;
                state.shortcode_length = header.shortcode_length;
                state.admin = header.admin;
                state.seed = header.seed;
                state.drawn = header.drawn;
                state.nonce = header.nonce;
                state.switches = header.switches;
                state.accounts = header.accounts;
                state.credentials = header.credentials;
                state.sent = header.sent;
            }
            Line::Seq { db, seq } => state.db_mut(&db).ok_or_else(wrong)?.seq = seq,
            Line::Batch { db, batch } => state.db_mut(&db).ok_or_else(wrong)?.batches.push(batch),
            Line::Local { db, id, rev, body } => {
                state.db_mut(&db).ok_or_else(wrong)?.local.insert(id, (rev, body));
            }
            Line::Doc { db, id, seq, written_ms, tree } => {
                state.db_mut(&db).ok_or_else(wrong)?.restore(&id, Doc { tree, seq, written_ms });
            }
        }
    }
    let doc = state.medic.json("settings").unwrap_or_default();
    state.settings = Settings::new(doc.get("settings").cloned().unwrap_or_else(|| json!({})));
    state.rebuild_index();
    Ok(state)
}
