//! The newer calls for contacts and reports: `contact`, `person`, `place`, `report`, one document or a page at a time.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    auth::Access,
    http::{Fail, Reply, Req},
    lineage,
    settings::type_id,
    state::State,
    store::Json,
    time,
};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Contact,
    Person,
    Place,
    Report,
}

impl Kind {
    pub fn named(path: &str) -> Option<Self> {
        Some(match path {
            "contact" => Self::Contact,
            "person" => Self::Person,
            "place" => Self::Place,
            "report" => Self::Report,
            _ => return None,
        })
    }

    fn title(self) -> &'static str {
        match self {
            Self::Contact => "Contact",
            Self::Person => "Person",
            Self::Place => "Place",
            Self::Report => "Report",
        }
    }

    fn holds(self, state: &State, doc: &Json) -> bool {
        match self {
            Self::Contact => state.settings.contact_type_of(doc).is_some(),
            Self::Person => state.settings.is_person(doc),
            Self::Place => state.settings.is_place(doc),
            Self::Report => type_id(doc) == Some("data_record") && doc.contains_key("form"),
        }
    }

    fn has_type(self, state: &State, name: &str) -> bool {
        match self {
            Self::Contact => state.settings.contact_type(name).is_some(),
            Self::Person => state.settings.is_person_type(name),
            Self::Place => state.settings.is_place_type(name),
            Self::Report => false,
        }
    }

    fn may_read(self, state: &State, access: &Access) -> Result<(), Fail> {
        let permission = if self == Self::Report { "can_view_reports" } else { "can_view_contacts" };
        access.user()?.need_online_any(state, &[permission])
    }
}

fn bad(message: impl Into<String>) -> Fail {
    Fail::api(400, message.into())
}

pub(super) fn get(state: &State, req: &Req, kind: Kind, id: &str, access: &Access) -> Result<Reply, Fail> {
    kind.may_read(state, access)?;
    let doc = state.medic.json(id).filter(|doc| kind.holds(state, doc));
    let doc = doc.ok_or_else(|| Fail::api(404, format!("{} not found", kind.title())))?;
    let doc = if req.param("with_lineage") == Some("true") {
        lineage::hydrate(state, vec![doc]).remove(0)
    } else {
        doc
    };
    Ok(Reply::api(&Value::Object(doc)))
}

/// The place in a list and how much of it; both come as text.
fn page(req: &Req, default: usize) -> Result<(usize, usize), Fail> {
    let limit = match req.param("limit") {
        None => default,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| *limit > 0)
            .ok_or_else(|| bad(format!("The limit must be a positive integer: [{}].", json!(text))))?,
    };
    let skip = match req.param("cursor") {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            bad(format!("The cursor must be a string or null for first page: [{}].", json!(text)))
        })?,
    };
    Ok((skip, limit))
}

fn pages(data: Vec<Value>, skip: usize, limit: usize) -> Reply {
    let cursor = (data.len() == limit).then(|| skip.saturating_add(limit).to_string());
    Reply::api(&json!({ "data": data, "cursor": cursor }))
}

fn ids_param(req: &Req) -> Option<Vec<String>> {
    let all = req.query.iter().filter(|(key, _)| key == "ids").flat_map(|(_, value)| value.split(','));
    let ids: Vec<String> = all.filter(|id| !id.is_empty()).map(str::to_owned).collect();
    (!ids.is_empty()).then_some(ids)
}

/// A page of documents, by ids or by type.
pub(super) fn list(state: &State, req: &Req, kind: Kind, access: &Access) -> Result<Reply, Fail> {
    kind.may_read(state, access)?;
    let (skip, limit) = page(req, 100)?;
    if matches!(kind, Kind::Contact | Kind::Report) {
        if let Some(ids) = ids_param(req) {
            let docs = ids.iter().filter_map(|id| state.medic.json(id)).filter(|doc| kind.holds(state, doc));
            let data: Vec<Value> = docs.skip(skip).take(limit).map(Value::Object).collect();
            return Ok(pages(data, skip, limit));
        }
        if kind == Kind::Report {
            return Err(bad("Query param ids is required"));
        }
        if req.param("type").is_none() {
            return Err(bad("Either query param ids or type is required"));
        }
    }
    let name = req.param("type").unwrap_or("undefined");
    if !kind.has_type(state, name) {
        return Err(bad(format!("Invalid contact type [{name}].")));
    }
    let ids = state.index.contacts.get(name).into_iter().flatten().skip(skip).take(limit);
    let data: Vec<Value> = ids.filter_map(|id| state.medic.json(id)).map(Value::Object).collect();
    Ok(pages(data, skip, limit))
}

