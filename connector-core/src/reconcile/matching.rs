//! Who is who, for a person without a counterpart: a claimed id, then identifiers, then candidates. Pure.
//!
//! A person is never merged by likeness alone: whoever only resembles goes to review with the reasons.

use std::collections::BTreeMap;

use crate::change::{Change, Patient, RecordId, field};

use super::fields::adopts;

/// One person of the target who may be the same.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The record.
    pub id: RecordId,
    /// What it stands for.
    pub change: Option<Change>,
    /// What a person decided about the pair: `same` or `different`.
    pub verdict: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Match {
    /// The same person: it carries the other's id, or both carry one strong identifier and nothing contradicts.
    Same(RecordId),
    /// A person decided that they are the same.
    Decided(RecordId),
    /// Somebody who may be the same, with the reasons by field.
    Unsure(RecordId, BTreeMap<String, &'static str>),
    /// Nobody.
    Nobody,
}

/// Decides among the candidates.
pub fn identify(source: &RecordId, person: &Patient, candidates: &[Candidate]) -> Match {
    let mut open: Vec<(&Candidate, Option<&Patient>)> = vec![];
    for c in candidates {
        if c.verdict.as_deref() == Some("same") {
            return Match::Decided(c.id.clone());
        }
        if c.change.as_ref().and_then(|ch| ch.same_as.as_ref()) == Some(source) {
            return Match::Same(c.id.clone());
        }
        let claimed_by_another = c
            .change
            .as_ref()
            .and_then(|ch| ch.same_as.as_ref())
            .is_some_and(|s| s.system == source.system && s != source);
        if c.verdict.as_deref() == Some("different") || claimed_by_another && !shares_identifier(person, c) {
            continue;
        }
        open.push((c, patient(c)));
    }
    let mut by_identifier = open.iter().filter(|(c, _)| shares_identifier(person, c));
    if let (Some((c, Some(p))), None) = (by_identifier.next(), by_identifier.next())
        && contradictions(person, p).is_empty()
    {
        return Match::Same(c.id.clone());
    }
    match open.first() {
        Some((c, p)) => Match::Unsure(c.id.clone(), p.map(|p| reasons(person, p)).unwrap_or_default()),
        None => Match::Nobody,
    }
}

fn patient(c: &Candidate) -> Option<&Patient> {
    match &c.change.as_ref()?.body {
        crate::change::Body::Patient(p) => Some(p),
        _ => None,
    }
}

fn shares_identifier(person: &Patient, c: &Candidate) -> bool {
    patient(c).is_some_and(|p| {
        person.identifiers().any(|(t, v)| p.identifiers().any(|(u, w)| t == u && v.eq_ignore_ascii_case(w)))
    })
}

/// Fields that two records of one person cannot differ in that much.
fn contradictions(a: &Patient, b: &Patient) -> Vec<&'static str> {
    let mut out = vec![];
    let differ = |f: &str| a.get(f).zip(b.get(f)).is_some_and(|(x, y)| !adopts(f, x, y));
    if differ(field::SEX) {
        out.push(field::SEX);
    }
    let year = |p: &Patient| p.get(field::BIRTH_DATE).and_then(|d| d.get(..4)?.parse::<i32>().ok());
    if year(a).zip(year(b)).is_some_and(|(x, y)| (x - y).abs() > 1) {
        out.push(field::BIRTH_DATE);
    }
    if differ(field::NAME) && !shares_a_word(a, b) {
        out.push(field::NAME);
    }
    out
}

fn shares_a_word(a: &Patient, b: &Patient) -> bool {
    let words = |p: &Patient| p.get(field::NAME).unwrap_or_default().to_lowercase();
    let (x, y) = (words(a), words(b));
    x.split_whitespace().any(|w| y.split_whitespace().any(|v| v == w))
}

fn reasons(a: &Patient, b: &Patient) -> BTreeMap<String, &'static str> {
    a.fields
        .iter()
        .filter_map(|(f, v)| {
            let w = b.get(f)?;
            Some((
                f.clone(),
                if v == w {
                    "equal"
                } else if adopts(f, v, w) {
                    "alike"
                } else {
                    "differs"
                },
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Body;

    fn candidate(id: &str, fields: &[(&str, &str)], same_as: Option<RecordId>) -> Candidate {
        let id = RecordId::person("emr", id);
        let mut change = Change::state(id.clone(), Body::Patient(Patient::with(fields.iter().copied())));
        change.same_as = same_as;
        Candidate { id, change: Some(change), verdict: None }
    }

    const ANN: [(&str, &str); 3] = [("name", "Ann Achieng"), ("sex", "female"), ("identifier.nid", "A1")];

    #[test]
    fn one_identifier_links_unless_the_rest_contradicts() {
        let (source, ann) = (RecordId::person("cht", "1"), Patient::with(ANN));
        let hit =
            candidate("x", &[("name", "ANN ACHIENG"), ("sex", "female"), ("identifier.nid", "a1")], None);
        assert_eq!(identify(&source, &ann, std::slice::from_ref(&hit)), Match::Same(hit.id.clone()));
        let other =
            candidate("y", &[("name", "Ann Achieng"), ("sex", "male"), ("identifier.nid", "A1")], None);
        assert!(matches!(identify(&source, &ann, &[other]), Match::Unsure(..)));
        let twice = candidate("z", &ANN, None);
        assert!(matches!(identify(&source, &ann, &[hit, twice]), Match::Unsure(..)));
    }

    #[test]
    fn likeness_alone_is_for_a_person_to_decide_and_a_decision_stands() {
        let (source, ann) = (RecordId::person("cht", "1"), Patient::with(ANN));
        let mut alike = candidate("x", &[("name", "Ann Achieng"), ("sex", "female")], None);
        assert!(matches!(identify(&source, &ann, std::slice::from_ref(&alike)), Match::Unsure(..)));
        alike.verdict = Some("different".into());
        assert_eq!(identify(&source, &ann, std::slice::from_ref(&alike)), Match::Nobody);
        alike.verdict = Some("same".into());
        assert_eq!(identify(&source, &ann, std::slice::from_ref(&alike)), Match::Decided(alike.id.clone()));
    }

    #[test]
    fn a_claimed_id_is_the_same_and_another_ones_claim_is_not() {
        let (source, ann) = (RecordId::person("cht", "1"), Patient::with(ANN));
        let ours = candidate("x", &[("name", "Ann Achieng")], Some(source.clone()));
        assert_eq!(identify(&source, &ann, std::slice::from_ref(&ours)), Match::Same(ours.id.clone()));
        let theirs = candidate("y", &[("name", "Ann Achieng")], Some(RecordId::person("cht", "2")));
        assert_eq!(identify(&source, &ann, &[theirs]), Match::Nobody);
    }
}
