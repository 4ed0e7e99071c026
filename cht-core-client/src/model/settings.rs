//! The settings of a CHT, and what they say about a document before it is sent.
//!
//! The CHT drops fields that a form does not define, turns unreadable dates into nothing and checks no range, all
//! without an error. [`Settings::record_problems`] and [`Settings::person_problems`] find that beforehand.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::document::document;

document! {
    /// `GET /api/v1/settings`.
    Settings {
        /// Contact types.
        contact_types: Vec<ContactType> = "contact_types",
        /// JSON forms by code.
        forms: BTreeMap<String, FormDefinition> = "forms",
        /// Transitions that are switched on.
        transitions: Map<String, Value> = "transitions",
        /// What reports register.
        registrations: Vec<Value> = "registrations",
        /// Reports about known patients.
        patient_reports: Vec<Value> = "patient_reports",
        /// Outbound pushes by name.
        outbound: Map<String, Value> = "outbound",
        /// Roles by name.
        roles: Map<String, Value> = "roles",
        /// Roles that have each permission.
        permissions: BTreeMap<String, Vec<String>> = "permissions",
        /// Data sets of the DHIS2 export.
        dhis_data_sets: Vec<Value> = "dhis_data_sets",
        /// Sending of text messages.
        sms: Map<String, Value> = "sms",
        /// Language.
        locale: String = "locale",
        /// How strictly phone numbers are checked: `full`, `partial` or `none`.
        phone_validation: String = "phone_validation",
        /// Types of places from the top down (older configurations).
        place_hierarchy_types: Vec<String> = "place_hierarchy_types",
    }
}

document! {
    /// A contact type.
    ContactType {
        /// Id.
        id: String = "id",
        /// Types that a parent may have; none for the top level.
        parents: Vec<String> = "parents",
        /// Whether it is a person.
        person: bool = "person",
    }
}

document! {
    /// A JSON form.
    FormDefinition {
        /// Fields by key.
        fields: BTreeMap<String, FieldDefinition> = "fields",
        /// Whether unknown senders are accepted. Without it they are not, whatever the documentation says.
        public_form: bool = "public_form",
        /// Code, label and so on.
        meta: Map<String, Value> = "meta",
    }
}

document! {
    /// A field of a JSON form.
    FieldDefinition {
        /// Type, such as `string`, `integer`, `date`, `boolean`.
        kind: String = "type",
        /// Whether it must be given.
        required: bool = "required",
    }
}

/// Something that the CHT would refuse, or take without an error and then lose.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// No form has this code.
    UnknownForm,
    /// The form's key in the settings is not in upper case, so the CHT never finds it.
    FormKeyNotUpperCase,
    /// The form is not public, so a record from an unknown sender is rejected.
    FormNotPublic,
    /// A field is not in the form: the CHT drops it.
    UnknownField(String),
    /// The form defines the field with upper-case letters, so it is never filled.
    FieldKeyNotLowerCase(String),
    /// A required field is missing.
    MissingField(String),
    /// A value has not the type of its field.
    WrongType(String),
    /// A date cannot be read: the CHT stores nothing.
    UnreadableDate(String),
    /// The contact type is not configured.
    UnknownContactType,
    /// The contact type is not a person.
    NotAPerson,
    /// The parent's type is not among those allowed.
    ParentNotAllowed,
    /// A contact of this type needs a parent.
    ParentRequired,
    /// A transition that is needed is switched off.
    TransitionOff(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownForm => f.write_str("settings.forms has no such form"),
            Self::FormKeyNotUpperCase => {
                f.write_str("the key of the form in settings.forms must be upper case")
            }
            Self::FormNotPublic => {
                f.write_str("set public_form: true on the form, or send from a known contact")
            }
            Self::UnknownField(key) => write!(f, "the form has no field `{key}`; the CHT would drop it"),
            Self::FieldKeyNotLowerCase(key) => {
                write!(f, "the key of field `{key}` must be lower case in the form")
            }
            Self::MissingField(key) => write!(f, "the required field `{key}` is missing"),
            Self::WrongType(key) => write!(f, "the value of `{key}` has not the type of the field"),
            Self::UnreadableDate(key) => write!(f, "the date in `{key}` cannot be read; use YYYY-MM-DD"),
            Self::UnknownContactType => f.write_str("settings.contact_types has no such type"),
            Self::NotAPerson => f.write_str("the contact type is not a person type"),
            Self::ParentNotAllowed => {
                f.write_str("the parent's type is not among the parents of the contact type")
            }
            Self::ParentRequired => f.write_str("a contact of this type needs a parent"),
            Self::TransitionOff(name) => {
                write!(f, "the transition {name} is switched off in settings.transitions")
            }
        }
    }
}

