//! Puts environment variables and flags over the tree that the file gave.

use serde_json::{Map, Value};

use super::ConfigReport;

/// What the variables' names begin with.
pub(super) const PREFIX: &str = "CHT_CONNECTOR__";

/// `CHT_CONNECTOR__BRIDGES__0__CHT__URL` as the steps of a path.
pub(super) fn env_steps(name: &str) -> Option<Vec<&str>> {
    name.strip_prefix(PREFIX).map(|rest| rest.split("__").collect())
}

/// Puts a text at a path. Its type is found out when the tree is checked against the schema.
pub(super) fn put(tree: &mut Value, steps: &[&str], text: &str, origin: &str, report: &mut ConfigReport) {
    let mut at = tree;
    for step in steps {
        let next = match at {
            Value::Array(items) => {
                let index = step.parse::<usize>().ok().filter(|i| *i <= items.len());
                let Some(index) = index else {
                    report.add(
                        &steps.join("."),
                        format!("{origin}: `{step}` is no place in this list, nor the next one"),
                    );
                    return;
                };
                if index == items.len() {
                    items.push(Value::Null);
                }
                items.get_mut(index)
            }
            other => {
                if !other.is_object() {
                    *other = if *step == "0" {
                        Value::Array(vec![Value::Null])
                    } else {
                        Value::Object(Map::new())
                    };
                }
                match other {
                    Value::Array(items) => items.first_mut(),
                    Value::Object(map) => {
                        let known = map.keys().find(|k| k.eq_ignore_ascii_case(step)).cloned();
                        Some(
                            map.entry(known.unwrap_or_else(|| step.to_ascii_lowercase()))
                                .or_insert(Value::Null),
                        )
                    }
                    _ => None,
                }
            }
        };
        match next {
            Some(next) => at = next,
            None => return,
        }
    }
    *at = Value::String(format!("{TEXT}{text}"));
}

/// Marks a text that came from outside the file, whose type is not known yet.
pub(super) const TEXT: &str = "\u{0}";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn over(tree: &mut Value, name: &str, text: &str) -> ConfigReport {
        let mut report = ConfigReport::default();
        put(tree, &env_steps(name).unwrap(), text, name, &mut report);
        report
    }

    #[test]
    fn variables_reach_into_lists_and_maps_and_make_what_is_not_there() {
        let mut tree = json!({ "bridges": [{ "cht": { "url": "a" } }] });
        assert!(over(&mut tree, "CHT_CONNECTOR__BRIDGES__0__CHT__URL", "b").is_clean());
        assert!(over(&mut tree, "CHT_CONNECTOR__BRIDGES__1__NAME", "two").is_clean());
        assert!(over(&mut tree, "CHT_CONNECTOR__HTTP__LISTEN", "x").is_clean());
        assert!(over(&mut tree, "CHT_CONNECTOR__LISTS__0__NAME", "new").is_clean());
        assert_eq!(
            tree,
            json!({
                "bridges": [{ "cht": { "url": "\u{0}b" } }, { "name": "\u{0}two" }],
                "http": { "listen": "\u{0}x" },
                "lists": [{ "name": "\u{0}new" }],
            })
        );
        let report = over(&mut tree, "CHT_CONNECTOR__BRIDGES__7__NAME", "secret");
        assert_eq!(report.problems().len(), 1);
        assert!(!format!("{report:?}").contains("secret"));
        assert_eq!(env_steps("PATH"), None);
    }
}
