//! Field by field: what a change writes at its target, and what loses.
//!
//! A field has moved at an end if its digest differs from the base of that end. Only what moved at the source and
//! differs at the target is written; what moved at both is a conflict, decided by the field's policy, and the value
//! that loses is kept.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields::same;
use crate::connector::Capabilities;
use crate::outbox::{Base, Conflict, Keys};

/// Who wins when both ends changed a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The CHT's value.
    Cht,
    /// The partner's value.
    Partner,
    /// The value that was read last.
    #[default]
    Newest,
    /// A person decides; until then neither is written.
    Review,
}

impl Policy {
    fn as_str(self) -> &'static str {
        match self {
            Policy::Cht => "cht",
            Policy::Partner => "partner",
            Policy::Newest => "newest",
            Policy::Review => "review",
        }
    }
}

/// Policies by field, and one for all others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// For fields that are not named.
    pub default: Policy,
    /// By canonical field name.
    pub fields: BTreeMap<String, Policy>,
}

impl Policies {
    /// The policy of one field.
    pub fn of(&self, field: &str) -> Policy {
        self.fields.get(field).copied().unwrap_or(self.default)
    }
}

/// Which end a change comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The CHT.
    Cht,
    /// The partner.
    Partner,
}

/// What a change does at its target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merge {
    /// Fields to write.
    pub write: BTreeMap<String, String>,
    /// Values that lose.
    pub conflicts: Vec<Conflict>,
    /// Fields that a person must decide.
    pub ask: Vec<Conflict>,
}

/// Everything that deciding needs.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// The source's values.
    pub here: &'a BTreeMap<String, String>,
    /// The target's values as they are now.
    pub there: &'a BTreeMap<String, String>,
    /// Base of the source's end.
    pub near: &'a Base,
    /// Base of the target's end.
    pub far: &'a Base,
    /// Whether an edit of the target was read after this change.
    pub target_newer: bool,
}

/// Decides each field. `based` is false only when the field base is taken out by a test.
pub fn merge(
    keys: Keys<'_>,
    source: Side,
    ends: Ends<'_>,
    target: &Capabilities,
    policies: &Policies,
    based: bool,
) -> Merge {
    let mut out = Merge::default();
    for (field, value) in ends.here.iter().filter(|(f, _)| target.can_hold(f)) {
        let there = ends.there.get(field);
        let moved_here = !based || ends.near.get(field).is_none_or(|b| b.0 != keys.value(field, value));
        if !moved_here || there.is_some_and(|t| same(field, value, t)) {
            continue;
        }
        let moved_there = there.filter(|t| ends.far.get(field).is_none_or(|b| b.0 != keys.value(field, t)));
        let Some(theirs) = moved_there.filter(|_| based) else {
            out.write.insert(field.clone(), value.clone());
            continue;
        };
        let policy = policies.of(field);
        let conflict = |lost: &String, kept: &String| Conflict {
            field: field.clone(),
            lost: lost.clone(),
            kept: kept.clone(),
            policy: policy.as_str().to_owned(),
        };
        let wins = match policy {
            Policy::Cht => Some(source == Side::Cht),
            Policy::Partner => Some(source == Side::Partner),
            Policy::Newest => Some(!ends.target_newer),
            Policy::Review => None,
        };
        match wins {
            Some(true) => {
                out.conflicts.push(conflict(theirs, value));
                out.write.insert(field.clone(), value.clone());
            }
            Some(false) => out.conflicts.push(conflict(value, theirs)),
            None => out.ask.push(conflict(value, theirs)),
        }
    }
    out
}
