//! What the server checks before it stores a patient, and how REST and FHIR tell what it found.

use serde_json::{Map, Value, json};

use super::{
    http::{Reply, processing},
    idgen,
    metadata::{metadata, text},
    model::{NAME_FIELDS, Patient},
    options::Switches,
    tables::Tables,
    time,
};

/// What is wrong with a patient.
#[derive(Default)]
pub struct Errors {
    globals: Vec<(String, String)>,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    code: String,
    message: String,
    /// Whether REST lists it twice.
    twice: bool,
}

/// The longest part of a name.
const LONGEST_NAME: usize = 50;
/// The longest value of an attribute.
pub const LONGEST_ATTRIBUTE: usize = 50;

impl Errors {
    /// An error of a field.
    pub fn field(&mut self, name: &str, code: &str, message: &str, twice: bool) {
        self.fields.push(Field { name: name.into(), code: code.into(), message: message.into(), twice });
    }

    /// An error of the whole.
    pub fn global(&mut self, code: &str, message: &str) {
        self.globals.push((code.to_owned(), message.to_owned()));
    }

    /// Nothing, or the 400 of REST.
    pub fn rest(self) -> Result<(), Reply> {
        if self.globals.is_empty() && self.fields.is_empty() {
            return Ok(());
        }
        let error = |code: &str, message: &str| json!({"code": code, "message": message});
        let mut fields: Map<String, Value> = Map::new();
        for field in &self.fields {
            let list = fields.entry(field.name.clone()).or_insert_with(|| json!([]));
            for _ in 0..=usize::from(field.twice) {
                list.as_array_mut()
                    .into_iter()
                    .for_each(|list| list.push(error(&field.code, &field.message)));
            }
        }
        let globals: Vec<Value> = self.globals.iter().map(|(code, message)| error(code, message)).collect();
        Err(Reply::rest(
            400,
            &json!({"error": {
                "message": "Invalid Submission",
                "code": "webservices.rest.error.invalid.submission",
                "globalErrors": globals,
                "fieldErrors": fields,
            }}),
        ))
    }

    /// Nothing, or the 422 of FHIR.
    pub fn fhir(self, subject: &str) -> Result<(), Reply> {
        let fields = self.fields.iter().map(|field| format!("{}: {}", field.name, field.message));
        let all: Vec<String> =
            fields.chain(self.globals.iter().map(|(_, message)| message.clone())).collect();
        if all.is_empty() {
            return Ok(());
        }
        Err(processing(422, &format!("'{subject}' failed to validate with reason: {}", all.join(", "))))
    }
}

/// Checks the person of a patient, and its identifiers unless it is voided.
pub fn patient(draft: &Patient, at: Option<u32>, tables: &Tables, switches: &Switches, now: i64) -> Errors {
    let mut errors = Errors::default();
    let voided = draft.audit.is_voided();
    if !voided && draft.live_names().next().is_none() {
        let message = "Person must have at least one non-deleted name";
        errors.field("names", "Person.shouldHaveAtleastOneNonVoidedName", message, true);
    }
    for (place, name) in draft.names.iter().enumerate() {
        for (field, value) in &name.fields {
            if value.chars().count() > LONGEST_NAME {
                let message = format!(
                    "This value exceeds the maximum length of {LONGEST_NAME} permitted for this field."
                );
                let path = format!("names[{place}].{}", NAME_FIELDS[usize::from(*field)]);
                errors.field(&path, "error.exceededMaxLengthOfField", &message, true);
            }
        }
    }
    if draft.row.gender.as_deref().unwrap_or_default().trim().is_empty() {
        errors.field("gender", "Person.gender.required", "Please select a gender", false);
    }
    if let Some(birth) = draft.row.birthdate {
        if time::instant(birth) > now {
            errors.field("birthdate", "error.date.future", "Cannot be a date in the future", true);
        } else if time::age(birth, time::local(now)) > 140 {
            errors.field("birthdate", "error.date.nonsensical", "Nonsensical date, please check.", true);
        }
    }
    let cause_missing = draft.row.cause.is_none() && draft.row.cause_text.is_none();
    if draft.row.dead && cause_missing {
        let message =
            "Cause of Death or Cause of Death (non coded) is required for people marked as deceased.";
        errors.field("causeOfDeath", "Person.dead.causeOfDeathAndCauseOfDeathNonCodedNull", message, true);
    }
    if draft.row.cause.is_some() && draft.row.cause_text.is_some() {
        let message = "Only one of Cause of Death and Cause of Death (non coded) may be set.";
        errors.field(
            "causeOfDeath",
            "Person.dead.shouldHaveOnlyOneCauseOfDeathOrCauseOfDeathNonCodedSet",
            message,
            true,
        );
    }
    if let Some(death) = draft.row.death_date {
        if time::instant(death) > now {
            errors.field("deathDate", "error.date.future", "Cannot be a date in the future", true);
        } else if draft.row.birthdate.is_some_and(|birth| birth > death) {
            errors.field(
                "deathDate",
                "error.deathdate.before.birthdate",
                "Cannot be before the birthdate",
                true,
            );
        }
    }
    if !voided {
        identifiers(&mut errors, draft, at, tables, switches, now);
    }
    errors
}

