//! Reading many documents of a database at once: `_all_docs`, `_bulk_get`, `_revs_diff` and `_find`.

use std::ops::Bound;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    auth::User,
    changes,
    http::{Fail, Reply, Req},
    mango,
    rev::Rev,
    state::State,
    store::{self, Json},
};

const NO_INDEX: &str = "No matching index found, create an index to optimize query time.";
const MANY_READ: &str = "\nThe number of documents examined is high in proportion to the number of results returned. \
    Consider adding a more specific index to improve this.";

pub(super) fn all_docs(state: &State, name: &str, req: &Req, user: &User) -> Result<Reply, Fail> {
    let db = state.db(name).ok_or_else(Fail::no_database)?;
    let body: Value = if req.body.is_empty() { json!({}) } else { req.json()? };
    let include = req.flag("include_docs") || body["include_docs"] == true;
    let total = db.doc_count();
    let listed = match req.json_param("keys")? {
        Some(keys) => Some(keys),
        None => body.get("keys").cloned(),
    };
    let key_row = |key: &str| {
        let Some(current) = db.get(key) else { return json!({ "key": key, "error": "not_found" }) };
        let mut row = json!({ "id": key, "key": key, "value": { "rev": current.rev.to_string() } });
        if current.deleted {
            row["value"]["deleted"] = json!(true);
        }
        if include {
            row["doc"] = if current.deleted { Value::Null } else { Value::Object(current.json()) };
        }
        row
    };
    if !user.is_online() {
        let ids = changes::default_ids(user).into_iter().filter(|id| db.get(id).is_some());
        let rows: Vec<Value> = ids.map(|id| key_row(&id)).collect();
        return Ok(Reply::api(&json!({ "total_rows": total, "offset": null, "rows": rows })));
    }
    if let Some(keys) = listed {
        let rows: Vec<Value> =
            keys.as_array().into_iter().flatten().filter_map(Value::as_str).map(key_row).collect();
        return Ok(Reply::couch(
            200,
            json!({ "total_rows": total, "offset": null, "rows": rows }).to_string(),
        ));
    }
    let bound = |names: [&str; 2]| -> Result<Option<String>, Fail> {
        for name in names {
            if let Some(value) = req.json_param(name)? {
                return Ok(value.as_str().map(str::to_owned));
            }
        }
        Ok(None)
    };
    let exactly = bound(["key", "key"])?;
    let from = exactly.clone().or(bound(["startkey", "start_key"])?);
    let to = exactly.or(bound(["endkey", "end_key"])?);
    let number = |name: &str| req.param(name).and_then(|text| text.parse::<usize>().ok());
    let (limit, skip) = (number("limit").unwrap_or(usize::MAX), number("skip").unwrap_or(0));
    let inclusive_end = req.param("inclusive_end") != Some("false");
    let mut rows = Vec::new();
    let mut skipped = 0;
    let mut next = db.next_id(from.as_deref().unwrap_or_default(), true);
    while let Some(current) = next
        && rows.len() < limit
    {
        let id = current.id.to_string();
        if to.as_ref().is_some_and(|to| if inclusive_end { id > *to } else { id >= *to }) {
            break;
        }
        if !current.deleted {
            if skipped < skip {
                skipped += 1;
            } else {
                let doc = if include { format!(r#","doc":{}"#, current.text()) } else { String::new() };
                let key = Value::from(id.as_str());
                rows.push(format!(r#"{{"id":{key},"key":{key},"value":{{"rev":"{}"}}{doc}}}"#, current.rev));
            }
        }
        next = db.next_id(&id, false);
    }
    let offset =
        if from.is_none() { skipped } else { before(db, from.as_deref().unwrap_or_default()) + skipped };
    let body =
        format!("{{\"total_rows\":{total},\"offset\":{offset},\"rows\":[\n{}\n]}}\n", rows.join(",\n"));
    Ok(Reply::couch(200, body))
}

/// How many stored live documents lie before an id.
fn before(db: &store::Db, id: &str) -> usize {
    db.docs
        .range::<str, _>((Bound::Unbounded, Bound::Excluded(id)))
        .filter(|(_, doc)| !doc.tree.winner().deleted)
        .count()
}

pub(super) fn bulk_get(state: &State, name: &str, req: &Req) -> Result<Reply, Fail> {
    let body = req.json()?;
    let db = state.db(name).ok_or_else(Fail::no_database)?;
    let Some(asked) = body["docs"].as_array() else {
        return Err(Fail::couch(400, "bad_request", "Missing JSON list of 'docs'."));
    };
    let found = |one: &Value| {
        let id = one["id"].as_str().unwrap_or_default();
        let missing = |rev: &str| json!({ "error": { "id": id, "rev": rev, "error": "not_found", "reason": "missing" } });
        let doc = match (one["rev"].as_str(), db.get(id)) {
            (rev, None) => missing(rev.unwrap_or("undefined")),
            (None, Some(current)) => json!({ "ok": current.json() }),
            (Some(rev), Some(current)) => {
                let node = Rev::parse(rev).and_then(|rev| db.docs.get(id)?.tree.find(rev));
                match node.and_then(|node| Some((node, node.body.as_deref()?))) {
                    Some((node, body)) => json!({ "ok": store::parse(id, node.rev, node.deleted, body) }),
                    None if current.rev.to_string() == rev => json!({ "ok": current.json() }),
                    None => missing(rev),
                }
            }
        };
        json!({ "id": id, "docs": [doc] })
    };
    let results: Vec<Value> = asked.iter().map(found).collect();
    Ok(Reply::couch(200, json!({ "results": results }).to_string()))
}

pub(super) fn revs_diff(state: &State, name: &str, req: &Req) -> Result<Reply, Fail> {
    let body = super::couch::as_object(req.json()?)?;
    let db = state.db(name).ok_or_else(Fail::no_database)?;
    let mut out = Json::new();
    for (id, revs) in &body {
        let tree = db.docs.get(id.as_str()).map(|doc| &doc.tree);
        let known = |rev: &&Value| {
            rev.as_str()
                .and_then(Rev::parse)
                .is_some_and(|rev| tree.is_some_and(|tree| tree.find(rev).is_some()))
        };
        let missing: Vec<&Value> = revs.as_array().into_iter().flatten().filter(|rev| !known(rev)).collect();
        if !missing.is_empty() {
            out.insert(id.clone(), json!({ "missing": missing }));
        }
    }
    Ok(Reply::couch(200, Value::Object(out).to_string()))
}

pub(super) fn find(state: &State, name: &str, req: &Req) -> Result<Reply, Fail> {
    if !req.is_json() {
        return Err(Fail::couch(415, "bad_content_type", "Content-Type must be application/json"));
    }
    let body = req.json()?;
    let db = state.db(name).ok_or_else(Fail::no_database)?;
    let Some(selector) = body["selector"].as_object() else {
        return Err(Fail::couch(400, "missing_required_key", "Missing required key: selector"));
    };
    if let Some(operator) = mango::unknown_operator(&body["selector"]) {
        return Err(Fail::couch(400, "invalid_operator", format!("Invalid operator: {operator}")));
    }
    let sorts_by_id = |sort: &Value| sort == "_id" || sort.get("_id").is_some();
    if body["sort"].as_array().is_some_and(|sort| !sort.is_empty() && !sort.iter().all(sorts_by_id)) {
        let reason = "No index exists for this sort, try indexing by the sort fields.";
        return Err(Fail::couch(400, "no_usable_index", reason));
    }
    let limit = body["limit"].as_u64().unwrap_or(25) as usize;
    let skip = body["skip"].as_u64().unwrap_or(0) as usize;
    let after = body["bookmark"].as_str().and_then(read_bookmark).unwrap_or_default();
    let (mut docs, mut examined, mut last) = (Vec::new(), 0, None);
    for current in db.live().filter(|current| *current.id > *after && !current.id.starts_with("_design/")) {
        if docs.len() >= limit.saturating_add(skip) {
            break;
        }
        examined += 1;
        let doc = Value::Object(current.json());
        if mango::matches(selector, &doc) {
            last = Some(current.id.to_string());
            docs.push(project(doc, &body["fields"]));
        }
    }
    docs.drain(..skip.min(docs.len()));
    let mut warning = NO_INDEX.to_owned();
    if examined > docs.len() * 10 {
        warning.push_str(MANY_READ);
    }
    let bookmark = last.map_or_else(|| "nil".to_owned(), |id| make_bookmark(&id));
    Ok(Reply::couch(200, json!({ "docs": docs, "bookmark": bookmark, "warning": warning }).to_string()))
}

fn make_bookmark(id: &str) -> String {
    format!("g1AAAAB4{}", URL_SAFE_NO_PAD.encode(id))
}

fn read_bookmark(text: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(text.strip_prefix("g1AAAAB4")?).ok()?).ok()
}

fn project(doc: Value, fields: &Value) -> Value {
    let Some(fields) = fields.as_array() else { return doc };
    let mut out = json!({});
    for path in fields.iter().filter_map(Value::as_str) {
        if let Some(value) = mango::field_of(&doc, path) {
            place(&mut out, path, value.clone());
        }
    }
    out
}

/// Sets a dotted path, making the objects above it.
fn place(out: &mut Value, path: &str, value: Value) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let Value::Object(map) = out else { return };
    match rest {
        None => _ = map.insert(first.to_owned(), value),
        Some(rest) => place(map.entry(first).or_insert_with(|| json!({})), rest, value),
    }
}
