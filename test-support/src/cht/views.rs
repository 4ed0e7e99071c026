//! The views of the CHT that clients use, computed when they are asked.

use serde_json::{Value, json};

use super::{
    http::{Fail, Reply, Req},
    lineage::chain_ids,
    mango::collate,
    settings::type_id,
    state::State,
    store::Json,
};

#[derive(PartialEq)]
enum Reduce {
    None,
    Count,
    Stats,
}

type Emitted = Vec<(Value, Value)>;

struct View {
    map: fn(&State, &Json) -> Emitted,
    reduce: Reduce,
}

fn view(design: &str, name: &str) -> Option<View> {
    let (map, reduce): (fn(&State, &Json) -> Emitted, Reduce) = match (design, name) {
        ("medic-client", "contacts_by_phone") => (by_phone, Reduce::None),
        ("medic-client", "contacts_by_reference") => (by_reference, Reduce::None),
        ("medic-client", "contacts_by_type") => (by_type, Reduce::Count),
        ("medic-client", "contacts_by_parent") => (by_parent, Reduce::None),
        ("medic-client", "contacts_by_place") => (by_place, Reduce::None),
        ("medic-client", "contacts_by_last_visited") => (by_last_visited, Reduce::Stats),
        ("medic-client", "reports_by_subject") => (by_subject, Reduce::None),
        ("medic-client", "reports_by_form") => (by_form, Reduce::Count),
        ("medic-client", "reports_by_date") => (by_date, Reduce::None),
        ("medic-client", "reports_by_place") => (reports_by_place, Reduce::None),
        ("medic-client", "data_records_by_type") => (records_by_type, Reduce::Count),
        ("medic-client", "doc_by_type") => (doc_by_type, Reduce::None),
        ("medic", "docs_by_shortcode") => (by_shortcode, Reduce::None),
        ("medic", "reports_by_form_and_parent") => (by_form_and_parent, Reduce::Stats),
        ("medic-admin", "contacts_by_dhis_orgunit") => (by_org_unit, Reduce::None),
        _ => return None,
    };
    Some(View { map, reduce })
}

fn text<'a>(doc: &'a Json, field: &str) -> Option<&'a str> {
    doc.get(field)?.as_str()
}

fn contact<'a>(state: &State, doc: &'a Json) -> Option<&'a str> {
    state.settings.contact_type_of(doc)
}

fn report(doc: &Json) -> Option<&Json> {
    (type_id(doc) == Some("data_record") && doc.contains_key("form")).then_some(doc)
}

fn date(doc: &Json) -> Value {
    doc.get("reported_date").cloned().unwrap_or_default()
}

/// Alive before dead, unmuted before muted, then type and name.
fn sort_text(doc: &Json, contact_type: &str) -> Value {
    let name = text(doc, "name").unwrap_or_default().to_lowercase();
    let (dead, muted) = (doc.contains_key("date_of_death"), doc.contains_key("muted"));
    json!(format!("{dead} {muted} {contact_type} {name}"))
}

fn by_phone(state: &State, doc: &Json) -> Emitted {
    let phone = contact(state, doc).and_then(|_| text(doc, "phone"));
    phone.map(|phone| (json!(phone), Value::Null)).into_iter().collect()
}

fn by_reference(state: &State, doc: &Json) -> Emitted {
    if contact(state, doc).is_none() {
        return Vec::new();
    }
    let short = text(doc, "place_id").or(text(doc, "patient_id")).map(|code| json!(["shortcode", code]));
    let external = text(doc, "rc_code").map(|code| json!(["external", code.to_uppercase()]));
    short.into_iter().chain(external).map(|key| (key, date(doc))).collect()
}

fn by_type(state: &State, doc: &Json) -> Emitted {
    contact(state, doc).map(|name| (json!([name]), sort_text(doc, name))).into_iter().collect()
}

fn by_parent(state: &State, doc: &Json) -> Emitted {
    let parent = chain_ids(doc.get("parent")).into_iter().next();
    parent.zip(contact(state, doc)).map(|(id, name)| (json!([id, name]), Value::Null)).into_iter().collect()
}

fn by_place(state: &State, doc: &Json) -> Emitted {
    let Some(name) = contact(state, doc) else { return Vec::new() };
    chain_ids(doc.get("parent")).into_iter().map(|id| (json!([id]), sort_text(doc, name))).collect()
}

fn by_last_visited(_: &State, doc: &Json) -> Emitted {
    let visited = report(doc).and_then(|doc| doc.get("fields")?.get("visited_contact_uuid")?.as_str());
    visited.map(|id| (json!(id), date(doc))).into_iter().collect()
}

