//! Marked people, and the search for any of their values in bytes.
//!
//! A value is found whatever became of it on its way: plain in any letter case, with its parts swapped, URL-encoded,
//! JSON-escaped, in base64 at any place of a longer text, or as an unsalted digest, raw, in hexadecimal or in base64.

use std::collections::HashMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The shortest spelling that cannot stand anywhere by chance.
const SHORTEST: usize = 8;
/// Namespace of the uuids under which patients are made.
const PATIENTS: Uuid = Uuid::from_u128(0x5f0c_6a7e_2d2b_4b5e_9f6a_7c1f_0e3d_8a94);

/// Somebody whose every value is found again.
pub struct Marked {
    pub id: String,
    pub given: String,
    pub family: String,
    pub phone: String,
    pub other_phone: String,
    pub national: String,
    pub village: String,
    pub other_village: String,
}

impl Marked {
    pub fn new(n: u64) -> Self {
        let word = syllables(n);
        Self {
            id: Uuid::from_u128(u128::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
                .to_string(),
            given: format!("Zaqé{word}"),
            family: format!("Wyx{word}oth"),
            phone: format!("+2547990{n:05}"),
            other_phone: format!("+2547991{n:05}"),
            national: format!("7391{n:06}"),
            village: format!("Jiqu{word}"),
            other_village: format!("Xibe{word}"),
        }
    }

    pub fn name(&self) -> String {
        format!("{} {}", self.given, self.family)
    }

    /// Every value by which somebody could be known.
    pub fn values(&self) -> Vec<String> {
        let name = self.name();
        let own = Uuid::new_v5(&PATIENTS, self.id.as_bytes()).to_string();
        let given = [&self.given, &self.family, &self.phone, &self.other_phone, &self.national];
        let rest = [&self.village, &self.other_village, &self.id, &name, &own];
        given.into_iter().chain(rest).cloned().collect()
    }
}

fn syllables(mut n: u64) -> String {
    let mut word = String::new();
    for _ in 0..3 {
        word.push(char::from(b"bdfgklmnprstvz"[(n % 14) as usize]));
        word.push(char::from(b"aeiou"[(n / 14 % 5) as usize]));
        n /= 70;
    }
    word
}

/// Looks for all spellings of all marks at once.
pub struct Search {
    by_head: HashMap<[u8; SHORTEST], Vec<(usize, Vec<u8>)>>,
    heads: Vec<u64>,
    marks: Vec<String>,
}

impl Search {
    pub fn new(marks: impl IntoIterator<Item = String>) -> Self {
        let mut search =
            Self { by_head: HashMap::new(), heads: vec![0; 1 << 16], marks: marks.into_iter().collect() };
        for mark in 0..search.marks.len() {
            for spelling in spellings(&search.marks[mark]) {
                let head: [u8; SHORTEST] = spelling[..SHORTEST].try_into().unwrap();
                let bit = bit(&head);
                search.heads[bit / 64] |= 1 << (bit % 64);
                search.by_head.entry(head).or_default().push((mark, spelling));
            }
        }
        search
    }

