//! Snapshot and journal: nothing that was acknowledged is lost, nothing damaged is believed.

use crate::people;
use patient_matching::{Index, Model, Options, Person, Purpose, Store, Table, learn};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
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
fn a_changed_byte_is_refused() {
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
            Ok(store) => panic!("byte {at} of the journal: {} people are believed", store.index().len()),
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

/// The process that is killed: writes people and takes some out again, with a snapshot now and then, and says
/// what is done.
#[test]
fn writer_to_be_killed() {
    let Some(folder) = std::env::var_os("MATCHING_WRITER") else { return };
    let mut store = Store::open(&folder, model()).unwrap();
    let mut out = std::io::stdout().lock();
    for i in store.index().len().. {
        store.insert(0, &numbered(i)).unwrap();
        writeln!(out, "\ndone {i}").unwrap();
        if i % 50 == 49 {
            store.snapshot().unwrap();
        }
    }
}

fn numbered(i: usize) -> Person {
    Person::new(format!("p{i}")).given("Amina").family("Otieno").phone(&format!("07{:08}", 12_345_678 + i))
}

#[test]
fn nothing_that_was_said_to_be_done_is_lost_when_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut done = 0;
    for round in 0..12_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::writer_to_be_killed", "--nocapture"])
            .env("MATCHING_WRITER", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let wanted = done + 7 * round + 45;
        let mut read = |most: usize| {
            for line in lines.by_ref() {
                if let Some(i) = line.strip_prefix("done ") {
                    done = i.parse::<usize>().unwrap() + 1;
                    if done >= most {
                        break;
                    }
                }
            }
        };
        read(wanted);
        child.kill().unwrap();
        child.wait().unwrap();
        read(usize::MAX);
        let store = Store::open(folder.path(), model()).unwrap();
        let n = store.index().len();
        assert!(n == done || n == done + 1, "round {round}: {done} done, {n} there");
        assert!(store.index().contains(0, &format!("p{}", n - 1)) && store.index().contains(0, "p0"));
        let found = store.index().query(&numbered(n / 2), Some(0), 1_000);
        assert!(found.iter().any(|c| c.id == format!("p{}", n / 2)), "round {round}");
    }
}
