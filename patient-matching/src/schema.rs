//! Schemas: which column of a file is which field. Reading a file never fails on what a cell holds.
//!
//! Guarantees: an unknown key, an absent column or a file that is no CSV is refused with a message that names
//! it; no message shows the content of a cell.

use crate::birth::Birth;
use crate::error::Error;
use crate::person::Person;
use crate::table::{Layout, MAX_IDENTIFIERS, MAX_PLACES, Table};
use serde::Deserialize;
use std::io::Read;

/// The columns of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schema {
    /// Column of the record id.
    pub id: String,
    /// Column of the given name.
    pub given: Option<String>,
    /// Column of the middle names.
    pub middle: Option<String>,
    /// Column of the family name.
    pub family: Option<String>,
    /// Column of a full name in one string; used where given, middle and family are empty.
    pub name: Option<String>,
    /// Column of the sex.
    pub sex: Option<String>,
    /// Column of the birth date.
    pub birth_date: Option<String>,
    /// Column that says "true", "yes" or "1" when the birth date is estimated.
    pub birth_date_estimated: Option<String>,
    /// Columns of phone numbers, at most two.
    pub phones: Vec<String>,
    /// Columns of places, the one that tells people apart best first; at most seven.
    pub places: Vec<String>,
    /// Column of the household or parent contact.
    pub household: Option<String>,
    /// Column of the mother's or caretaker's name.
    pub mother: Option<String>,
    /// Identifier types, at most four.
    pub identifiers: Vec<IdentifierColumn>,
    /// Column used by `evaluate` to group people by the origin of their name.
    pub origin: Option<String>,
    /// The last day on which a person of the file can be born (`YYYY-MM-DD`); later dates count as missing.
    pub today: Option<String>,
}

/// The column of an identifier type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentifierColumn {
    /// Name of the type.
    pub name: String,
    /// Its column.
    pub column: String,
    /// Whether the numbers of this type were checked against documents.
    #[serde(default)]
    pub verified: bool,
}

impl Schema {
    /// Reads a schema from TOML.
    pub fn from_toml(text: &str) -> Result<Schema, Error> {
        let schema: Schema = toml::from_str(text).map_err(|e| Error::Schema(e.message().to_owned()))?;
        if schema.id.is_empty() {
            return Err(Error::Schema("`id` must name the column of the record id".to_owned()));
        }
        for (what, count, most) in [
            ("phones", schema.phones.len(), 2),
            ("places", schema.places.len(), MAX_PLACES),
            ("identifiers", schema.identifiers.len(), MAX_IDENTIFIERS),
        ] {
            if count > most {
                return Err(Error::Schema(format!("`{what}` may have at most {most} entries, not {count}")));
            }
        }
        if let Some(today) = &schema.today
            && Birth::parse(today, false).is_missing()
        {
            return Err(Error::Schema("`today` must be a date like 2026-11-24".to_owned()));
        }
        Ok(schema)
    }

    /// The layout of the people it describes.
    pub fn layout(&self) -> Layout {
        Layout {
            places: self.places.len(),
            identifiers: self.identifiers.iter().map(|i| i.name.clone()).collect(),
        }
    }

    /// Reads a CSV file into `table` as people of `source`.
    pub fn read_into(&self, input: impl Read, table: &mut Table, source: u8) -> Result<(), Error> {
        self.read(input, |person, _| table.push(&person, source))
    }