impl Settings {
    /// A contact type by id.
    pub fn contact_type(&self, id: &str) -> Option<&ContactType> {
        self.contact_types.iter().flatten().find(|configured| configured.id.as_deref() == Some(id))
    }

    /// Whether contacts of this type are persons.
    pub fn is_person_type(&self, id: &str) -> bool {
        id == "person" || self.contact_type(id).is_some_and(|configured| configured.person == Some(true))
    }

    /// A JSON form by its code, in any case.
    pub fn form(&self, code: &str) -> Option<&FormDefinition> {
        self.forms.as_ref()?.get(&code.to_uppercase())
    }

    /// Whether a transition is switched on.
    pub fn has_transition(&self, name: &str) -> bool {
        match self.transitions.as_ref().and_then(|all| all.get(name)) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Object(options)) => options.get("disable") != Some(&Value::Bool(true)),
            Some(_) => true,
        }
    }

    /// Whether one of the roles has the permission. Database administrators have all.
    pub fn has_permission<S: AsRef<str>>(&self, roles: &[S], permission: &str) -> bool {
        roles.iter().any(|role| {
            let role = role.as_ref();
            role == "admin"
                || role == "_admin"
                || self
                    .permissions
                    .as_ref()
                    .and_then(|all| all.get(permission))
                    .is_some_and(|holders| holders.iter().any(|holder| holder == role))
        })
    }

    /// The transitions among `needed` that are switched off.
    pub fn transition_problems(&self, needed: &[&str]) -> Vec<Problem> {
        needed
            .iter()
            .filter(|name| !self.has_transition(name))
            .map(|name| Problem::TransitionOff((*name).to_owned()))
            .collect()
    }

    /// What is wrong with a record for a JSON form, sent by `POST /api/v2/records`.
    ///
    /// `known_sender`: whether it is sent from the phone of a contact.
    pub fn record_problems(
        &self,
        code: &str,
        fields: &Map<String, Value>,
        known_sender: bool,
    ) -> Vec<Problem> {
        let Some(form) = self.form(code) else {
            let other_case = self.forms.iter().flatten().any(|(key, _)| key.eq_ignore_ascii_case(code));
            return vec![if other_case { Problem::FormKeyNotUpperCase } else { Problem::UnknownForm }];
        };
        let mut problems = Vec::new();
        if !known_sender && form.public_form != Some(true) {
            problems.push(Problem::FormNotPublic);
        }
        let no_fields = BTreeMap::new();
        let defined = form.fields.as_ref().unwrap_or(&no_fields);
        let given: BTreeMap<String, &Value> =
            fields.iter().map(|(key, value)| (key.to_lowercase(), value)).collect();
        for key in given.keys().filter(|key| key.as_str() != "_meta") {
            let held = defined.contains_key(key)
                || defined.keys().any(|path| path.split('.').next() == Some(key.as_str()));
            if !held {
                problems.push(Problem::UnknownField(key.clone()));
            }
        }
        for (key, definition) in defined {
            if *key != key.to_lowercase() {
                problems.push(Problem::FieldKeyNotLowerCase(key.clone()));
                continue;
            }
            match given.get(key).filter(|value| !value.is_null()) {
                None if definition.required == Some(true) => {
                    problems.push(Problem::MissingField(key.clone()))
                }
                None => {}
                Some(value) => problems.extend(definition.problem(key, value)),
            }
        }
        problems
    }

    /// What is wrong with a person of this type below a parent of that type.
    pub fn person_problems(&self, type_id: &str, parent_type: Option<&str>) -> Vec<Problem> {
        let Some(configured) = self.contact_type(type_id) else {
            return vec![Problem::UnknownContactType];
        };
        let mut problems = Vec::new();
        if !self.is_person_type(type_id) {
            problems.push(Problem::NotAPerson);
        }
        let allowed = configured.parents.as_deref().unwrap_or_default();
        match parent_type {
            None if !allowed.is_empty() => problems.push(Problem::ParentRequired),
            Some(parent) if !allowed.iter().any(|id| id == parent) => {
                problems.push(Problem::ParentNotAllowed)
            }
            _ => {}
        }
        problems
    }
}