fn identifiers(
    errors: &mut Errors,
    draft: &Patient,
    at: Option<u32>,
    tables: &Tables,
    switches: &Switches,
    now: i64,
) {
    if !draft.live_identifiers().any(|row| row.preferred) {
        errors.global("error.preferredIdentifier", "Select a preferred identifier");
    }
    let mut rows: Vec<_> = draft.live_identifiers().collect();
    rows.sort_by(|a, b| a.value.cmp(&b.value));
    for row in rows {
        let kind = metadata().at("patientidentifiertype", row.kind);
        if switches.unchecked_types.iter().any(|uuid| *uuid == text(kind, "uuid")) {
            continue;
        }
        let value = &*row.value;
        let required = matches!(kind["locationBehavior"].as_str(), Some("REQUIRED") | None);
        let problem = if required && row.location.is_none() {
            Some(format!("Identifier Location cannot be null for {value}"))
        } else if !fits(text(kind, "format"), value) {
            Some(format!("Identifier \"{value}\" does not match : \"{}\"", text(kind, "formatDescription")))
        } else if text(kind, "validator").ends_with("LuhnMod30IdentifierValidator")
            && !idgen::is_valid(value, idgen::BASE_30)
        {
            Some(format!("Invalid check digit for identifier: {value}"))
        } else if !matches!(text(kind, "uniquenessBehavior"), "NON_UNIQUE" | "LOCATION")
            && tables.in_use(row.kind, value, at, now, switches)
        {
            Some(format!("Identifier {value} already in use by another patient"))
        } else {
            None
        };
        if let Some(problem) = problem {
            errors.global(&problem, &problem);
        }
    }
}

/// The formats of this server's identifier types: `\d{a,b}` and `.{a,b}`.
fn fits(format: &str, value: &str) -> bool {
    let digits = format.strip_prefix("\\d");
    let Some(range) =
        digits.or(format.strip_prefix('.')).and_then(|r| r.strip_prefix('{')?.strip_suffix('}'))
    else {
        return true;
    };
    let Some((least, most)) = range.split_once(',') else { return true };
    let (least, most) = (least.parse().unwrap_or(0), most.parse().unwrap_or(usize::MAX));
    let length = value.chars().count();
    (least..=most).contains(&length) && (digits.is_none() || value.bytes().all(|b| b.is_ascii_digit()))
}

/// The names of the required identifier types that a patient lacks; only REST asks.
pub fn missing_required(draft: &Patient) -> Option<String> {
    let missing: Vec<&str> = metadata()
        .table("patientidentifiertype")
        .iter()
        .enumerate()
        .filter(|(at, kind)| {
            kind["required"] == true && !draft.live_identifiers().any(|row| usize::from(row.kind) == *at)
        })
        .map(|(_, kind)| text(kind, "name"))
        .collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}