/// A page of ids, by type, text or form.
pub(super) fn list_ids(state: &State, req: &Req, kind: Kind, access: &Access) -> Result<Reply, Fail> {
    kind.may_read(state, access)?;
    let (skip, limit) = page(req, 10_000)?;
    let freetext = req.param("freetext");
    if let Some(text) = freetext {
        let spaced = text.contains(char::is_whitespace) && !text.contains(':');
        if text.chars().count() < 3 || spaced {
            return Err(bad(format!("Invalid freetext [{}].", json!(text))));
        }
    }
    let ids: Vec<Value> = match kind {
        Kind::Report => match (req.param("form"), freetext) {
            (Some(forms), None) => {
                let sets = forms.split(',').filter_map(|form| state.index.reports.get(form));
                sets.flatten().skip(skip).take(limit).map(|id| json!(**id)).collect()
            }
            (_, Some(text)) => {
                let ids = state.index.reports.values().flatten().cloned();
                by_freetext(state, ids, text).into_iter().skip(skip).take(limit).collect()
            }
            (None, None) => return Err(bad("Invalid freetext [undefined].")),
        },
        Kind::Contact | Kind::Person | Kind::Place => {
            let name = req.param("type");
            if let Some(name) = name.filter(|name| !kind.has_type(state, name)) {
                return Err(bad(format!("Invalid contact type [{name}].")));
            }
            match (name, freetext) {
                (None, None) => return Err(bad("Either query param freetext or type is required")),
                (Some(name), None) => {
                    let ids = state.index.contacts.get(name).into_iter().flatten();
                    ids.skip(skip).take(limit).map(|id| json!(**id)).collect()
                }
                (name, Some(text)) => {
                    contacts_by_freetext(state, name, text).into_iter().skip(skip).take(limit).collect()
                }
            }
        }
    };
    Ok(pages(ids, skip, limit))
}

fn contacts_by_freetext(state: &State, name: Option<&str>, text: &str) -> Vec<Value> {
    let of_type = |id: &Arc<str>| {
        name.is_none_or(|name| state.index.contacts.get(name).is_some_and(|ids| ids.contains(id)))
    };
    let indexed =
        text.split_once(':').and_then(|(field, value)| state.index.exact(&field.to_lowercase(), value));
    match indexed {
        Some(ids) => ids.into_iter().filter(of_type).map(|id| json!(*id)).collect(),
        None => {
            let ids = state.index.contacts.iter().filter(|(own, _)| name.is_none_or(|name| name == *own));
            by_freetext(state, ids.flat_map(|(_, ids)| ids.iter().cloned()), text)
        }
    }
}

/// Exact match of `field:value`, else of the start of a word, in any short text or number of the document.
fn by_freetext(state: &State, ids: impl Iterator<Item = Arc<str>>, text: &str) -> Vec<Value> {
    let wanted = text.to_lowercase();
    let wanted = wanted.trim();
    let fits = |key: &str, value: &Value| {
        let value = match value {
            Value::String(text) => text.to_lowercase(),
            Value::Number(number) => number.to_string(),
            _ => return false,
        };
        let skipped =
            matches!(key, "_id" | "_rev" | "type" | "refid" | "geolocation") || key.ends_with("_date");
        if skipped || !(3..=1000).contains(&value.chars().count()) {
            return false;
        }
        match wanted.split_once(':') {
            Some((field, wanted)) => key.eq_ignore_ascii_case(field) && value.trim() == wanted,
            None => value.split_whitespace().any(|word| word.starts_with(wanted)),
        }
    };
    ids.filter(|id| {
        let doc = state.medic.json(id).unwrap_or_default();
        let fields = doc.get("fields").and_then(Value::as_object);
        doc.iter().chain(fields.into_iter().flatten()).any(|(key, value)| fits(key, value))
    })
    .map(|id| json!(*id))
    .collect()
}

