//! The calls that make, change, list and delete users.

use serde_json::{Value, json};

use super::{
    auth::{Access, Account},
    contacts,
    http::{Fail, Reply, Req},
    lineage,
    state::State,
    store::Json,
};

fn refused(message: String, key: &str, params: Value) -> Fail {
    let error = json!({ "message": message, "translationKey": key, "translationParams": params });
    Fail::api(400, error)
}

fn missing(fields: &[&str]) -> Fail {
    let listed = fields.join(", ");
    refused(format!("Missing required fields: {listed}"), "fields.required", json!({ "fields": listed }))
}

pub(super) fn user_id(name: &str) -> String {
    format!("org.couchdb.user:{name}")
}

pub(super) fn create(state: &mut State, req: &Req, access: &Access, now: i64) -> Result<Reply, Fail> {
    let body = req.exact_json()?;
    access.user()?.need_all(state, &["can_edit", "can_create_users"])?;
    if let Value::Array(many) = body {
        let mut rows = Vec::new();
        for one in many {
            rows.push(match create_one(state, &one, now) {
                Ok(row) => row,
                Err(Fail::Api { error, .. }) => json!({ "error": error.get("message").unwrap_or(&error) }),
                Err(_) => json!({ "error": "Server error" }),
            });
        }
        return Ok(Reply::api(&Value::Array(rows)));
    }
    create_one(state, &body, now).map(|row| Reply::api(&row))
}