    /// A mark that stands there, and how.
    pub fn find(&self, bytes: &[u8]) -> Option<String> {
        // What is plain or hexadecimal may stand in any letter case.
        let small = String::from_utf8_lossy(bytes).to_lowercase();
        [bytes, small.as_bytes()].into_iter().find_map(|hay| {
            let found = (0..hay.len().saturating_sub(SHORTEST - 1)).find_map(|at| {
                let head: [u8; SHORTEST] = hay[at..at + SHORTEST].try_into().unwrap();
                let bit = bit(&head);
                if self.heads[bit / 64] >> (bit % 64) & 1 == 0 {
                    return None;
                }
                let spelled = self.by_head.get(&head)?.iter().find(|(_, s)| hay[at..].starts_with(s))?;
                Some((spelled, at))
            });
            let ((mark, spelling), at) = found?;
            let around = &hay[at.saturating_sub(120)..(at + 120).min(hay.len())];
            let (spelling, around) = (String::from_utf8_lossy(spelling), String::from_utf8_lossy(around));
            Some(format!("{} as {spelling:?} at byte {at}: {around:?}", self.marks[*mark]))
        })
    }
}

fn bit(head: &[u8; SHORTEST]) -> usize {
    (u64::from_le_bytes(*head).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 42) as usize
}

/// The forms of a value that are looked for, digested and encoded.
fn forms(value: &str) -> Vec<String> {
    let swapped = |between: &str| value.split(' ').rev().collect::<Vec<_>>().join(between);
    let mut forms =
        vec![value.to_owned(), value.to_lowercase(), value.to_uppercase(), swapped(" "), swapped(", ")];
    forms.push(value.replace([' ', '-', '+'], ""));
    forms.push(swapped(" ").to_lowercase());
    if let Some(national) = value.strip_prefix("+254") {
        forms.extend([national.to_owned(), format!("0{national}")]);
    }
    forms.sort();
    forms.dedup();
    forms
}

fn spellings(value: &str) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = vec![];
    for form in forms(value) {
        let bytes = form.as_bytes();
        let percent = |one: fn(&mut String, u8)| {
            let mut text = String::new();
            for b in bytes {
                if b.is_ascii_alphanumeric() { text.push(char::from(*b)) } else { one(&mut text, *b) }
            }
            text
        };
        let upper = percent(|text, b| write!(text, "%{b:02X}").unwrap());
        out.extend([upper.replace("%20", "+").into(), upper.into()]);
        out.push(percent(|text, b| write!(text, "%{b:02x}").unwrap()).into());
        let escaped = |whole: bool| {
            let mut units = String::new();
            for c in form.chars() {
                match c.is_ascii() && !whole {
                    true => units.push(c),
                    false => {
                        c.encode_utf16(&mut [0; 2]).iter().for_each(|u| write!(units, "\\u{u:04x}").unwrap())
                    }
                }
            }
            units
        };
        out.extend([escaped(false).into(), escaped(true).into()]);
        for skip in 0..3 {
            out.push(inner(&BASE64_STANDARD, bytes, skip));
            out.push(inner(&BASE64_URL_SAFE, bytes, skip));
        }
        for digest in
            [Md5::digest(bytes).to_vec(), Sha1::digest(bytes).to_vec(), Sha256::digest(bytes).to_vec()]
        {
            out.push(digest[..12].iter().fold(String::new(), |hex, b| hex + &format!("{b:02x}")).into());
            for engine in [&BASE64_STANDARD, &BASE64_URL_SAFE] {
                out.push(engine.encode(&digest)[..16].into());
            }
            out.push(digest[..SHORTEST + 4].to_vec());
        }
        out.push(form.into_bytes());
    }
    out.retain(|spelling| spelling.len() >= SHORTEST);
    out.sort();
    out.dedup();
    out
}

/// What stands in the base64 of a longer text that holds these bytes `skip` bytes after a multiple of three, without the
/// letters that depend on what is beside them.
fn inner(engine: &impl base64::Engine, bytes: &[u8], skip: usize) -> Vec<u8> {
    let padded = [&b"  "[..skip], bytes].concat();
    let text = engine.encode(&padded);
    let (begin, end) = ((skip * 8).div_ceil(6), padded.len() * 8 / 6);
    text.as_bytes()[begin..end].to_vec()
}

#[test]
fn a_value_is_found_in_every_spelling() {
    let people: Vec<_> = (0..200).map(Marked::new).collect();
    let search = Search::new(people.iter().flat_map(Marked::values));
    let person = &people[123];
    let name = person.name();
    let json = serde_json::json!({ "name": name }).to_string();
    let mut planted: Vec<Vec<u8>> = vec![
        json.clone().into(),
        name.to_uppercase().into(),
        name.to_lowercase().into(),
        format!("{}, {}", person.family, person.given).into(),
        format!("name={}", percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC))
            .into(),
        format!("?name={}", url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>()).into(),
        name.replace('é', "\\u00e9").into(),
        name.replace('é', "\\u00E9").into(),
        format!("tel:{}", person.phone.trim_start_matches("+254")).into(),
        person.id.replace('-', "").to_uppercase().into(),
    ];
    for before in ["", "a", "ab"] {
        for value in [&name, &person.phone, &person.national, &person.id] {
            planted.push(BASE64_STANDARD.encode(format!("{before}{value}cd")).into());
            planted.push(BASE64_URL_SAFE.encode(format!("{before}{value}cd")).into());
        }
    }
    for value in [name.clone(), name.to_uppercase(), person.phone.clone(), person.id.clone()] {
        let digest = Sha256::digest(&value);
        planted.push(digest.to_vec());
        planted.push(BASE64_STANDARD.encode(digest).into());
        planted.push(Sha1::digest(&value).iter().map(|b| format!("{b:02X}")).collect::<String>().into());
        planted.push(Md5::digest(&value).iter().map(|b| format!("{b:02x}")).collect::<String>().into());
    }
    planted.push(Uuid::new_v5(&PATIENTS, person.id.as_bytes()).simple().to_string().into());
    for mut bytes in planted {
        assert!(search.find(&bytes).is_some(), "{}", String::from_utf8_lossy(&bytes));
        bytes.splice(0..0, (0..=255).cycle().take(1_001));
        assert!(search.find(&bytes).is_some());
    }
    assert_eq!(search.find(json.replace(&name, "Amina Otieno").as_bytes()), None);
}
