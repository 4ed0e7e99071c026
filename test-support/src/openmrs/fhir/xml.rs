//! The XML form of a resource, made from its JSON; elements in the order of the schema.

use serde_json::Value;

use crate::openmrs::http::Reply;

const ORDER: [&str; 24] = [
    "id",
    "meta",
    "versionId",
    "lastUpdated",
    "text",
    "status",
    "div",
    "extension",
    "identifier",
    "active",
    "use",
    "type",
    "coding",
    "system",
    "code",
    "name",
    "family",
    "given",
    "telecom",
    "gender",
    "birthDate",
    "deceasedBoolean",
    "deceasedDateTime",
    "address",
];

/// The resource with the XML content type.
pub fn reply(resource: &Value) -> Reply {
    let kind = resource["resourceType"].as_str().unwrap_or_default();
    let mut text = format!("<{kind} xmlns=\"http://hl7.org/fhir\">");
    children(resource, true, &mut text);
    text.push_str(&format!("</{kind}>"));
    let mut reply = Reply::empty(200).with("content-type", "application/fhir+xml;charset=UTF-8");
    reply.body = text.into_bytes();
    reply
}

fn children(value: &Value, top: bool, text: &mut String) {
    let Some(object) = value.as_object() else { return };
    let mut keys: Vec<&String> = object.keys().collect();
    keys.sort_by_key(|key| (ORDER.iter().position(|name| name == key).unwrap_or(ORDER.len()), key.as_str()));
    for key in keys {
        match (key.as_str(), &object[key]) {
            ("resourceType", _) => {}
            ("id" | "url", _) if !top => {}
            (_, Value::Array(items)) => items.iter().for_each(|item| element(key, item, text)),
            (_, item) => element(key, item, text),
        }
    }
}

fn element(name: &str, value: &Value, text: &mut String) {
    match value {
        Value::String(markup) if name == "div" => text.push_str(markup),
        Value::Object(object) => {
            text.push_str(&format!("<{name}"));
            for attribute in ["id", "url"] {
                if let Some(value) = object.get(attribute).and_then(Value::as_str) {
                    text.push_str(&format!(" {attribute}=\"{}\"", escaped(value)));
                }
            }
            text.push('>');
            children(value, false, text);
            text.push_str(&format!("</{name}>"));
        }
        Value::String(plain) => text.push_str(&format!("<{name} value=\"{}\"></{name}>", escaped(plain))),
        plain => text.push_str(&format!("<{name} value=\"{plain}\"></{name}>")),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
