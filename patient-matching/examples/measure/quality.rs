//! Whether answers hold up when the data is worse or comes in another order.

use crate::{Files, print};
use anyhow::{Context, Result, bail};
use patient_matching::{
    Decision, Index, Matching, Model, Options, Outcome, Person, Purpose, Schema, Table, Truth, decide,
    dedupe, evaluate, link, synth,
};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The lists as bytes of CSV, and the pairs of one person.
struct Data {
    lists: Vec<Vec<u8>>,
    truth: Vec<(String, String)>,
    schema: Schema,
}

impl Data {
    fn read(files: &Files) -> Result<Data> {
        let lists = files.lists.iter().map(std::fs::read).collect::<Result<_, _>>()?;
        let schema = Schema::from_toml(&std::fs::read_to_string(&files.schema)?)?;
        let mut reader = csv::Reader::from_path(&files.truth)?;
        let by_person = reader.headers()?.iter().next() == Some("rec_id");
        let mut truth = Vec::new();
        let mut people: HashMap<String, Vec<String>> = HashMap::new();
        for row in reader.records() {
            let row = row?;
            let [x, y] = [0, 1].map(|i| row.get(i).unwrap_or_default().to_owned());
            if by_person {
                let others = people.entry(y).or_default();
                truth.extend(others.iter().map(|o| (o.clone(), x.clone())));
                others.push(x);
            } else {
                truth.push((x, y));
            }
        }
        Ok(Data { lists, truth, schema })
    }

    fn table(&self, lists: &[Vec<u8>], schema: &Schema) -> Result<Table> {
        let mut table = Table::new(schema.layout());
        for (source, list) in lists.iter().enumerate() {
            schema.read_into(list.as_slice(), &mut table, source as u8)?;
        }
        Ok(table)
    }

    fn purpose(&self) -> Purpose {
        if self.lists.len() > 1 { Purpose::Link } else { Purpose::Dedupe }
    }

    fn answer(&self, table: &Table, model: Option<Model>) -> Matching {
        match self.purpose() {
            Purpose::Link => link(table, model, &Options::default()),
            Purpose::Dedupe => dedupe(table, model, &Options::default()),
        }
    }

    fn say(&self, what: &str, answer: &Matching) -> Result<()> {
        let truth = Truth::from_pairs(self.truth.iter().cloned());
        let e = evaluate(answer, &truth, &HashMap::new());
        print(&format!(
            "{what}: F1 {:.4}, precision {:.4}, recall {:.4}, recall at precision 0.99 {:.4}, stated {:+.4}, in review {:.4}",
            e.f1,
            e.precision,
            e.recall,
            e.recall_at_precision_99,
            e.stated_precision - e.precision,
            answer.summary().records_in_review
        ))
    }
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Rows with a number each, sorted by it, the first ones up to a number.
fn rows(
    list: &[u8],
    number: impl Fn(&csv::StringRecord) -> u64,
) -> Result<(String, Vec<(u64, csv::StringRecord)>)> {
    let mut reader = csv::Reader::from_reader(list);
    let header = reader.headers()?.iter().collect::<Vec<_>>().join(",");
    let mut rows = reader.records().map(|r| r.map(|r| (number(&r), r))).collect::<Result<Vec<_>, _>>()?;
    rows.sort_by_key(|r| r.0);
    Ok((header, rows))
}

fn written<'a>(header: &str, rows: impl Iterator<Item = &'a csv::StringRecord>) -> Vec<u8> {
    let lines = rows.map(|r| r.iter().collect::<Vec<_>>().join(","));
    std::iter::once(header.to_owned()).chain(lines).flat_map(|l| (l + "\n").into_bytes()).collect()
}

