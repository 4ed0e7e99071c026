//! What is still to be written of a command, given the rows that OpenMRS holds now. Pure.
//!
//! Guarantees: rows are edited in place by their uuid and added only where there is none, so that no name, address,
//! attribute or identifier is doubled; where OpenMRS itself holds two of what should be one, nobody guesses.

use connector_core::connector::Reject;
use serde_json::{Map, Value, json};

use crate::command::{Death, Same, Wanted, first_day};
use crate::config::Config;
use crate::normal::{Name, Person};
use crate::rest::RestPatient;

/// One write.
pub struct Edit {
    /// Below `/ws/rest/v1/`.
    pub path: String,
    /// The JSON body; none takes the row away.
    pub body: Option<Value>,
}

/// What goes into one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// An identifier of this type.
    Identifier(String),
    /// Gender, birth date and death: columns of one row.
    Demographics,
    /// The name in use.
    Name,
    /// The address in use.
    Address,
    /// An attribute of this type.
    Attribute(String),
}

impl Piece {
    /// Its name in notes and reasons: configured names, no value.
    pub fn name(&self, config: &Config) -> String {
        match self {
            Piece::Identifier(kind) => match config.identifier_name(kind) {
                Some(name) => format!("edited identifier.{name}"),
                None => "edited identifier of the contact".to_owned(),
            },
            Piece::Demographics => "edited demographics".into(),
            Piece::Name => "edited name".into(),
            Piece::Address => "edited address".into(),
            Piece::Attribute(kind) => match config.attributes.iter().find(|(_, k)| *k == kind) {
                Some((name, _)) => format!("edited attribute.{name}"),
                None => "edited phone".to_owned(),
            },
        }
    }
}

/// The writes that a wanted state takes, in order.
pub fn pieces(wanted: &Wanted) -> Vec<Piece> {
    let mut all: Vec<Piece> = wanted.identifiers.keys().cloned().map(Piece::Identifier).collect();
    if wanted.gender.is_some() || wanted.birth_date.is_some() || wanted.death.is_some() {
        all.push(Piece::Demographics);
    }
    all.extend(wanted.name.as_ref().map(|_| Piece::Name));
    all.extend((!wanted.address.is_empty()).then_some(Piece::Address));
    all.extend(wanted.attributes.keys().cloned().map(Piece::Attribute));
    all
}

fn without(wanted: &mut Wanted, piece: &Piece) {
    match piece {
        Piece::Identifier(kind) => drop(wanted.identifiers.remove(kind)),
        Piece::Demographics => (wanted.gender, wanted.birth_date, wanted.death) = (None, None, None),
        Piece::Name => wanted.name = None,
        Piece::Address => wanted.address.clear(),
        Piece::Attribute(kind) => drop(wanted.attributes.remove(kind)),
    }
}

/// The part of a wanted state that one piece is.
fn only(wanted: &Wanted, piece: &Piece) -> Wanted {
    let mut one = wanted.clone();
    for other in pieces(wanted).iter().filter(|p| *p != piece) {
        without(&mut one, other);
    }
    one
}

fn beyond(wanted: &Wanted, rows: &RestPatient, config: &Config, same: Same) -> Wanted {
    let mut person = Person::of_rest(rows, config);
    if wanted.birth_date.as_ref().is_some_and(|date| date.len() < 10) {
        person.birth_date = rows.person.birth_day();
    }
    wanted.clone().beyond(&person, config, same)
}

/// Whether a piece stands there, letter for letter or as OpenMRS normalised it.
pub fn stands(wanted: &Wanted, piece: &Piece, rows: &RestPatient, config: &Config) -> bool {
    !pieces(&beyond(wanted, rows, config, Same::Folded)).contains(piece)
}

/// What is still to be written. What differs in case and spaces only was normalised by OpenMRS if it was written before
/// (the notes say so) or is not what it was.
pub fn remaining(
    wanted: &Wanted,
    before: &Person,
    rows: &RestPatient,
    config: &Config,
    is_noted: impl Fn(&str) -> bool,
) -> Wanted {
    let mut left = beyond(wanted, rows, config, Same::Exact);
    for piece in pieces(&left) {
        let written =
            is_noted(&piece.name(config)) || !is_untouched(&only(&left, &piece), before, rows, config);
        if written && stands(wanted, &piece, rows, config) {
            without(&mut left, &piece);
        }
    }
    left
}

/// Whether what is still wanted stands as it did when the edit was planned. If not, somebody else edited it meanwhile.
pub fn is_untouched(wanted: &Wanted, before: &Person, rows: &RestPatient, config: &Config) -> bool {
    let now = Person::of_rest(rows, config);
    (wanted.name.is_none() || now.name == before.name)
        && (wanted.gender.is_none() || now.sex == before.sex)
        && (wanted.birth_date.is_none() || now.birth_date == before.birth_date)
        && (wanted.death.is_none() || now.deceased == before.deceased)
        && wanted.address.keys().all(|at| now.address.get(at) == before.address.get(at))
        && wanted.attributes.keys().all(|kind| now.attributes.get(kind) == before.attributes.get(kind))
        && wanted.identifiers.keys().all(|kind| now.identifiers.get(kind) == before.identifiers.get(kind))
}

