//! Quality without labels on made-up registers; floors lie a little below what is measured.

use crate::people;
use patient_matching::{
    Candidate, Decision, Options, Purpose, Table, decide, dedupe, evaluate, explain, learn, link,
};
use std::collections::HashMap;

#[test]
fn duplicates_are_found_and_the_precision_is_stated_truly() {
    let (people, truth) = people::register(5_000, 5);
    let answer = dedupe(&Table::of(&people::layout(), &people), None, &Options::default());
    let e = evaluate(&answer, &truth, &HashMap::new());
    assert!(e.f1 > 0.88, "{e:?}");
    assert!(e.recall_at_precision_99 > 0.5, "{e:?}");
    assert!((e.stated_precision - e.precision).abs() < 0.06, "{e:?}");
    assert!(answer.summary().records_in_review <= 0.05, "{:?}", answer.summary());
    assert!(e.groups.iter().any(|g| g.by == "sex" && g.group == "female"));
}

#[test]
fn links_are_one_to_one_and_right() {
    let (table, truth) = people::two_sources(5_000, 6);
    let answer = link(&table, None, &Options::default());
    let e = evaluate(&answer, &truth, &HashMap::new());
    assert!(e.f1 > 0.93 && e.recall_at_precision_99 > 0.85, "{e:?}");
    let mut seen = std::collections::HashSet::new();
    for p in answer.pairs.iter().filter(|p| p.outcome == patient_matching::Outcome::Match) {
        assert!(seen.insert((0, p.a)) && seen.insert((1, p.b)), "a record is linked twice");
    }
}

#[test]
fn a_stream_ends_near_the_batch_in_any_order() {
    let (table, truth) = people::two_sources(2_000, 8);
    let people = all_people(2_000, 8);
    let pairs = truth_pairs(2_000, 8);
    let batch = link(&table, None, &Options::default());
    let batch_f1 = evaluate(&batch, &truth, &HashMap::new()).f1;
    for order in 0..3_u64 {
        let mut index = patient_matching::Index::new(batch.model.clone());
        let mut rows: Vec<u32> = (0..table.len() as u32).collect();
        rows.sort_by_key(|r| u64::from(*r).wrapping_mul(0x9e37_79b9_7f4a_7c15 + order * 2).rotate_left(17));
        let mut links: HashMap<String, (String, f64)> = HashMap::new();
        for row in rows {
            let source = table.source(row);
            let person = &people[table.id(row)];
            let mut candidates: Vec<Candidate> = index.query(person, Some(1 - source), 8);
            for c in &mut candidates {
                c.linked = links.get(&c.id).map(|l| l.1);
            }
            if let Decision::Match(v) = decide(&batch.model, &batch.model.thresholds, &candidates) {
                let bits = v.weight - v.rival_bits;
                if let Some((old, _)) = links.remove(&v.id) {
                    links.remove(&old);
                }
                links.insert(v.id.clone(), (person.id().to_owned(), bits));
                links.insert(person.id().to_owned(), (v.id.clone(), bits));
            }
            index.insert(source, person);
        }
        let right = pairs.iter().filter(|(a, b)| links.get(a).is_some_and(|l| l.0 == *b)).count() as f64;
        let f1 = 2.0 * right / (links.len() as f64 / 2.0 + pairs.len() as f64);
        assert!((f1 - batch_f1).abs() < 0.04, "stream {f1}, batch {batch_f1}");
    }
}

fn all_people(records: usize, seed: u64) -> HashMap<String, patient_matching::Person> {
    let (mut csv, mut truth) = (Vec::new(), Vec::new());
    let recipe = patient_matching::synth::Recipe { records, seed, duplicates: 0.4 };
    patient_matching::synth::register(&recipe, &mut csv, &mut truth).unwrap();
    let mut out = HashMap::new();
    people::schema().read(csv.as_slice(), |p, _| drop(out.insert(p.id().to_owned(), p))).unwrap();
    out
}

