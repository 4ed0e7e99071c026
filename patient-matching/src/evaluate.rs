//! Measuring an answer against the truth: how many of the pairs are right, and for whom they are not.

use crate::decide::Outcome;
use crate::matching::Matching;
use crate::model::Purpose;
use crate::table::SEX;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The measures of one answer.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// True pairs.
    pub true_pairs: usize,
    /// Share of the true pairs that blocking found and whose score was kept.
    pub completeness: f64,
    /// Share of the matches that are true.
    pub precision: f64,
    /// Share of the true pairs that are matches.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Most of the true pairs that a threshold reaches while 99 % of what lies above it is true.
    pub recall_at_precision_99: f64,
    /// Mean probability of the matches.
    pub stated_precision: f64,
    /// Recall by group of people.
    pub groups: Vec<Group>,
}

/// Recall of a group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// "sex", "age", "name" or "origin".
    pub by: String,
    /// The group.
    pub group: String,
    /// True pairs of its people.
    pub true_pairs: usize,
    /// Share of them that are matches.
    pub recall: f64,
}

/// The true pairs, by record ids.
pub struct Truth {
    pairs: HashSet<(String, String)>,
}

impl Truth {
    /// From pairs; for links the first id is of the first source.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Truth {
        Truth { pairs: pairs.into_iter().collect() }
    }

    /// From (record, person) rows: all pairs of records of one person.
    pub fn from_entities(rows: impl IntoIterator<Item = (String, String)>) -> Truth {
        let mut people: HashMap<String, Vec<String>> = HashMap::new();
        for (record, person) in rows {
            people.entry(person).or_default().push(record);
        }
        let mut pairs = HashSet::new();
        for records in people.values() {
            for (i, a) in records.iter().enumerate() {
                pairs.extend(records.iter().skip(i + 1).map(|b| (a.clone(), b.clone())));
            }
        }
        Truth { pairs }
    }

    fn has(&self, a: &str, b: &str, ordered: bool) -> bool {
        let key = (a.to_owned(), b.to_owned());
        self.pairs.contains(&key) || (!ordered && self.pairs.contains(&(key.1, key.0)))
    }
}

/// Compares an answer with the truth. `origins` gives the origin of a person's name where that is known.
pub fn evaluate(matching: &Matching, truth: &Truth, origins: &HashMap<String, String>) -> Evaluation {
    let table = &matching.table;
    let ordered = matching.model.purpose == Purpose::Link;
    let ids = |a: u32, b: u32| (table.id(a), table.id(b));
    let mut ranked: Vec<(f64, bool)> = Vec::with_capacity(matching.pairs.len());
    let mut found: HashSet<(&str, &str)> = HashSet::new();
    let (mut matches, mut right, mut stated) = (0, 0, 0.0);
    for pair in &matching.pairs {
        let (a, b) = ids(pair.a, pair.b);
        let is_true = truth.has(a, b, ordered);
        ranked.push((pair.weight, is_true));
        if pair.outcome == Outcome::Match {
            matches += 1;
            right += usize::from(is_true);
            stated += pair.probability;
            found.insert((a, b));
        }
    }
    let all = truth.pairs.len().max(1) as f64;
    let kept = matching
        .scored
        .iter()
        .filter(|s| {
            let (a, b) = if ordered && table.source(s.a) == 1 { ids(s.b, s.a) } else { ids(s.a, s.b) };
            truth.has(a, b, ordered)
        })
        .count();
    let precision = right as f64 / f64::from(matches.max(1));
    let recall = right as f64 / all;
    Evaluation {
        true_pairs: truth.pairs.len(),
        completeness: kept as f64 / all,
        precision,
        recall,
        f1: 2.0 * right as f64 / (f64::from(matches) + all),
        recall_at_precision_99: recall_at(&mut ranked, 0.99) / all,
        stated_precision: stated / f64::from(matches.max(1)),
        groups: groups(matching, truth, &found, origins),
    }
}

