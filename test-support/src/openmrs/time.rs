//! Times as this server writes and reads them: its own zone (UTC+3), whole seconds in the database.

use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    tz::Offset,
};

/// The server's zone, Africa/Nairobi; it has no summer time.
const ZONE: Offset = Offset::constant(3);

/// The wall clock of the server at an instant.
pub fn local(ms: i64) -> DateTime {
    ZONE.to_datetime(Timestamp::from_millisecond(ms).unwrap_or_default())
}

/// The instant at which the server's wall clock shows a time.
pub fn instant(at: DateTime) -> i64 {
    ZONE.to_timestamp(at).map_or(0, Timestamp::as_millisecond)
}

/// Cut to the second, as a database column does.
pub fn whole_second(ms: i64) -> i64 {
    ms - ms.rem_euclid(1000)
}

fn write(at: DateTime, offset: &str, millis: bool) -> String {
    let fraction = if millis { format!(".{:03}", at.millisecond()) } else { String::new() };
    format!("{}{fraction}{offset}", at.strftime("%Y-%m-%dT%H:%M:%S"))
}

/// REST: `2026-11-24T14:47:57.000+0300`.
pub fn rest(ms: i64) -> String {
    rest_local(local(ms))
}

/// REST, from the wall clock.
pub fn rest_local(at: DateTime) -> String {
    write(at, "+0300", true)
}

/// FHIR instant: `2026-11-24T14:47:57.000+03:00`.
pub fn fhir_instant(ms: i64) -> String {
    write(local(ms), "+03:00", true)
}

/// FHIR dateTime: `2026-11-24T09:30:00+03:00`.
pub fn fhir_datetime(ms: i64) -> String {
    write(local(ms), "+03:00", false)
}

/// `Last-Modified`: `Tue, 24 Nov 2026 11:47:57 GMT`.
pub fn http_date(ms: i64) -> String {
    let at = Timestamp::from_millisecond(ms).unwrap_or_default();
    Offset::UTC.to_datetime(at).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// What REST accepts: a date, a time to the second or the millisecond, with `Z`, an offset, or none (the server's zone).
/// More than three digits of fraction are refused. The answer is the server's wall clock.
pub fn parse_rest(text: &str) -> Option<DateTime> {
    if let Some(date) = strict_date(text) {
        return Some(date.to_datetime(jiff::civil::Time::midnight()));
    }
    let (date, rest) = text.split_at_checked(10)?;
    let date = strict_date(date)?;
    let rest = rest.strip_prefix(['T', ' '])?;
    let zone_at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone_at);
    let (clock, millis) = match clock.split_once('.') {
        Some((clock, fraction)) if fraction.len() == 3 => (clock, fraction.parse::<i32>().ok()?),
        Some(_) => return None,
        None => (clock, 0),
    };
    let mut parts = clock.split(':').map(|part| part.parse::<i8>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let time = jiff::civil::Time::new(hour, minute, second, millis * 1_000_000).ok()?;
    let written = date.to_datetime(time);
    let minutes = match zone {
        "" => return Some(written),
        "Z" => 0,
        _ => {
            let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
            let (hours, minutes) = digits.split_at_checked(2)?;
            let total = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            if zone.starts_with('-') { -total } else { total }
        }
    };
    let utc = Offset::UTC.to_timestamp(written).ok()?.as_millisecond();
    Some(local(utc - minutes * 60_000))
}

/// `YYYY-MM-DD` and nothing else.
pub fn strict_date(text: &str) -> Option<Date> {
    let digits = |range| text.get(range).filter(|part: &&str| part.bytes().all(|b| b.is_ascii_digit()));
    let shape = text.len() == 10 && text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    shape.then_some(())?;
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

/// A FHIR date of any precision as its first instant and the first one after it.
pub fn fhir_range(text: &str) -> Option<(i64, i64)> {
    let start = |date: Date| instant(date.to_datetime(jiff::civil::Time::midnight()));
    let number = |part: &str| part.parse::<i16>().ok();
    let (first, next) = match text.len() {
        4 => {
            let year = number(text)?;
            (Date::new(year, 1, 1).ok()?, Date::new(year + 1, 1, 1).ok()?)
        }
        7 => {
            let (year, month) = text.split_once('-')?;
            let first = Date::new(number(year)?, month.parse().ok()?, 1).ok()?;
            (first, first.last_of_month().tomorrow().ok()?)
        }
        10 => {
            let first = strict_date(text)?;
            (first, first.tomorrow().ok()?)
        }
        _ => {
            let cut = drop_fraction(text);
            let second = whole_second(instant(parse_rest(&cut)?));
            return Some((second, second + 1000));
        }
    };
    Some((start(first), start(next)))
}

fn drop_fraction(text: &str) -> String {
    let Some((head, tail)) = text.split_once('.') else { return text.to_owned() };
    format!("{head}{}", tail.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// Completed years between a birth and a moment of the server's wall clock.
pub fn age(birth: DateTime, now: DateTime) -> i64 {
    let years = i64::from(now.year()) - i64::from(birth.year());
    let before_birthday = (now.month(), now.day()) < (birth.month(), birth.day());
    years - i64::from(before_birthday)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_reads_what_the_server_reads() {
        for good in [
            "2026-11-24T09:30:00.000+0300",
            "2026-11-24T06:30:00Z",
            "2026-11-24 09:30:00",
            "2026-11-24T09:30:00+03:00",
        ] {
            assert_eq!(
                parse_rest(good).map(rest_local).as_deref(),
                Some("2026-11-24T09:30:00.000+0300"),
                "{good}"
            );
        }
        assert_eq!(parse_rest("2026-11-24T09:30:00.123456+03:00"), None);
        assert_eq!(parse_rest("12/03/1994"), None);
    }

    #[test]
    fn a_fhir_range_ends_where_the_next_unit_starts() {
        let (from, to) = fhir_range("2026-11-24T11:47:50.900Z").unwrap();
        assert_eq!((fhir_instant(from).as_str(), to - from), ("2026-11-24T14:47:50.000+03:00", 1000));
        let (from, to) = fhir_range("1994").unwrap();
        assert_eq!(
            (rest(from).as_str(), rest(to).as_str()),
            ("1994-01-01T00:00:00.000+0300", "1995-01-01T00:00:00.000+0300")
        );
    }
}
