//! What an answer to a write says. Pure: the text decides, then the status; and never does either prove a write.

use crate::client::Answer;
use crate::config::ADDRESS_FIELDS;

/// What an answer to a write says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Done, it says.
    Yes,
    /// Another patient holds an identifier.
    Taken,
    /// The uuid is in use.
    Repeated,
    /// It will never be taken as it is: what is wrong, without values.
    Invalid(String),
    /// OpenMRS itself failed for another reason, and is through with the request.
    Failed(u16),
    /// A proxy or the container answered: the request may still be at work behind it.
    Unclear(u16),
    /// Refused before it was looked at.
    Busy,
}

/// Texts of errors that no repetition mends, and what they mean.
const FOR_EVER: [(&str, &str); 12] = [
    (
        "missing the following required identifier",
        "a required identifier type is missing; add it to `identifiers`",
    ),
    ("Invalid check digit", "an identifier has a wrong check digit"),
    ("not in the alphabet", "an identifier holds a letter that its type does not allow"),
    ("does not match", "an identifier does not have the form of its type"),
    ("Select a preferred identifier", "the patient has no preferred identifier; choose one in OpenMRS"),
    ("Data too long", "a value is too long"),
    ("exceededMaxLengthOfField", "a value is too long"),
    ("Error converting date", "a date is not understood"),
    ("not allowed to be set", "a property cannot be set"),
    ("is null", "a uuid in the configuration is unknown there; run `check`"),
    ("cannot be null", "a required value is missing"),
    ("Invalid Submission", "a value is not valid"),
];

impl Said {
    /// Reads an answer.
    pub fn of(answer: &Answer) -> Self {
        let (status, text) = (answer.status, answer.text.as_str());
        if (200..300).contains(&status) {
            return Self::Yes;
        }
        if status == 429 {
            return Self::Busy;
        }
        if text.contains("already in use by another patient") {
            return Self::Taken;
        }
        if text.contains("A different object with the same identifier value")
            || text.contains("Duplicate entry")
        {
            return Self::Repeated;
        }
        if !answer.is_from_openmrs() {
            return if status < 500 && status != 408 { Self::Failed(status) } else { Self::Unclear(status) };
        }
        if let Some((_, meaning)) = FOR_EVER.iter().find(|(sign, _)| text.contains(sign)) {
            return Self::Invalid(format!("OpenMRS refused it ({status}): {meaning}{}", fields(answer)));
        }
        match status {
            400 | 404 | 405 | 409 | 413 | 415 | 422 => {
                Self::Invalid(format!("OpenMRS refused it ({status}){}", fields(answer)))
            }
            _ => Self::Failed(status),
        }
    }
}

/// Properties that OpenMRS names when it refuses a patient, beside the parts of an address.
const PROPERTIES: [&str; 24] = [
    "patient",
    "person",
    "uuid",
    "names",
    "givenName",
    "middleName",
    "familyName",
    "familyName2",
    "preferred",
    "gender",
    "birthdate",
    "birthdateEstimated",
    "dead",
    "deathDate",
    "causeOfDeath",
    "causeOfDeathNonCoded",
    "addresses",
    "attributes",
    "attributeType",
    "value",
    "identifiers",
    "identifier",
    "identifierType",
    "location",
];

/// Paths of the refused fields. Those made of known properties and places in a list only: any other word may be a value.
fn fields(answer: &Answer) -> String {
    let body = answer.json();
    let refused = body.pointer("/error/fieldErrors").and_then(|f| f.as_object());
    let is_place = |part: &str| part.len() <= 2 && part.chars().all(|c| c.is_ascii_digit());
    let is_known =
        |part: &str| PROPERTIES.contains(&part) || ADDRESS_FIELDS.contains(&part) || is_place(part);
    let paths: Vec<&str> = refused
        .into_iter()
        .flat_map(|f| f.keys())
        .map(String::as_str)
        .filter(|path| path.split(['.', '[', ']']).all(is_known))
        .collect();
    if paths.is_empty() { String::new() } else { format!(" at {}", paths.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_paths_of_refused_fields_only_known_words_are_repeated() {
        let text = r#"{"error":{"fieldErrors":{"names[0].givenName":[],"addresses[12].cityVillage":[],"birthdate":[],
            "Amina":[],"0712345678":[],"names[0].Amina":[],"names.Amina Otieno":[]}}}"#;
        let answer = Answer { status: 400, text: text.into(), date: None, retry_after: None };
        let Said::Invalid(reason) = Said::of(&answer) else { panic!("not refused") };
        assert_eq!(
            reason,
            "OpenMRS refused it (400) at addresses[12].cityVillage, birthdate, names[0].givenName"
        );
    }
}