fn by_subject(_: &State, doc: &Json) -> Emitted {
    let Some(doc) = report(doc) else { return Vec::new() };
    let mut subjects: Vec<&Value> =
        ["patient_id", "place_id", "case_id"].iter().filter_map(|name| doc.get(*name)).collect();
    for name in ["patient_id", "place_id", "case_id", "patient_uuid", "place_uuid"] {
        subjects.extend(doc.get("fields").and_then(|fields| fields.get(name)));
    }
    let mut emitted: Emitted = Vec::new();
    for subject in subjects {
        if !emitted.iter().any(|(key, _)| key == subject) {
            emitted.push((subject.clone(), date(doc)));
        }
    }
    emitted
}

fn by_form(_: &State, doc: &Json) -> Emitted {
    report(doc).map(|doc| (json!([doc["form"]]), date(doc))).into_iter().collect()
}

fn by_date(_: &State, doc: &Json) -> Emitted {
    report(doc).map(|doc| (json!([date(doc)]), date(doc))).into_iter().collect()
}

fn reports_by_place(_: &State, doc: &Json) -> Emitted {
    let Some(doc) = report(doc) else { return Vec::new() };
    let above = doc.get("contact").and_then(|contact| contact.get("parent"));
    chain_ids(above).into_iter().map(|id| (json!([id]), date(doc))).collect()
}

fn records_by_type(_: &State, doc: &Json) -> Emitted {
    if type_id(doc) != Some("data_record") {
        return Vec::new();
    }
    vec![(json!(if doc.contains_key("form") { "report" } else { "message" }), Value::Null)]
}

fn doc_by_type(_: &State, doc: &Json) -> Emitted {
    let name = text(doc, "type").filter(|name| matches!(*name, "form" | "user-settings"));
    name.map(|name| (json!([name]), Value::Null)).into_iter().collect()
}

fn by_shortcode(state: &State, doc: &Json) -> Emitted {
    let code = contact(state, doc).and_then(|_| text(doc, "patient_id").or(text(doc, "place_id")));
    code.map(|code| (json!(code), Value::Null)).into_iter().collect()
}

fn by_form_and_parent(_: &State, doc: &Json) -> Emitted {
    let Some(doc) = report(doc) else { return Vec::new() };
    let parent = doc.get("contact").map_or(Value::Null, |contact| contact["parent"]["_id"].clone());
    vec![(json!([doc["form"], parent]), json!(1))]
}

fn by_org_unit(state: &State, doc: &Json) -> Emitted {
    let Some(dhis) = contact(state, doc).and_then(|_| doc.get("dhis")) else { return Vec::new() };
    let configs = dhis.as_array().cloned().unwrap_or_else(|| vec![dhis.clone()]);
    configs
        .iter()
        .filter(|one| one["orgUnit"].is_string())
        .map(|one| (one["orgUnit"].clone(), Value::Null))
        .collect()
}

/// Ids that can hold the asked keys, when an index knows; else every document is mapped.
fn candidates(state: &State, name: &str, keys: &[Value]) -> Option<Vec<String>> {
    if keys.is_empty() {
        return None;
    }
    let mut ids = Vec::new();
    for key in keys {
        let (fields, value): (&[&str], _) = match name {
            "contacts_by_phone" => (&["phone"], key),
            "docs_by_shortcode" => (&["patient_id", "place_id"], key),
            "contacts_by_reference" if key[0] == "shortcode" => (&["patient_id", "place_id"], &key[1]),
            "contacts_by_reference" => (&["rc_code"], &key[1]),
            _ => return None,
        };
        for field in fields {
            ids.extend(
                state.index.exact(field, value.as_str().unwrap_or_default())?.iter().map(ToString::to_string),
            );
        }
    }
    ids.sort();
    ids.dedup();
    Some(ids)
}

