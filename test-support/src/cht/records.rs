//! `/api/v2/records`: reports as JSON or SMS. Client mistakes are 500, mistakes in fields are kept on the document, and
//! the transitions have run before the document is there.

use serde_json::{Value, json};

use super::{
    auth::Access,
    http::{Fail, Reply, Req},
    phone, sentinel,
    state::State,
    store::Json,
    time, transitions,
};

fn mistake(details: impl Into<String>) -> Fail {
    Fail::server(Some(Value::String(details.into())))
}

pub(super) fn post(state: &mut State, req: &Req, access: &Access, now: i64) -> Result<Reply, Fail> {
    access.user()?.need_all(state, &["can_create_records"])?;
    let doc = if req.is_form() {
        from_form(state, req, now)?
    } else if req.is_json() {
        from_json(state, req.json()?, now)?
    } else {
        return Err(Fail::server(None));
    };
    let id = save(state, doc, now);
    Ok(Reply::api(&json!({ "success": true, "id": id })))
}

/// Runs the transitions and stores the outcome as the first revision.
pub(super) fn save(state: &mut State, mut doc: Json, now: i64) -> String {
    let id = state.new_uuid(now);
    doc.insert("_id".into(), id.clone().into());
    let ran = transitions::run(state, &mut doc, now);
    let _ = state.put(doc, now);
    sentinel::note_arrival(state, &id, &json!(now), now);
    sentinel::note(state, &id, now, |info| {
        let runs = info.entry("transitions").or_insert_with(|| json!({}));
        for name in ran {
            runs[name] = json!({ "seq": null, "ok": true, "run_date": time::iso(now) });
        }
    });
    id
}

fn from_json(state: &State, body: Value, now: i64) -> Result<Json, Fail> {
    let Some(meta) = body["_meta"].as_object() else { return Err(mistake("Missing _meta property.")) };
    let Some(code) = meta.get("form").and_then(Value::as_str).filter(|code| !code.is_empty()) else {
        return Err(mistake("Missing required field: form"));
    };
    let code = code.to_uppercase();
    let form = state.settings.form(&code).ok_or_else(|| mistake(format!("Form not found: {code}")))?;
    let given: Vec<(String, &Value)> =
        body.as_object().into_iter().flatten().map(|(key, value)| (key.to_lowercase(), value)).collect();
    let mut fields = Json::new();
    for (key, config) in definitions(form) {
        if let Some((_, value)) = given.iter().find(|(name, _)| name == key) {
            fields.insert(key.clone(), typed(&config["type"], (*value).clone()));
        }
    }
    let mut message = meta.clone();
    message.insert("form".into(), code.clone().into());
    let reported = meta.get("reported_date").and_then(read_date);
    let mut doc = Json::new();
    doc.insert("errors".into(), json!(errors(form, &fields)));
    doc.insert("form".into(), code.into());
    doc.insert("fields".into(), fields.into());
    finish(state, &mut doc, meta.get("from").and_then(Value::as_str), message, reported.unwrap_or(now));
    Ok(doc)
}

fn finish(state: &State, doc: &mut Json, from: Option<&str>, message: Json, reported: i64) {
    doc.insert("type".into(), "data_record".into());
    doc.insert("tasks".into(), json!([]));
    doc.insert("reported_date".into(), reported.into());
    doc.insert("sms_message".into(), message.into());
    if let Some(from) = from {
        let number = phone::normalise(from, &state.settings.country_code());
        doc.insert("from".into(), number.unwrap_or_else(|| from.to_owned()).into());
    }
}

/// The fields of a form in their order.
fn definitions(form: &Value) -> Vec<(&String, &Value)> {
    let mut fields: Vec<(&String, &Value)> = form["fields"].as_object().into_iter().flatten().collect();
    fields.sort_by_key(|(_, config)| config["position"].as_u64());
    fields
}

fn read_date(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let text = value.as_str()?;
        text.parse().ok().filter(|_| text.len() == 13).or_else(|| time::parse(text))
    })
}

/// Dates become epoch milliseconds (unreadable ones null), 0 and 1 booleans; all else stays as it was sent.
fn typed(kind: &Value, value: Value) -> Value {
    match kind.as_str() {
        Some("date") => json!(read_date(&value)),
        Some("boolean") if value == 1 => json!(true),
        Some("boolean") if value == 0 => json!(false),
        _ => value,
    }
}

