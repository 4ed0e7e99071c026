//! The transitions that run on reports: inside the records call, and by sentinel for reports that came another way.

use serde_json::{Value, json};

use super::{lineage, sentinel, state::State, store::Json, time};

/// The same text to the same number counts as a duplicate from the sixth time on within twelve hours.
const SAME_TEXTS: usize = 5;
const SAME_WINDOW_MS: i64 = 12 * 3_600_000;

/// Runs all on a report that is not stored yet or again; names those that changed it.
pub(super) fn run(state: &mut State, doc: &mut Json, now: i64) -> Vec<&'static str> {
    if doc.get("type").and_then(Value::as_str) != Some("data_record") {
        return Vec::new();
    }
    let mut ran = Vec::new();
    for (name, transition) in [
        ("update_clinics", update_clinics as fn(&mut State, &mut Json, i64) -> bool),
        ("registration", registration),
        ("accept_patient_reports", accept_patient_reports),
        ("death_reporting", death_reporting),
    ] {
        if state.settings.transition(name) && transition(state, doc, now) {
            ran.push(name);
        }
    }
    ran
}

fn text<'a>(doc: &'a Json, field: &str) -> Option<&'a str> {
    doc.get(field)?.as_str().filter(|text| !text.is_empty())
}

fn fields(doc: &Json) -> &Value {
    doc.get("fields").unwrap_or(&Value::Null)
}

fn is_xml(doc: &Json) -> bool {
    text(doc, "content_type") == Some("xml")
}

fn form_config<'a>(state: &'a State, doc: &Json) -> Option<&'a Value> {
    state.settings.form(text(doc, "form")?)
}

/// Finds the sender by phone.
fn update_clinics(state: &mut State, doc: &mut Json, now: i64) -> bool {
    if doc.contains_key("contact") || doc.contains_key("kujua_message") {
        return false;
    }
    let sender = text(doc, "from").and_then(|from| state.index.exact("phone", from)?.into_iter().next());
    if let Some(chain) = sender.and_then(|id| lineage::chain(state, &id)) {
        doc.insert("contact".into(), chain);
        return true;
    }
    let has_form = doc.contains_key("form");
    let public = form_config(state, doc).is_some_and(|form| form["public_form"] == true);
    if public || is_xml(doc) || (has_form && form_config(state, doc).is_none()) {
        return false;
    }
    let code = "sys.facility_not_found";
    if has_form {
        let message = "You have not been registered to use this app.";
        add_error(doc, json!({ "message": message, "code": code }));
        add_message(state, doc, message, now);
    } else {
        add_error(doc, json!({ "code": code, "message": "Facility not found." }));
    }
    true
}

/// Reports are acted on when they are XML, of a public form, or from a known sender.
fn accepted(state: &State, doc: &Json) -> bool {
    is_xml(doc)
        || form_config(state, doc).is_some_and(|form| form["public_form"] == true)
        || doc.get("contact").is_some()
}

fn config_for(state: &State, list: &str, doc: &Json) -> Option<Value> {
    let form = text(doc, "form")?;
    state.settings.value()[list].as_array()?.iter().find(|config| config["form"] == form).cloned()
}

/// Creates the patient that a registration report describes.
fn registration(state: &mut State, doc: &mut Json, now: i64) -> bool {
    let Some(config) = config_for(state, "registrations", doc).filter(|_| accepted(state, doc)) else {
        return false;
    };
    if refuse_invalid(state, doc, &config, now) {
        return true;
    }
    let adds =
        config["events"].as_array().into_iter().flatten().any(|event| event["trigger"] == "add_patient");
    if adds && !doc.contains_key("patient_id") {
        add_patient(state, doc, now);
    }
    for message in config["messages"].as_array().into_iter().flatten() {
        send(state, doc, message, now);
    }
    true
}

fn add_patient(state: &mut State, doc: &mut Json, now: i64) {
    let code = sentinel::shortcode(state);
    let mut patient = Json::new();
    patient.insert("_id".into(), state.new_id().into());
    patient.insert("name".into(), fields(doc)["patient_name"].clone());
    patient.insert("reported_date".into(), doc.get("reported_date").cloned().unwrap_or_default());
    patient.insert("patient_id".into(), code.clone().into());
    patient.insert("type".into(), "person".into());
    if let Some(id) = text(doc, "_id") {
        patient.insert("source_id".into(), id.into());
    }
    if let Some(contact) = doc.get("contact") {
        patient.insert("created_by".into(), contact["_id"].clone());
        if contact["parent"].is_object() {
            patient.insert("parent".into(), contact["parent"].clone());
        }
    }
    let _ = state.put(patient, now);
    doc.insert("patient_id".into(), code.into());
}

/// Ties a report to its patient, or says that there is none.
fn accept_patient_reports(state: &mut State, doc: &mut Json, now: i64) -> bool {
    let Some(config) = config_for(state, "patient_reports", doc).filter(|_| accepted(state, doc)) else {
        return false;
    };
    if refuse_invalid(state, doc, &config, now) {
        return true;
    }
    let found = lineage::patient_of(state, doc).or_else(|| lineage::place_of(state, doc));
    let event = if found.is_some() { "report_accepted" } else { "registration_not_found" };
    let messages: Vec<Value> = config["messages"].as_array().into_iter().flatten().cloned().collect();
    for message in messages.iter().filter(|message| message["event_type"] == event) {
        if found.is_none() {
            let content = render(state, doc, message);
            add_error(doc, json!({ "message": content, "code": "registration_not_found" }));
        }
        send(state, doc, message, now);
    }
    let registered_by = found.and_then(|id| state.medic.json(&id)?.get("source_id").cloned());
    if let Some(source) = registered_by {
        doc.insert("registration_id".into(), source);
    }
    true
}

