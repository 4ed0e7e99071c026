//! Calls that look things up or away in bulk: `hydrate`, `contacts-by-phone`, `bulk-delete`, forms.

use serde_json::{Value, json};

use super::{
    auth::Access,
    http::{Fail, Reply, Req},
    lineage, phone,
    state::State,
    store::Json,
};

pub(super) fn hydrate(state: &State, req: &Req, access: &Access) -> Result<Reply, Fail> {
    access.user()?.not_offline()?;
    let listed = if req.method == "GET" {
        req.param("doc_ids").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    } else {
        req.json()?.get_mut("doc_ids").map(Value::take).unwrap_or_default()
    };
    let Value::Array(ids) = listed else {
        return Err(Fail::reason(400, "bad_request", "`doc_ids` parameter must be a json array."));
    };
    let ids: Vec<&str> = ids.iter().filter_map(Value::as_str).collect();
    let docs: Vec<Json> = ids.iter().filter_map(|id| state.medic.json(id)).collect();
    let mut hydrated = lineage::hydrate(state, docs).into_iter().peekable();
    let rows: Vec<Value> = ids
        .iter()
        .map(|id| match hydrated.next_if(|doc| doc.get("_id").and_then(Value::as_str) == Some(id)) {
            Some(doc) => json!({ "id": id, "doc": doc }),
            None => json!({ "id": id, "error": "not_found" }),
        })
        .collect();
    Ok(Reply::api(&Value::Array(rows)))
}

pub(super) fn contacts_by_phone(state: &State, req: &Req, access: &Access) -> Result<Reply, Fail> {
    access.user()?.not_offline()?;
    let body = if req.method == "GET" { Value::Null } else { req.json()? };
    let given = req.param("phone").or(body["phone"].as_str());
    let number =
        given.and_then(|text| phone::normalise(text, &state.settings.country_code())).ok_or_else(|| {
            Fail::reason(400, "bad_request", "`phone` parameter is required and must be a valid phone number")
        })?;
    let found = state.index.exact("phone", &number).unwrap_or_default();
    if found.is_empty() {
        return Err(Fail::reason(404, "not_found", "no matches found"));
    }
    let docs: Vec<Json> = found.iter().filter_map(|id| state.medic.json(id)).collect();
    let docs = lineage::hydrate(state, docs);
    Ok(Reply::api(&json!({ "ok": true, "docs": docs })))
}

/// Whatever is wrong here, a missing right too, is a 500.
pub(super) fn bulk_delete(state: &mut State, req: &Req, access: &Access, now: i64) -> Result<Reply, Fail> {
    let refused = || Fail::server(None);
    let body = req.exact_json()?;
    let user = access.user().map_err(|_| refused())?;
    user.need_all(state, &["can_edit"]).map_err(|_| refused())?;
    let docs = body["docs"].as_array().filter(|_| user.is_online()).ok_or_else(refused)?;
    let mut batches = Vec::new();
    for batch in docs.chunks(50) {
        let mut rows = Vec::new();
        for id in batch.iter().filter_map(|doc| doc["_id"].as_str()) {
            let Some(mut doc) = state.medic.json(id) else { continue };
            doc.insert("_deleted".into(), true.into());
            if let Ok(rev) = state.put(doc, now) {
                rows.push(json!({ "ok": true, "id": id, "rev": rev.to_string() }));
            }
        }
        batches.push(Value::Array(rows));
    }
    Ok(Reply::api(&Value::Array(batches)))
}

pub(super) fn forms(state: &State, access: &Access) -> Result<Reply, Fail> {
    access.user()?;
    let names = state.medic.live().filter_map(|current| {
        current
            .id
            .strip_prefix("form:")
            .filter(|name| !name.contains(':'))
            .map(|name| json!(format!("{name}.xml")))
    });
    Ok(Reply::api(&names.collect()))
}

pub(super) fn form(state: &State, file: &str, access: &Access) -> Result<Reply, Fail> {
    access.user()?;
    let (name, extension) = file.rsplit_once('.').unwrap_or((file, ""));
    let doc = state.medic.json(&format!("form:{name}")).filter(|_| extension == "xml");
    let doc = doc.ok_or_else(|| Fail::api(404, format!("Form not found: {name} ({extension})")))?;
    let xml = doc.get("xml").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Reply::new(200, "application/octet-stream", xml))
}

/// A month's figures of a user.
pub(super) fn target(state: &State, id: &str, access: &Access) -> Result<Reply, Fail> {
    access.user()?.need_online_any(state, &[])?;
    let doc = state.medic.json(id).filter(|_| id.starts_with("target~"));
    doc.map(|doc| Reply::api(&Value::Object(doc))).ok_or_else(|| Fail::api(404, "Target not found"))
}

/// The figures of some contacts for a month, in one page.
pub(super) fn targets(state: &State, req: &Req, access: &Access) -> Result<Reply, Fail> {
    access.user()?.need_online_any(state, &[])?;
    let period = req.param("reporting_period").unwrap_or_default();
    let owners: Vec<&str> =
        req.param("contact_ids").or(req.param("contact_id")).unwrap_or_default().split(',').collect();
    let docs =
        state.medic.live().filter(|current| current.id.starts_with("target~")).map(|current| current.json());
    let text =
        |doc: &Json, field: &str| doc.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let data: Vec<Value> = docs
        .filter(|doc| {
            text(doc, "reporting_period") == period && owners.contains(&text(doc, "owner").as_str())
        })
        .map(Value::Object)
        .collect();
    Ok(Reply::api(&json!({ "data": data, "cursor": null })))
}
