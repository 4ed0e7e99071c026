//! Made-up registers for tests and for trying things: people in households, with copies as clerks make them.
//!
//! Guarantees: equal recipes give equal bytes; no real person is in it, names are strung together from syllables.

#![allow(clippy::indexing_slicing, reason = "indices are drawn below the length of the same list")]

use crate::pool::mix;
use std::io::{Result, Write};

/// What to make.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Records, copies included.
    pub records: usize,
    /// Equal seeds give equal registers.
    pub seed: u64,
    /// Share of the records that are copies.
    pub duplicates: f64,
}

/// Column names of a register.
pub const HEADER: &str =
    "rec_id,given_name,middle_name,family_name,sex,birth_date,phone,village,mother_name,national_id";

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn chance(&mut self, p: f64) -> bool {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64 <= p
    }

    /// A number below `n`, small ones far more often, as names are distributed.
    fn skewed(&mut self, n: usize) -> usize {
        let u = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        ((n as f64).powf(u) - 1.0) as usize % n.max(1)
    }
}

const SYLLABLES: [&[&str]; 4] = [
    &["wa", "nji", "ka", "mau", "ru", "tho", "nde", "ki", "mu", "gi", "che", "ro", "be", "o", "tie", "no"],
    &["a", "mi", "na", "ha", "sa", "li", "ya", "cef", "kha", "led", "ra", "chid", "sou", "ben", "dja", "mel"],
    &["thu", "la", "ni", "si", "pho", "zo", "dla", "mi", "nku", "lu", "le", "ko", "tha", "nda", "ba", "ngi"],
    &["ade", "ola", "tun", "de", "fo", "la", "ke", "bi", "si", "yin", "ka", "wo", "emi", "lo", "ra", "ayo"],
];

fn word(origin: usize, kind: usize, number: usize) -> String {
    let mut dice = Dice(mix((origin * 7 + kind) as u64) ^ number as u64);
    let syllables = SYLLABLES[origin % SYLLABLES.len()];
    let count = 2 + dice.below(2) + usize::from(number > 300);
    let mut out: String = (0..count).map(|_| syllables[dice.below(syllables.len())]).collect();
    if let Some(first) = out.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    out
}

#[derive(Clone)]
struct Made {
    given: String,
    middle: String,
    family: String,
    female: bool,
    birth: Option<(i32, u32, u32)>,
    phone: String,
    village: String,
    mother: String,
    national: String,
}

const TODAY: i32 = 2026;

fn birth(dice: &mut Dice, year: i32) -> (i32, u32, u32) {
    if dice.chance(0.45) {
        let adult = TODAY - year >= 18;
        let year = if adult && dice.chance(0.6) { year - (year - 1) % 5 } else { year };
        let (m, d) = [(1, 1), (7, 1), (6, 30)][dice.below(3)];
        return (year.min(TODAY), m, d);
    }
    (year, 1 + dice.below(12) as u32, 1 + dice.below(28) as u32)
}

fn household(dice: &mut Dice, village: &str, origin: usize, names: usize) -> Vec<Made> {
    let family = word(origin, 9, dice.skewed(names));
    let phone = format!("07{:08}", dice.below(100_000_000));
    let given = |dice: &mut Dice, female: bool| word(origin, usize::from(female), dice.skewed(names));
    let size = 2 + dice.below(7);
    let mother_year = 1945 + dice.below(60) as i32;
    let (mother, father) = (given(dice, true), given(dice, false));
    let mut out = Vec::new();
    for i in 0..size {
        let female = if i < 2 { i == 0 } else { dice.chance(0.5) };
        let year =
            if i < 2 { mother_year - dice.below(8) as i32 } else { mother_year + 17 + dice.below(22) as i32 };
        let own = match i {
            0 => mother.clone(),
            1 => father.clone(),
            _ if dice.chance(0.04) => {
                if female {
                    mother.clone()
                } else {
                    father.clone()
                }
            }
            _ => given(dice, female),
        };
        let adult = TODAY - year >= 18;
        out.push(Made {
            given: own,
            middle: if dice.chance(0.45) {
                if i > 1 { father.clone() } else { given(dice, false) }
            } else {
                String::new()
            },
            family: family.clone(),
            female,
            birth: dice.chance(0.97).then(|| birth(dice, year.min(TODAY))),
            phone: match dice.below(10) {
                0..2 => String::new(),
                2 => format!("07{:08}", dice.below(100_000_000)),
                _ => phone.clone(),
            },
            village: village.to_owned(),
            mother: if dice.chance(0.55) {
                if i > 1 { mother.clone() } else { given(dice, true) }
            } else {
                String::new()
            },
            national: if adult && dice.chance(0.35) {
                format!("{}", 10_000_000 + dice.below(30_000_000))
            } else {
                String::new()
            },
        });
    }
    out
}

