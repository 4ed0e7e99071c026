//! The traps of community data, one test each.

use crate::people;
use patient_matching::{
    Flag, Layout, Model, Options, Outcome, Person, Purpose, Table, dedupe, explain, learn,
};
use std::sync::OnceLock;

/// A model learnt once from a made-up register.
fn model() -> Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL
        .get_or_init(|| {
            let (people, _) = people::register(4_000, 3);
            learn(&Table::of(&people::layout(), &people), Purpose::Dedupe, &Options::default())
        })
        .clone()
}

fn child(id: &str, given: &str) -> Person {
    Person::new(id)
        .given(given)
        .family("Otieno")
        .sex("female")
        .birth_date("2015-03-14")
        .phone("0712345678")
        .place(0, "Kuchi")
        .mother("Grace")
}

/// The outcome and flags of a pair, together with a few hundred others around it.
fn judge(a: Person, b: Person) -> (Outcome, Vec<Flag>, f64) {
    let table = Table::of(&people::layout(), [&a, &b]);
    let answer = dedupe(&table, Some(model()), &Options::default());
    let outcome = answer.pairs.first().map_or(Outcome::NoMatch, |p| p.outcome);
    let e = explain(&answer.model, &answer.table, 0, 1, 0.0);
    (outcome, e.flags, e.probability)
}

#[test]
fn a_plain_copy_is_a_match() {
    assert_eq!(judge(child("a", "Amina"), child("b", "Aminah")).0, Outcome::Match);
}

#[test]
fn twins_are_never_a_match() {
    let (outcome, flags, _) = judge(child("a", "Amina"), child("b", "Rose"));
    assert_ne!(outcome, Outcome::Match);
    assert!(flags.contains(&Flag::PossibleTwinOrSibling), "{flags:?}");
    let brother = child("b", "Juma").sex("male");
    assert_ne!(judge(child("a", "Amina"), brother).0, Outcome::Match);
}

#[test]
fn swapped_names_stay_one_person() {
    let swapped = child("b", "Otieno").family("Amina");
    let (outcome, flags, p) = judge(child("a", "Amina"), swapped);
    assert_eq!(outcome, Outcome::Match, "{p}");
    assert!(flags.contains(&Flag::NamesSwapped));
}

#[test]
fn a_mother_is_not_her_daughter_of_the_same_name() {
    let mother = child("b", "Amina").birth_date("1986-07-21").mother("");
    let (outcome, flags, p) = judge(child("a", "Amina"), mother);
    assert_ne!(outcome, Outcome::Match, "{p}");
    assert!(flags.contains(&Flag::PossibleParentAndChild), "{flags:?}");
}

#[test]
fn a_father_is_not_his_son() {
    let father = child("a", "Juma").sex("male").birth_date("1970-01-01");
    let son = child("b", "Juma").sex("male").birth_date("2001-05-17");
    assert_ne!(judge(father, son).0, Outcome::Match);
}

#[test]
fn babies_without_a_name_are_not_each_other() {
    let (outcome, ..) = judge(child("a", "Baby of Mary"), child("b", "Baby of Mary"));
    assert_ne!(outcome, Outcome::Match);
}

#[test]
fn a_name_alone_is_not_a_match() {
    let named = |id: &str| Person::new(id).given("Amina").family("Otieno");
    assert_ne!(judge(named("a"), named("b")).0, Outcome::Match);
}

#[test]
fn nothing_known_is_nobody() {
    assert_eq!(judge(Person::new("a"), Person::new("b")).0, Outcome::NoMatch);
    let blank = Person::new("b").given("").family(" ").phone("").birth_date("unknown").mother("n/a");
    assert_eq!(blank, Person::new("b"), "an empty string is a missing value");
}

#[test]
fn verified_identifiers_rule() {
    let differing = |id: &str, n: &str| child(id, "Amina").identifier(0, n, true);
    let (outcome, flags, _) = judge(differing("a", "30112233"), differing("b", "30998877"));
    assert_ne!(outcome, Outcome::Match);
    assert!(flags.contains(&Flag::VerifiedIdentifiersDiffer));
    let other = Person::new("b").given("Juma").family("Saad").sex("male").identifier(0, "30112233", true);
    let (outcome, flags, _) = judge(differing("a", "30112233"), other);
    assert_ne!(outcome, Outcome::Match);
    assert!(flags.contains(&Flag::VerifiedIdentifierOfAnother));
}

#[test]
fn a_shop_phone_of_two_hundred_people_makes_no_pairs() {
    let crowd = |phone: &str| -> Vec<Person> {
        (0..200)
            .map(|i| {
                let (x, y) = (char::from(b'a' + (i % 20) as u8), char::from(b'b' + (i / 20) as u8));
                Person::new(format!("p{i}"))
                    .given(&format!("{x}{y}o{x}a"))
                    .family(&format!("{y}u{y}e{x}"))
                    .birth_date(&format!("19{:02}-0{}-1{}", 30 + i % 60, 1 + i % 9, i % 10))
                    .phone(phone)
            })
            .collect()
    };
    let matches = |people: &[Person]| {
        let answer = dedupe(&Table::of(&people::layout(), people), Some(model()), &Options::default());
        answer.pairs.iter().filter(|p| p.outcome == Outcome::Match).count()
    };
    assert_eq!(matches(&crowd("0700123456")), matches(&crowd("")), "a shop's phone counts as evidence");
}

