//! People as community health workers write them down, made up from a seed.
//!
//! Guarantees: the same seed and position give the same person, found without making those before; ids, national ids and
//! phones of different owners differ; people come in households of five that share family name, village, mother and often
//! a phone, with twins and children named after a parent among them.

mod names;

use std::ops::Range;

use jiff::{ToSpan, civil::Date};
use names::{ORIGINS, Origin};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fault::mix;

const HOUSEHOLD: u64 = 5;
/// Households in one village.
const VILLAGE: u64 = 100;
/// The day on which everybody is written down: the last possible birthday.
const SURVEY: Date = jiff::civil::date(2026, 6, 1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sex {
    Female,
    Male,
}

/// How much of a birth date is known; what is not known is the first of January, or of the month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Day,
    Month,
    Year,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Person {
    /// Position in the sequence.
    pub n: u64,
    pub id: Uuid,
    pub household: u64,
    /// Number of the village, for those who make it a place of its own.
    pub place: u64,
    pub village: String,
    pub given_name: String,
    pub middle_name: Option<String>,
    pub family_name: String,
    pub sex: Sex,
    pub birth_date: Date,
    pub birth_precision: Precision,
    /// E.164.
    pub phone: Option<String>,
    pub mother_name: Option<String>,
    pub national_id: Option<String>,
}

impl Person {
    /// All names in one, as a CHT contact has them.
    pub fn name(&self) -> String {
        let names = [Some(&self.given_name), self.middle_name.as_ref(), Some(&self.family_name)];
        names.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// An endless population.
#[derive(Clone, Debug)]
pub struct People {
    seed: u64,
    next: u64,
}

impl People {
    pub fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    /// The nth person, wherever the iterator stands.
    pub fn get(&self, n: u64) -> Person {
        let (household, member) = (n / HOUSEHOLD, n % HOUSEHOLD);
        let home = Home::new(self.seed, household);
        let mut dice = Dice::new(self.seed, 2, n);
        let adult = member < 2 || home.grown_up;
        let ages = match (member < 2, home.grown_up) {
            (true, false) => 33..58,
            (true, true) => 58..83,
            (false, false) => 0..16,
            (false, true) => 18..38,
        };
        let sex = match member {
            0 => Sex::Female,
            1 => Sex::Male,
            _ if dice.chance(50) => Sex::Female,
            _ => Sex::Male,
        };
        let parent = if sex == Sex::Female { &home.mother } else { &home.father };
        let given_name = match member {
            0 => home.mother.clone(),
            1 => home.father.clone(),
            2 if dice.chance(20) => parent.clone(),
            _ => {
                let names = home.origin.given(sex);
                names[(home.names + member) as usize % names.len()].to_owned()
            }
        };
        let middle_name = dice
            .chance(25)
            .then(|| dice.one_of(home.origin.given(sex)).to_owned())
            .filter(|m| *m != given_name);
        let (birth_date, birth_precision) = match (member, home.twins) {
            (4, true) => born(&mut Dice::new(self.seed, 2, n - 1), ages, true),
            (3, true) => born(&mut dice.fork(), ages, true),
            _ => born(&mut dice, ages, false),
        };
        let own_phone = adult && dice.chance(30);
        let phone = if own_phone {
            Some(home.origin.phone(1 + 2 * scatter(self.seed, 3, n)))
        } else {
            home.phone.clone().filter(|_| adult || dice.chance(40))
        };
        Person {
            n,
            id: self.id(n),
            household,
            place: household / VILLAGE,
            village: village(self.seed, household / VILLAGE),
            given_name,
            middle_name,
            family_name: home.family.clone(),
            sex,
            birth_date,
            birth_precision,
            phone,
            mother_name: (member >= 2 && dice.chance(80)).then(|| home.mother.clone()),
            national_id: (adult && dice.chance(35)).then(|| format!("{:08}", scatter(self.seed, 6, n))),
        }
    }

    /// A random-looking uuid of version 4, as CHT's clients make them.
    fn id(&self, n: u64) -> Uuid {
        let (high, low) = (mix(self.seed, 4, n), mix(self.seed, 5, n));
        uuid::Builder::from_random_bytes(*Uuid::from_u64_pair(high, low).as_bytes()).into_uuid()
    }
}

impl Iterator for People {
    type Item = Person;

    fn next(&mut self) -> Option<Person> {
        let person = self.get(self.next);
        self.next += 1;
        Some(person)
    }
}

/// What the members of a household share.
struct Home {
    origin: &'static Origin,
    family: String,
    mother: String,
    father: String,
    phone: Option<String>,
    twins: bool,
    /// Where the children's names begin in the list, so that no two of them have the same.
    names: u64,
    /// The children are adults.
    grown_up: bool,
}

impl Home {
    fn new(seed: u64, household: u64) -> Self {
        let mut dice = Dice::new(seed, 1, household);
        let origin = &ORIGINS[dice.below(ORIGINS.len() as u64) as usize];
        Self {
            family: dice.one_of(origin.family).to_owned(),
            mother: dice.one_of(origin.female).to_owned(),
            father: dice.one_of(origin.male).to_owned(),
            phone: dice.chance(80).then(|| origin.phone(2 * scatter(seed, 7, household))),
            twins: dice.chance(4),
            names: dice.below(1_000),
            grown_up: dice.chance(30),
            origin,
        }
    }
}

/// Children are mostly known to the day, adults often by their age alone, which is then a multiple of five.
fn born(dice: &mut Dice, ages: Range<u64>, to_the_day: bool) -> (Date, Precision) {
    let adult = ages.start >= 18;
    let precision = match (adult, dice.below(100)) {
        _ if to_the_day => Precision::Day,
        (true, 0..40) | (false, 0..8) => Precision::Year,
        (true, 40..50) | (false, 8..15) => Precision::Month,
        _ => Precision::Day,
    };
    let age = (ages.start + dice.below(ages.end - ages.start)) as i64;
    let age = if adult && precision == Precision::Year { age / 5 * 5 + 5 } else { age };
    let day = SURVEY.saturating_sub(age.years()).saturating_sub((dice.below(365) as i64).days());
    let known = match precision {
        Precision::Day => day,
        Precision::Month => day.first_of_month(),
        Precision::Year => day.first_of_year(),
    };
    (known, precision)
}

/// Names of villages are made of syllables, so that they are nobody's.
fn village(seed: u64, place: u64) -> String {
    const SYLLABLES: [&str; 16] =
        ["ka", "mo", "ri", "tu", "ba", "ndo", "shi", "le", "wa", "gu", "nyo", "ma", "se", "di", "lo", "ki"];
    const SIDES: [&str; 6] = ["", " North", " South", " East", " West", " Market"];
    let mut dice = Dice::new(seed, 8, place);
    let mut name: String = (0..2 + dice.below(3)).map(|_| dice.one_of(&SYLLABLES)).collect();
    name[..1].make_ascii_uppercase();
    name + dice.one_of(&SIDES)
}

/// A number below 50 million, another one for each n below that: the factor has no divisor in common with the modulus.
fn scatter(seed: u64, stream: u64, n: u64) -> u64 {
    const MODULUS: u64 = 50_000_000;
    (n % MODULUS * 27_182_819 + mix(seed, stream, 0) % MODULUS) % MODULUS
}

impl Origin {
    fn given(&self, sex: Sex) -> &'static [&'static str] {
        match sex {
            Sex::Female => self.female,
            Sex::Male => self.male,
        }
    }

    fn phone(&self, number: u64) -> String {
        format!("{}{number:08}", self.calling)
    }
}

/// Draws that depend on seed, stream and position only.
struct Dice {
    seed: u64,
    stream: u64,
    draws: u64,
}

impl Dice {
    fn new(seed: u64, kind: u64, n: u64) -> Self {
        Self { seed, stream: mix(seed, kind, n), draws: 0 }
    }

    /// Dice whose draws do not move these.
    fn fork(&self) -> Self {
        Self { draws: 0, ..*self }
    }

    fn below(&mut self, sides: u64) -> u64 {
        self.draws += 1;
        mix(self.seed, self.stream, self.draws) % sides
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn one_of(&mut self, names: &[&'static str]) -> &'static str {
        names[self.below(names.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_people() {
        let people = People::new(7);
        let first: Vec<_> = people.clone().take(300).collect();
        assert_eq!(first, People::new(7).take(300).collect::<Vec<_>>());
        assert_eq!(first[123], people.get(123));
        assert_ne!(first, People::new(8).take(300).collect::<Vec<_>>());
    }

    #[test]
    fn people_are_distinct_but_share_what_households_share() {
        let people: Vec<_> = People::new(1).take(20_000).collect();
        let unique = |of: fn(&Person) -> Option<String>| {
            let all: Vec<_> = people.iter().filter_map(of).collect();
            (all.iter().collect::<HashSet<_>>().len(), all.len())
        };
        let (ids, all_ids) = unique(|p| Some(p.id.to_string()));
        let (national, all_national) = unique(|p| p.national_id.clone());
        let (phones, all_phones) = unique(|p| p.phone.clone());
        assert_eq!((ids, national), (all_ids, all_national));
        assert!((3_000..6_000).contains(&national), "{national}");
        assert!(phones * 3 / 2 < all_phones, "{phones} of {all_phones} phones: shared ones are missing");

        let mut owners: HashMap<_, HashSet<_>> = HashMap::new();
        for person in &people {
            if let Some(phone) = &person.phone {
                owners.entry(phone).or_default().insert(person.household);
            }
        }
        assert!(owners.values().all(|homes| homes.len() == 1), "a phone belongs to one household");

        let alike = unique(|p| Some(format!("{} {} {:?}", p.name(), p.birth_date, p.sex)));
        assert!(alike.1 - alike.0 < 100, "{} people cannot be told apart", alike.1 - alike.0);
    }

    #[test]
    fn birth_dates_are_as_precise_as_they_say() {
        let people: Vec<_> = People::new(2).take(5_000).collect();
        for person in &people {
            let date = person.birth_date;
            match person.birth_precision {
                Precision::Year => assert_eq!((date.month(), date.day()), (1, 1)),
                Precision::Month => assert_eq!(date.day(), 1),
                Precision::Day => {}
            }
            assert!(date <= SURVEY && date.year() > 1930, "{date}");
        }
        let twins = people.chunks(5).filter(|home| {
            home[3].birth_date == home[4].birth_date && home[3].birth_precision == Precision::Day
        });
        assert!((20..90).contains(&twins.count()));
    }
}
