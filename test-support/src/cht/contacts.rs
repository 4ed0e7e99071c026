//! The older calls that write contacts: `people` and `places`. They answer ids, check little and take a client's `_id`.

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

fn body(req: &Req) -> Result<Json, Fail> {
    match req.exact_json()? {
        Value::Object(body) if !body.is_empty() => Ok(body),
        _ => Err(Fail::api(
            400,
            "Request body is empty or Content-Type header was not set to application/json.",
        )),
    }
}

fn conflict() -> Fail {
    Fail::api(409, "Document update conflict.")
}

/// A number as it is, text as a time, else an error.
fn reported_date(doc: &mut Json, now: i64) -> Result<(), Fail> {
    let date = match doc.get("reported_date") {
        None => now,
        Some(Value::Number(date)) => date.as_i64().unwrap_or(now),
        Some(given) => {
            let text = given.as_str().unwrap_or_default();
            time::parse(text).ok_or_else(|| Fail::api(400, format!("Reported date is invalid: {text}")))?
        }
    };
    doc.insert("reported_date".into(), date.into());
    Ok(())
}

fn named(doc: &Json) -> bool {
    doc.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty())
}

/// Stores a contact; without `_id` it gets one.
fn store(state: &mut State, mut doc: Json, now: i64) -> Result<(String, String), Fail> {
    let id = match doc.get("_id").and_then(Value::as_str) {
        Some(id) => id.to_owned(),
        None => state.new_id(),
    };
    doc.insert("_id".into(), id.clone().into());
    let rev = state.put(doc, now).map_err(|_| conflict())?;
    Ok((id, rev.to_string()))
}

pub(super) fn post_person(state: &mut State, req: &Req, access: &Access, now: i64) -> Result<Reply, Fail> {
    let user = access.user()?;
    user.need_all(state, &["can_edit", "can_create_people"])?;
    let (id, rev) = create_person(state, body(req)?, now)?;
    Ok(Reply::api(&json!({ "ok": true, "id": id, "rev": rev })))
}

/// A person as `people`, `places` and `users` create it.
pub(super) fn create_person(state: &mut State, mut doc: Json, now: i64) -> Result<(String, String), Fail> {
    doc.entry("type").or_insert_with(|| "person".into());
    if !state.settings.is_person(&doc) {
        return Err(Fail::api(400, "Wrong type, this is not a person."));
    }
    if !named(&doc) {
        return Err(Fail::api(400, "Person is missing a \"name\" property."));
    }
    reported_date(&mut doc, now)?;
    if let Some(place) = doc.remove("place") {
        let id = existing_or_new_place(state, place, now)?;
        doc.insert("parent".into(), lineage::chain(state, &id).unwrap_or_default());
    }
    lineage::minify(&mut doc);
    store(state, doc, now)
}

/// A place given by its id, or made from a description.
fn existing_or_new_place(state: &mut State, place: Value, now: i64) -> Result<String, Fail> {
    match place {
        Value::Object(place) => create_place(state, place, now).map(|(id, _)| id),
        other => {
            let id = other.as_str().unwrap_or_default();
            let found = state.medic.json(id).is_some_and(|doc| state.settings.is_place(&doc));
            if found { Ok(id.to_owned()) } else { Err(Fail::api(404, "Failed to find place.")) }
        }
    }
}

pub(super) fn post_place(state: &mut State, req: &Req, access: &Access, now: i64) -> Result<Reply, Fail> {
    let user = access.user()?;
    user.need_all(state, &["can_edit", "can_create_places"])?;
    let mut place = body(req)?;
    check_place(state, &place)?;
    match place.remove("contact") {
        None => {
            let (id, rev) = create_place(state, place, now)?;
            Ok(Reply::api(&json!({ "ok": true, "id": id, "rev": rev })))
        }
        Some(Value::Object(person)) => {
            let (id, rev) = create_place(state, place, now)?;
            let (rev, contact) = add_contact(state, &id, &rev, person, now)?;
            Ok(Reply::api(&json!({ "id": id, "rev": rev, "contact": { "id": contact } })))
        }
        Some(given) => {
            let contact = existing_contact(state, &given)?;
            place.insert("contact".into(), contact.clone().into());
            let (id, rev) = create_place(state, place, now)?;
            Ok(Reply::api(&json!({ "ok": true, "id": id, "rev": rev, "contact": { "id": contact } })))
        }
    }
}

