//! Mango selectors as far as clients use them, with CouchDB's order of values.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// The name of the first operator that is not known, if any.
pub(super) fn unknown_operator(selector: &Value) -> Option<String> {
    const KNOWN: [&str; 20] = [
        "$and",
        "$or",
        "$nor",
        "$not",
        "$eq",
        "$ne",
        "$gt",
        "$gte",
        "$lt",
        "$lte",
        "$in",
        "$nin",
        "$exists",
        "$type",
        "$size",
        "$mod",
        "$all",
        "$elemMatch",
        "$allMatch",
        "$beginsWith",
    ];
    match selector {
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            let unknown = key.starts_with('$') && !KNOWN.contains(&key.as_str());
            if unknown { Some(key.clone()) } else { unknown_operator(value) }
        }),
        Value::Array(items) => items.iter().find_map(unknown_operator),
        _ => None,
    }
}

/// Whether a document fits.
pub(super) fn matches(selector: &Map<String, Value>, doc: &Value) -> bool {
    selector.iter().all(|(key, condition)| match key.as_str() {
        "$and" => all(condition, |part| matches(part, doc)),
        "$or" => any(condition, |part| matches(part, doc)),
        "$nor" => !any(condition, |part| matches(part, doc)),
        "$not" => condition.as_object().is_some_and(|part| !matches(part, doc)),
        field => holds(condition, field_of(doc, field)),
    })
}

fn all(parts: &Value, test: impl Fn(&Map<String, Value>) -> bool) -> bool {
    parts.as_array().is_some_and(|parts| parts.iter().filter_map(Value::as_object).all(test))
}

fn any(parts: &Value, test: impl Fn(&Map<String, Value>) -> bool) -> bool {
    parts.as_array().is_some_and(|parts| parts.iter().filter_map(Value::as_object).any(test))
}

/// A field by its dotted path.
pub(super) fn field_of<'a>(doc: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(doc, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    })
}

fn holds(condition: &Value, value: Option<&Value>) -> bool {
    match condition {
        Value::Object(map) if map.keys().any(|key| key.starts_with('$')) => {
            map.iter().all(|(operator, operand)| operates(operator, operand, value))
        }
        Value::Object(map) => {
            map.iter().all(|(key, inner)| holds(inner, value.and_then(|value| field_of(value, key))))
        }
        plain => value == Some(plain),
    }
}

fn operates(operator: &str, operand: &Value, value: Option<&Value>) -> bool {
    let ordered = |test: fn(Ordering) -> bool| value.is_some_and(|value| test(collate(value, operand)));
    let items = || operand.as_array().map(Vec::as_slice).unwrap_or_default();
    match operator {
        "$exists" => operand.as_bool() == Some(value.is_some()),
        "$not" => !holds(operand, value),
        "$and" => items().iter().all(|part| holds(part, value)),
        "$or" => items().iter().any(|part| holds(part, value)),
        "$eq" => value == Some(operand),
        "$ne" => value.is_some_and(|value| value != operand),
        "$gt" => ordered(Ordering::is_gt),
        "$gte" => ordered(Ordering::is_ge),
        "$lt" => ordered(Ordering::is_lt),
        "$lte" => ordered(Ordering::is_le),
        "$in" => value.is_some_and(|value| match value {
            Value::Array(held) => held.iter().any(|one| items().contains(one)) || items().contains(value),
            one => items().contains(one),
        }),
        "$nin" => value.is_some_and(|value| !items().contains(value)),
        "$type" => value.is_some_and(|value| Some(type_name(value)) == operand.as_str()),
        "$size" => value.and_then(Value::as_array).map(|held| held.len() as u64) == operand.as_u64(),
        "$beginsWith" => value
            .and_then(Value::as_str)
            .zip(operand.as_str())
            .is_some_and(|(text, start)| text.starts_with(start)),
        "$all" => {
            value.and_then(Value::as_array).is_some_and(|held| items().iter().all(|item| held.contains(item)))
        }
        "$elemMatch" => value
            .and_then(Value::as_array)
            .is_some_and(|held| held.iter().any(|one| holds(operand, Some(one)))),
        "$allMatch" => value
            .and_then(Value::as_array)
            .is_some_and(|held| held.iter().all(|one| holds(operand, Some(one)))),
        "$mod" => {
            let number = |at: usize| items().get(at).and_then(Value::as_i64);
            let (Some(value), Some(by), Some(rest)) = (value.and_then(Value::as_i64), number(0), number(1))
            else {
                return false;
            };
            value.checked_rem(by) == Some(rest)
        }
        _ => false,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// CouchDB's order: null, false, true, numbers, text, arrays, objects.
pub(super) fn collate(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(false) => 1,
        Value::Bool(true) => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let different = a.iter().zip(b).map(|(a, b)| collate(a, b)).find(|order| order.is_ne());
            different.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let pair = |((ka, va), (kb, vb)): ((&String, &Value), (&String, &Value))| {
                ka.cmp(kb).then(collate(va, vb))
            };
            let different = a.iter().zip(b).map(pair).find(|order| order.is_ne());
            different.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors() {
        let doc = json!({ "type": "person", "n": 3, "fields": { "a": "x" }, "list": [{ "k": 1 }] });
        for (selector, expected) in [
            (json!({ "type": "person", "n": { "$gt": 2, "$lte": 3 } }), true),
            (json!({ "type": { "$in": ["clinic"] } }), false),
            (json!({ "fields.a": "x" }), true),
            (json!({ "fields": { "a": "x" } }), true),
            (json!({ "$or": [{ "type": "clinic" }, { "_deleted": true }] }), false),
            (json!({ "$not": { "n": 3 } }), false),
            (json!({ "_deleted": { "$exists": false } }), true),
            (json!({ "list": { "$elemMatch": { "k": 1 } } }), true),
            (json!({ "missing": { "$ne": 1 } }), false),
        ] {
            assert_eq!(matches(selector.as_object().unwrap(), &doc), expected, "{selector}");
        }
        assert_eq!(unknown_operator(&json!({ "a": { "$foo": 1 } })), Some("$foo".into()));
    }
}
