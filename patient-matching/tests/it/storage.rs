//! Snapshot and journal: nothing that was acknowledged is lost, nothing damaged is believed.

use crate::people;
use patient_matching::{Index, Model, Options, Person, Purpose, Store, Table, learn};
use std::sync::OnceLock;

fn model() -> Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL
        .get_or_init(|| {
            let (people, _) = people::register(1_000, 31);
            learn(&Table::of(&people::layout(), &people), Purpose::Dedupe, &Options::default())
        })
        .clone()
}

fn answers(index: &Index, people: &[Person]) -> Vec<Vec<(String, u64)>> {
    people
        .iter()
        .map(|p| index.query(p, Some(0), 5).into_iter().map(|c| (c.id, c.bits.to_bits())).collect())
        .collect()
}

#[test]
fn answers_survive_a_restart_and_do_not_depend_on_history() {
    let (people, _) = people::register(500, 32);
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), model()).unwrap();
    for (i, p) in people.iter().enumerate() {
        store.insert(0, p).unwrap();
        if i % 7 == 0 {
            store.insert(0, p).unwrap();
        }
        if i == 250 {
            store.snapshot().unwrap();
        }
    }
    let gone = Person::new("gone").given("Amina");
    store.insert(0, &gone).unwrap();
    assert!(store.remove(0, "gone").unwrap());
    assert!(!store.update(0, &gone).unwrap());
    let before = answers(store.index(), &people);
    drop(store);
    let store = Store::open(folder.path(), model()).unwrap();
    assert_eq!(store.index().len(), people.len());
    assert_eq!(answers(store.index(), &people), before);
    let mut fresh = Index::new(model());
    people.iter().rev().for_each(|p| {
        fresh.insert(0, p);
    });
    assert_eq!(answers(&fresh, &people), before);
}

#[test]
fn a_journal_cut_at_any_byte_keeps_every_whole_entry() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), model()).unwrap();
    let journal = folder.path().join("journal.0");
    let mut ends = vec![0];
    for i in 0..5 {
        store
            .insert(0, &Person::new(format!("p{i}")).given("Amina").phone("0712345678").place(0, "Sema"))
            .unwrap();
        ends.push(std::fs::metadata(&journal).unwrap().len());
    }
    drop(store);
    let bytes = std::fs::read(&journal).unwrap();
    for cut in 0..=bytes.len() {
        std::fs::write(&journal, &bytes[..cut]).unwrap();
        let store = Store::open(folder.path(), model()).unwrap();
        let whole = ends.iter().filter(|e| **e <= cut as u64).count() - 1;
        assert_eq!(store.index().len(), whole, "cut at {cut}");
    }
}

#[test]
fn a_changed_byte_is_refused_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), model()).unwrap();
    for i in 0..20 {
        store
            .insert(0, &Person::new(format!("p{i}")).given("Amina").phone("0712345678").place(0, "Sema"))
            .unwrap();
    }
    let journal = folder.path().join("journal.0");
    let bytes = std::fs::read(&journal).unwrap();
    for at in 0..bytes.len() / 2 {
        let mut bad = bytes.clone();
        bad[at] ^= 0x41;
        std::fs::write(&journal, &bad).unwrap();
        match Store::open(folder.path(), model()) {
            Err(error) => assert!(error.to_string().contains("journal"), "{error}"),
            Ok(store) => assert!(store.index().len() < 20, "byte {at}"),
        }
    }
    std::fs::write(&journal, &bytes).unwrap();
    let mut store = Store::open(folder.path(), model()).unwrap();
    store.snapshot().unwrap();
    drop(store);
    let snapshot = folder.path().join("snapshot");
    let bytes = std::fs::read(&snapshot).unwrap();
    for at in (0..bytes.len()).step_by(997) {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        std::fs::write(&snapshot, &bad).unwrap();
        assert!(Store::open(folder.path(), model()).is_err(), "byte {at} of the snapshot");
        std::fs::write(&snapshot, &bytes[..at]).unwrap();
        assert!(Store::open(folder.path(), model()).is_err(), "snapshot cut at {at}");
    }
}

#[test]
fn many_threads_get_the_answers_of_one() {
    let (people, _) = people::register(1_000, 33);
    let mut index = Index::new(model());
    people.iter().for_each(|p| {
        index.insert(0, p);
    });
    let one = answers(&index, &people);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(answers(&index, &people), one));
        }
    });
}
