//! One person as a source describes them, normalised once on entry.
//!
//! Guarantees: fields hold normalised text only; `Debug` shows which fields are filled and never their content.

use crate::birth::Birth;
use crate::text;
use std::fmt;

/// Sex as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sex {
    /// Not recorded, or something else.
    #[default]
    Unknown,
    /// Female.
    Female,
    /// Male.
    Male,
}

impl Sex {
    /// Reads "female", "F", "male", "M" and "1"/"2" as in ISO 5218.
    pub fn parse(raw: &str) -> Sex {
        match raw.trim().as_bytes() {
            [b'f' | b'F' | b'w' | b'W', ..] | b"2" => Sex::Female,
            [b'm' | b'M', ..] | b"1" => Sex::Male,
            _ => Sex::Unknown,
        }
    }
}

/// An identifier of a person: a number of some type, and whether somebody checked it against a document.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Identifier {
    pub slot: usize,
    pub value: String,
    pub verified: bool,
}

/// A person to be matched. Build it with the chained setters; every setter normalises what it is given.
///
/// ```
/// use patient_matching::Person;
/// let person = Person::new("p1").given("Amina").family("Otieno").sex("female").birth_date("1990-04-02")
///     .phone("+254 712 345 678").place(0, "Kuchi").mother("Grace").identifier(0, "30112233", false);
/// assert_eq!(person.id(), "p1");
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Person {
    pub(crate) id: String,
    pub(crate) given: String,
    pub(crate) middle: String,
    pub(crate) family: String,
    pub(crate) sex: Sex,
    pub(crate) birth: Birth,
    pub(crate) phones: Vec<String>,
    pub(crate) mother: String,
    pub(crate) household: String,
    pub(crate) places: Vec<String>,
    pub(crate) identifiers: Vec<Identifier>,
}

impl Person {
    /// A person of whom only the record id is known. The id names the record in answers; scores never read it.
    pub fn new(id: impl Into<String>) -> Person {
        Person { id: id.into(), ..Person::default() }
    }

    /// The record id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The given name.
    #[must_use]
    pub fn given(mut self, raw: &str) -> Person {
        self.given = text::name(raw);
        self
    }

    /// The middle name or names.
    #[must_use]
    pub fn middle(mut self, raw: &str) -> Person {
        self.middle = text::name(raw);
        self
    }

    /// The family name.
    #[must_use]
    pub fn family(mut self, raw: &str) -> Person {
        self.family = text::name(raw);
        self
    }

    /// A full name in one string: its first token becomes the given name, the last one the family name, what
    /// stands between the middle name.
    #[must_use]
    pub fn name(mut self, raw: &str) -> Person {
        let name = text::name(raw);
        let mut tokens: Vec<&str> = name.split(' ').filter(|t| !t.is_empty()).collect();
        self.family =
            if tokens.len() > 1 { tokens.pop().unwrap_or_default().to_owned() } else { String::new() };
        self.given = if tokens.is_empty() { String::new() } else { tokens.remove(0).to_owned() };
        self.middle = tokens.join(" ");
        self
    }

    /// The sex, see [`Sex::parse`].
    #[must_use]
    pub fn sex(mut self, raw: &str) -> Person {
        self.sex = Sex::parse(raw);
        self
    }

    /// The birth date, see [`Birth::parse`].
    #[must_use]
    pub fn birth_date(self, raw: &str) -> Person {
        self.birth(Birth::parse(raw, false))
    }

    /// The birth date with its precision.
    #[must_use]
    pub fn birth(mut self, birth: Birth) -> Person {
        self.birth = birth;
        self
    }

    /// A phone number; the first two are used.
    #[must_use]
    pub fn phone(mut self, raw: &str) -> Person {
        let phone = text::phone(raw);
        if !phone.is_empty() && !self.phones.contains(&phone) {
            self.phones.push(phone);
        }
        self
    }

    /// A place of the hierarchy that the [`Layout`](crate::Layout) declares; level 0 tells people apart best
    /// (the village).
    #[must_use]
    pub fn place(mut self, level: usize, raw: &str) -> Person {
        if self.places.len() <= level {
            self.places.resize(level + 1, String::new());
        }
        if let Some(slot) = self.places.get_mut(level) {
            *slot = text::place(raw);
        }
        self
    }

    /// The id of the household or parent contact.
    #[must_use]
    pub fn household(mut self, raw: &str) -> Person {
        self.household = text::code(raw);
        self
    }

    /// The name of the mother or caretaker.
    #[must_use]
    pub fn mother(mut self, raw: &str) -> Person {
        self.mother = text::name(raw);
        self
    }

    /// An identifier of the type at `slot` in [`Layout::identifiers`](crate::Layout::identifiers).
    /// `verified` says that somebody checked it against a document.
    #[must_use]
    pub fn identifier(mut self, slot: usize, raw: &str, verified: bool) -> Person {
        let value = text::code(raw);
        if !value.is_empty() {
            self.identifiers.push(Identifier { slot, value, verified });
        }
        self
    }
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled: Vec<&str> = [
            ("given", self.given.is_empty()),
            ("middle", self.middle.is_empty()),
            ("family", self.family.is_empty()),
            ("sex", self.sex == Sex::Unknown),
            ("birth", self.birth.is_missing()),
            ("phone", self.phones.is_empty()),
            ("mother", self.mother.is_empty()),
            ("household", self.household.is_empty()),
            ("place", self.places.is_empty()),
            ("identifier", self.identifiers.is_empty()),
        ]
        .into_iter()
        .filter_map(|(name, empty)| (!empty).then_some(name))
        .collect();
        f.debug_struct("Person").field("filled", &filled).finish()
    }
}

impl fmt::Debug for Birth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_missing() { "Birth(missing)" } else { "Birth(..)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_string_is_split() {
        let p = Person::new("x").name("Dr Amina Wanjiru Grace Otieno");
        assert_eq!(
            (p.given.as_str(), p.middle.as_str(), p.family.as_str()),
            ("amina", "wanjiru grace", "otieno")
        );
        let p = Person::new("x").name("Amina");
        assert_eq!((p.given.as_str(), p.family.as_str()), ("amina", ""));
        assert_eq!(Person::new("x").name("").given, "");
    }

    #[test]
    fn debug_keeps_secrets() {
        let p = Person::new("x").given("Amina").birth_date("1990-01-02").identifier(0, "778899", true);
        let shown = format!("{p:?}");
        assert!(!shown.contains("amina") && !shown.contains("1990") && !shown.contains("778899"), "{shown}");
    }
}
