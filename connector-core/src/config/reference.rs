//! The JSON Schema of a configuration, and the reference that is made from it.

use std::fmt::Write;

use serde_json::Value;

use super::Configuration;
use super::walk::{deref, expected, options};
use crate::connector::ConnectorConfig;

/// The JSON Schema of the configuration of a connector for `C`.
pub fn schema<C: ConnectorConfig>() -> Value {
    schemars::schema_for!(Configuration<C>).to_value()
}

/// A Markdown table of every setting, with its default.
pub fn reference_markdown<C: ConnectorConfig>() -> String {
    let root = schema::<C>();
    let mut out = String::from("| setting | is | default | |\n|---|---|---|---|\n");
    rows(&root, &root, "", 0, &mut out);
    out
}

fn rows(root: &Value, schema: &Value, path: &str, depth: usize, out: &mut String) {
    let defaults = schema.get("default");
    let required: Vec<_> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let target = section(root, property);
        let default = property.get("default").or_else(|| defaults.and_then(|d| d.get(name)));
        let default = match default {
            Some(Value::Object(_) | Value::Null) => String::new(),
            Some(Value::String(text)) => format!("`{text}`"),
            Some(value) => format!("`{value}`"),
            None if required.contains(&name.as_str()) => "required".to_owned(),
            None => String::new(),
        };
        let text = property
            .get("description")
            .or_else(|| target.get("description"))
            .and_then(Value::as_str)
            .unwrap_or_default();
        let text = text.replace('\n', " ").replace('|', "\\|");
        let is = expected(root, deref(root, property)).replace('|', "\\|");
        let _ = writeln!(out, "| `{at}` | {is} | {default} | {text} |");
        if depth < 8 {
            let at = if deref(root, property).get("items").is_some() { format!("{at}[]") } else { at };
            rows(root, target, &at, depth + 1, out);
        }
    }
    if let Some(all) = options(schema) {
        for option in all {
            let option = deref(root, option);
            if option.get("properties").is_some() {
                rows(root, option, path, depth + 1, out);
            }
        }
    }
    if let Some(each @ Value::Object(_)) = schema.get("additionalProperties") {
        let target = section(root, each);
        if target.get("properties").is_some() {
            rows(root, target, &format!("{path}.*"), depth + 1, out);
        }
    }
}

/// The section that a property holds, seen through lists and `nothing`.
fn section<'a>(root: &'a Value, property: &'a Value) -> &'a Value {
    let target = deref(root, property);
    if let Some(each) = target.get("items") {
        return section(root, each);
    }
    let not_null = |o: &&Value| deref(root, o).get("type").and_then(Value::as_str) != Some("null");
    match options(target).map(|all| all.iter().filter(not_null).collect::<Vec<_>>()) {
        Some(all) if all.len() == 1 => all.first().map_or(target, |only| section(root, only)),
        _ => target,
    }
}