impl FieldDefinition {
    fn problem(&self, key: &str, value: &Value) -> Option<Problem> {
        let fits = match self.kind.as_deref() {
            Some("integer") => {
                value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
            }
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean() || matches!(value.as_i64(), Some(0 | 1)),
            Some("complex") => value.is_object(),
            Some("date" | "datetime") => {
                return (!is_date(value)).then(|| Problem::UnreadableDate(key.to_owned()));
            }
            _ => true,
        };
        (!fits).then(|| Problem::WrongType(key.to_owned()))
    }
}

fn is_date(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::String(text) => {
            text.parse::<jiff::civil::Date>().is_ok() || text.parse::<jiff::Timestamp>().is_ok()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings() -> Settings {
        serde_json::from_value(json!({
            "contact_types": [
                {"id": "district_hospital"},
                {"id": "clinic", "parents": ["district_hospital"]},
                {"id": "patient", "person": true, "parents": ["clinic"]},
            ],
            "forms": {
                "LTFU": {"public_form": true, "fields": {
                    "patient_uuid": {"type": "string", "required": true},
                    "due": {"type": "date"},
                    "n": {"type": "integer"},
                    "sure": {"type": "boolean"},
                    "Upper": {"type": "string"},
                }},
                "lower": {"fields": {}},
                "CLOSED": {"fields": {}},
            },
            "transitions": {"a": true, "b": {}, "c": {"disable": true}, "d": false},
            "permissions": {"can_edit": ["interop"]},
        }))
        .unwrap()
    }

    #[test]
    fn a_record_is_checked_for_what_the_cht_takes_and_loses() {
        let settings = settings();
        let problems =
            |code, fields: Value| settings.record_problems(code, fields.as_object().unwrap(), false);
        let upper = Problem::FieldKeyNotLowerCase("Upper".into());
        assert_eq!(
            problems("ltfu", json!({"patient_uuid": "u", "due": "2026-01-12", "n": 3, "sure": 1})),
            std::slice::from_ref(&upper)
        );
        assert_eq!(
            problems("LTFU", json!({"due": "soon", "n": "3", "sure": "1", "extra": 1})),
            [
                Problem::UnknownField("extra".into()),
                upper,
                Problem::UnreadableDate("due".into()),
                Problem::WrongType("n".into()),
                Problem::MissingField("patient_uuid".into()),
                Problem::WrongType("sure".into()),
            ]
        );
        assert_eq!(problems("LOWER", json!({})), [Problem::FormKeyNotUpperCase]);
        assert_eq!(problems("NONE", json!({})), [Problem::UnknownForm]);
        assert_eq!(problems("CLOSED", json!({})), [Problem::FormNotPublic]);
    }

    #[test]
    fn a_person_is_checked_for_type_and_parent() {
        let settings = settings();
        assert!(settings.person_problems("patient", Some("clinic")).is_empty());
        assert_eq!(settings.person_problems("patient", None), [Problem::ParentRequired]);
        assert_eq!(
            settings.person_problems("patient", Some("district_hospital")),
            [Problem::ParentNotAllowed]
        );
        assert_eq!(settings.person_problems("clinic", Some("district_hospital")), [Problem::NotAPerson]);
        assert_eq!(settings.person_problems("ghost", None), [Problem::UnknownContactType]);
    }

    #[test]
    fn transitions_and_permissions_follow_the_rules_of_the_cht() {
        let settings = settings();
        let off: Vec<String> = settings
            .transition_problems(&["a", "b", "c", "d", "e"])
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(off.len(), 3);
        assert!(settings.has_permission(&["interop"], "can_edit"));
        assert!(!settings.has_permission(&["other"], "can_edit"));
        assert!(settings.has_permission(&["_admin"], "anything"));
    }
}