/// Makes the primary contact of a new place and writes it into the place: three writes, as in the CHT.
fn add_contact(
    state: &mut State,
    id: &str,
    rev: &str,
    mut person: Json,
    now: i64,
) -> Result<(String, String), Fail> {
    person.insert("place".into(), id.into());
    let (contact, _) = create_person(state, person, now)?;
    let mut place = state.medic.json(id).unwrap_or_default();
    place.insert("_rev".into(), rev.into());
    place.insert("contact".into(), lineage::chain(state, &contact).unwrap_or_default());
    let rev = state.put(place, now).map_err(|_| conflict())?;
    Ok((rev.to_string(), contact))
}

fn existing_contact(state: &State, given: &Value) -> Result<String, Fail> {
    let id = given.as_str().unwrap_or_default();
    let found = state.medic.json(id).is_some_and(|doc| state.settings.contact_type_of(&doc).is_some());
    if found { Ok(id.to_owned()) } else { Err(Fail::api(404, "Failed to find contact.")) }
}

fn check_place(state: &State, place: &Json) -> Result<(), Fail> {
    let id = place.get("_id").and_then(Value::as_str).unwrap_or_default();
    let own = type_id(place).filter(|name| state.settings.is_place_type(name));
    let Some(own) = own else {
        return Err(Fail::api(400, format!("Wrong type, object {id} is not a place.")));
    };
    if !named(place) {
        return Err(Fail::api(400, format!("Place {id} is missing a \"name\" property.")));
    }
    let allowed = state.settings.parents_of(own);
    match place.get("parent") {
        None if allowed.is_empty() => Ok(()),
        None => Err(Fail::api(400, format!("Place {id} is missing a \"parent\" property."))),
        Some(Value::Object(parent)) => check_place(state, parent),
        Some(parent) => {
            let parent = state.medic.json(parent.as_str().unwrap_or_default());
            let parent = parent.ok_or_else(|| Fail::api(404, "Failed to find place."))?;
            if type_id(&parent).is_some_and(|name| allowed.contains(&name)) {
                return Ok(());
            }
            let listed = allowed.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
            Err(Fail::api(
                400,
                format!("{own} \"{id}\" should have one of the following parent types: {listed}."),
            ))
        }
    }
}

fn create_place(state: &mut State, mut place: Json, now: i64) -> Result<(String, String), Fail> {
    check_place(state, &place)?;
    reported_date(&mut place, now)?;
    if let Some(parent) = place.remove("parent") {
        let id = existing_or_new_place(state, parent, now)?;
        place.insert("parent".into(), lineage::chain(state, &id).unwrap_or_default());
    }
    store(state, place, now)
}

/// `POST /api/v1/places/{id}`: four fields are applied, the others ignored.
pub(super) fn update_place(
    state: &mut State,
    req: &Req,
    id: &str,
    access: &Access,
    now: i64,
) -> Result<Reply, Fail> {
    let user = access.user()?;
    user.need_all(state, &["can_edit", "can_update_places"])?;
    let body = body(req)?;
    let found = state.medic.json(id).filter(|doc| state.settings.is_place(doc));
    let mut place = found.ok_or_else(|| Fail::api(404, "Failed to find place."))?;
    for field in ["name", "place_id"] {
        if let Some(value) = body.get(field) {
            place.insert(field.into(), value.clone());
        }
    }
    if let Some(parent) = body.get("parent") {
        let parent = existing_or_new_place(state, parent.clone(), now)?;
        place.insert("parent".into(), lineage::chain(state, &parent).unwrap_or_default());
    }
    let mut answer = json!({ "id": id });
    if let Some(contact) = body.get("contact") {
        let contact = match contact {
            Value::Object(person) => {
                let mut person = person.clone();
                person.insert("place".into(), id.into());
                create_person(state, person, now)?.0
            }
            given => existing_contact(state, given)?,
        };
        place.insert("contact".into(), lineage::chain(state, &contact).unwrap_or_default());
        answer["contact"] = json!({ "id": contact });
    }
    let rev = state.put(place, now).map_err(|_| conflict())?;
    answer["rev"] = json!(rev.to_string());
    Ok(Reply::api(&answer))
}