    /// Reads the people of a CSV file, with the value of the `origin` column.
    pub fn read(&self, input: impl Read, mut each: impl FnMut(Person, &str)) -> Result<(), Error> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
        let header = reader.byte_headers().map_err(|e| input_error(&e))?.clone();
        let columns = self.columns(&header)?;
        let today = self.today.as_deref().map_or(Birth::MISSING, |t| Birth::parse(t, false));
        let mut record = csv::ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(|e| input_error(&e))? {
            let cell = |c: Option<usize>| text(c.and_then(|c| record.get(c)).unwrap_or_default());
            let mut person = Person::new(cell(Some(columns.id)))
                .given(&cell(columns.given))
                .middle(&cell(columns.middle))
                .family(&cell(columns.family))
                .sex(&cell(columns.sex))
                .household(&cell(columns.household))
                .mother(&cell(columns.mother));
            if person.given.is_empty() && person.family.is_empty() && person.middle.is_empty() {
                person = person.name(&cell(columns.name));
            }
            let estimated = matches!(&*cell(columns.estimated), "true" | "yes" | "1" | "True" | "TRUE");
            let birth = Birth::parse(&cell(columns.birth), estimated);
            if !birth.is_after(today) {
                person = person.birth(birth);
            }
            for c in &columns.phones {
                person = person.phone(&cell(Some(*c)));
            }
            for (level, c) in columns.places.iter().enumerate() {
                person = person.place(level, &cell(Some(*c)));
            }
            for (slot, (c, i)) in columns.identifiers.iter().zip(&self.identifiers).enumerate() {
                person = person.identifier(slot, &cell(Some(*c)), i.verified);
            }
            each(person, &cell(columns.origin));
        }
        Ok(())
    }

    fn columns(&self, header: &csv::ByteRecord) -> Result<Columns, Error> {
        let find = |name: &String| {
            header.iter().position(|h| h == name.as_bytes()).ok_or_else(|| {
                Error::Input(format!("the file has no column `{name}`, which the schema names"))
            })
        };
        let maybe = |name: &Option<String>| name.as_ref().map(find).transpose();
        let all = |names: &[String]| names.iter().map(find).collect::<Result<Vec<_>, _>>();
        Ok(Columns {
            id: find(&self.id)?,
            given: maybe(&self.given)?,
            middle: maybe(&self.middle)?,
            family: maybe(&self.family)?,
            name: maybe(&self.name)?,
            sex: maybe(&self.sex)?,
            birth: maybe(&self.birth_date)?,
            estimated: maybe(&self.birth_date_estimated)?,
            phones: all(&self.phones)?,
            places: all(&self.places)?,
            household: maybe(&self.household)?,
            mother: maybe(&self.mother)?,
            identifiers: self.identifiers.iter().map(|i| find(&i.column)).collect::<Result<_, _>>()?,
            origin: maybe(&self.origin)?,
        })
    }
}

struct Columns {
    id: usize,
    given: Option<usize>,
    middle: Option<usize>,
    family: Option<usize>,
    name: Option<usize>,
    sex: Option<usize>,
    birth: Option<usize>,
    estimated: Option<usize>,
    phones: Vec<usize>,
    places: Vec<usize>,
    household: Option<usize>,
    mother: Option<usize>,
    identifiers: Vec<usize>,
    origin: Option<usize>,
}

fn text(cell: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(cell)
}

fn input_error(error: &csv::Error) -> Error {
    let line = error.position().map_or(String::new(), |p| format!(" near line {}", p.line()));
    let what = match error.kind() {
        csv::ErrorKind::Io(e) => e.to_string(),
        csv::ErrorKind::UnequalLengths { .. } => {
            "a line has another number of cells than the header".to_owned()
        }
        _ => "it is no CSV file".to_owned(),
    };
    Error::Input(format!("{what}{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHT: &str =
        "id = \"rec_id\"\ngiven = \"g\"\nfamily = \"f\"\nbirth_date = \"b\"\ntoday = \"2026-01-01\"\n";

    #[test]
    fn reads_people_and_drops_births_to_come() {
        let schema = Schema::from_toml(CHT).unwrap();
        let mut table = Table::new(schema.layout());
        schema
            .read_into(
                "rec_id,g,f,b\n1,Amina,Otieno,1990-02-03\n2,Juma,,2030-01-01\n3\n".as_bytes(),
                &mut table,
                0,
            )
            .unwrap();
        assert_eq!(table.len(), 3);
        assert!(!table.birth(0).is_missing() && table.birth(1).is_missing());
    }

    #[test]
    fn errors_name_the_place_and_no_content() {
        assert!(Schema::from_toml("given = \"x\"").unwrap_err().to_string().contains("`id`"));
        assert!(Schema::from_toml("id = \"x\"\nfoo = 1").unwrap_err().to_string().contains("foo"));
        let schema = Schema::from_toml(CHT).unwrap();
        let mut table = Table::new(schema.layout());
        let error = schema.read_into("rec_id,g,f\n".as_bytes(), &mut table, 0).unwrap_err();
        assert!(error.to_string().contains("`b`"), "{error}");
    }
}