fn truth_pairs(records: usize, seed: u64) -> Vec<(String, String)> {
    let (mut csv, mut truth) = (Vec::new(), Vec::new());
    let recipe = patient_matching::synth::Recipe { records, seed, duplicates: 0.4 };
    patient_matching::synth::register(&recipe, &mut csv, &mut truth).unwrap();
    let text = String::from_utf8(truth).unwrap();
    let mut entities: HashMap<String, Vec<String>> = HashMap::new();
    for line in text.lines().skip(1) {
        let (r, e) = line.split_once(',').unwrap();
        entities.entry(e.to_owned()).or_default().push(r.to_owned());
    }
    entities.into_values().filter(|v| v.len() > 1).map(|v| (v[0].clone(), v[1].clone())).collect()
}

#[test]
fn explanations_sum_to_the_weight() {
    let (people, _) = people::register(1_500, 9);
    let table = Table::of(&people::layout(), &people);
    let answer = dedupe(&table, None, &Options::default());
    for pair in answer.pairs.iter().take(300) {
        let e = explain(&answer.model, &answer.table, pair.a, pair.b, 0.0);
        let sum: f64 = e.lines.iter().map(|l| l.bits + l.rarity_bits).sum();
        assert!((sum - pair.weight).abs() < 1e-9, "{sum} {}", pair.weight);
        let shown = serde_json::to_string(&e.clone().hashed()).unwrap();
        for value in e.lines.iter().flat_map(|l| &l.values).filter(|v| v.len() > 8) {
            assert!(!shown.contains(value.as_str()), "a hashed explanation shows a value");
        }
    }
}

#[test]
fn a_model_file_is_read_back_and_others_are_refused() {
    let (people, _) = people::register(1_000, 10);
    let model = learn(&Table::of(&people::layout(), &people), Purpose::Dedupe, &Options::default());
    let json = model.to_json();
    assert_eq!(patient_matching::Model::from_json(&json).unwrap(), model);
    let error =
        patient_matching::Model::from_json(&json.replacen("\"format\": 1", "\"format\": 9", 1)).unwrap_err();
    assert!(error.to_string().contains("format is 9"), "{error}");
    assert!(patient_matching::Model::from_json("{").is_err());
}

#[test]
fn some_duplicates_inside_a_source_cost_little() {
    use patient_matching::{Outcome, synth};
    let (mut a, mut b, mut truth) = (Vec::new(), Vec::new(), Vec::new());
    let recipe = synth::Recipe { records: 3_000, seed: 11, duplicates: 0.0 };
    synth::lists(&recipe, &mut a, &mut b, &mut truth).unwrap();
    let text = String::from_utf8(truth).unwrap();
    let truth: std::collections::HashSet<(&str, &str)> =
        text.lines().skip(1).filter_map(|l| l.split_once(',')).collect();
    let f1 = |share: f64| {
        let mut list = Vec::new();
        synth::with_copies(a.as_slice(), share, 1, &mut list).unwrap();
        let mut table = Table::new(people::layout());
        people::schema().read_into(list.as_slice(), &mut table, 0).unwrap();
        people::schema().read_into(b.as_slice(), &mut table, 1).unwrap();
        let answer = link(&table, None, &Options::default());
        let matches: Vec<_> = answer.pairs.iter().filter(|p| p.outcome == Outcome::Match).collect();
        let right = matches.iter().filter(|p| {
            let id = answer.table.id(p.a);
            truth.contains(&(id.strip_suffix("-copy").unwrap_or(id), answer.table.id(p.b)))
        });
        2.0 * right.count() as f64 / (matches.len() + truth.len()) as f64
    };
    let (clean, five, seventeen) = (f1(0.0), f1(0.05), f1(0.17));
    assert!(clean - five < 0.02, "{clean} {five}");
    assert!(clean - seventeen < 0.07, "{clean} {seventeen}");
}