/// Learns from the families of some villages, so that households stay whole, and answers for all.
pub fn sizes(files: &Files) -> Result<()> {
    let data = Data::read(files)?;
    let all = data.table(&data.lists, &data.schema)?;
    data.say("all", &data.answer(&all, None))?;
    for (size, seed) in [(200, 1), (200, 2), (200, 3), (2_000, 1), (2_000, 2), (2_000, 3), (20_000, 1)] {
        let place = data.schema.places.first().context("the schema names no place")?;
        let family = data.schema.family.as_ref().context("the schema names no family name")?;
        let (mut last, mut lists) = (None, Vec::new());
        for list in &data.lists {
            let header = csv::Reader::from_reader(list.as_slice()).headers()?.clone();
            let at = |name: &str| header.iter().position(|h| h == name).unwrap_or_default();
            let (place, family) = (at(place), at(family));
            let number = |r: &csv::StringRecord| {
                hash((seed, r.get(place))) >> 32 << 32 | hash((seed, r.get(place), r.get(family))) >> 32
            };
            let (header, rows) = rows(list, number)?;
            let end = *last.get_or_insert(rows.get(size - 1).map_or(u64::MAX, |r| r.0));
            lists.push(written(&header, rows.iter().filter(|r| r.0 <= end).map(|r| &r.1)));
        }
        let some = data.table(&lists, &data.schema)?;
        let own = data.answer(&some, None);
        data.say(
            &format!("learnt from {} records (seed {seed})", some.len()),
            &data.answer(&all, Some(own.model)),
        )?;
    }
    Ok(())
}

/// Adds changed copies to the first list. A copy stands for its person.
pub fn duplicates(files: &Files) -> Result<()> {
    let data = Data::read(files)?;
    let [first, second] = data.lists.as_slice() else { bail!("two lists are needed") };
    for share in [0.0, 0.05, 0.17] {
        for seed in 1..=(if share == 0.0 { 1 } else { 3 }) {
            let mut list = Vec::new();
            synth::with_copies(first.as_slice(), share, seed, &mut list)?;
            let table = data.table(&[list, second.clone()], &data.schema)?;
            let answer = link(&table, None, &Options::default());
            let truth: HashSet<(&str, &str)> =
                data.truth.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let mut found: HashSet<(&str, &str)> = HashSet::new();
            let mut matches = 0;
            for p in answer.pairs.iter().filter(|p| p.outcome == Outcome::Match) {
                let a = answer.table.id(p.a);
                let pair = (a.strip_suffix("-copy").unwrap_or(a), answer.table.id(p.b));
                matches += 1;
                found.extend(truth.get(&pair).copied());
            }
            let f1 = 2.0 * found.len() as f64 / (matches + truth.len()) as f64;
            print(&format!("{:.0} % copies in the first list (seed {seed}): F1 {f1:.4}", share * 100.0))?;
        }
    }
    Ok(())
}

/// Leaves out every field in turn.
pub fn without(files: &Files) -> Result<()> {
    let data = Data::read(files)?;
    let full = &data.schema;
    let mut schemas = vec![("nothing".to_owned(), full.clone())];
    let mut add = |name: &str, there: bool, change: &dyn Fn(&mut Schema)| {
        if there {
            let mut schema = full.clone();
            change(&mut schema);
            schemas.push((name.to_owned(), schema));
        }
    };
    add("given name", full.given.is_some(), &|s| s.given = None);
    add("middle name", full.middle.is_some(), &|s| s.middle = None);
    add("family name", full.family.is_some(), &|s| s.family = None);
    add("sex", full.sex.is_some(), &|s| s.sex = None);
    add("birth date", full.birth_date.is_some(), &|s| s.birth_date = None);
    add("phone", !full.phones.is_empty(), &|s| s.phones.clear());
    add("places", !full.places.is_empty(), &|s| s.places.clear());
    add("mother", full.mother.is_some(), &|s| s.mother = None);
    add("household", full.household.is_some(), &|s| s.household = None);
    add("identifiers", !full.identifiers.is_empty(), &|s| s.identifiers.clear());
    add("phone and mother", full.mother.is_some() && !full.phones.is_empty(), &|s| {
        s.phones.clear();
        s.mother = None;
    });
    for (name, schema) in &schemas {
        data.say(&format!("without {name}"), &data.answer(&data.table(&data.lists, schema)?, None))?;
    }
    Ok(())
}

