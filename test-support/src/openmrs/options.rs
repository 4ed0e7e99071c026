//! What can be set on the stand-in: its size and links at the start, its misbehaviour (`Switches`) at any time.

use serde::{Deserialize, Serialize};

/// How one stand-in is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Seed of every uuid that the server makes.
    pub seed: u64,
    /// The misbehaviour to start with.
    pub switches: Switches,
}

/// What a recording cannot show. All off by default; then the server is as recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// A check for unique identifiers, or for another attribute of the same type, does not see rows written less than so
    /// long ago: two creates that begin within this window with one identifier are both stored.
    pub uniqueness_window_ms: i64,
    /// An update of a person less than so long after another one writes the whole row as it was before that one: both
    /// answer 200, and the earlier edit is lost.
    pub lost_update_window_ms: i64,
    /// Which edits move `_lastUpdated`.
    pub stamps: Stamps,
    /// Patients that make every FHIR read and page that holds them a 400, by uuid.
    pub unreadable: Vec<String>,
    /// Identifier types, by uuid, of which nothing is checked: no format, check digit or uniqueness.
    pub unchecked_types: Vec<String>,
    /// What the server makes of a value before it stores it.
    pub rewrite: Rewrite,
    /// So many next writes answer as if done, and nothing is stored.
    pub success_without_write: u32,
    /// So many next writes are stored, and the answer is a 500.
    pub error_with_write: u32,
    /// So many next writes answer 504, and are done `late_write_ms` afterwards.
    pub late_writes: u32,
    /// How long after its answer a late write is done.
    pub late_write_ms: i64,
    /// Pace of the server by the real clock; with a manual clock nothing waits.
    pub pace: Pace,
    /// Links of FHIR pages point to this origin (`http://inner:8080`), whatever the request says.
    pub links_origin: Option<String>,
    /// The server checks no privilege in FHIR, as fhir2 2.9.1 did; a login is still asked for.
    pub fhir_checks_no_privilege: bool,
    /// How many searches are kept for their page links; 0 is the real server's 100.
    pub stored_searches: usize,
}

/// Which edits move the stamp of a patient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stamps {
    /// Gender, birth date, death and void, as the real server.
    #[default]
    Real,
    /// Every edit of the patient and its parts.
    Every,
    /// None at all, not even a void.
    Never,
}

/// Changes that the server makes to a value on its way into the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// White space at both ends goes, runs of it become one space.
    pub trim: bool,
    /// Identifiers are stored in upper case.
    pub upper_case_identifiers: bool,
    /// Names are stored with a capital first letter and the rest small.
    pub capitalise_names: bool,
}

impl Rewrite {
    /// A text as it is stored.
    pub fn text(self, value: &str) -> String {
        if self.trim { value.split_whitespace().collect::<Vec<_>>().join(" ") } else { value.to_owned() }
    }

    /// An identifier as it is stored.
    pub fn identifier(self, value: &str) -> String {
        let text = self.text(value);
        if self.upper_case_identifiers { text.to_uppercase() } else { text }
    }

    /// A part of a name as it is stored.
    pub fn name(self, value: &str) -> String {
        let text = self.text(value);
        if !self.capitalise_names {
            return text;
        }
        let mut letters = text.chars();
        let first = letters.next().map(|c| c.to_uppercase().collect::<String>()).unwrap_or_default();
        first + &letters.as_str().to_lowercase()
    }
}

/// Requests a second of each class; 0 is as fast as it goes. The real server was seen to do 8 to 24 creates, 12 to 26
/// edits and 90 to 180 reads a second, and 1 to 2.4 FHIR pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pace {
    /// New patients.
    pub creates_per_s: f64,
    /// Other writes.
    pub edits_per_s: f64,
    /// Reads of one thing and look-ups.
    pub reads_per_s: f64,
    /// FHIR searches and their pages.
    pub pages_per_s: f64,
}