/// Notes the day a patient died.
fn death_reporting(state: &mut State, doc: &mut Json, now: i64) -> bool {
    let config = state.settings.value()["death_reporting"].clone();
    let lists = |name: &str| {
        let forms = config[name].as_array();
        forms.into_iter().flatten().any(|form| form.as_str() == text(doc, "form"))
    };
    let (dead, undone) = (lists("mark_deceased_forms"), lists("undo_deceased_forms"));
    let Some(mut patient) = (dead || undone)
        .then(|| lineage::patient_of(state, doc))
        .flatten()
        .and_then(|id| state.medic.json(&id))
    else {
        return false;
    };
    if undone {
        patient.remove("date_of_death");
    } else if !patient.contains_key("date_of_death") {
        let whole = Value::Object(doc.clone());
        let given = config["date_field"].as_str().and_then(|path| super::mango::field_of(&whole, path));
        let date = given.or(doc.get("reported_date")).cloned().unwrap_or(json!(now));
        patient.insert("date_of_death".into(), date);
    }
    let _ = state.put(patient, now);
    true
}

/// Checks a report against the rules of its configuration; a broken one adds an error and a message.
fn refuse_invalid(state: &mut State, doc: &mut Json, config: &Value, now: i64) -> bool {
    let mut refused = false;
    for check in config["validations"]["list"].as_array().into_iter().flatten() {
        let property = check["property"].as_str().unwrap_or_default();
        let value = fields(doc).get(property).or(doc.get(property)).cloned();
        if fits(check["rule"].as_str().unwrap_or_default(), value.as_ref()) {
            continue;
        }
        let message = render(state, doc, check);
        add_error(doc, json!({ "code": format!("invalid_{property}"), "message": message }));
        add_message(state, doc, &message, now);
        refused = true;
    }
    refused
}

/// Rules joined by `&&`; a rule that is not known holds.
fn fits(rules: &str, value: Option<&Value>) -> bool {
    let content = value.map(js_text).unwrap_or_default();
    rules.split("&&").all(|rule| {
        let (name, argument) = rule.trim().trim_end_matches(')').split_once('(').unwrap_or((rule.trim(), ""));
        let number = argument.trim().parse::<f64>().unwrap_or_default();
        let length = content.chars().count() as f64;
        match name.to_lowercase().as_str() {
            "required" => !content.is_empty(),
            "lenmin" => length >= number,
            "lenmax" => length <= number,
            "lenequals" => length == number,
            "min" => content.parse::<f64>().is_ok_and(|value| value >= number),
            "max" => content.parse::<f64>().is_ok_and(|value| value <= number),
            "integer" => content.parse::<i64>().is_ok(),
            "numeric" => content.parse::<f64>().is_ok(),
            _ => true,
        }
    })
}

/// How JavaScript writes a value into a text.
fn js_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(_) => "[object Object]".into(),
        other => other.to_string(),
    }
}

/// The text of a message with its `{{placeholders}}` filled in.
fn render(state: &State, doc: &Json, message: &Value) -> String {
    let template = message["message"][0]["content"].as_str().unwrap_or_default();
    let patient = lineage::patient_of(state, doc).and_then(|id| state.medic.json(&id)).unwrap_or_default();
    let lookup = |name: &str| {
        let own = (name == "patient_name").then(|| patient.get("name")).flatten();
        let value = fields(doc).get(name).or(doc.get(name)).or(own);
        value.map(js_text).unwrap_or_default()
    };
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        out.push_str(before);
        out.push_str(&lookup(name.trim()));
        rest = after;
    }
    out + rest
}

fn send(state: &mut State, doc: &mut Json, message: &Value, now: i64) {
    let content = render(state, doc, message);
    add_message(state, doc, &content, now);
}

fn add_error(doc: &mut Json, error: Value) {
    if let Some(errors) = doc.entry("errors").or_insert_with(|| json!([])).as_array_mut() {
        errors.push(error);
    }
}

/// Queues a message to the reporting unit.
fn add_message(state: &mut State, doc: &mut Json, content: &str, now: i64) {
    let to = recipient(state, doc);
    let times = state.sent.entry(format!("{to} {content}")).or_default();
    times.retain(|time| now - *time < SAME_WINDOW_MS);
    let message_state = if times.len() >= SAME_TEXTS { "duplicate" } else { "pending" };
    times.push(now);
    let uuid = state.new_uuid(now);
    let task = json!({
        "messages": [{ "uuid": uuid, "to": to, "message": content }],
        "state_history": [{ "state": message_state, "timestamp": time::iso(now) }],
        "state": message_state,
    });
    if let Some(tasks) = doc.entry("tasks").or_insert_with(|| json!([])).as_array_mut() {
        tasks.push(task);
    }
}

/// The sender, else the contact of the nearest place of the patient, else a word that no gateway can send to.
fn recipient(state: &State, doc: &Json) -> String {
    if let Some(from) = text(doc, "from") {
        return from.to_owned();
    }
    let patient = lineage::patient_of(state, doc).and_then(|id| state.medic.json(&id)).unwrap_or_default();
    let phone = lineage::chain_ids(patient.get("parent")).into_iter().find_map(|id| {
        let place = state.medic.json(&id)?;
        let contact = state.medic.json(place.get("contact")?["_id"].as_str()?)?;
        text(&contact, "phone").map(str::to_owned)
    });
    phone.unwrap_or_else(|| "reporting_unit".into())
}
