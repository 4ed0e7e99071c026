//! What must not change an answer: order, threads, unrelated people.

use crate::people;
use patient_matching::{
    Index, Matching, Model, Options, Outcome, Person, Purpose, Table, dedupe, explain, learn,
};
use proptest::prelude::*;
use std::sync::OnceLock;

fn rows(m: &Matching) -> Vec<(String, String, u64, Outcome)> {
    let mut out: Vec<_> = m
        .pairs
        .iter()
        .map(|p| {
            let (a, b) = (m.table.id(p.a).to_owned(), m.table.id(p.b).to_owned());
            let (a, b) = if a < b { (a, b) } else { (b, a) };
            (a, b, p.weight.to_bits(), p.outcome)
        })
        .collect();
    out.sort_by(|x, y| (&x.0, &x.1).cmp(&(&y.0, &y.1)));
    out
}

#[test]
fn order_and_threads_change_nothing() {
    let (people, _) = people::register(1_200, 21);
    let run = |people: Vec<&Person>, threads: usize| {
        rows(&dedupe(&Table::of(&people::layout(), people), None, &Options { threads, ..Options::default() }))
    };
    let one = run(people.iter().collect(), 1);
    assert!(one.len() > 100);
    assert_eq!(one, run(people.iter().rev().collect(), 1));
    assert_eq!(one, run(people.iter().collect(), 3));
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let (people, _) = people::register(1_500, 22);
        learn(&Table::of(&people::layout(), &people), Purpose::Dedupe, &Options::default())
    })
}

fn person() -> impl Strategy<Value = Person> {
    let name = prop::sample::select(vec![
        "Amina",
        "Aminah",
        "Juma",
        "Otieno",
        "Saad",
        "A",
        "",
        "Rose Mary",
        "Mohamed",
    ]);
    let date =
        prop::sample::select(vec!["1990-01-01", "1990-04-12", "1991-04-12", "2009-04-12", "", "1990-12-04"]);
    let phone = prop::sample::select(vec!["0712345678", "0712345687", "0799111222", ""]);
    let place = prop::sample::select(vec!["Kuchi", "Kuchhi", "Sema", ""]);
    (
        name.clone(),
        name.clone(),
        name.clone(),
        name,
        date,
        phone,
        place,
        prop::sample::select(vec!["f", "m", ""]),
    )
        .prop_map(|(g, m, f, mother, date, phone, place, sex)| {
            Person::new("x")
                .given(g)
                .middle(m)
                .family(f)
                .mother(mother)
                .birth_date(date)
                .phone(phone)
                .place(0, place)
                .sex(sex)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scores_are_symmetric(a in person(), b in person()) {
        let table = Table::of(&people::layout(), [&a, &b]);
        let (x, y) = (explain(model(), &table, 0, 1, 0.0), explain(model(), &table, 1, 0, 0.0));
        prop_assert_eq!(x.weight.to_bits(), y.weight.to_bits());
        let sum: f64 = x.lines.iter().map(|l| l.bits + l.rarity_bits).sum();
        prop_assert!((sum - x.weight).abs() < 1e-9);
    }

    #[test]
    fn an_unrelated_record_changes_no_line(a in person(), b in person(), c in person()) {
        let two = Table::of(&people::layout(), [&a, &b]);
        let three = Table::of(&people::layout(), [&a, &b, &c]);
        prop_assert_eq!(explain(model(), &two, 0, 1, 0.0), explain(model(), &three, 0, 1, 0.0));
    }

    #[test]
    fn index_and_batch_score_alike(a in person(), b in person()) {
        let mut index = Index::new(model().clone());
        index.insert(0, &a);
        let table = Table::of(&people::layout(), [&a, &b]);
        let weight = explain(model(), &table, 0, 1, 0.0).weight;
        for candidate in index.query(&b, Some(0), 5) {
            prop_assert!((candidate.bits - weight).abs() < 1e-9);
        }
    }
}

#[test]
fn a_changed_phone_changes_only_its_line_and_the_household() {
    let a = Person::new("a")
        .given("Amina")
        .family("Saad")
        .phone("0712345678")
        .place(0, "Sema")
        .birth_date("1990-04-12");
    let b = a.clone();
    let other = Person::new("b")
        .given("Amina")
        .family("Saad")
        .phone("0799111222")
        .place(0, "Sema")
        .birth_date("1990-04-12");
    let lines = |b: &Person| explain(model(), &Table::of(&people::layout(), [&a, b]), 0, 1, 0.0).lines;
    for (x, y) in lines(&b).iter().zip(&lines(&other)) {
        assert!(x == y || ["phone", "household"].contains(&x.field.as_str()), "{} changed", x.field);
    }
}

fn pinned(people: &[&Person]) -> Matching {
    dedupe(&Table::of(&people::layout(), people.iter().copied()), Some(model().clone()), &Options::default())
}

#[test]
fn a_removed_duplicate_takes_its_own_pairs_along_and_no_other() {
    let (people, _) = people::register(600, 23);
    let all = rows(&pinned(&people.iter().collect::<Vec<_>>()));
    let of = |id: &str| all.iter().filter(|r| r.0 == id || r.1 == id).count();
    // People whose only counterpart has no other either: no cluster hangs on them.
    let lone: Vec<&Person> = people
        .iter()
        .filter(|p| all.iter().any(|r| (r.0 == p.id() || r.1 == p.id()) && of(&r.0) == 1 && of(&r.1) == 1))
        .collect();
    assert!(lone.len() > 50);
    for gone in lone.iter().step_by(lone.len() / 5) {
        let rest: Vec<&Person> = people.iter().filter(|p| p.id() != gone.id()).collect();
        let expected: Vec<_> = all.iter().filter(|r| r.0 != gone.id() && r.1 != gone.id()).cloned().collect();
        assert_eq!(rows(&pinned(&rest)), expected);
    }
}

#[test]
fn another_order_gives_the_same_clusters() {
    let (people, _) = people::register(800, 24);
    let clusters = |people: &[&Person]| {
        let m = pinned(people);
        let mut named: std::collections::BTreeMap<u32, Vec<String>> = Default::default();
        for (row, cluster) in m.clusters.iter().enumerate() {
            named.entry(*cluster).or_default().push(m.table.id(row as u32).to_owned());
        }
        let mut out: Vec<Vec<String>> = named.into_values().collect();
        out.iter_mut().for_each(|ids| ids.sort());
        out.sort();
        out
    };
    let one = clusters(&people.iter().collect::<Vec<_>>());
    assert!(one.iter().any(|c| c.len() > 1));
    assert_eq!(one, clusters(&people.iter().rev().collect::<Vec<_>>()));
}
