//! What only a stand-in has: everything it holds as lines, counts of what is there twice, edits by a person at the CHT,
//! switches, and persons made in bulk without being stored.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    generated::{Batch, Generate},
    http::{Fail, Reply, Req},
    settings::type_id,
    state::{State, Switches},
    store::Json,
};

/// What there is and what is there twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Live documents by type (the type of contact for contacts, `data_record` for reports).
    pub by_type: BTreeMap<String, usize>,
    /// Live documents.
    pub docs: u64,
    /// Deleted documents.
    pub deleted: u64,
    /// Persons made in bulk and not stored.
    pub generated: u64,
    /// Documents with conflicting revisions.
    pub conflicts: usize,
    /// Contacts beyond the first with the same `external_id`.
    pub same_external_id: usize,
    /// Persons beyond the first with the same name and date of birth.
    pub same_name_and_birth: usize,
    /// Changes that sentinel has not handled yet.
    pub backlog: u64,
}

pub(super) fn call(state: &mut State, req: &Req, call: &str, now: i64) -> Result<Reply, Fail> {
    let body = || -> Result<Value, Fail> {
        serde_json::from_slice(&req.body).map_err(|error| Fail::reason(400, "bad_request", error.to_string()))
    };
    let wrong = |error: serde_json::Error| Fail::reason(400, "bad_request", error.to_string());
    match (req.method.as_str(), call) {
        ("GET", "docs") => {
            let mut lines = String::new();
            for current in state.medic.live() {
                lines.push_str(&current.text());
                lines.push('\n');
            }
            Ok(Reply::new(200, "application/x-ndjson", lines))
        }
        ("GET", "counts") => Ok(Reply::api(&json!(counts(state)))),
        ("POST", "edit") => {
            let body = body()?;
            let Some(id) = body["_id"].as_str().map(str::to_owned) else {
                return Err(Fail::reason(400, "bad_request", "_id is missing"));
            };
            let before = state.medic.json(&id);
            let rev = edit(state, &id, body, now);
            Ok(Reply::api(&json!({ "ok": true, "id": id, "rev": rev, "before": before })))
        }
        ("GET", "settings") => Ok(Reply::api(&json!(state.switches))),
        ("PUT", "settings") => {
            let mut merged = json!(state.switches);
            for (key, value) in body()?.as_object().into_iter().flatten() {
                merged[key] = value.clone();
            }
            state.switches = serde_json::from_value::<Switches>(merged).map_err(wrong)?;
            Ok(Reply::api(&json!(state.switches)))
        }
        ("POST", "generate") => {
            let spec: Generate = serde_json::from_value(body()?).map_err(wrong)?;
            generate(state, spec, now);
            Ok(Reply::api(&json!({ "ok": true })))
        }
        _ => Err(Fail::reason(404, "not_found", "docs, counts, edit, settings, generate")),
    }
}

pub(super) fn edit(state: &mut State, id: &str, fields: Value, now: i64) -> String {
    let mut doc = state.medic.json(id).unwrap_or_default();
    for (key, value) in fields.as_object().into_iter().flatten().filter(|(key, _)| !key.starts_with('_')) {
        match value {
            Value::Null => _ = doc.remove(key),
            value => _ = doc.insert(key.clone(), value.clone()),
        }
    }
    doc.insert("_id".into(), id.into());
    state.put(doc, now).map(|rev| rev.to_string()).unwrap_or_default()
}

pub(super) fn generate(state: &mut State, spec: Generate, now: i64) {
    if spec.count > 0 {
        let first_seq = state.medic.seq + 1;
        state.medic.add_batch(Batch { first_seq, spec, reported_date: now });
    }
}

pub(super) fn counts(state: &State) -> Counts {
    let mut counts = Counts {
        docs: state.medic.doc_count(),
        deleted: state.medic.deleted,
        generated: state.medic.generated(),
        conflicts: state.medic.conflicts(),
        backlog: state.backlog(),
        ..Counts::default()
    };
    let (mut external, mut births) = (BTreeMap::new(), BTreeMap::new());
    for current in state.medic.live() {
        let doc = current.json();
        let own = type_id(&doc).unwrap_or("none").to_owned();
        let text = |field: &str| doc.get(field).and_then(Value::as_str).map(str::to_owned);
        if state.settings.contact_type_of(&doc).is_some()
            && let Some(id) = text("external_id")
        {
            *external.entry(id).or_insert(0_usize) += 1;
        }
        if state.settings.is_person(&doc)
            && let Some(key) = text("name").zip(text("date_of_birth"))
        {
            *births.entry(key).or_insert(0_usize) += 1;
        }
        *counts.by_type.entry(own).or_default() += 1;
    }
    counts.same_external_id = external.values().map(|count| count - 1).sum();
    counts.same_name_and_birth = births.values().map(|count| count - 1).sum();
    counts
}

/// The documents that a CHT has before anyone uses it.
pub(super) fn own_documents(settings: &Value) -> Vec<Json> {
    let mut docs: Vec<Value> =
        ["medic", "medic-admin", "medic-scripts", "medic-client", "medic-conflicts", "medic-sms"]
            .iter()
            .map(|name| json!({ "_id": format!("_design/{name}"), "views": {} }))
            .collect();
    docs.extend(
        ["branding", "extension-libs", "resources", "service-worker-meta"].map(|id| json!({ "_id": id })),
    );
    docs.push(json!({ "_id": "settings", "settings": settings }));
    for (form, fields) in [("badmap", ""), ("referral", ""), ("twoways", ""), ("visit", VISIT_FIELDS)] {
        docs.push(json!({ "_id": format!("form:{form}"), "type": "form", "internalId": form, "title": form, "xml": fields }));
    }
    docs.into_iter().filter_map(|doc| if let Value::Object(doc) = doc { Some(doc) } else { None }).collect()
}

const VISIT_FIELDS: &str = "<h:html xmlns=\"http://www.w3.org/2002/xforms\" xmlns:h=\"http://www.w3.org/1999/xhtml\" \
    xmlns:jr=\"http://openrosa.org/javarosa\"><h:head><h:title>visit</h:title><model><instance><visit id=\"visit\" \
    version=\"1\"><patient_id/><weight/><meta><instanceID/></meta></visit></instance><bind nodeset=\"/visit/patient_id\" \
    type=\"string\"/><bind nodeset=\"/visit/weight\" type=\"decimal\"/></model></h:head><h:body><input \
    ref=\"/visit/patient_id\"><label>ID</label></input><input ref=\"/visit/weight\"><label>W</label></input></h:body></h:html>";
