//! What reached a stand-in: the last requests one by one, and counts of all of them.
//!
//! Guarantees: bounded memory; a request is in the ring from its start, so that the ring is in the order of arrival.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

const RING: usize = 50_000;
const ROUTES: usize = 500;

/// One request.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Counts from 0 over the life of the stand-in.
    pub n: u64,
    /// The request that is applied here, after it was left without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_of: Option<u64>,
    pub method: String,
    /// Path and query.
    pub path: String,
    /// What the plan decided, `read_only`, `outage` or `applied_late`.
    pub action: &'static str,
    /// Absent when nothing was answered.
    pub status: Option<u16>,
    pub applied: bool,
    pub start_ms: i64,
    pub end_ms: Option<i64>,
    /// What was sent, where the plan keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Counts of everything since the start or the last reset.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Requests {
    pub total: u64,
    pub applied: u64,
    pub in_flight: u64,
    pub max_concurrent: u64,
    pub writes_in_flight: u64,
    /// Reads left out, since a long poll is open all the time.
    pub max_concurrent_writes: u64,
    /// Most requests that arrived in one second of the clock.
    pub max_per_second: u64,
    /// Sum of the times that writes were open: divided by the time of a run it is the mean concurrency.
    pub writes_busy_ms: i64,
    /// 401 answers to requests that carried credentials.
    pub refused_logins: u64,
    /// Requests turned away by `read_only`.
    pub writes_refused: u64,
    /// By method and path, ids replaced by `{id}`.
    pub by_route: BTreeMap<String, u64>,
    pub by_action: BTreeMap<&'static str, u64>,
    pub by_status: BTreeMap<u16, u64>,
}

#[derive(Default)]
pub(super) struct Journal(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    ring: VecDeque<Entry>,
    counts: Requests,
    second: (i64, u64),
}

/// What is known of a request when it comes in.
pub(super) struct Arrival<'a> {
    pub method: &'a http::Method,
    pub uri: &'a http::Uri,
    pub action: &'static str,
    pub write: bool,
    pub now_ms: i64,
    pub body: Option<&'a [u8]>,
}

impl Journal {
    /// The number of the request, to be given to [`Journal::close`].
    pub fn open(&self, arrival: &Arrival<'_>) -> u64 {
        let mut state = self.state();
        let state = &mut *state;
        let (n, now_ms) = (state.next, arrival.now_ms);
        state.next += 1;
        let second = now_ms.div_euclid(1000);
        if state.second.0 != second {
            state.second = (second, 0);
        }
        state.second.1 += 1;

        let counts = &mut state.counts;
        counts.total += 1;
        counts.max_per_second = counts.max_per_second.max(state.second.1);
        counts.in_flight += 1;
        counts.max_concurrent = counts.max_concurrent.max(counts.in_flight);
        if arrival.write {
            counts.writes_in_flight += 1;
            counts.max_concurrent_writes = counts.max_concurrent_writes.max(counts.writes_in_flight);
        }
        let route = route(arrival.method, arrival.uri.path());
        let full = counts.by_route.len() >= ROUTES && !counts.by_route.contains_key(&route);
        *counts.by_route.entry(if full { "other".to_owned() } else { route }).or_default() += 1;
        *counts.by_action.entry(arrival.action).or_default() += 1;
        if arrival.action == "read_only" {
            counts.writes_refused += 1;
        }
        state.push(Entry::new(n, arrival));
        n
    }

    pub fn close(&self, n: u64, end: &End) {
        let mut state = self.state();
        let busy =
            state.ring.binary_search_by_key(&n, |e| e.n).ok().and_then(|at| state.ring.get_mut(at)).map(
                |entry| {
                    entry.status = end.status;
                    entry.applied = end.applied;
                    entry.end_ms = Some(end.now_ms);
                    end.now_ms - entry.start_ms
                },
            );
        let counts = &mut state.counts;
        counts.in_flight = counts.in_flight.saturating_sub(1);
        if end.write {
            counts.writes_in_flight = counts.writes_in_flight.saturating_sub(1);
            counts.writes_busy_ms += busy.unwrap_or(0);
        }
        counts.applied += u64::from(end.applied);
        if let Some(status) = end.status {
            *counts.by_status.entry(status).or_default() += 1;
            counts.refused_logins += u64::from(status == 401 && end.credentials);
        }
    }