fn create_one(state: &mut State, body: &Value, now: i64) -> Result<Value, Fail> {
    let text = |field: &str| body[field].as_str().filter(|text| !text.is_empty());
    let mut roles: Vec<String> =
        body["roles"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    roles.extend(text("type").filter(|_| body["roles"].is_null()).map(str::to_owned));
    let required = [
        ("username", text("username").is_none()),
        ("password", text("password").is_none()),
        ("type or roles", roles.is_empty()),
    ];
    let absent: Vec<&str> = required.iter().filter(|(_, absent)| *absent).map(|(name, _)| *name).collect();
    let (Some(name), Some(password), []) = (text("username"), text("password"), absent.as_slice()) else {
        return Err(missing(&absent));
    };
    check_password(password)?;
    let is_online = roles.iter().any(|role| role == "mm-online");
    let offline = !is_online && state.settings.are_offline(&roles);
    let absent: Vec<&str> = ["place", "contact"].into_iter().filter(|field| body[*field].is_null()).collect();
    if offline && !absent.is_empty() {
        return Err(missing(&absent));
    }
    if state.accounts.contains_key(name) {
        let message = format!("Username \"{name}\" already taken.");
        return Err(refused(message, "username.taken", json!({ "username": name })));
    }
    if !offline && !is_online {
        roles.push("mm-online".into());
    }
    let salt = state.draw();
    let mut account = Account::new(roles, password, salt);
    account.password_change_required = body["password_change_required"] != false;
    let mut answer = json!({});
    place_and_contact(state, body, &mut account, &mut answer, now)?;
    state.accounts.insert(name.to_owned(), account);
    store(state, name, body, &mut answer, now);
    Ok(answer)
}

fn check_password(password: &str) -> Result<(), Fail> {
    if password.chars().count() >= 8 {
        return Ok(());
    }
    let message = "The password must be at least 8 characters long.".to_owned();
    Err(refused(message, "password.length.minimum", json!({ "minimum": 8 })))
}

fn place_and_contact(
    state: &mut State,
    body: &Value,
    account: &mut Account,
    answer: &mut Value,
    now: i64,
) -> Result<(), Fail> {
    match &body["place"] {
        Value::String(place) => account.places = vec![place.clone()],
        Value::Array(places) => {
            account.places = places.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        }
        _ => {}
    }
    if let Some(lost) = account.places.iter().find(|id| state.medic.json(id).is_none()) {
        return Err(Fail::api(404, format!("Failed to find place [{lost}].")));
    }
    match &body["contact"] {
        Value::String(id) => account.contact = Some(id.clone()),
        Value::Object(person) => {
            let mut person: Json = person.clone();
            if let Some(chain) = account.places.first().and_then(|id| lineage::chain(state, id)) {
                person.insert("parent".into(), chain);
            }
            let (id, rev) = contacts::create_person(state, person, now)?;
            answer["contact"] = json!({ "id": id, "rev": rev });
            account.contact = Some(id);
        }
        _ => {}
    }
    Ok(())
}

/// Writes the two documents of a user.
fn store(state: &mut State, name: &str, body: &Value, answer: &mut Value, now: i64) {
    let Some(account) = state.accounts.get(name).cloned() else { return };
    let id = user_id(name);
    let mut user = json!({
        "password_scheme": "pbkdf2", "pbkdf2_prf": "sha256", "salt": "none", "iterations": 600_000, "derived_key": "none",
        "name": name, "type": "user", "password_change_required": account.password_change_required, "roles": account.roles,
    });
    let mut settings = state.medic.json(&id).map_or_else(|| json!({}), Value::Object);
    for field in ["fullname", "email", "phone", "known", "external_id"] {
        if !body[field].is_null() {
            settings[field] = body[field].clone();
        }
    }
    for (field, value) in [
        ("_id", json!(id)),
        ("name", json!(name)),
        ("type", json!("user-settings")),
        ("roles", json!(account.roles)),
    ] {
        settings[field] = value;
    }
    if let Some(place) = account.places.first() {
        let facility = if account.places.len() > 1 { json!(account.places) } else { json!(place) };
        user["facility_id"] = facility.clone();
        settings["facility_id"] = facility;
    }
    if let Some(contact) = &account.contact {
        user["contact_id"] = json!(contact);
        settings["contact_id"] = json!(contact);
    }
    let base = state.users.get(&id).filter(|current| !current.deleted).map(|current| current.rev);
    if let (Value::Object(user), Value::Object(settings)) = (user, settings) {
        if let Some(rev) = state.users.put(&id, base, false, &user, now) {
            answer["user"] = json!({ "id": id, "rev": rev.to_string() });
        }
        if let Ok(rev) = state.put(settings, now) {
            answer["user-settings"] = json!({ "id": id, "rev": rev.to_string() });
        }
    }
}

/// A user that is there from the start.
pub(super) fn add(state: &mut State, name: &str, password: &str, roles: &[String], now: i64) {
    let salt = state.draw();
    state.accounts.insert(name.to_owned(), Account::new(roles.to_vec(), password, salt));
    store(state, name, &Value::Null, &mut json!({}), now);
}

fn unknown(name: &str) -> Fail {
    Fail::api(404, format!("Failed to find user with name [{name}] in the [users] database."))
}

pub(super) fn update(
    state: &mut State,
    req: &Req,
    name: &str,
    access: &Access,
    now: i64,
) -> Result<Reply, Fail> {
    let body = req.exact_json()?;
    access.user()?.need_all(state, &["can_edit", "can_update_users"])?;
    let mut account = state.accounts.get(name).cloned().ok_or_else(|| unknown(name))?;
    if let Some(password) = body["password"].as_str() {
        check_password(password)?;
        account.set_password(password, state.draw());
        account.password_change_required = body["password_change_required"] != false;
    }
    if let Some(roles) = body["roles"].as_array() {
        account.roles = roles.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if !state.settings.are_offline(&account.roles)
            && !account.roles.iter().any(|role| role == "mm-online")
        {
            account.roles.push("mm-online".into());
        }
    }
    let mut answer = json!({});
    place_and_contact(state, &body, &mut account, &mut answer, now)?;
    state.accounts.insert(name.to_owned(), account);
    store(state, name, &body, &mut answer, now);
    Ok(Reply::api(&answer))
}

pub(super) fn delete(state: &mut State, name: &str, access: &Access, now: i64) -> Result<Reply, Fail> {
    access.user()?.need_all(state, &["can_edit", "can_delete_users"])?;
    let id = user_id(name);
    let reason = if state.users.get(&id).is_some() { "deleted" } else { "missing" };
    let account = state.accounts.get_mut(name).ok_or_else(|| Fail::api(404, reason))?;
    if name == state.admin {
        account.roles.clear();
    } else {
        state.accounts.remove(name);
    }
    let mut rows = Vec::new();
    let base = state.users.get(&id).map(|current| current.rev);
    if let Some(rev) = state.users.put(&id, base, true, &Json::new(), now) {
        rows.push(json!({ "ok": true, "id": id, "rev": rev.to_string() }));
    }
    if let Some(mut settings) = state.medic.json(&id) {
        settings.insert("_deleted".into(), true.into());
        if let Ok(rev) = state.put(settings, now) {
            rows.push(json!({ "ok": true, "id": id, "rev": rev.to_string() }));
        }
    }
    Ok(Reply::api(&Value::Array(rows)))
}

/// A user as the lists show it; the first generation shows one role as its type.
fn row(state: &State, name: &str, first: bool) -> Option<Value> {
    let account = state.accounts.get(name)?;
    let id = user_id(name);
    let current = state.users.get(&id)?;
    let places: Vec<Value> =
        account.places.iter().filter_map(|id| state.medic.json(id)).map(Value::Object).collect();
    let mut row = json!({ "id": id, "rev": current.rev.to_string(), "username": name });
    row["place"] = if places.is_empty() { Value::Null } else { Value::Array(places) };
    if first {
        row["type"] = json!(account.roles.first());
    } else {
        row["roles"] = json!(account.roles);
    }
    if let Some(contact) = account.contact.as_ref().and_then(|id| state.medic.json(id)) {
        row["contact"] = Value::Object(contact);
    }
    let settings = state.medic.json(&id).unwrap_or_default();
    for field in ["fullname", "email", "phone", "known", "external_id"] {
        if let Some(value) = settings.get(field) {
            row[field] = value.clone();
        }
    }
    Some(row)
}

pub(super) fn list(state: &State, req: &Req, first: bool, access: &Access) -> Result<Reply, Fail> {
    access.user()?.need_all(state, &["can_view_users"])?;
    let (facility, contact) = (req.param("facility_id"), req.param("contact_id"));
    let wanted = |account: &Account| {
        facility.is_none_or(|id| account.places.iter().any(|own| own == id))
            && contact.is_none_or(|id| account.contact.as_deref() == Some(id))
    };
    let names = state.accounts.iter().filter(|(_, account)| wanted(account)).map(|(name, _)| name);
    Ok(Reply::api(&names.filter_map(|name| row(state, name, first)).collect()))
}

pub(super) fn get(state: &State, name: &str, access: &Access) -> Result<Reply, Fail> {
    let user = access.user()?;
    if user.name != name {
        user.need_all(state, &["can_view_users"])?;
    }
    row(state, name, false).map(|row| Reply::api(&row)).ok_or_else(|| unknown(name))
}

/// How many documents a user of a place would get.
pub(super) fn info(state: &State, req: &Req, access: &Access) -> Result<Reply, Fail> {
    let user = access.user()?;
    let own = state.accounts.get(&user.name).and_then(|account| account.places.first().cloned());
    let place = req.param("facility_id").map(str::to_owned).or(own).unwrap_or_default();
    let below = state.medic.live().filter(|current| {
        let doc = current.json();
        *current.id == *place || lineage::chain_ids(doc.get("parent").or(doc.get("contact"))).contains(&place)
    });
    let docs = below.count();
    Ok(Reply::api(&json!({ "total_docs": docs, "warn_docs": docs, "warn": docs > 10_000, "limit": 10_000 })))
}