fn misspell(dice: &mut Dice, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    if chars.len() < 3 {
        return text.to_owned();
    }
    let i = 1 + dice.below(chars.len() - 1);
    match dice.below(5) {
        0 => chars.insert(i, chars[i]),
        1 => {
            chars.remove(i);
        }
        2 => chars.swap(i - 1, i),
        3 => chars[i] = char::from(b'a' + dice.below(26) as u8),
        _ => {
            for (from, to) in [("ch", "sh"), ("ou", "u"), ("c", "k"), ("y", "i"), ("l", "r"), ("u", "oo")] {
                if text.contains(from) {
                    return text.replacen(from, to, 1);
                }
            }
        }
    }
    chars.into_iter().collect()
}

/// A copy as another clerk would write it.
fn copy(dice: &mut Dice, of: &Made, villages: &[(String, usize)]) -> Made {
    let mut c = of.clone();
    if dice.chance(0.25) {
        c.given = misspell(dice, &c.given);
    }
    if dice.chance(0.22) {
        c.family = misspell(dice, &c.family);
    }
    match dice.below(100) {
        0..3 => c.given = c.given.chars().take(1).collect(),
        3..6 => c.given = c.given.chars().take(3).collect(),
        6..11 => std::mem::swap(&mut c.given, &mut c.family),
        11..14 if !c.middle.is_empty() => std::mem::swap(&mut c.given, &mut c.middle),
        14..18 => c.family = String::new(),
        18..20 if c.female => c.family = word(dice.below(4), 9, dice.skewed(200)),
        _ => {}
    }
    if dice.chance(0.35) {
        c.middle = String::new();
    }
    if let Some((y, m, d)) = c.birth {
        c.birth = match dice.below(100) {
            0..18 => {
                let year = y + dice.below(3) as i32 - 1;
                Some(birth(dice, year))
            }
            18..23 => Some((y + dice.below(5) as i32 - 2, m, d)),
            23..25 if d <= 12 => Some((y, d, m)),
            25..32 => None,
            32..34 => Some((y - 10, m, d)),
            _ => c.birth,
        };
    }
    match dice.below(10) {
        0..2 => c.phone = String::new(),
        2..4 => c.phone = format!("07{:08}", dice.below(100_000_000)),
        _ => {}
    }
    match dice.below(100) {
        0..12 => c.village = misspell(dice, &c.village),
        12..18 => c.village.clone_from(&villages[dice.below(villages.len())].0),
        18..21 => c.village = String::new(),
        _ => {}
    }
    if dice.chance(0.3) {
        c.mother = String::new();
    } else if dice.chance(0.15) {
        c.mother = misspell(dice, &c.mother);
    }
    if dice.chance(0.4) {
        c.national = String::new();
    }
    c
}

fn village_list(dice: &mut Dice, persons: usize) -> Vec<(String, usize)> {
    (0..(persons / 400).max(1)).map(|i| (word(i % 4, 5, i), dice.below(4))).collect()
}

fn households(dice: &mut Dice, persons: usize, villages: &[(String, usize)]) -> Vec<Made> {
    let names = 200 + persons / 40;
    let mut made: Vec<Made> = Vec::with_capacity(persons + 8);
    while made.len() < persons {
        let (village, origin) = &villages[dice.below(villages.len())];
        made.extend(household(dice, village, *origin, names));
    }
    made.truncate(persons);
    made
}

fn write_person(id: &str, m: &Made, people: &mut dyn Write) -> Result<()> {
    let date = m.birth.map_or(String::new(), |(y, mo, d)| format!("{y:04}-{mo:02}-{d:02}"));
    let sex = if m.female { "female" } else { "male" };
    writeln!(
        people,
        "{id},{},{},{},{sex},{date},{},{},{},{}",
        m.given, m.middle, m.family, m.phone, m.village, m.mother, m.national
    )
}