pub(super) fn query(state: &State, db: &str, design: &str, name: &str, req: &Req) -> Result<Reply, Fail> {
    match (db, design, name) {
        ("medic", "medic-conflicts", "conflicts") => return Ok(counted(state.medic.conflicts())),
        ("medic-sentinel", "sentinel", "outbound_push_tasks") => return Ok(counted(0)),
        _ => {}
    }
    let Some(view) = view(design, name).filter(|_| db == "medic") else {
        let known = state.medic.get(&format!("_design/{design}")).is_some();
        return Err(Fail::couch(404, "not_found", if known { "missing_named_view" } else { "missing" }));
    };
    let body: Value = if req.body.is_empty() { json!({}) } else { req.json()? };
    let option = |name: &str| -> Result<Option<Value>, Fail> {
        Ok(match req.param(name) {
            Some(text) => Some(serde_json::from_str(text).unwrap_or_else(|_| text.into())),
            None => body.get(name).cloned(),
        })
    };
    let (key, keys) = (req.json_param("key")?.or(body.get("key").cloned()), option("keys")?);
    let wanted: Vec<Value> = match (&key, &keys) {
        (Some(key), _) => vec![key.clone()],
        (None, Some(keys)) => keys.as_array().cloned().unwrap_or_default(),
        (None, None) => Vec::new(),
    };
    let (from, to) = (option("startkey")?.or(option("start_key")?), option("endkey")?.or(option("end_key")?));
    let descending = option("descending")? == Some(Value::Bool(true));
    let include_docs = option("include_docs")? == Some(Value::Bool(true));
    let number = |value: Option<Value>| value.and_then(|value| value.as_u64()).map(|n| n as usize);
    let (limit, skip) =
        (number(option("limit")?).unwrap_or(usize::MAX), number(option("skip")?).unwrap_or(0));
    let reduces = view.reduce != Reduce::None && option("reduce")? != Some(Value::Bool(false));
    let grouped = option("group")? == Some(Value::Bool(true));

    let mut rows: Vec<(Value, Value, String)> = Vec::new();
    let mut add = |doc: &Json| {
        let id = doc.get("_id").and_then(Value::as_str).unwrap_or_default();
        rows.extend((view.map)(state, doc).into_iter().map(|(key, value)| (key, value, id.to_owned())));
    };
    match candidates(state, name, &wanted) {
        Some(ids) => ids.iter().filter_map(|id| state.medic.json(id)).for_each(|doc| add(&doc)),
        None => state.medic.live().for_each(|current| add(&current.json())),
    }
    let (low, high) = if descending { (&to, &from) } else { (&from, &to) };
    rows.retain(|(row_key, _, _)| {
        (key.is_none() && keys.is_none() || wanted.contains(row_key))
            && low.as_ref().is_none_or(|low| collate(row_key, low).is_ge())
            && high.as_ref().is_none_or(|high| collate(row_key, high).is_le())
    });
    rows.sort_by(|a, b| collate(&a.0, &b.0).then_with(|| a.2.cmp(&b.2)));
    if keys.is_some() {
        rows.sort_by_key(|row| wanted.iter().position(|key| *key == row.0));
    }
    if descending {
        rows.reverse();
    }
    if reduces {
        return Ok(reduced(&view.reduce, &rows, grouped));
    }
    let (total, page) = (rows.len(), rows.into_iter().skip(skip).take(limit));
    let page: Vec<Value> = page
        .map(|(key, value, id)| {
            let mut row = json!({ "id": id, "key": key, "value": value });
            if include_docs {
                row["doc"] = state.medic.json(&id).map_or(Value::Null, Value::Object);
            }
            row
        })
        .collect();
    Ok(Reply::couch(200, json!({ "total_rows": total, "offset": skip, "rows": page }).to_string()))
}

fn counted(count: usize) -> Reply {
    Reply::couch(200, json!({ "rows": [{ "key": null, "value": count }] }).to_string())
}

fn reduced(reduce: &Reduce, rows: &[(Value, Value, String)], grouped: bool) -> Reply {
    let value_of = |rows: &[&(Value, Value, String)]| match reduce {
        Reduce::Stats => {
            let values: Vec<f64> = rows.iter().filter_map(|row| row.1.as_f64()).collect();
            let (min, max) =
                values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
            let squares: f64 = values.iter().map(|v| v * v).sum();
            json!({ "sum": values.iter().sum::<f64>(), "count": values.len(), "min": min, "max": max, "sumsqr": squares })
        }
        Reduce::Count | Reduce::None => json!(rows.len()),
    };
    let mut out: Vec<Value> = Vec::new();
    if grouped {
        let mut rest: Vec<&(Value, Value, String)> = rows.iter().collect();
        while let Some(first) = rest.first() {
            let key = first.0.clone();
            let (group, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|row| row.0 == key);
            out.push(json!({ "key": key, "value": value_of(&group) }));
            rest = others;
        }
    } else if !rows.is_empty() {
        out.push(json!({ "key": null, "value": value_of(&rows.iter().collect::<Vec<_>>()) }));
    }
    Reply::couch(200, json!({ "rows": out }).to_string())
}
