//! What a CHT tells of itself: versions, readiness, the figures of monitoring, how much of what there is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    auth::Access,
    http::{Fail, Reply},
    settings::type_id,
    state::{Calls, State},
    store::Db,
    time,
};

/// What the server calls itself.
fn release(state: &State) -> &'static str {
    if state.switches.calls == Calls::V42 { "4.2.0" } else { "5.2.0" }
}

/// The version of the api package, which says nothing about the release.
const API: &str = "0.1.0";

pub(super) fn version() -> Reply {
    Reply::api(&json!({ "version": API }))
}

pub(super) fn ready() -> Reply {
    let detail = "All required services are running normally";
    Reply::api(&json!({ "ready": true, "handler": "medic-api", "version": API, "detail": detail }))
}

/// The steps of the start, all done once anything is answered.
pub(super) fn progress(state: &State) -> Reply {
    let done =
        |text: &str| json!({ "started": true, "completed": true, "text": text, "at": state.started_ms });
    Reply::api(
        &json!({ "actions": { "checks": done("Checks"), "indexing": done("Indexing"), "forms": done("Forms") } }),
    )
}

pub(super) fn deployed(state: &State, access: &Access) -> Result<Reply, Fail> {
    access.user()?;
    let release = release(state);
    Ok(Reply::api(&json!({
        "application": "medic", "author": "npm on lab", "build": format!("{release}.undefined"), "namespace": "medic",
        "schema_version": 2, "base_version": release, "time": time::iso(state.started_ms), "version": release, "user": "",
        "upgrade_log_id": format!("upgrade_log:{}:{release}", state.started_ms), "timestamp": state.started_ms,
    })))
}

fn database(name: &str, db: Option<&Db>, views: &[&str], indexes: &[&str]) -> Value {
    let known = db.is_some();
    let figure = |value: Option<u64>| value.map_or(json!(-1), |value| json!(value));
    let sizes = |active: i64, file: i64| {
        if known { json!({ "active": active, "file": file }) } else { json!({ "active": -1, "file": -1 }) }
    };
    let views: Vec<Value> = views
        .iter()
        .filter(|_| known)
        .map(|name| json!({ "name": name, "sizes": { "active": 0, "file": 16_384 } }))
        .collect();
    let indexes: Vec<Value> =
        indexes.iter().map(|name| json!({ "name": name, "doc_count": 0, "file_size": 0 })).collect();
    json!({
        "name": if known { name } else { "" },
        "update_sequence": figure(db.map(|db| db.seq)),
        "doc_count": figure(db.map(Db::doc_count)),
        "doc_del_count": figure(db.map(|db| db.deleted)),
        "fragmentation": if known { json!(2.5) } else { json!(-1) },
        "sizes": sizes(500_000, 1_250_000),
        "view_indexes": views,
        "nouveau_indexes": indexes,
    })
}

pub(super) fn monitoring(state: &State, second: bool, now: i64) -> Reply {
    let down = state.switches.couchdb_down;
    let db = |name| (!down).then(|| state.db(name)).flatten();
    let figure = |value: u64| if down { json!(-1) } else { json!(value) };
    let indexes =
        ["medic/contacts_by_freetext", "medic/reports_by_freetext", "medic/docs_by_replication_key"];
    let views = ["medic", "medic-admin", "medic-client", "medic-conflicts", "medic-sms"];
    let mut body = json!({
        "version": { "app": release(state), "node": "v22.23.3", "couchdb": if down { "" } else { "3.5.2-dirty" } },
        "couchdb": {
            "medic": database("medic", db("medic"), &views, &indexes),
            "sentinel": database("medic-sentinel", db("medic-sentinel"), &["sentinel"], &[]),
            "usersmeta": database("medic-users-meta", db("medic-users-meta"), &["users-meta"], &[]),
            "users": database("_users", db("_users"), &["users"], &[]),
        },
        "date": { "current": now, "uptime": (now - state.started_ms) as f64 / 1000.0 },
        "sentinel": { "backlog": figure(state.backlog()) },
        "messaging": { "outgoing": outgoing(state, second, now) },
        "outbound_push": { "backlog": figure(0) },
        "feedback": { "count": figure(0) },
        "conflict": { "count": figure(state.medic.conflicts() as u64) },
        "replication_limit": { "count": figure(0) },
        "connected_users": { "count": figure(0) },
    });
    if second {
        body["replication_failure"] = json!({ "count": figure(0) });
    }
    Reply::api(&body)
}

