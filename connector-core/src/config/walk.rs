//! Checks a configuration tree against the JSON Schema, whole: every problem, by path, none with a value that could be
//! a secret. On the way it gives texts from outside the file their type, and secrets their value.

use std::path::Path;

use serde_json::{Map, Value};

use super::overlay::TEXT;
use super::{ConfigReport, Period, Size, secret, units};

/// Checks one tree.
pub(super) struct Walk<'a> {
    /// The schema with its `$defs`.
    pub root: &'a Value,
    /// What relative paths in `file:` begin at.
    pub folder: &'a Path,
    /// Looks an environment variable up.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Where problems go.
    pub report: &'a mut ConfigReport,
}

impl<'a> Walk<'a> {
    /// Checks everything.
    pub fn run(mut self, tree: &mut Value) {
        self.value("", self.root, tree);
    }

    fn value(&mut self, path: &str, schema: &'a Value, value: &mut Value) {
        let schema = deref(self.root, schema);
        if let Value::String(text) = value
            && let Some(text) = text.strip_prefix(TEXT)
        {
            *value = typed(self.root, schema, text);
        }
        if let Some(options) = options(schema) {
            return self.one_of(path, options, value);
        }
        if let (Some(expected), Value::String(text)) = (format_of(schema), &mut *value) {
            match expected {
                Format::Secret => match secret::resolve(text, self.folder, self.variable) {
                    Ok(resolved) => *text = resolved,
                    Err(why) => self.report.add(path, why),
                },
                Format::Period if Period::parse(text).is_none() => {
                    self.report.add(path, format!("`{text}` is not {}", units::PERIOD))
                }
                Format::Size if Size::parse(text).is_none() => {
                    self.report.add(path, format!("`{text}` is not {}", units::SIZE))
                }
                Format::Period | Format::Size => {}
            }
            return;
        }
        if !accepts(schema, value) {
            return self
                .report
                .add(path, format!("expected {}, found {}", expected(self.root, schema), kind(value)));
        }
        match value {
            Value::Object(map) => self.object(path, schema, map),
            Value::Array(items) => self.array(path, schema, items),
            Value::Number(n) => {
                let n = n.as_f64().unwrap_or_default();
                for (key, word, wrong) in [
                    ("minimum", "least", bound(schema, "minimum").is_some_and(|m| n < m)),
                    ("maximum", "most", bound(schema, "maximum").is_some_and(|m| n > m)),
                ] {
                    if wrong {
                        let limit = schema.get(key).cloned().unwrap_or_default();
                        self.report.add(path, format!("{n} is out of range; it must be at {word} {limit}"));
                    }
                }
            }
            _ => {}
        }
    }

    fn one_of(&mut self, path: &str, options: &'a [Value], value: &mut Value) {
        let root = self.root;
        let fits = |option: &&'a Value| {
            let option = deref(root, option);
            accepts(option, value)
                && match (value.as_object(), option.get("required").and_then(Value::as_array)) {
                    (Some(map), Some(required)) => {
                        required.iter().all(|r| r.as_str().is_some_and(|r| map.contains_key(r)))
                    }
                    _ => true,
                }
        };
        // What stands there decides; of several objects the first is as good as any to show what is wrong.
        let option = options.iter().find(fits).or_else(|| {
            let objects = options.iter().filter(|o| value.is_object() && accepts(deref(root, o), value));
            let mut objects = objects.collect::<Vec<_>>().into_iter();
            objects.next().filter(|_| objects.next().is_none())
        });
        match option {
            Some(option) => self.value(path, option, value),
            None => {
                let all: Vec<_> = options.iter().map(|o| expected(root, deref(root, o))).collect();
                self.report.add(path, format!("expected {}, found {}", all.join(" or "), kind(value)));
            }
        }
    }

    fn object(&mut self, path: &str, schema: &'a Value, map: &mut Map<String, Value>) {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        let further = schema.get("additionalProperties");
        for (key, value) in map.iter_mut() {
            let at = join(path, key);
            match (properties.and_then(|p| p.get(key)), further) {
                (Some(schema), _) => self.value(&at, schema, value),
                (None, Some(Value::Bool(false))) => {
                    let known: Vec<_> = properties.unwrap_or(&none).keys().map(String::as_str).collect();
                    self.report.add(&at, format!("is not known here; known are {}", known.join(", ")));
                }
                (None, Some(schema @ Value::Object(_))) => self.value(&at, schema, value),
                (None, _) => untyped(value),
            }
        }
        for name in
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            if !map.contains_key(name) {
                let property = properties.and_then(|p| p.get(name));
                let text =
                    property.and_then(|p| p.get("description")).and_then(Value::as_str).unwrap_or_default();
                let first = text.lines().next().unwrap_or_default();
                self.report.add(&join(path, name), format!("is missing. {first}").trim_end());
            }
        }
    }

    fn array(&mut self, path: &str, schema: &'a Value, items: &mut [Value]) {
        if bound(schema, "minItems").is_some_and(|least| least > 0.0) && items.is_empty() {
            self.report.add(path, "is empty; it needs at least one entry");
        }
        if let Some(each) = schema.get("items") {
            for (index, item) in items.iter_mut().enumerate() {
                self.value(&format!("{path}[{index}]"), each, item);
            }
        }
    }
}

