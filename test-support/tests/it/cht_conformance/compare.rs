//! Compares an answer with a recorded one. Ids and revisions that the servers chose are matched one to one, times of
//! the recording day stand for each other, measured figures need only be there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Response;

/// What the stand-in answered.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// The day of the recordings, in epoch milliseconds.
const DAY: std::ops::Range<i64> = 1_795_510_000_000..1_795_520_000_000;

/// Figures that depend on the machine or on everything else that is stored.
const MEASURED: [&str; 20] = [
    "update_sequence",
    "doc_count",
    "doc_del_count",
    "fragmentation",
    "active",
    "file",
    "external",
    "uptime",
    "current",
    "total_rows",
    "total_docs",
    "warn_docs",
    "backlog",
    "q",
    "due",
    "pending",
    "forwarded-to-gateway",
    "delivered",
    "count",
    "offset",
];

/// Headers that mean something to a client.
const HEADERS: [&str; 7] = [
    "content-type",
    "etag",
    "location",
    "logout-authorization",
    "set-cookie",
    "www-authenticate",
    "content-disposition",
];

/// What recorded ids and revisions are called here.
#[derive(Default)]
pub struct Match {
    names: BTreeMap<String, String>,
    taken: BTreeSet<String>,
}

type Outcome = Result<(), String>;

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_id(text: &str) -> bool {
    (text.len() == 32 && is_hex(text))
        || (text.len() == 36 && text.split('-').count() == 5 && is_hex(&text.replace('-', "")))
}

pub fn is_rev(text: &str) -> bool {
    text.split_once('-')
        .is_some_and(|(pos, hash)| pos.parse::<u32>().is_ok() && hash.len() == 32 && is_hex(hash))
}

fn pos(rev: &str) -> &str {
    rev.split('-').next().unwrap_or_default()
}

pub fn is_seq(text: &str) -> bool {
    text.split_once("-g1AAAA").is_some_and(|(pos, _)| pos.parse::<u64>().is_ok())
}

fn is_time(text: &str) -> bool {
    text.starts_with("2026-11-24T") && text.ends_with('Z')
}

