//! Chains of parents: cut down to ids before storing, filled in when read.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{settings::type_id, state::State, store::Json};

const DEEPEST: usize = 50;

/// `{_id, parent: {_id, ...}}` of anything that holds such a chain.
pub(super) fn ids_only(value: &Value) -> Value {
    fn cut(value: &Value, depth: usize) -> Value {
        let mut out = json!({ "_id": value["_id"] });
        if depth < DEEPEST && value["parent"].is_object() {
            out["parent"] = cut(&value["parent"], depth + 1);
        }
        out
    }
    cut(value, 0)
}

/// The chain that a child or a report stores for the contact `id`.
pub(super) fn chain(state: &State, id: &str) -> Option<Value> {
    state.medic.json(id).map(|doc| ids_only(&Value::Object(doc)))
}

/// Cuts `parent` and `contact` down to ids, as is done before a contact or report is stored.
pub(super) fn minify(doc: &mut Json) {
    for field in ["parent", "contact"] {
        if let Some(value) = doc.get_mut(field)
            && value.is_object()
        {
            *value = ids_only(value);
        }
    }
    if doc.get("type").and_then(Value::as_str) == Some("data_record") {
        doc.remove("patient");
        doc.remove("place");
    }
}

/// The ids in a stored chain, nearest first.
pub(super) fn chain_ids(value: Option<&Value>) -> Vec<String> {
    let mut ids = Vec::new();
    let mut next = value;
    while let Some(id) = next.and_then(|value| value["_id"].as_str())
        && ids.len() < DEEPEST
    {
        ids.push(id.to_owned());
        next = next.and_then(|value| value.get("parent"));
    }
    ids
}

/// The parents `ids` (nearest first) as full documents inside each other, each with its primary contact; `rest` is what
/// the last one keeps as its own parent.
fn parents(state: &State, ids: &[String]) -> Option<Value> {
    let (first, others) = ids.split_first()?;
    let Some(mut doc) = state.medic.json(first) else {
        let mut out = json!({ "_id": first });
        if let Some(above) = parents(state, others) {
            out["parent"] = above;
        }
        return Some(out);
    };
    primary_contact(state, &mut doc);
    if let Some(above) = parents(state, others) {
        doc.insert("parent".into(), above);
    }
    Some(Value::Object(doc))
}

fn primary_contact(state: &State, doc: &mut Json) {
    let id = doc.get("contact").and_then(|contact| contact["_id"].as_str().or(contact.as_str()));
    if let Some(contact) = id.and_then(|id| state.medic.json(id)) {
        doc.insert("contact".into(), Value::Object(contact));
    }
}

/// A contact with its parents and their contacts filled in.
pub(super) fn hydrate_contact(state: &State, mut doc: Json) -> Json {
    let above = chain_ids(doc.get("parent"));
    if let Some(parent) = parents(state, &above) {
        doc.insert("parent".into(), parent);
    }
    primary_contact(state, &mut doc);
    doc
}

/// Fills in several documents at once. A contact is one shared object there: what one document makes known of its
/// parents, the others see too.
pub(super) fn hydrate(state: &State, docs: Vec<Json>) -> Vec<Json> {
    let mut known: HashMap<String, Vec<String>> = HashMap::new();
    for doc in &docs {
        let ids = chain_ids(doc.get("contact"));
        if let Some((contact, above)) = ids.split_first()
            && is_report(doc)
        {
            let longest = known.entry(contact.clone()).or_default();
            if above.len() > longest.len() {
                *longest = above.to_vec();
            }
        }
    }
    docs.into_iter()
        .map(
            |doc| {
                if is_report(&doc) { hydrate_report(state, doc, &known) } else { hydrate_contact(state, doc) }
            },
        )
        .collect()
}

fn is_report(doc: &Map<String, Value>) -> bool {
    type_id(doc) == Some("data_record")
}

fn hydrate_report(state: &State, mut doc: Json, known: &HashMap<String, Vec<String>>) -> Json {
    let contact_id = chain_ids(doc.get("contact")).into_iter().next();
    if let Some(id) = contact_id
        && let Some(mut contact) = state.medic.json(&id)
    {
        if let Some(parent) = known.get(&id).and_then(|above| parents(state, above)) {
            contact.insert("parent".into(), parent);
        }
        doc.insert("contact".into(), Value::Object(contact));
    }
    for (field, subject) in [("patient", patient_of(state, &doc)), ("place", place_of(state, &doc))] {
        if let Some(subject) = subject.and_then(|id| state.medic.json(&id)) {
            doc.insert(field.into(), Value::Object(hydrate_contact(state, subject)));
        }
    }
    doc
}

/// The contact that a value means: a shortcode first, else an id.
pub(super) fn subject(state: &State, value: &str) -> Option<String> {
    for field in ["patient_id", "place_id"] {
        if let Some(id) = state.index.exact(field, value).and_then(|ids| ids.into_iter().next()) {
            return Some(id.to_string());
        }
    }
    let doc = state.medic.json(value)?;
    state.settings.contact_type_of(&doc).is_some().then(|| value.to_owned())
}

fn first_text<'a>(doc: &'a Json, top: &[&str], fields: &[&str]) -> Option<&'a str> {
    let inner = fields.iter().filter_map(|field| doc.get("fields")?.get(field)?.as_str());
    let outer = top.iter().filter_map(|field| doc.get(*field)?.as_str());
    inner.chain(outer).find(|value| !value.is_empty())
}

pub(super) fn patient_of(state: &State, doc: &Json) -> Option<String> {
    first_text(doc, &["patient_id"], &["patient_id", "patient_uuid"]).and_then(|value| subject(state, value))
}

pub(super) fn place_of(state: &State, doc: &Json) -> Option<String> {
    first_text(doc, &["place_id"], &["place_id"]).and_then(|value| subject(state, value))
}
