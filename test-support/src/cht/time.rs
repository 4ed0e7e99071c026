//! Times in the forms that the CHT writes and reads.

use jiff::{
    Timestamp,
    civil::{Date, Time},
    tz::{Offset, TimeZone},
};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// `2026-11-24T09:40:55.155Z`
pub(super) fn iso(ms: i64) -> String {
    at(ms).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// A part of the time in UTC.
pub(super) fn format(ms: i64, format: &str) -> String {
    at(ms).to_zoned_datetime(TimeZone::UTC).strftime(format).to_string()
}

/// The date of a cookie: CouchDB writes it with dashes, the api with spaces.
pub(super) fn cookie_date(ms: i64, dash: char) -> String {
    format(ms, &format!("%a, %d{dash}%b{dash}%Y %H:%M:%S GMT"))
}

/// Epoch milliseconds of a date or time, UTC when it says nothing else.
pub(super) fn parse(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_millisecond());
    }
    let date: Date = text.get(..10).filter(|_| text.len() == 10)?.parse().ok()?;
    Offset::UTC.to_timestamp(date.to_datetime(Time::midnight())).ok().map(Timestamp::as_millisecond)
}

/// The strict form that the newer calls demand: seconds or milliseconds, and a Z.
pub(super) fn parse_strict(text: &str) -> Option<i64> {
    let strict =
        matches!(text.len(), 20 | 24) && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T');
    strict.then(|| parse(text)).flatten()
}
