//! Lists, schemas, models and index files of patient matching, as somebody else may have written them.

use std::fs;
use std::path::Path;

use patient_matching::{Model, Options, Person, Purpose, Schema, Store, Table, dedupe, learn, synth};

const SCHEMA: &str = include_str!("../../patient-matching/schemas/cht-synth.toml");

/// A schema, a line of four dashes, and a list of that schema (or of the one that is shipped, if there is no such
/// line).
pub fn matching_lists(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (schema, list) = text.split_once("\n----\n").unwrap_or((SCHEMA, text.as_ref()));
    let Ok(schema) = Schema::from_toml(schema) else { return };
    let mut table = Table::new(schema.layout());
    if schema.read_into(list.as_bytes(), &mut table, 0).is_ok() {
        dedupe(&table, None, &Options { threads: 1, rounds: 2, ..Options::default() });
    }
}

struct Good {
    model: Model,
    list: Table,
    /// The files of an index of `PEOPLE` people: a snapshot of half of them, a journal of the others.
    files: Vec<(String, Vec<u8>)>,
}

const PEOPLE: usize = 12;

fn person(i: usize) -> Person {
    Person::new(format!("p{i}")).given("Amina").family("Saad").phone(&format!("0712{i:06}")).place(0, "Kuchi")
}

fn good() -> Good {
    let schema = Schema::from_toml(SCHEMA).expect("the shipped schema is one");
    let mut csv = Vec::new();
    let recipe = synth::Recipe { records: 200, seed: 1, duplicates: 0.3 };
    synth::register(&recipe, &mut csv, &mut Vec::new()).expect("memory can be written");
    let mut list = Table::new(schema.layout());
    schema.read_into(csv.as_slice(), &mut list, 0).expect("what is made up can be read");
    let model = learn(&list, Purpose::Dedupe, &Options { threads: 1, ..Options::default() });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut store = Store::open(folder.path(), model.clone()).expect("an index");
    for i in 0..PEOPLE {
        store.insert(0, &person(i)).expect("a person");
        if i == PEOPLE / 2 {
            store.snapshot().expect("a snapshot");
        }
    }
    let files = fs::read_dir(folder.path()).expect("a folder").map_while(Result::ok);
    let files =
        files.map(|f| (f.file_name().to_string_lossy().into_owned(), fs::read(f.path()).expect("a file")));
    Good { model, list, files: files.collect() }
}

thread_local! {
    static GOOD: Good = good();
}

/// A model file. One that is accepted is used.
pub fn matching_model(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // What does not look like a model is put in place of a part of a good one.
    GOOD.with(|good| {
        let json = good.model.to_json();
        let at = data.iter().fold(7_usize, |h, b| h.wrapping_mul(31) ^ usize::from(*b)) % json.len().max(1);
        let (head, tail) = (json.get(..at).unwrap_or_default(), json.get(at + 1..).unwrap_or_default());
        let edited = format!("{head}{}{tail}", text.chars().take(4).collect::<String>());
        for json in [text.as_ref(), edited.as_str()] {
            if let Ok(model) = Model::from_json(json)
                && model.layout == *good.list.layout()
            {
                dedupe(&good.list, Some(model), &Options { threads: 1, ..Options::default() });
            }
        }
    });
}

/// Edits of good index files, at most two of three bytes each: where and what. They are refused, or nothing but
/// the end of the journal is missing.
pub fn matching_files(data: &[u8]) {
    GOOD.with(|good| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for wanted in 0..good.files.len() {
            for (i, (name, bytes)) in good.files.iter().enumerate() {
                let mut bytes = bytes.clone();
                if i == wanted {
                    edit(&mut bytes, data);
                }
                fs::write(folder.path().join(name), bytes).expect("a file can be written");
            }
            opened(folder.path(), good, data.is_empty());
        }
    });
}

fn edit(bytes: &mut Vec<u8>, edits: &[u8]) {
    for edit in edits.chunks(3).take(2) {
        let at = edit.iter().take(2).fold(0, |at, b| at << 8 | usize::from(*b));
        let len = bytes.len().max(1);
        match edit.get(2) {
            Some(value) => {
                if let Some(byte) = bytes.get_mut(at % len) {
                    *byte ^= value;
                }
            }
            None => bytes.truncate(at % len),
        }
    }
}

fn opened(folder: &Path, good: &Good, untouched: bool) {
    match Store::open(folder, good.model.clone()) {
        Ok(store) => {
            let there = store.index().len();
            let held = |i: usize| store.index().contains(0, &format!("p{i}"));
            assert!(there > PEOPLE / 2 && (0..there).all(held), "people are missing from the middle");
            assert!(!untouched || there == PEOPLE, "good files lose people");
            store.index().query(&person(1), Some(0), 5);
        }
        Err(error) => assert!(!untouched, "good files are refused: {error}"),
    }
}