enum Format {
    Secret,
    Period,
    Size,
}

fn format_of(schema: &Value) -> Option<Format> {
    match schema.get("format")?.as_str()? {
        secret::FORMAT => Some(Format::Secret),
        "period" => Some(Format::Period),
        "size" => Some(Format::Size),
        _ => None,
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn bound(schema: &Value, key: &str) -> Option<f64> {
    schema.get(key).and_then(Value::as_f64)
}

pub(super) fn deref<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    while let Some(target) =
        schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.strip_prefix('#')?))
    {
        schema = target;
    }
    schema
}

pub(super) fn options(schema: &Value) -> Option<&Vec<Value>> {
    schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array)
}

/// Whether the value is of the schema's type and, where it lists some, among its values.
fn accepts(schema: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    let typed = match schema.get("type") {
        Some(Value::String(name)) => is(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    let listed = schema.get("enum").and_then(Value::as_array).is_none_or(|all| all.contains(value));
    typed && listed && schema.get("const").is_none_or(|only| only == value)
}

/// What the schema asks for, in words.
pub(super) fn expected(root: &Value, schema: &Value) -> String {
    if let Some(all) = options(schema) {
        return all.iter().map(|o| expected(root, deref(root, o))).collect::<Vec<_>>().join(" or ");
    }
    let quoted = |v: &Value| v.as_str().map_or_else(|| v.to_string(), |s| format!("`{s}`"));
    if let Some(only) = schema.get("const") {
        return quoted(only);
    }
    if let Some(all) = schema.get("enum").and_then(Value::as_array) {
        return all.iter().map(quoted).collect::<Vec<_>>().join(" or ");
    }
    match (format_of(schema), schema.get("type")) {
        (Some(Format::Secret), _) => "a text in quotes, `${NAME}` or `file:PATH`".to_owned(),
        (Some(Format::Period), _) => units::PERIOD.to_owned(),
        (Some(Format::Size), _) => units::SIZE.to_owned(),
        (None, Some(Value::String(name))) => in_words(name, schema),
        (None, Some(Value::Array(names))) => names
            .iter()
            .filter_map(Value::as_str)
            .map(|n| in_words(n, schema))
            .collect::<Vec<_>>()
            .join(" or "),
        (None, _) => "anything".to_owned(),
    }
}

fn in_words(name: &str, schema: &Value) -> String {
    match name {
        "null" => "nothing".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "integer" => "a whole number".to_owned(),
        "number" => "a number".to_owned(),
        "string" => "a text".to_owned(),
        "array" => "a list".to_owned(),
        _ => match schema.get("required").and_then(Value::as_array).map(Vec::as_slice) {
            Some([Value::String(only)]) => format!("`{only}: ...`"),
            _ => "a section".to_owned(),
        },
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a yes or no",
        Value::Number(_) => "a number",
        Value::String(_) => "another text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a section",
    }
}

/// A text from outside the file, as what the schema asks for.
fn typed(root: &Value, schema: &Value, text: &str) -> Value {
    let as_text = Value::String(text.to_owned());
    let takes = |value: &Value| match options(schema) {
        Some(all) => all.iter().any(|o| accepts(deref(root, o), value)),
        None => accepts(schema, value),
    };
    if takes(&as_text) {
        return as_text;
    }
    match serde_saphyr::from_str::<Value>(text) {
        Ok(value) if takes(&value) => value,
        _ => as_text,
    }
}

fn untyped(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(rest) = text.strip_prefix(TEXT) {
                *text = rest.to_owned();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(untyped),
        Value::Object(map) => map.values_mut().for_each(untyped),
        _ => {}
    }
}