/// How one piece is written to these rows.
pub fn edit(piece: &Piece, wanted: &Wanted, rows: &RestPatient, config: &Config) -> Result<Edit, Reject> {
    let uuid = &rows.uuid;
    match piece {
        Piece::Identifier(kind) => {
            identifier(rows, kind, wanted.identifiers.get(kind).map_or("", String::as_str), config)
        }
        Piece::Attribute(kind) => {
            attribute(rows, kind, wanted.attributes.get(kind).map_or("", String::as_str), config)
        }
        Piece::Demographics => {
            Ok(Edit { path: format!("person/{uuid}"), body: Some(Value::Object(demographics(wanted))) })
        }
        Piece::Name => {
            let row = rows.person.name().map(|row| row.uuid.as_str());
            Ok(row_of(uuid, "name", row, name_parts(&wanted.name.clone().unwrap_or_default())))
        }
        Piece::Address => {
            let row = rows.person.address().and_then(|a| a.get("uuid")?.as_str());
            let body = wanted.address.iter().map(|(at, value)| (at.clone(), text(value))).collect();
            Ok(row_of(uuid, "address", row, body))
        }
    }
}

/// The row in use edited in place, or the first one added.
fn row_of(uuid: &str, what: &str, row: Option<&str>, mut body: Map<String, Value>) -> Edit {
    let mut path = format!("person/{uuid}/{what}");
    match row {
        Some(row) => path.extend(["/", row]),
        None => drop(body.insert("preferred".into(), true.into())),
    }
    Edit { path, body: Some(Value::Object(body)) }
}

fn text(value: &str) -> Value {
    if value.is_empty() { Value::Null } else { value.into() }
}

/// The three parts of a name; an empty one is taken away.
pub fn name_parts(name: &Name) -> Map<String, Value> {
    let parts = [("givenName", &name.given), ("middleName", &name.middle), ("familyName", &name.family)];
    parts.into_iter().map(|(key, part)| (key.to_owned(), text(part))).collect()
}

/// Gender, birth date and death, which are columns of one row and go in one write.
pub fn demographics(wanted: &Wanted) -> Map<String, Value> {
    let mut body = Map::new();
    body.extend(wanted.gender.as_ref().map(|gender| ("gender".to_owned(), json!(gender))));
    if let Some(date) = &wanted.birth_date {
        body.insert("birthdate".into(), json!(first_day(date)));
        body.insert("birthdateEstimated".into(), (date.len() < 10).into());
    }
    match &wanted.death {
        None => {}
        Some(Death::Alive) => {
            body.extend([("dead".to_owned(), false.into()), ("deathDate".to_owned(), Value::Null)]);
            body.insert("causeOfDeath".into(), Value::Null);
        }
        Some(Death::Dead { day, cause }) => {
            body.extend([("dead".to_owned(), true.into()), ("causeOfDeath".to_owned(), json!(cause))]);
            body.extend(day.as_ref().map(|day| ("deathDate".to_owned(), json!(day))));
        }
    }
    body
}

fn identifier(rows: &RestPatient, kind: &str, value: &str, config: &Config) -> Result<Edit, Reject> {
    let held: Vec<_> = rows.identifiers.iter().filter(|i| i.identifier_type.uuid == kind).collect();
    let path = format!("patient/{}/identifier", rows.uuid);
    match held.as_slice() {
        [] => {
            let mut body = json!({"identifier": value, "identifierType": kind});
            let located = config.identifiers.values().any(|i| i.kind == kind && i.with_location());
            if let Some(location) = config.location.as_ref().filter(|_| located) {
                set(&mut body, "location", location);
            }
            Ok(Edit { path, body: Some(body) })
        }
        [one] => Ok(Edit { path: format!("{path}/{}", one.uuid), body: Some(json!({"identifier": value})) }),
        _ => Err(several(&Piece::Identifier(kind.to_owned()), config)),
    }
}

fn several(piece: &Piece, config: &Config) -> Reject {
    let name = piece.name(config);
    Reject::new(format!(
        "{name}: the OpenMRS patient holds several of one type; void the wrong ones there, then replay"
    ))
}

/// Sets a key of an object.
pub fn set(object: &mut Value, key: &str, value: &str) {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value.into());
    }
}

fn attribute(rows: &RestPatient, kind: &str, value: &str, config: &Config) -> Result<Edit, Reject> {
    let held: Vec<_> = rows.person.attributes.iter().filter(|a| a.attribute_type.uuid == kind).collect();
    let path = format!("person/{}/attribute", rows.uuid);
    match held.as_slice() {
        [] => Ok(Edit { path, body: Some(json!({"attributeType": kind, "value": value})) }),
        [one] if value.is_empty() => Ok(Edit { path: format!("{path}/{}", one.uuid), body: None }),
        [one] => Ok(Edit { path: format!("{path}/{}", one.uuid), body: Some(json!({"value": value})) }),
        _ => Err(several(&Piece::Attribute(kind.to_owned()), config)),
    }
}