#[test]
fn ten_thousand_equal_records_finish_and_warn() {
    let people: Vec<Person> = (0..10_000).map(|i| child(&format!("p{i}"), "Amina")).collect();
    let answer = dedupe(&Table::of(&people::layout(), &people), Some(model()), &Options::default());
    assert!(answer.blocking.pairs < 100_000, "{}", answer.blocking.pairs);
    assert!(
        answer.blocking.dropped.iter().any(|d| d.to_string().contains("two names")),
        "{:?}",
        answer.blocking.dropped
    );
    assert!(answer.clusters.iter().all(|c| *c == answer.clusters[0]), "equal records are one person");
}

#[test]
fn odd_names_and_dates_do_no_harm() {
    let odd = [
        Person::new("1").given("محمد").family("أحمد").birth_date("2014-13-45"),
        Person::new("2").given("አበበ").family("በቀለ").birth_date("2099-01-01"),
        Person::new("3").given("J").family("K").birth_date("1880-01-01"),
        Person::new("4").name(&"Amina ".repeat(50)),
        Person::new("5").given("محمد").family("احمد").birth_date("2014-13-45"),
    ];
    let answer = dedupe(&Table::of(&people::layout(), &odd), Some(model()), &Options::default());
    assert_eq!(answer.table.len(), 5);
}

#[test]
fn tiny_and_empty_lists_are_answered() {
    let none: [Person; 0] = [];
    let answer = dedupe(&Table::of(&people::layout(), &none), None, &Options::default());
    assert!(answer.pairs.is_empty());
    let one = dedupe(&Table::of(&Layout::default(), [&child("a", "Amina")]), None, &Options::default());
    assert!(one.pairs.is_empty());
}

#[test]
fn one_letter_is_no_name() {
    let letters = |id: &str| Person::new(id).given("J").family("K").sex("female");
    assert_ne!(judge(letters("a"), letters("b")).0, Outcome::Match);
    let (outcome, ..) = judge(child("a", "J"), child("b", "Rose"));
    assert_ne!(outcome, Outcome::Match, "another initial is another name");
}

#[test]
fn names_in_other_scripts_are_compared() {
    for (name, other) in [("أمينة", "خديجة"), ("አበበ", "ተስፋዬ")] {
        assert_eq!(judge(child("a", name), child("b", name)).0, Outcome::Match, "{name}");
        assert_ne!(judge(child("a", name), child("b", other)).0, Outcome::Match, "{name} {other}");
    }
}

#[test]
fn fifty_tokens_are_a_name() {
    let long: Vec<String> = (0..50_u8).map(|i| format!("ab{}", char::from(b'a' + i % 26))).collect();
    let long = long.join(" ");
    assert_eq!(judge(child("a", &long), child("b", &long)).0, Outcome::Match);
    assert_ne!(judge(child("a", &long), child("b", "Rose")).0, Outcome::Match);
}

#[test]
fn a_date_no_calendar_has_is_evidence_and_no_danger() {
    let dated = |id: &str, date: &str| child(id, "Amina").birth_date(date);
    assert_eq!(judge(dated("a", "2014-13-45"), dated("b", "2014-13-45")).0, Outcome::Match);
    judge(dated("a", "2014-13-45"), dated("b", "0000-99-99"));
}

#[test]
fn a_birth_to_come_is_no_birth_date() {
    let schema =
        patient_matching::Schema::from_toml(&people::SCHEMA.replace("[[", "today = \"2026-11-24\"\n[["))
            .unwrap();
    let csv = "rec_id,given_name,middle_name,family_name,sex,birth_date,phone,village,mother_name,national_id\n\
               a,Amina,,Otieno,female,2099-01-02,,,,\nb,Amina,,Otieno,female,,,,,\n";
    let mut read = Vec::new();
    schema.read(csv.as_bytes(), |p, _| read.push(p)).unwrap();
    let explained = |p: &Person| {
        let table = Table::of(&people::layout(), [p, &child("c", "Amina")]);
        explain(&model(), &table, 0, 1, 0.0).weight
    };
    assert_eq!(explained(&read[0]), explained(&read[1]));
}

#[test]
fn a_centenarian_is_not_the_child_born_a_century_later() {
    let born = |id: &str, date: &str| child(id, "Amina").birth_date(date).mother("");
    assert_ne!(judge(born("a", "1918-03-14"), born("b", "2018-03-14")).0, Outcome::Match);
    assert_eq!(judge(born("a", "1918-03-14"), born("b", "1918-03-14")).0, Outcome::Match);
}
