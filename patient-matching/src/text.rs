//! Normalisation of text: what two clerks meant to be the same string becomes the same string.
//!
//! Guarantees: the output is lower-case ASCII, tokens are parted by one blank, placeholders are empty,
//! and normalising twice changes nothing.

use any_ascii::any_ascii;

const HONORIFICS: &[&str] = &[
    "mr", "mrs", "ms", "miss", "dr", "prof", "rev", "fr", "sr", "mama", "baba", "mzee", "bibi", "bwana",
    "hajj", "haji", "hajji", "alhaji", "sheikh", "chief", "madam", "sir",
];

const PLACEHOLDERS: &[&str] = &[
    "unknown",
    "unk",
    "na",
    "n a",
    "none",
    "nil",
    "null",
    "not known",
    "not available",
    "no name",
    "noname",
    "unnamed",
    "test",
    "tbd",
    "anonymous",
    "baby",
    "child",
    "infant",
    "newborn",
    "xxx",
    "xx",
    "x x",
    "mtoto",
];

/// Lower-case ASCII letters and digits, with one blank between tokens. Apostrophes vanish, every other
/// sign parts tokens; other scripts are transliterated letter by letter.
pub fn fold(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    if raw.is_ascii() {
        fold_ascii(raw, &mut out);
    } else {
        fold_ascii(&any_ascii(raw), &mut out);
    }
    out
}

fn fold_ascii(raw: &str, out: &mut String) {
    for c in raw.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if c != '\'' && c != '`' && !out.is_empty() && !out.ends_with(' ') {
            out.push(' ');
        }
    }
    if out.ends_with(' ') {
        out.pop();
    }
}

/// A personal name: folded, without honorifics, and empty when it only says that the name is not known
/// ("unknown", "n/a", "Baby of Mary"). At most eight tokens are kept.
pub fn name(raw: &str) -> String {
    let folded = fold(raw);
    if is_placeholder(&folded) {
        return String::new();
    }
    if folded.bytes().all(|b| b != b' ') {
        return folded;
    }
    let kept: Vec<&str> = folded.split(' ').filter(|t| !HONORIFICS.contains(t)).take(8).collect();
    if kept.is_empty() { folded } else { kept.join(" ") }
}

fn is_placeholder(folded: &str) -> bool {
    if folded.is_empty() || PLACEHOLDERS.contains(&folded) {
        return true;
    }
    let mut tokens = folded.split(' ');
    if matches!(tokens.next(), Some("baby" | "twin" | "infant" | "child" | "bebe" | "newborn"))
        && matches!(tokens.next(), Some("of" | "boy" | "girl" | "a" | "b" | "de" | "one" | "two"))
    {
        return true;
    }
    folded.bytes().all(|b| b.is_ascii_digit() || b == b' ')
}

/// A place name: folded, empty when it says "unknown".
pub fn place(raw: &str) -> String {
    let folded = fold(raw);
    if matches!(folded.as_str(), "unknown" | "unk" | "na" | "n a" | "none" | "nil" | "null") {
        return String::new();
    }
    folded
}

/// An identifier: its letters and digits, empty when all of them are the same sign ("0000000", "N/A").
pub fn code(raw: &str) -> String {
    let mut out: String = fold(raw).split(' ').collect();
    let first = out.bytes().next();
    if out == "na"
        || out == "none"
        || out == "unknown"
        || out == "null"
        || out.bytes().all(|b| Some(b) == first)
    {
        out.clear();
    }
    out
}

/// A phone number: its last nine digits (the national significant number of most plans), empty when it has
/// fewer than six digits or repeats one digit.
pub fn phone(raw: &str) -> String {
    let mut digits: String = raw.chars().filter(char::is_ascii_digit).collect();
    if digits.len() > 9 {
        digits.drain(..digits.len() - 9);
    } else {
        let zeros = digits.bytes().take_while(|&b| b == b'0').count();
        digits.drain(..zeros);
    }
    let first = digits.bytes().next();
    if digits.len() < 6 || digits.bytes().skip(1).all(|b| Some(b) == first) {
        digits.clear();
    }
    digits
}

/// The re-spelling key of a folded name: sounds that clerks spell in different ways become one letter.
/// Blocking uses it; scoring compares the strings themselves.
pub fn spelling_key(folded: &str) -> String {
    let bytes = folded.as_bytes();
    let mut out: Vec<u8> = Vec::with_capacity(bytes.len());
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let mut i = 0;
    while i < bytes.len() {
        let (c, used) = match (at(i), at(i + 1)) {
            (b'p', b'h') => (b'f', 2),
            (b's', b'h') | (b'c', b'h') => (b'x', 2),
            (b'd', b'j') => (b'j', 2),
            (b't', b'h') => (b't', 2),
            (b'o', b'u') | (b'o', b'o') => (b'u', 2),
            (b'c' | b'q', _) => (b'k', 1),
            (b'y', _) => (b'i', 1),
            (b'l', _) => (b'r', 1),
            (b'v', _) => (b'b', 1),
            (b'z', _) => (b's', 1),
            (b'h' | b' ', _) => (0, 1),
            (b, _) => (b, 1),
        };
        if c != 0 && out.last() != Some(&c) {
            out.push(c);
        }
        i += used;
    }
    while out.len() > 2 && out.last().is_some_and(|b| b"aeiou".contains(b)) {
        out.pop();
    }
    String::from_utf8(out).unwrap_or_default()
}

/// The first four consonants of a re-spelling key, with its first letter kept: a coarser key that survives
/// most typing errors in vowels.
pub fn skeleton(key: &str) -> String {
    key.bytes()
        .enumerate()
        .filter(|(i, b)| *i == 0 || !b"aeiou".contains(b))
        .map(|(_, b)| char::from(b))
        .take(4)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_titles_marks_and_placeholders() {
        assert_eq!(name("  Dr. Amélie  O'Brien-Smith "), "amelie obrien smith");
        assert_eq!(name("Baby of Mary"), "");
        assert_eq!(name("n/a"), "");
        assert_eq!(name("Mama"), "mama");
        assert_eq!(name("UNKNOWN"), "");
        assert_eq!(name("J"), "j");
        assert_eq!(name(&"a ".repeat(50)).split(' ').count(), 8);
    }

    #[test]
    fn other_scripts_become_letters() {
        assert_eq!(name("محمد"), name("محمد "));
        assert!(name("محمد").starts_with('m'));
        assert!(!name("አበበ").is_empty());
        assert!(name("अमित").is_ascii());
    }

    #[test]
    fn phones_lose_the_country_code() {
        assert_eq!(phone("+254 712 345 678"), phone("0712345678"));
        assert_eq!(phone("000 000 000"), "");
        assert_eq!(phone("12"), "");
    }

    #[test]
    fn codes_lose_signs_and_zero_fillers() {
        assert_eq!(code("AB-12 3"), "ab123");
        assert_eq!(code("0000000"), "");
    }

    #[test]
    fn respellings_share_a_key() {
        for (a, b) in
            [("mohamed", "mohamedd"), ("cheikh", "sheikh"), ("djamel", "jamel"), ("youcef", "iukef")]
        {
            assert_eq!(spelling_key(a), spelling_key(b), "{a} {b}");
        }
        assert_ne!(spelling_key("amina"), spelling_key("joseph"));
        assert_eq!(skeleton(&spelling_key("thinhinane")), "tnnn");
    }
}