/// What is wrong with the fields: each wrong type, and all missing ones together.
fn errors(form: &Value, fields: &Json) -> Vec<Value> {
    let mut errors = Vec::new();
    let mut missing = Vec::new();
    for (key, config) in definitions(form) {
        let value = fields.get(key).filter(|value| !value.is_null());
        let kind = config["type"].as_str().unwrap_or_default();
        let fits = value.is_none_or(|value| match kind {
            "integer" => value.is_i64() || value.is_u64(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "complex" => value.is_object(),
            _ => true,
        });
        if !fits {
            let message = format!("Incorrect type of field {key}, expected {kind}.");
            errors.push(json!({ "code": "sys.incorrect_type", "message": message }));
        }
        if value.is_none() && config["required"] == true {
            missing.push(key.as_str());
        }
    }
    if !missing.is_empty() {
        let message = format!("Missing or invalid fields: {}.", missing.join(", "));
        errors.insert(0, json!({ "code": "sys.missing_fields", "message": message }));
    }
    errors
}

fn from_form(state: &State, req: &Req, now: i64) -> Result<Json, Fail> {
    let form = req.form();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let Some(text) = field("message") else { return Err(mistake("Missing required field: message")) };
    let Some(from) = field("from") else { return Err(mistake("Missing required value: from")) };
    Ok(message_doc(state, text, from, field("sent_timestamp"), field("gateway_ref"), now))
}

/// A report or a plain message from the text of an SMS.
pub(super) fn message_doc(
    state: &State,
    text: &str,
    from: &str,
    sent: Option<&str>,
    gateway_ref: Option<&str>,
    now: i64,
) -> Json {
    let (code, rest) = split_code(text);
    let form = state.settings.form(&code);
    let mut message = Json::new();
    message.insert("type".into(), "sms_message".into());
    message.insert("message".into(), text.into());
    message.insert("form".into(), code.clone().into());
    message.insert("from".into(), from.into());
    if let Some(sent) = sent {
        message.insert("reported_date".into(), sent.into());
    }
    if let Some(gateway_ref) = gateway_ref {
        message.insert("gateway_ref".into(), gateway_ref.into());
    }
    let mut doc = Json::new();
    let fields = form.map(|form| parse_fields(form, rest)).unwrap_or_default();
    doc.insert("errors".into(), json!(form.map(|form| errors(form, &fields)).unwrap_or_default()));
    doc.insert("fields".into(), fields.into());
    if form.is_some() {
        doc.insert("form".into(), code.into());
    }
    let reported = sent.and_then(|sent| read_date(&json!(sent))).unwrap_or(now);
    finish(state, &mut doc, Some(from), message, reported);
    doc
}

/// The code of a form and what follows it, `CODE ...` or `1!CODE!...`.
fn split_code(text: &str) -> (String, &str) {
    if let Some((code, rest)) = text.strip_prefix("1!").and_then(|rest| rest.split_once('!')) {
        return (code.to_uppercase(), rest);
    }
    let text = text.trim();
    let end = text.find([' ', '!', '#']).unwrap_or(text.len());
    (text[..end].to_uppercase(), text[end..].trim_start())
}

/// Values after their short labels, divided by `#`.
fn parse_fields(form: &Value, text: &str) -> Json {
    let mut fields = Json::new();
    let parts: Vec<(&str, &str)> = text.split('#').filter_map(|part| part.trim().split_once(' ')).collect();
    for (key, config) in definitions(form) {
        let label = match &config["labels"]["tiny"] {
            Value::Object(by_locale) => by_locale.get("en").and_then(Value::as_str).unwrap_or_default(),
            other => other.as_str().unwrap_or_default(),
        };
        if let Some((_, value)) = parts.iter().find(|(name, _)| name.eq_ignore_ascii_case(label)) {
            let value = value.trim();
            let number = value.parse::<i64>().ok().filter(|_| config["type"] == "integer");
            let value = number.map_or_else(|| json!(value), |number| json!(number));
            fields.insert(key.clone(), typed(&config["type"], value));
        }
    }
    fields
}