/// Writes two lists (in the columns of [`HEADER`]) and the pairs of one person (`id_a,id_b`). The second list
/// holds copies of 60 % of the first and people of the same households whom the first does not have.
/// `recipe.records` is the length of each; `recipe.duplicates` is not read.
pub fn lists(recipe: &Recipe, a: &mut dyn Write, b: &mut dyn Write, truth: &mut dyn Write) -> Result<()> {
    let mut dice = Dice(mix(recipe.seed ^ 0x115715));
    let persons = recipe.records + recipe.records * 2 / 5;
    let villages = village_list(&mut dice, persons);
    let made = households(&mut dice, persons, &villages);
    writeln!(a, "{HEADER}")?;
    writeln!(b, "{HEADER}")?;
    writeln!(truth, "id_a,id_b")?;
    for (i, m) in made.iter().enumerate() {
        let (first, second) = match dice.below(7) {
            0..3 => (true, true),
            3..5 => (true, false),
            _ => (false, true),
        };
        // Numbers that say nothing about who belongs together.
        let id = mix(i as u64 ^ recipe.seed << 32);
        if first {
            write_person(&format!("a{id:x}"), m, a)?;
        }
        if second {
            write_person(&format!("b{:x}", mix(id)), &copy(&mut dice, m, &villages), b)?;
        }
        if first && second {
            writeln!(truth, "a{id:x},b{:x}", mix(id))?;
        }
    }
    Ok(())
}

/// Writes a list (in the columns of [`HEADER`]) again, with a changed copy of a share of its records. The id of a
/// copy is that of the record with "-copy" at its end.
pub fn with_copies(list: impl std::io::Read, share: f64, seed: u64, out: &mut dyn Write) -> Result<()> {
    let mut dice = Dice(mix(seed ^ 0xc0b1e5));
    let mut rows = csv::Reader::from_reader(list);
    writeln!(out, "{HEADER}")?;
    for row in rows.records() {
        let row = row?;
        let cell = |i: usize| row.get(i).unwrap_or_default().to_owned();
        let date = cell(5);
        let mut parts = date.splitn(3, '-').map_while(|p| p.parse::<u32>().ok());
        let birth = match (parts.next(), parts.next(), parts.next()) {
            (Some(y), Some(m), Some(d)) => Some((y as i32, m, d)),
            _ => None,
        };
        let own = Made {
            given: cell(1),
            middle: cell(2),
            family: cell(3),
            female: cell(4) == "female",
            birth,
            phone: cell(6),
            village: cell(7),
            mother: cell(8),
            national: cell(9),
        };
        let line: Vec<&str> = row.iter().collect();
        writeln!(out, "{}", line.join(","))?;
        if dice.chance(share) {
            let villages = [(own.village.clone(), 0)];
            write_person(&format!("{}-copy", cell(0)), &copy(&mut dice, &own, &villages), out)?;
        }
    }
    Ok(())
}

/// Writes a register (in the columns of [`HEADER`]) and its truth (`rec_id,entity_id`).
pub fn register(recipe: &Recipe, people: &mut dyn Write, truth: &mut dyn Write) -> Result<()> {
    let mut dice = Dice(mix(recipe.seed ^ 0x5eed));
    let copies = (recipe.records as f64 * recipe.duplicates) as usize;
    let persons = recipe.records - copies.min(recipe.records);
    let villages = village_list(&mut dice, persons);
    let made = households(&mut dice, persons, &villages);
    let mut order: Vec<(usize, bool)> = (0..persons).map(|i| (i, false)).collect();
    order.extend((0..copies).map(|_| (dice.below(persons), true)));
    for i in (1..order.len()).rev() {
        order.swap(i, dice.below(i + 1));
    }
    writeln!(people, "{HEADER}")?;
    writeln!(truth, "rec_id,entity_id")?;
    for (i, (person, is_copy)) in order.into_iter().enumerate() {
        let copied;
        let m = if is_copy {
            copied = copy(&mut dice, &made[person], &villages);
            &copied
        } else {
            &made[person]
        };
        write_person(&format!("r{i}"), m, people)?;
        writeln!(truth, "r{i},e{person}")?;
    }
    Ok(())
}
