//! Made-up people for the tests.

use patient_matching::{Layout, Person, Schema, Table, Truth, synth};

pub const SCHEMA: &str = include_str!("../../schemas/cht-synth.toml");

pub fn layout() -> Layout {
    schema().layout()
}

pub fn schema() -> Schema {
    Schema::from_toml(SCHEMA).unwrap()
}

/// A register with its truth.
pub fn register(records: usize, seed: u64) -> (Vec<Person>, Truth) {
    let (mut csv, mut truth) = (Vec::new(), Vec::new());
    synth::register(&synth::Recipe { records, seed, duplicates: 0.2 }, &mut csv, &mut truth).unwrap();
    let mut people = Vec::new();
    schema().read(csv.as_slice(), |p, _| people.push(p)).unwrap();
    let rows = String::from_utf8(truth).unwrap();
    let rows =
        rows.lines().skip(1).map(|l| l.split_once(',').unwrap()).map(|(a, b)| (a.to_owned(), b.to_owned()));
    (people, Truth::from_entities(rows))
}

/// A register cut into two sources that hold about the same people.
pub fn two_sources(records: usize, seed: u64) -> (Table, Truth) {
    let (mut csv, mut truth) = (Vec::new(), Vec::new());
    synth::register(&synth::Recipe { records, seed, duplicates: 0.4 }, &mut csv, &mut truth).unwrap();
    let rows = String::from_utf8(truth).unwrap();
    let mut first = std::collections::HashMap::new();
    let mut second = std::collections::HashMap::new();
    let mut pairs = Vec::new();
    let mut people = Vec::new();
    schema().read(csv.as_slice(), |p, _| people.push(p)).unwrap();
    let mut table = Table::new(layout());
    for (person, row) in people.iter().zip(rows.lines().skip(1)) {
        let (record, entity) = row.split_once(',').unwrap();
        if !first.contains_key(entity) {
            first.insert(entity.to_owned(), record.to_owned());
            table.push(person, 0);
        } else if !second.contains_key(entity) {
            second.insert(entity.to_owned(), record.to_owned());
            table.push(person, 1);
            pairs.push((first[entity].clone(), record.to_owned()));
        }
    }
    (table, Truth::from_pairs(pairs))
}