/// The same records under other ids and in another order.
pub fn permuted(files: &Files) -> Result<()> {
    let data = Data::read(files)?;
    let rename = |id: &str| format!("{:016x}", hash(("other", id)));
    let lists = data
        .lists
        .iter()
        .map(|list| {
            let (header, rows) = rows(list, |r| hash(("order", r.get(0))))?;
            let renamed: Vec<csv::StringRecord> = rows
                .iter()
                .map(|(_, r)| {
                    let id = rename(r.get(0).unwrap_or_default());
                    std::iter::once(id.as_str()).chain(r.iter().skip(1)).collect()
                })
                .collect();
            Ok(written(&header, renamed.iter()))
        })
        .collect::<Result<Vec<_>>>()?;
    let own = data.answer(&data.table(&data.lists, &data.schema)?, None);
    let other = data.answer(&data.table(&lists, &data.schema)?, None);
    let listed = |m: &Matching, name: &dyn Fn(&str) -> String| {
        let mut out: Vec<_> = m
            .pairs
            .iter()
            .map(|p| {
                let (a, b) = (name(m.table.id(p.a)), name(m.table.id(p.b)));
                let (a, b) = if a <= b { (a, b) } else { (b, a) };
                (a, b, p.weight.to_bits(), p.outcome.word())
            })
            .collect();
        out.sort();
        out
    };
    let (one, two) = (listed(&own, &rename), listed(&other, &str::to_owned));
    let mut weights: HashMap<u64, usize> = HashMap::new();
    one.iter().for_each(|r| *weights.entry(r.2).or_default() += 1);
    let most = weights.values().max().copied().unwrap_or_default() as f64 / one.len().max(1) as f64;
    print(&format!(
        "{} rows; equal after permutation: {}; {:.4} of them share one weight",
        one.len(),
        one == two,
        most
    ))
}

/// One person after the other, from both lists.
pub fn stream(files: &Files) -> Result<()> {
    let data = Data::read(files)?;
    if data.lists.len() != 2 {
        bail!("two lists are needed");
    }
    let model = {
        let table = data.table(&data.lists, &data.schema)?;
        let answer = data.answer(&table, None);
        data.say("link", &answer)?;
        answer.model
    };
    let mut people: Vec<(u8, Person)> = Vec::new();
    for (source, list) in data.lists.iter().enumerate() {
        data.schema.read(list.as_slice(), |person, _| people.push((source as u8, person)))?;
    }
    let truth: HashSet<(&str, &str)> = data.truth.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    for order in 1..=3 {
        people.sort_by_key(|(source, person)| hash((order, source, person.id())));
        let (links, reviewed) = replay(&model, &people);
        let right = links.iter().filter(|(a, l)| truth.contains(&(a.as_str(), l.0.as_str()))).count() as f64;
        let f1 = 2.0 * right / (links.len() + truth.len()) as f64;
        print(&format!(
            "stream in order {order}: F1 {f1:.4}, precision {:.4}, recall {:.4}, records in review {:.4}",
            right / links.len() as f64,
            right / truth.len() as f64,
            reviewed as f64 / people.len() as f64
        ))?;
    }
    Ok(())
}

/// The links (from source 0 to source 1, with their bits) after all people came, and how many went to review.
fn replay(model: &Model, people: &[(u8, Person)]) -> (HashMap<String, (String, f64)>, usize) {
    let mut index = Index::new(model.clone());
    let mut links = [HashMap::new(), HashMap::new()];
    let mut reviewed = 0;
    for (source, person) in people {
        let (mine, theirs) = (usize::from(*source), usize::from(1 - *source));
        let mut candidates = index.query(person, Some(1 - *source), 8);
        for c in &mut candidates {
            c.linked = links.get(theirs).and_then(|l| l.get(&c.id)).map(|l: &(String, f64)| l.1);
        }
        match decide(model, &model.thresholds, &candidates) {
            Decision::Match(v) => {
                let bits = v.weight - v.rival_bits;
                let [a, b] = &mut links;
                let (own, other) = if mine == 0 { (a, b) } else { (b, a) };
                if let Some((old, _)) = other.insert(v.id.clone(), (person.id().to_owned(), bits)) {
                    own.remove(&old);
                }
                own.insert(person.id().to_owned(), (v.id, bits));
            }
            Decision::Review(_) => reviewed += 1,
            Decision::NoMatch => {}
        }
        index.insert(*source, person);
    }
    let [links, _] = links;
    (links, reviewed)
}
