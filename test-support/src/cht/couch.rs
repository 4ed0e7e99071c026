//! The CouchDB calls under `/medic` and beside it: who may what, single documents, bulk writes, local documents.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    auth::{Access, User},
    changes,
    http::{Fail, Reply, Req},
    query,
    rev::Rev,
    sentinel,
    state::State,
    store::{self, Json, take_apart},
    time, views,
};

const CONFLICT: &str = "Document update conflict.";
/// What an answer of a database may be: complete, or a feed to follow.
pub(super) enum Answer {
    Reply(Reply),
    Feed(changes::Feed),
    /// No answer: the connection breaks off.
    Cut,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// Everything under `/<database>`.
pub(super) fn database(state: &mut State, req: &Req, access: &Access, now: i64) -> Result<Answer, Fail> {
    let (name, rest) = req.path.split_first().ok_or_else(Fail::no_database)?;
    let user = access.user()?.clone();
    if state.db(name).is_none() {
        return Err(Fail::no_database());
    }
    if name != "medic" {
        user.not_offline()?;
        if !user.is_admin() && !user.roles.iter().any(|role| role == "sentinel" && name == "medic-sentinel") {
            return Err(Fail::couch(403, "forbidden", "You are not allowed to access this db."));
        }
    }
    let path: Vec<&str> = rest.iter().map(String::as_str).collect();
    let method = if req.method == "HEAD" { "GET" } else { req.method.as_str() };
    let online = user.is_online();
    match (method, path.as_slice()) {
        ("GET", []) if !req.trailing_slash => {
            Ok(Reply { status: 302, headers: vec![("location", format!("/{name}/"))], body: "".into() }
                .into())
        }
        ("GET", []) => info(state, name).map(Into::into),
        ("POST", []) if !req.trailing_slash => post(state, name, req, now).map(Into::into),
        ("GET" | "POST", ["_changes"]) if !online => Ok(changes::offline(state, &user).into()),
        ("GET" | "POST", ["_changes"]) => changes::Feed::read(state, name, req).map(Answer::Feed),
        ("GET" | "POST", ["_all_docs"]) => query::all_docs(state, name, req, &user).map(Into::into),
        ("POST", ["_find"]) => {
            user.not_offline()?;
            query::find(state, name, req).map(Into::into)
        }
        ("POST", ["_bulk_get"]) => query::bulk_get(state, name, req).map(Into::into),
        ("POST", ["_revs_diff"]) => query::revs_diff(state, name, req).map(Into::into),
        ("GET" | "POST", ["_design", design, "_view", view]) => {
            user.not_offline()?;
            views::query(state, name, design, view, req).map(Into::into)
        }
        (method, ["_local", id @ ..]) => local(state, name, method, &id.join("/"), req).map(Into::into),
        ("GET", ["_design", id]) => get_doc(state, name, &format!("_design/{id}"), req).map(Into::into),
        ("GET", [id]) => get_doc(state, name, id, req).map(Into::into),
        ("POST" | "PUT" | "DELETE", path) => {
            if name == "medic" {
                user.need_all(state, &["can_edit"])?;
            }
            let id = match path {
                [] => String::new(),
                [id] => (*id).to_owned(),
                ["_design", id] => format!("_design/{id}"),
                _ => return Err(Fail::reason(404, "not_found", "missing")),
            };
            if name == "medic" && !req.is_json() && (method == "PUT" || id == "_bulk_docs") {
                if method == "PUT" {
                    state.medic.put(&id, None, false, &Json::new(), now);
                }
                return Ok(Answer::Cut);
            }
            match (method, id.as_str()) {
                ("POST", "_bulk_docs") => bulk_docs(state, name, req, &user, now).map(Into::into),
                ("POST", "") => post(state, name, req, now).map(Into::into),
                ("PUT", id) => put_doc(state, name, id, req, &user, now).map(Into::into),
                ("DELETE", id) => delete_doc(state, name, id, req, &user, now).map(Into::into),
                _ => Err(Fail::reason(404, "not_found", "missing")),
            }
        }
        _ => Err(Fail::couch(404, "not_found", "missing")),
    }
}

fn info(state: &State, name: &str) -> Result<Reply, Fail> {
    let db = state.db(name).ok_or_else(Fail::no_database)?;
    let body = json!({
        "instance_start_time": (state.started_ms / 1000).to_string(), "db_name": name, "purge_seq": state.seq_text(0),
        "update_seq": state.seq_text(db.seq), "sizes": { "file": 922_021, "external": 1_203_825, "active": 538_227 },
        "props": {}, "doc_del_count": db.deleted, "doc_count": db.doc_count(), "disk_format_version": 8,
        "compact_running": false, "cluster": { "q": 2, "n": 1, "w": 1, "r": 1 },
    });
    Ok(Reply::couch(200, body.to_string()))
}

fn missing(reason: &str) -> Fail {
    Fail::couch(404, "not_found", reason)
}

fn conflict() -> Fail {
    Fail::reason(409, "conflict", CONFLICT)
}

fn get_doc(state: &State, name: &str, id: &str, req: &Req) -> Result<Reply, Fail> {
    let db = state.db(name).ok_or_else(Fail::no_database)?;
    let current = db.get(id).ok_or_else(|| missing("missing"))?;
    let tree = db.docs.get(id).map(|doc| &doc.tree);
    let (rev, text) = match (req.param("rev"), tree) {
        (Some(rev), Some(tree)) => {
            let rev = Rev::parse(rev).ok_or_else(|| Fail::couch(400, "bad_request", "Invalid rev format"))?;
            let node = tree.find(rev).ok_or_else(|| missing("missing"))?;
            let body = node.body.as_deref().ok_or_else(|| missing("missing"))?;
            let mut text = String::new();
            store::write_text(&mut text, id, rev, node.deleted, body);
            (rev, text)
        }
        _ if current.deleted => return Err(missing("deleted")),
        _ => (current.rev, current.text()),
    };
    let mut extra = String::new();
    if req.flag("revs")
        && let Some(tree) = tree
    {
        let ids: Vec<String> = tree.path(rev).into_iter().map(Rev::hash_text).collect();
        extra = format!(r#","_revisions":{}"#, json!({ "start": rev.pos, "ids": ids }));
    }
    let conflicts = if req.flag("conflicts") {
        tree.map(|tree| tree.conflicts()).unwrap_or_default()
    } else {
        Vec::new()
    };
    if !conflicts.is_empty() {
        let revs: Vec<String> = conflicts.iter().map(Rev::to_string).collect();
        extra.push_str(&format!(r#","_conflicts":{}"#, json!(revs)));
    }
    let text = format!("{}{extra}}}", &text[..text.len() - 1]);
    let reply = Reply::couch(200, text);
    Ok(if conflicts.is_empty() { reply.with("etag", format!("\"{rev}\"")) } else { reply })
}

/// What CouchDB checks of every document: names that start with an underscore are its own.
fn check_fields(doc: &Json) -> Result<(), Fail> {
    const OWN: [&str; 11] = [
        "_id",
        "_rev",
        "_deleted",
        "_attachments",
        "_revisions",
        "_revs_info",
        "_conflicts",
        "_deleted_conflicts",
        "_local_seq",
        "_replication_id",
        "_replication_state",
    ];
    match doc.keys().find(|key| key.starts_with('_') && !OWN.contains(&key.as_str())) {
        Some(key) => Err(Fail::reason(400, "doc_validation", format!("Bad special document member: {key}"))),
        None => Ok(()),
    }
}

/// What only administrators may write.
fn check_rights(user: &User, id: &str, doc: &Json) -> Result<(), Fail> {
    const IDS: [&str; 9] = [
        "resources",
        "service-worker-meta",
        "zscore-charts",
        "settings",
        "branding",
        "partners",
        "privacy-policies",
        "extension-libs",
        "migration-log",
    ];
    const TYPES: [&str; 4] = ["form", "translations", "token_login", "ui-extension"];
    let doc_type = doc.get("type").and_then(Value::as_str).unwrap_or_default();
    if !user.is_admin() && (id.starts_with("_design/") || IDS.contains(&id) || TYPES.contains(&doc_type)) {
        return Err(Fail::reason(403, "forbidden", "You are not authorized to edit admin only docs"));
    }
    Ok(())
}

/// One write with all checks.
fn write(state: &mut State, name: &str, doc: Json, user: &User, now: i64) -> Result<Rev, Fail> {
    check_fields(&doc)?;
    let base = match doc.get("_rev").and_then(Value::as_str) {
        Some(rev) => {
            Some(Rev::parse(rev).ok_or_else(|| Fail::reason(400, "bad_request", "Invalid rev format"))?)
        }
        None => None,
    };
    let id = doc.get("_id").and_then(Value::as_str).unwrap_or_default().to_owned();
    if name == "medic" {
        check_rights(user, &id, &doc)?;
        let rev = state.put(doc, now).map_err(|_| conflict())?;
        sentinel::note_arrival(state, &id, &json!(time::iso(now)), now);
        return Ok(rev);
    }
    let (_, _, deleted, body) = take_apart(doc);
    let db = state.db_mut(name).ok_or_else(Fail::no_database)?;
    db.put(&id, base, deleted, &body, now).ok_or_else(conflict)
}

fn location(req: &Req, name: &str, id: &str) -> String {
    let host = req.header("host").unwrap_or("127.0.0.1:5988");
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    format!("http://{host}/{name}/{}", id.replace('+', "%20"))
}

fn put_doc(state: &mut State, name: &str, id: &str, req: &Req, user: &User, now: i64) -> Result<Reply, Fail> {
    let mut doc = as_object(req.json()?)?;
    doc.insert("_id".into(), id.into());
    let rev_param = req.param("rev").or(req.header("if-match")).map(|rev| rev.trim_matches('"').to_owned());
    if let Some(rev) = rev_param {
        doc.entry("_rev").or_insert(rev.into());
    }
    let deletes = doc.get("_deleted") == Some(&Value::Bool(true));
    let rev = write(state, name, doc, user, now)?;
    let body = json!({ "ok": true, "id": id, "rev": rev.to_string() });
    let reply = Reply::api_with(if deletes { 200 } else { 201 }, &body);
    Ok(reply.with("etag", format!("\"{rev}\"")).with("location", location(req, name, id)))
}

fn delete_doc(
    state: &mut State,
    name: &str,
    id: &str,
    req: &Req,
    user: &User,
    now: i64,
) -> Result<Reply, Fail> {
    let db = state.db(name).ok_or_else(Fail::no_database)?;
    let current = db.get(id).ok_or_else(|| Fail::reason(404, "not_found", "missing"))?;
    if current.deleted {
        return Err(Fail::reason(404, "not_found", "deleted"));
    }
    let rev = req.param("rev").or(req.header("if-match")).ok_or_else(conflict)?.trim_matches('"').to_owned();
    let doc = json!({ "_id": id, "_rev": rev, "_deleted": true });
    let rev = write(state, name, as_object(doc)?, user, now)?;
    let body = json!({ "ok": true, "id": id, "rev": rev.to_string() });
    Ok(Reply::api(&body).with("etag", format!("\"{rev}\"")))
}

/// `POST /medic`, which nobody checks.
fn post(state: &mut State, name: &str, req: &Req, now: i64) -> Result<Reply, Fail> {
    let mut doc = as_object(req.json()?)?;
    let id = doc.get("_id").and_then(Value::as_str).map_or_else(|| state.new_id(), str::to_owned);
    doc.insert("_id".into(), id.clone().into());
    let anyone = User { name: String::new(), roles: vec!["_admin".into()] };
    let rev = write(state, name, doc, &anyone, now)?;
    let body = json!({ "ok": true, "id": id, "rev": rev.to_string() });
    Ok(Reply::couch(201, body.to_string()).with("location", location(req, name, &id)))
}

pub(super) fn as_object(value: Value) -> Result<Json, Fail> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(Fail::reason(400, "bad_request", "Document must be a JSON object")),
    }
}

fn bulk_docs(state: &mut State, name: &str, req: &Req, user: &User, now: i64) -> Result<Reply, Fail> {
    let mut body = req.json()?;
    let Some(Value::Array(docs)) = body.get_mut("docs").map(Value::take) else {
        return Err(Fail::reason(400, "bad_request", "POST body must include `docs` parameter."));
    };
    if body["new_edits"] == false {
        let mut arrived = BTreeSet::new();
        for doc in docs.into_iter().filter_map(|doc| as_object(doc).ok()) {
            arrived.extend(replicate(state, name, doc, now));
        }
        for id in arrived.iter().filter(|_| name == "medic") {
            sentinel::note_arrival(state, id, &json!(time::iso(now)), now);
        }
        return Ok(Reply::api_text(201, "[]".into()));
    }
    let mut rows = Vec::with_capacity(docs.len());
    for doc in docs {
        let mut doc = match doc {
            Value::Object(doc) if user.is_online() || offline_may(state, user, &doc) => doc,
            other => {
                rows.push(json!({ "id": other["_id"], "error": "forbidden" }));
                continue;
            }
        };
        let id = doc.get("_id").and_then(Value::as_str).map_or_else(|| state.new_id(), str::to_owned);
        doc.insert("_id".into(), id.clone().into());
        rows.push(match write(state, name, doc, user, now) {
            Ok(rev) => json!({ "ok": true, "id": id, "rev": rev.to_string() }),
            Err(Fail::Couch { error, reason, .. }) => json!({ "id": id, "error": error, "reason": reason }),
            Err(_) => json!({ "id": id, "error": "unknown" }),
        });
    }
    Ok(Reply::api_text(201, Value::Array(rows).to_string()))
}

/// Whether a document lies below a place of an offline user.
fn offline_may(state: &State, user: &User, doc: &Json) -> bool {
    let places = state.accounts.get(&user.name).map(|account| account.places.clone()).unwrap_or_default();
    let own = doc.get("_id").and_then(Value::as_str).map(str::to_owned);
    let above = super::lineage::chain_ids(doc.get("parent"));
    let sender = super::lineage::chain_ids(doc.get("contact"));
    own.iter().chain(&above).chain(&sender).any(|id| places.contains(id))
}

/// Takes over a revision; answers the id of its document.
fn replicate(state: &mut State, name: &str, mut doc: Json, now: i64) -> Option<String> {
    let rev = doc.get("_rev").and_then(Value::as_str).and_then(Rev::parse)?;
    let older: Vec<Rev> = match doc.remove("_revisions") {
        Some(revisions) => {
            let start = revisions["start"].as_u64().unwrap_or(0) as u32;
            let ids = revisions["ids"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .enumerate()
                .skip(1);
            ids.filter_map(|(at, hash)| Rev::parse(&format!("{}-{hash}", start.checked_sub(at as u32)?)))
                .collect()
        }
        None => Vec::new(),
    };
    let path: Vec<Rev> = std::iter::once(rev).chain(older).collect();
    if name == "medic" {
        let id = doc.get("_id").and_then(Value::as_str)?.to_owned();
        state.graft(doc, &path, now);
        return Some(id);
    }
    let (id, _, deleted, body) = take_apart(doc);
    state.db_mut(name)?.graft(&id, &path, deleted, &body, now);
    Some(id)
}

fn local(state: &mut State, name: &str, method: &str, id: &str, req: &Req) -> Result<Reply, Fail> {
    let etag = format!("\"{:X}\"", super::generated::mix(state.drawn));
    let db = state.db_mut(name).ok_or_else(Fail::no_database)?;
    match method {
        "PUT" => {
            let body = serde_json::from_slice(&req.body).ok().and_then(|body| as_object(body).ok());
            let body = body.ok_or_else(|| Fail::couch(400, "bad_request", "invalid UTF-8 JSON"))?;
            let rev = db.put_local(id, body);
            let answer = json!({ "ok": true, "id": format!("_local/{id}"), "rev": format!("0-{rev}") });
            let location = location(req, name, &format!("_local/{id}"));
            Ok(Reply::couch(201, answer.to_string()).with("etag", etag).with("location", location))
        }
        "DELETE" => {
            db.local.remove(id).ok_or_else(|| missing("missing"))?;
            let answer = json!({ "ok": true, "id": format!("_local/{id}"), "rev": "0-0" });
            Ok(Reply::couch(200, answer.to_string()).with("etag", etag))
        }
        _ => {
            let doc = db.local(id).ok_or_else(|| missing("missing"))?;
            Ok(Reply::couch(200, doc.to_string()).with("etag", etag))
        }
    }
}