impl Match {
    /// Recorded text with the names that things have here.
    pub fn here(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here))
    }

    pub fn call_it(&mut self, there: &str, here: &str) {
        self.pair(there, here);
    }

    fn pair(&mut self, there: &str, here: &str) -> bool {
        if let Some(known) = self.names.get(there) {
            return known == here;
        }
        if !self.taken.insert(here.to_owned()) {
            return false;
        }
        self.names.insert(there.to_owned(), here.to_owned());
        true
    }

    pub fn answer(&mut self, recorded: &Response, answer: &Answer) -> Outcome {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if recorded.status != answer.status {
            return Err(format!("status {} instead of {}: {}", answer.status, recorded.status, short(&text)));
        }
        self.body(recorded, &text)?;
        HEADERS.iter().try_for_each(|name| self.header(recorded, answer, name))
    }

    fn body(&mut self, recorded: &Response, text: &str) -> Outcome {
        let html = recorded.headers.get("content-type").is_some_and(|kind| kind.starts_with("text/html"));
        match &recorded.body {
            Value::String(page) if html && page.starts_with("<!DOCTYPE") => {
                let title = |page: &str| {
                    page.split("<title>").nth(1).and_then(|rest| rest.split('<').next()).map(str::to_owned)
                };
                same(
                    title(page).as_deref().unwrap_or_default(),
                    title(text).as_deref().unwrap_or_default(),
                    "title",
                )
            }
            Value::String(chunks)
                if recorded.headers.get("transfer-encoding").is_some_and(|value| value == "chunked") =>
            {
                self.lines(&unchunk(chunks), text)
            }
            Value::String(plain) => {
                if recorded.headers.get("content-type").is_some_and(|kind| kind.starts_with("text/csv")) {
                    self.csv(plain, text)
                } else {
                    same(&self.here(plain), text, "body")
                }
            }
            Value::Null if text.is_empty() => Ok(()),
            body => {
                let here: Value =
                    serde_json::from_str(text).map_err(|_| format!("no JSON: {}", short(text)))?;
                self.value(body, &here, "")
            }
        }
    }

    fn header(&mut self, recorded: &Response, answer: &Answer, name: &str) -> Outcome {
        let here: Vec<&str> =
            answer.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
        let Some(there) = recorded.headers.get(name) else {
            let expected = here.is_empty()
                || (name == "content-type" && recorded.headers.contains_key("transfer-encoding"));
            return if expected { Ok(()) } else { Err(format!("header {name}: {here:?} instead of none")) };
        };
        let joined = here.join(", ");
        let fits = match name {
            "etag" => {
                let (there, here) = (there.trim_matches('"'), joined.trim_matches('"'));
                !here.is_empty()
                    && is_rev(there) == is_rev(here)
                    && (!is_rev(there) || pos(there) == pos(here))
            }
            "set-cookie" => masked_cookies(there) == masked_cookies(&joined),
            "content-disposition" => without_digits(there) == without_digits(&joined),
            _ => self.here(there) == joined,
        };
        if fits { Ok(()) } else { Err(format!("header {name}: {joined:?} instead of {there:?}")) }
    }

    fn value(&mut self, there: &Value, here: &Value, path: &str) -> Outcome {
        let key = path.rsplit('.').next().unwrap_or_default();
        let differ =
            || Err(format!("{path}: {} instead of {}", short(&here.to_string()), short(&there.to_string())));
        match (there, here) {
            (Value::Object(map), _) if map.contains_key("<trimmed>") => Ok(()),
            (Value::String(text), _) if text == "<trimmed>" => Ok(()),
            (Value::Object(a), Value::Object(b)) => {
                let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for name in names {
                    match (a.get(name), b.get(name)) {
                        (Some(a), Some(b)) => self.value(a, b, &format!("{path}.{name}"))?,
                        (Some(_), None) => return Err(format!("{path}.{name} is missing")),
                        (None, _) => return Err(format!("{path}.{name} is too much")),
                    }
                }
                Ok(())
            }
            (Value::Array(a), Value::Array(b)) => {
                if a.len() != b.len() {
                    return Err(format!("{path}: {} items instead of {}", b.len(), a.len()));
                }
                a.iter()
                    .zip(b)
                    .enumerate()
                    .try_for_each(|(at, (a, b))| self.value(a, b, &format!("{path}.{at}")))
            }
            (Value::Number(a), Value::Number(b)) => {
                let on_the_day = |n: &serde_json::Number| n.as_i64().is_some_and(|ms| DAY.contains(&ms));
                let measured = MEASURED.contains(&key);
                if on_the_day(a) && on_the_day(b) {
                    self.names.insert(a.to_string(), b.to_string());
                    return Ok(());
                }
                if path == ".pending" && (a.as_u64() == Some(0)) != (b.as_u64() == Some(0)) {
                    return differ();
                }
                if a.as_f64() == b.as_f64() || measured { Ok(()) } else { differ() }
            }
            (Value::String(a), Value::String(b)) => {
                if self.text(a, b, key) {
                    Ok(())
                } else {
                    differ()
                }
            }
            (a, b) if a == b => Ok(()),
            _ => differ(),
        }
    }

    fn text(&mut self, there: &str, here: &str, key: &str) -> bool {
        if there == here || self.here(there) == here {
            return true;
        }
        if is_id(there) && is_id(here) {
            return self.pair(there, here);
        }
        if is_rev(there) && is_rev(here) {
            return pos(there) == pos(here);
        }
        let digits = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        match key {
            "patient_id" | "place_id" => digits(there) && digits(here) && self.pair(there, here),
            "bookmark" => there != "nil" && here != "nil" && self.pair(there, here),
            "warning" => there.lines().next() == here.lines().next(),
            "message" | "content" => without_digits(there) == without_digits(here),
            "instance_start_time" | "upgrade_log_id" => without_digits(there) == without_digits(here),
            _ => (is_seq(there) && is_seq(here)) || (is_time(there) && is_time(here)),
        }
    }

    /// JSON lines with blank ones for heartbeats.
    fn lines(&mut self, there: &str, here: &str) -> Outcome {
        let filled = |text: &str| -> Vec<Value> {
            text.lines()
                .filter(|line| !line.is_empty())
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect()
        };
        self.value(&Value::Array(filled(there)), &Value::Array(filled(here)), "")
    }

    /// Rows of cells; what is no JSON value is plain text.
    fn csv(&mut self, there: &str, here: &str) -> Outcome {
        let cells = |text: &str| -> Value {
            text.split_inclusive([',', '\n'])
                .map(|cell| {
                    let cell = cell.trim_end_matches([',', '\n']);
                    serde_json::from_str(cell).unwrap_or_else(|_| Value::from(cell))
                })
                .collect()
        };
        let (Value::Array(there), Value::Array(here)) = (cells(there), cells(here)) else { return Ok(()) };
        if there.len() != here.len() {
            return Err(format!("{} cells instead of {}", here.len(), there.len()));
        }
        there.iter().zip(&here).try_for_each(|(there, here)| self.value(there, here, "csv.patient_id"))
    }
}

fn same(there: &str, here: &str, what: &str) -> Outcome {
    if there == here {
        Ok(())
    } else {
        Err(format!("{what}: {:?} instead of {:?}", short(here), short(there)))
    }
}

fn short(text: &str) -> String {
    text.chars().take(160).collect()
}

fn without_digits(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// The cookies of a header, values of sessions and dates taken out, in alphabetical order.
fn masked_cookies(header: &str) -> Vec<String> {
    let mut cookies: Vec<String> = Vec::new();
    for part in header.split(", ") {
        let starts = part.split(';').next().is_some_and(|pair| pair.contains('='))
            && !part.starts_with(|c: char| c.is_ascii_digit());
        match cookies.last_mut() {
            Some(last) if !starts => *last = format!("{last}, {part}"),
            _ => cookies.push(part.to_owned()),
        }
    }
    for cookie in &mut cookies {
        let parts: Vec<String> = cookie
            .split("; ")
            .map(|part| match part.split_once('=') {
                Some(("AuthSession", value)) if !value.is_empty() => "AuthSession=<cookie>".to_owned(),
                Some(("Expires", date)) if !date.contains("1970") => {
                    format!("Expires={}", without_digits(&date[3..]))
                }
                _ => part.to_owned(),
            })
            .collect();
        *cookie = parts.join("; ");
    }
    cookies.iter_mut().for_each(|cookie| *cookie = mask_months(cookie));
    cookies.sort();
    cookies
}

fn mask_months(text: &str) -> String {
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        .iter()
        .fold(text.to_owned(), |text, month| text.replace(month, "<month>"))
}

/// The content of a body that was recorded with its chunk lengths.
fn unchunk(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((length, after)) = rest.split_once("\r\n") {
        let Ok(length) = usize::from_str_radix(length, 16) else { break };
        out.push_str(after.get(..length).unwrap_or(after));
        rest = after.get(length + 2..).unwrap_or_default();
    }
    out
}
