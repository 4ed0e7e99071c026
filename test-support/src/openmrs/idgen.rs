//! Identifiers with a check digit, as the idgen module makes and checks them (Luhn modulo the length of the alphabet).

/// The alphabet of the OpenMRS ID: no letter that looks like a digit.
pub const BASE_30: &str = "0123456789ACDEFGHJKLMNPRTUVWXY";

/// The check character of an identifier without one; `None` when a character is not in the alphabet.
pub fn check_character(body: &str, alphabet: &str) -> Option<char> {
    let letters: Vec<char> = alphabet.chars().collect();
    let n = letters.len();
    let mut sum = 0;
    for (place, c) in body.trim().chars().rev().enumerate() {
        let index = letters.iter().position(|l| *l == c.to_ascii_uppercase())?;
        let addend = if place % 2 == 0 { 2 * index } else { index };
        sum += addend / n + addend % n;
    }
    letters.get((n - sum % n) % n).copied()
}

/// Whether the last character is the check character of those before it, in either case of letters.
pub fn is_valid(identifier: &str, alphabet: &str) -> bool {
    let trimmed = identifier.trim();
    let Some((at, last)) = trimmed.char_indices().next_back() else { return false };
    let body = trimmed.get(..at).unwrap_or_default();
    !body.is_empty() && check_character(body, alphabet) == Some(last.to_ascii_uppercase())
}

/// The identifier of a place in the sequence.
pub fn from_sequence(mut number: u64, alphabet: &str) -> String {
    let letters: Vec<char> = alphabet.chars().collect();
    let n = letters.len() as u64;
    let mut reversed = Vec::new();
    while number > 0 {
        reversed.push(letters[(number % n) as usize]);
        number /= n;
    }
    let body: String = reversed.iter().rev().collect();
    let check = check_character(&body, alphabet).map(String::from).unwrap_or_default();
    body + &check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_seen_on_a_server() {
        for (body, check) in
            [("100GE", 'J'), ("10000", 'X'), ("10001", 'V'), ("1000H7", 'Y'), ("100000", 'Y')]
        {
            assert_eq!(check_character(body, BASE_30), Some(check), "{body}");
        }
        let kenya = "34679ACDEFGHJKLMNPRTUVWXY";
        for (body, check) in [("MGF4", '9'), ("M333", 'G'), ("MGGF", 'J')] {
            assert_eq!(check_character(body, kenya), Some(check), "{body}");
        }
        assert_eq!(from_sequence(810_006, BASE_30), "10006H");
        assert!(is_valid("20024h", BASE_30) && !is_valid("20001Q", BASE_30) && !is_valid("2000 B", BASE_30));
    }
}
