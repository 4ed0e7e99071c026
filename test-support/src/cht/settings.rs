//! The configuration of a CHT: contact types, roles, permissions and forms as read from the document `settings`, and the
//! calls that read and change it.

use serde_json::{Value, json};

use super::{
    auth::{Access, User},
    http::{Fail, Guard, Reply, Req},
    state::State,
    store::Json,
};

/// The configuration of a new stand-in: the contact types, forms and transitions of the recordings.
pub(super) fn default_settings() -> Value {
    serde_json::from_str(include_str!("default_settings.json")).unwrap_or_default()
}

const HARDCODED_TYPES: [&str; 4] = ["district_hospital", "health_center", "clinic", "person"];

#[derive(Default)]
pub(super) struct Settings(Value);

impl Settings {
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    pub fn value(&self) -> &Value {
        &self.0
    }

    /// The type of a contact document; `None` for anything else.
    pub fn contact_type_of<'a>(&self, doc: &'a Json) -> Option<&'a str> {
        let name = type_id(doc)?;
        (HARDCODED_TYPES.contains(&name) || self.contact_type(name).is_some()).then_some(name)
    }

    pub fn contact_type(&self, id: &str) -> Option<&Value> {
        self.0["contact_types"].as_array()?.iter().find(|config| config["id"] == id)
    }

    pub fn is_person_type(&self, id: &str) -> bool {
        self.contact_type(id).is_some_and(|config| config["person"] == true || id == "person")
    }

    pub fn is_place_type(&self, id: &str) -> bool {
        self.contact_type(id).is_some_and(|config| config["person"] != true && id != "person")
    }

    pub fn is_person(&self, doc: &Json) -> bool {
        self.contact_type_of(doc).is_some_and(|id| self.is_person_type(id))
    }

    pub fn is_place(&self, doc: &Json) -> bool {
        self.contact_type_of(doc).is_some_and(|id| !self.is_person_type(id))
    }

    pub fn parents_of(&self, id: &str) -> Vec<&str> {
        let parents = self.contact_type(id).and_then(|config| config["parents"].as_array());
        parents.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    pub fn transition(&self, name: &str) -> bool {
        match &self.0["transitions"][name] {
            Value::Object(config) => config.get("disable") != Some(&Value::Bool(true)),
            other => other == &Value::Bool(true),
        }
    }

    /// One enabled transition without its configuration stops all of sentinel, and nothing tells it but the backlog.
    pub fn suspends_sentinel(&self) -> bool {
        self.transition("muting") && self.0["muting"]["mute_forms"].as_array().is_none_or(Vec::is_empty)
    }

    /// Roles with a permission.
    pub fn allows(&self, roles: &[String], permission: &str) -> bool {
        let granted = self.0["permissions"][permission].as_array();
        granted
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .any(|role| roles.iter().any(|own| own == role))
    }

    /// A role without `offline` is online when it is configured; unknown roles alone are offline.
    pub fn are_offline(&self, roles: &[String]) -> bool {
        let configured: Vec<&Value> = roles.iter().filter_map(|role| self.0["roles"].get(role)).collect();
        configured.is_empty() || configured.iter().any(|role| role["offline"] == true)
    }

    pub fn form(&self, code: &str) -> Option<&Value> {
        self.0["forms"].get(code)
    }

    pub fn country_code(&self) -> String {
        match &self.0["default_country_code"] {
            Value::String(code) => code.clone(),
            Value::Number(code) => code.to_string(),
            _ => "1".into(),
        }
    }
}

/// `contact_type` for configured types, `type` for the built-in ones.
pub(super) fn type_id(doc: &Json) -> Option<&str> {
    match doc.get("type")?.as_str()? {
        "contact" => doc.get("contact_type")?.as_str(),
        name => Some(name),
    }
}

pub(super) fn get(state: &State, access: &Access) -> Result<Reply, Fail> {
    access.user_or(Guard::Settings)?;
    Ok(Reply::api(state.settings.value()))
}

pub(super) fn put(state: &mut State, req: &Req, access: &Access, now: i64) -> Result<Reply, Fail> {
    let new = req.exact_json()?;
    let user: &User = access.user()?;
    user.need_all(state, &["can_edit", "can_configure"])?;
    if !new.is_object() {
        return Err(Fail::server(None));
    }
    let truthy = |name: &str| req.param(name).is_some_and(|value| !value.is_empty());
    let old = state.settings.value().clone();
    let mut merged = old.clone();
    if truthy("overwrite") {
        merged = new;
    } else if truthy("replace") {
        for (key, value) in new.as_object().into_iter().flatten() {
            merged[key] = value.clone();
        }
    } else {
        extend(&mut merged, &new);
    }
    let updated = merged != old;
    if updated {
        store(state, merged, now);
    }
    Ok(Reply::api(&json!({ "success": true, "updated": updated })))
}

pub(super) fn store(state: &mut State, settings: Value, now: i64) {
    let mut doc = state.medic.json("settings").unwrap_or_default();
    doc.insert("_id".into(), "settings".into());
    doc.insert("settings".into(), settings);
    let _ = state.put(doc, now);
}

/// Objects are merged, everything else is replaced.
fn extend(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                extend(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

pub(super) fn put_credential(
    state: &mut State,
    req: &Req,
    key: &str,
    access: &Access,
) -> Result<Reply, Fail> {
    let user = access.user()?;
    if !user.is_admin() {
        return Err(Fail::api(403, "Insufficient permissions"));
    }
    let secret = String::from_utf8_lossy(&req.body).into_owned();
    if secret.is_empty() || !req.content_type().starts_with("text/plain") {
        return Err(Fail::api(400, "Missing required request body"));
    }
    state.credentials.insert(key.to_owned(), secret);
    Ok(Reply::api(&json!({ "ok": true })))
}