const WAITING: [&str; 4] = ["pending", "forwarded-to-gateway", "received-by-gateway", "forwarded-by-gateway"];
const FINAL: [&str; 3] = ["sent", "delivered", "failed"];
const MUTED: [&str; 4] = ["denied", "cleared", "muted", "duplicate"];

/// States of outgoing messages: in all, of the last seven days, and of the newest hundred by group.
fn outgoing(state: &State, second: bool, now: i64) -> Value {
    let mut tasks: Vec<(i64, String)> = Vec::new();
    for id in state.index.reports.values().flatten() {
        let doc = state.medic.json(id).unwrap_or_default();
        let at = doc.get("reported_date").and_then(Value::as_i64).unwrap_or(0);
        for task in doc.get("tasks").and_then(Value::as_array).into_iter().flatten() {
            tasks.push((at, task["state"].as_str().unwrap_or_default().to_owned()));
        }
    }
    tasks.sort();
    let down = state.switches.couchdb_down;
    let figure = |count: usize| if down { json!(-1) } else { json!(count) };
    let counted = |since: i64| {
        let of = |names: &[&str]| {
            figure(tasks.iter().filter(|(at, name)| *at >= since && names.contains(&name.as_str())).count())
        };
        json!({
            "due": of(&["pending", "forwarded-to-gateway"]), "scheduled": of(&["scheduled"]),
            "muted": of(&["muted", "denied", "cleared"]), "failed": of(&["failed"]), "delivered": of(&["sent", "delivered"]),
        })
    };
    if !second {
        return json!({ "state": counted(i64::MIN) });
    }
    let newest = &tasks[tasks.len().saturating_sub(100)..];
    let group = |names: &[&str]| {
        let counts = names
            .iter()
            .map(|name| (name.to_string(), figure(newest.iter().filter(|(_, own)| own == name).count())));
        Value::Object(counts.collect())
    };
    json!({
        "total": counted(i64::MIN),
        "seven_days": counted(now - 7 * 24 * 3_600_000),
        "last_hundred": { "pending": group(&WAITING), "final": group(&FINAL), "muted": group(&MUTED) },
    })
}

pub(super) fn impact(state: &State, access: &Access) -> Result<Reply, Fail> {
    access.user()?.need_online_any(state, &[])?;
    let mut contacts: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, ids) in state.index.contacts.iter().filter(|(_, ids)| !ids.is_empty()) {
        contacts.insert(name, ids.len());
    }
    let forms = state.index.reports.iter().filter(|(form, ids)| !form.is_empty() && !ids.is_empty());
    let mut forms: Vec<(&str, usize)> = forms.map(|(form, ids)| (form.as_str(), ids.len())).collect();
    forms.sort_by_key(|(form, _)| (form.to_lowercase(), *form));
    let users = state.users.live().filter(|current| type_id(&current.json()) == Some("user")).count();
    let by_type: Vec<Value> =
        contacts.iter().map(|(name, count)| json!({ "type": name, "count": count })).collect();
    let by_form: Vec<Value> =
        forms.iter().map(|(form, count)| json!({ "form": form, "count": count })).collect();
    Ok(Reply::api(&json!({
        "users": { "count": users },
        "contacts": { "count": contacts.values().sum::<usize>(), "by_type": by_type },
        "reports": { "count": forms.iter().map(|(_, count)| count).sum::<usize>(), "by_form": by_form },
    })))
}