    /// A request that was left unanswered takes effect.
    pub fn applied_late(
        &self,
        late_of: u64,
        method: &http::Method,
        uri: &http::Uri,
        status: u16,
        now_ms: i64,
    ) {
        let mut state = self.state();
        let n = state.next;
        state.next += 1;
        state.counts.applied += 1;
        *state.counts.by_action.entry("applied_late").or_default() += 1;
        let arrival = Arrival { method, uri, action: "applied_late", write: true, now_ms, body: None };
        let entry = Entry {
            late_of: Some(late_of),
            status: Some(status),
            applied: true,
            end_ms: Some(now_ms),
            ..Entry::new(n, &arrival)
        };
        state.push(entry);
    }

    pub fn entries(&self, from: u64) -> Vec<Entry> {
        self.state().ring.iter().filter(|e| e.n >= from).cloned().collect()
    }

    pub fn counts(&self) -> Requests {
        self.state().counts.clone()
    }

    /// Forgets everything but what is open now.
    pub fn reset(&self) {
        let mut state = self.state();
        state.ring.retain(|e| e.end_ms.is_none());
        let (in_flight, writes_in_flight) = (state.counts.in_flight, state.counts.writes_in_flight);
        state.counts = Requests {
            in_flight,
            writes_in_flight,
            max_concurrent: in_flight,
            max_concurrent_writes: writes_in_flight,
            ..Requests::default()
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, entry: Entry) {
        if self.ring.len() == RING {
            self.ring.pop_front();
        }
        self.ring.push_back(entry);
    }
}

impl Entry {
    fn new(n: u64, arrival: &Arrival<'_>) -> Self {
        Self {
            n,
            late_of: None,
            method: arrival.method.as_str().to_owned(),
            path: arrival.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
            action: arrival.action,
            status: None,
            applied: false,
            start_ms: arrival.now_ms,
            end_ms: None,
            body: arrival.body.map(|body| String::from_utf8_lossy(body).into_owned()),
        }
    }
}

/// How a request ended.
pub(super) struct End {
    pub status: Option<u16>,
    pub applied: bool,
    pub write: bool,
    pub credentials: bool,
    pub now_ms: i64,
}

/// Method and path with whatever looks like an id replaced, so that there are few of them.
fn route(method: &http::Method, path: &str) -> String {
    let mut route = method.as_str().to_owned();
    route.push(' ');
    for segment in path.split('/').skip(1).take(6) {
        let id = segment.len() > 24
            || segment.contains([':', '%'])
            || segment.len() >= 6 && segment.contains(|c: char| c.is_ascii_digit());
        route.push('/');
        route.push_str(if id { "{id}" } else { segment });
    }
    route
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_no_ids() {
        for (path, expected) in [
            ("/medic/_bulk_docs", "GET /medic/_bulk_docs"),
            ("/medic/6850e77a-5ab3-4ac8-8d30-2a7c1f9f3c11", "GET /medic/{id}"),
            ("/medic/org.couchdb.user:kim", "GET /medic/{id}"),
            ("/openmrs/ws/fhir2/R4/Patient/6850e77a5ab3", "GET /openmrs/ws/fhir2/R4/Patient/{id}"),
            ("/", "GET /"),
        ] {
            assert_eq!(route(&http::Method::GET, path), expected);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let journal = Journal::default();
        for i in 0..RING + 10 {
            let uri = format!("/a{}/b", "x".repeat(i % 20)).parse().unwrap();
            let method = &http::Method::PUT;
            let arrival = Arrival { method, uri: &uri, action: "pass", write: true, now_ms: 5, body: None };
            let n = journal.open(&arrival);
            journal.close(
                n,
                &End { status: Some(200), applied: true, write: true, credentials: false, now_ms: 7 },
            );
        }
        let (entries, counts) = (journal.entries(0), journal.counts());
        assert_eq!((entries.len(), entries[0].n), (RING, 10));
        assert_eq!((counts.total, counts.max_per_second, counts.max_concurrent), (50_010, 50_010, 1));
        assert_eq!(counts.writes_busy_ms, 2 * 50_010);
    }
}
