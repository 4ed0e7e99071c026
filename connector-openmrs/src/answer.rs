//! What an answer to a write says. Pure: the text decides, then the status; and never does either prove a write.

use crate::client::Answer;

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

/// Paths of the refused fields: OpenMRS makes them of property names only.
fn fields(answer: &Answer) -> String {
    let body = answer.json();
    let refused = body.pointer("/error/fieldErrors").and_then(|f| f.as_object());
    let is_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '[' | ']' | '_');
    let paths: Vec<&str> = refused
        .into_iter()
        .flat_map(|f| f.keys())
        .filter(|p| p.chars().all(is_path))
        .map(String::as_str)
        .collect();
    if paths.is_empty() { String::new() } else { format!(" at {}", paths.join(", ")) }
}
