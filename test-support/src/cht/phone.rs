//! Phone numbers in the one form that look-ups compare: a plus and digits.

/// `text` with the default country code when it has none; letters and odd lengths are no number.
pub(super) fn normalise(text: &str, country_code: &str) -> Option<String> {
    if text.chars().any(char::is_alphabetic) {
        return None;
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let number = if text.trim_start().starts_with('+') {
        digits
    } else {
        let national = digits.strip_prefix('0').unwrap_or(&digits);
        let has_code = national.starts_with(country_code) && national.len() > 10;
        if has_code { national.to_owned() } else { format!("{country_code}{national}") }
    };
    (8..=15).contains(&number.len()).then(|| format!("+{number}"))
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn numbers_get_the_default_country_code() {
        assert_eq!(normalise("(312) 555-0111", "1").as_deref(), Some("+13125550111"));
        assert_eq!(normalise("+254 712 345678", "1").as_deref(), Some("+254712345678"));
        assert_eq!(normalise("0712345678", "254").as_deref(), Some("+254712345678"));
        assert_eq!((normalise("abc", "1"), normalise("tel:+13125550111", "1")), (None, None));
    }
}