pub(super) fn summary(state: &State, req: &Req, kind: Kind, access: &Access) -> Result<Reply, Fail> {
    let body = req.exact_json()?;
    kind.may_read(state, access)?;
    let fields: &[&str] = match kind {
        Kind::Report => &["from", "phone", "form", "read", "verified", "reported_date", "case_id"],
        Kind::Contact | Kind::Person | Kind::Place => {
            &["name", "phone", "type", "contact_type", "date_of_death", "muted"]
        }
    };
    let ids = body["ids"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let docs = ids.filter_map(|id| state.medic.json(id)).filter(|doc| kind.holds(state, doc));
    let rows: Vec<Value> = docs
        .map(|doc| {
            let mut row = Json::new();
            for field in ["_id", "_rev"].iter().chain(fields) {
                if let Some(value) = doc.get(*field) {
                    row.insert((*field).to_owned(), value.clone());
                }
            }
            let chain = if kind == Kind::Report { doc.get("contact") } else { doc.get("parent") };
            row.insert("lineage".into(), json!(lineage::chain_ids(chain)));
            Value::Object(row)
        })
        .collect();
    Ok(Reply::api(&Value::Array(rows)))
}

fn needs_text(body: &Json, field: &str) -> Result<(), Fail> {
    let given = body.get(field).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
    if given { Ok(()) } else { Err(bad(format!("The [{field}] field must have a [string] value."))) }
}

fn object(req: &Req) -> Result<Json, Fail> {
    match req.exact_json()? {
        Value::Object(body) => Ok(body),
        _ => Err(bad("Invalid body.")),
    }
}

fn checked_date(body: &mut Json, now: i64) -> Result<(), Fail> {
    let date = match body.get("reported_date") {
        None => Some(now),
        Some(Value::Number(date)) => date.as_i64(),
        Some(given) => given.as_str().and_then(time::parse_strict),
    };
    let date = date.ok_or_else(|| {
        bad("Invalid reported_date. Expected format to be 'YYYY-MM-DDTHH:mm:ssZ', 'YYYY-MM-DDTHH:mm:ss.SSSZ', \
             or a Unix epoch.")
    })?;
    body.insert("reported_date".into(), date.into());
    Ok(())
}

fn may_write(state: &State, kind: Kind, access: &Access, create: bool) -> Result<(), Fail> {
    let own = match (kind, create) {
        (Kind::Report, true) => "can_create_records",
        (Kind::Report, false) => "can_update_reports",
        (Kind::Place, true) => "can_create_places",
        (Kind::Place, false) => "can_update_places",
        (_, true) => "can_create_people",
        (_, false) => "can_update_people",
    };
    access.user()?.need_online_any(state, &[own, "can_edit"])
}

pub(super) fn post(
    state: &mut State,
    req: &Req,
    kind: Kind,
    access: &Access,
    now: i64,
) -> Result<Reply, Fail> {
    let mut body = object(req)?;
    may_write(state, kind, access, true)?;
    for field in ["_id", "_rev"] {
        if body.contains_key(field) {
            return Err(bad(format!("The [{field}] field must not be set.")));
        }
    }
    match kind {
        Kind::Report => new_report(state, &mut body, now)?,
        Kind::Contact | Kind::Person | Kind::Place => new_contact(state, &mut body, kind, now)?,
    }
    let id = state.new_id();
    body.insert("_id".into(), id.into());
    let rev = state.put(body.clone(), now).map_err(|_| Fail::api(409, "Document update conflict."))?;
    body.insert("_rev".into(), rev.to_string().into());
    Ok(Reply::api(&Value::Object(body)))
}

fn new_contact(state: &State, body: &mut Json, kind: Kind, now: i64) -> Result<(), Fail> {
    needs_text(body, "type")?;
    needs_text(body, "name")?;
    let name = body["type"].as_str().unwrap_or_default().to_owned();
    if !kind.has_type(state, &name) {
        return Err(bad(format!("[{name}] is not a valid {} type.", kind.title().to_lowercase())));
    }
    let allowed = state.settings.parents_of(&name);
    if kind == Kind::Place {
        match (allowed.is_empty(), body.contains_key("parent")) {
            (true, true) => {
                return Err(bad(format!("Place type [{name}] does not support having a parent contact.")));
            }
            (false, false) => return Err(bad(format!("Place type [{name}] requires a parent contact."))),
            _ => {}
        }
    }
    if !allowed.is_empty() {
        needs_text(body, "parent")?;
    }
    for field in ["phone", "patient_id", "place_id", "sex"] {
        if body.get(field).is_some_and(|value| !value.is_string()) {
            return Err(bad(format!("The [{field}] field must have the type [string].")));
        }
    }
    let born = body.get("date_of_birth");
    if born.is_some_and(|date| date.as_str().and_then(time::parse).is_none()) {
        return Err(bad("The [date_of_birth] field must have a [date] value."));
    }
    checked_date(body, now)?;
    if let Some(id) = body.get("parent").and_then(Value::as_str).map(str::to_owned) {
        let parent = state.medic.json(&id).filter(|doc| state.settings.contact_type_of(doc).is_some());
        let parent = parent.ok_or_else(|| bad(format!("Parent contact [{id}] not found.")))?;
        let own = type_id(&parent).unwrap_or_default();
        if !allowed.contains(&own) {
            return Err(bad(format!("Parent contact of type [{own}] is not allowed for type [{name}].")));
        }
        body.insert("parent".into(), lineage::ids_only(&Value::Object(parent)));
    }
    set_contact(state, body, "Contact")?;
    body.insert("type".into(), "contact".into());
    body.insert("contact_type".into(), name.into());
    Ok(())
}

/// `contact` given as an id becomes the chain that is stored.
fn set_contact(state: &State, body: &mut Json, title: &str) -> Result<(), Fail> {
    let Some(id) = body.get("contact").and_then(Value::as_str).map(str::to_owned) else { return Ok(()) };
    let contact = state.medic.json(&id).filter(|doc| state.settings.contact_type_of(doc).is_some());
    let contact = contact.ok_or_else(|| bad(format!("{title} [{id}] not found.")))?;
    body.insert("contact".into(), lineage::ids_only(&Value::Object(contact)));
    Ok(())
}

fn known_form(state: &State, body: &Json) -> Result<(), Fail> {
    let form = body.get("form").and_then(Value::as_str).unwrap_or_default();
    let known = state.medic.json(&format!("form:{form}")).is_some();
    if known { Ok(()) } else { Err(bad(format!("Invalid form value [{form}]."))) }
}

fn new_report(state: &State, body: &mut Json, now: i64) -> Result<(), Fail> {
    needs_text(body, "form")?;
    needs_text(body, "contact")?;
    checked_date(body, now)?;
    known_form(state, body)?;
    set_contact(state, body, "Contact")?;
    body.insert("type".into(), "data_record".into());
    Ok(())
}

pub(super) fn put(
    state: &mut State,
    req: &Req,
    kind: Kind,
    id: &str,
    access: &Access,
    now: i64,
) -> Result<Reply, Fail> {
    let mut body = object(req)?;
    may_write(state, kind, access, false)?;
    body.insert("_id".into(), id.into());
    let typed = match kind {
        Kind::Report => type_id(&body) == Some("data_record"),
        _ => kind.holds(state, &body),
    };
    if !typed || body.get("_rev").and_then(Value::as_str).is_none() {
        return Err(bad("Valid _id, _rev, and type fields must be provided."));
    }
    let stored = state.medic.json(id).filter(|doc| kind.holds(state, doc));
    let stored =
        stored.ok_or_else(|| Fail::api(404, format!("{} record [{id}] not found.", kind.title())))?;
    let fixed: &[&str] = if kind == Kind::Report {
        &["_rev", "reported_date"]
    } else {
        &["_rev", "reported_date", "type", "contact_type"]
    };
    let changed: Vec<&str> =
        fixed.iter().copied().filter(|field| body.get(*field) != stored.get(*field)).collect();
    if !changed.is_empty() {
        return Err(bad(format!("The [{}] fields must not be changed.", changed.join(","))));
    }
    if kind == Kind::Report {
        needs_text(&body, "form")?;
        if body.get("form") != stored.get("form") {
            known_form(state, &body)?;
        }
        if stored.contains_key("contact") && body.get("contact").is_none_or(Value::is_null) {
            return Err(bad("A contact must be provided."));
        }
    } else {
        if kind == Kind::Person || body.get("name") != stored.get("name") {
            needs_text(&body, "name")?;
        }
        let given_as_text = body.get("parent").is_some_and(Value::is_string);
        if given_as_text || lineage::chain_ids(body.get("parent")) != lineage::chain_ids(stored.get("parent"))
        {
            return Err(bad("Parent lineage does not match."));
        }
    }
    set_contact(state, &mut body, "Contact")?;
    let mut minified = body.clone();
    lineage::minify(&mut minified);
    let rev = state.put(minified, now).map_err(|_| Fail::api(409, "Document update conflict."))?;
    body.insert("_rev".into(), rev.to_string().into());
    Ok(Reply::api(&Value::Object(body)))
}