/// Most true pairs above a threshold with at least this precision; equal weights stand or fall together.
fn recall_at(ranked: &mut [(f64, bool)], precision: f64) -> f64 {
    ranked.sort_by(|x, y| y.0.total_cmp(&x.0));
    let (mut right, mut count, mut most) = (0.0, 0.0, 0.0_f64);
    for group in ranked.chunk_by(|x, y| x.0 == y.0) {
        right += group.iter().filter(|g| g.1).count() as f64;
        count += group.len() as f64;
        if right >= precision * count {
            most = most.max(right);
        }
    }
    most
}

fn groups(
    matching: &Matching,
    truth: &Truth,
    found: &HashSet<(&str, &str)>,
    origins: &HashMap<String, String>,
) -> Vec<Group> {
    let table = &matching.table;
    let rows: HashMap<(u8, &str), u32> =
        (0..table.len() as u32).map(|r| ((table.source(r), table.id(r)), r)).collect();
    let common = matching.model.frequencies.get("given name");
    let mut counts: BTreeMap<(&str, String), (usize, usize)> = BTreeMap::new();
    for (a, b) in &truth.pairs {
        let Some(&row) = rows.get(&(0, a.as_str())) else { continue };
        let hit = found.contains(&(a.as_str(), b.as_str())) || found.contains(&(b.as_str(), a.as_str()));
        let cells = table.row(row);
        let sex = ["not recorded", "female", "male"]
            .get(cells.get(SEX).copied().unwrap_or_default() as usize)
            .copied()
            .unwrap_or_default();
        let age = match matching.model.reference_year.checked_sub(table.birth(row).year()) {
            _ if table.birth(row).is_missing() => "not recorded",
            Some(0..5) => "under 5",
            Some(5..18) => "5 to 17",
            Some(18..50) => "18 to 49",
            _ => "50 and over",
        };
        let given = table.texts().name(cells.first().copied().unwrap_or_default());
        let name = match common.and_then(|f| f.common.get(given).map(|c| *c as f64 / f.records.max(1) as f64))
        {
            _ if given.is_empty() => "not recorded",
            Some(share) if share >= 0.01 => "common (1 % or more)",
            Some(_) => "less common",
            None => "rare",
        };
        let mut add = |by: &'static str, group: &str| {
            let slot = counts.entry((by, group.to_owned())).or_default();
            slot.0 += 1;
            slot.1 += usize::from(hit);
        };
        add("sex", sex);
        add("age", age);
        add("name", name);
        if let Some(origin) = origins.get(a.as_str()) {
            add("origin", origin);
        }
    }
    counts
        .into_iter()
        .map(|((by, group), (all, hits))| Group {
            by: by.to_owned(),
            group,
            true_pairs: all,
            recall: hits as f64 / all.max(1) as f64,
        })
        .collect()
}

impl Evaluation {
    /// The group with the lowest recall among those with at least thirty true pairs.
    pub fn worst(&self) -> Option<&Group> {
        self.groups.iter().filter(|g| g.true_pairs >= 30).min_by(|x, y| x.recall.total_cmp(&y.recall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_stand_or_fall_together() {
        let mut ranked = vec![(5.0, true), (4.0, true), (4.0, false), (3.0, true)];
        assert_eq!(recall_at(&mut ranked, 0.99), 1.0);
        assert_eq!(recall_at(&mut ranked, 0.7), 3.0);
    }

    #[test]
    fn entities_become_pairs() {
        let rows =
            [("a", "1"), ("b", "1"), ("c", "1"), ("d", "2")].map(|(x, y)| (x.to_owned(), y.to_owned()));
        let truth = Truth::from_entities(rows);
        assert_eq!(truth.pairs.len(), 3);
        assert!(truth.has("c", "a", false) && !truth.has("a", "d", false));
    }
}
