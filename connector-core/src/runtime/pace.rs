//! How fast a system is asked: concurrency, rate, circuit breaker, pauses.
//!
//! All times are the core's clock; nothing here sleeps but [`Pace::admit`], which waits for a place.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock::millis;
use crate::connector::{Capabilities, Outcome};

/// Requests looked at by the breaker.
const WINDOW: usize = 20;
/// Pause of an open breaker: first and longest.
const FIRST_PAUSE: i64 = 5_000;
const LONGEST_PAUSE: i64 = 120_000;
/// Pause before the second try, and the longest between two.
const FIRST_RETRY: i64 = 1_000;
const LONGEST_RETRY: i64 = 300_000;

/// The pace of one system.
#[derive(Debug)]
pub(super) struct Pace {
    permits: Semaphore,
    gap: i64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_slot: i64,
    recent: VecDeque<bool>,
    open_until: i64,
    pause: i64,
    probing: bool,
}

impl Pace {
    pub fn new(capabilities: &Capabilities) -> Self {
        let gap = capabilities.rate.filter(|r| *r > 0).map_or(0, |r| 1_000_000 / i64::from(r));
        Self { permits: Semaphore::new(capabilities.concurrency.max(1)), gap, state: Mutex::default() }
    }

    /// Waits for a place among the concurrent requests; `None` when the process shuts down.
    pub async fn admit(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.acquire().await.ok()
    }

    /// How long the next request has to wait for its slot under the rate limit; takes the slot.
    pub fn slot(&self, now: i64) -> Duration {
        if self.gap == 0 {
            return Duration::ZERO;
        }
        let mut state = self.lock();
        let now = now * 1_000;
        let at = state.next_slot.max(now);
        state.next_slot = at + self.gap;
        Duration::from_micros(u64::try_from(at - now).unwrap_or(0))
    }

    /// Most rows worth taking now: none while the breaker is open, one to try it. Others may try when the room is
    /// dropped, whatever became of the row.
    pub fn room(&self, now: i64, wanted: usize) -> Room<'_> {
        let mut state = self.lock();
        if state.open_until == 0 {
            return Room { rows: wanted, probe: None };
        }
        if state.open_until > now || state.probing {
            return Room { rows: 0, probe: None };
        }
        state.probing = true;
        Room { rows: 1, probe: Some(self) }
    }

    /// How long the breaker stays open, in milliseconds: until then no request is begun.
    pub fn closed_for(&self, now: i64) -> i64 {
        (self.lock().open_until - now).max(0)
    }

    /// Notes how a request went.
    pub fn note(&self, outcome: &Outcome, now: i64) {
        let good = match outcome {
            Outcome::Done(_) | Outcome::Step(..) | Outcome::Conflict | Outcome::Rejected(_) => true,
            Outcome::Unknown => false,
            // A pause that the system asks for is no fault of it, a smaller batch neither.
            Outcome::Retry { after, split, .. } if after.is_some() || *split => return,
            Outcome::Retry { .. } => false,
            Outcome::Halt(_) => return,
        };
        let mut state = self.lock();
        if state.open_until > 0 {
            if good {
                state.probing = false;
                state.open_until = 0;
                state.pause = 0;
                state.recent.clear();
            } else if state.probing {
                state.probing = false;
                state.pause = (state.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                state.open_until = now + state.pause;
            }
            // A request that was under way when the breaker opened tells nothing new by failing.
            return;
        }
        state.recent.push_back(good);
        if state.recent.len() > WINDOW {
            state.recent.pop_front();
        }
        if state.recent.len() == WINDOW && state.recent.iter().all(|g| !g) {
            state.pause = FIRST_PAUSE;
            state.open_until = now + FIRST_PAUSE;
        }
    }

    /// Whether the breaker is open.
    pub fn is_open(&self) -> bool {
        self.lock().open_until > 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many rows may be taken.
#[derive(Debug)]
pub(super) struct Room<'a> {
    pub rows: usize,
    /// Held by whoever tries an open breaker.
    probe: Option<&'a Pace>,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Some(pace) = self.probe {
            pace.lock().probing = false;
        }
    }
}

/// Pause before the next try of a row, in milliseconds: doubles from one second to five minutes, a fifth more or less
/// so that rows do not come back together, never shorter than the system asked for.
pub(super) fn pause(tries: u32, seq: i64, asked: Option<Duration>) -> i64 {
    let base = FIRST_RETRY.saturating_mul(1_i64 << tries.min(16)).min(LONGEST_RETRY);
    let mixed = (seq.unsigned_abs() ^ u64::from(tries) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let share = i64::try_from(mixed % 401).unwrap_or(0) - 200;
    (base + base * share / 1000).max(asked.map_or(0, millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace::new(&Capabilities { rate: Some(10), ..Capabilities::default() })
    }

    #[test]
    fn a_storm_opens_the_breaker_and_one_good_try_closes_it() {
        let p = pace();
        for _ in 0..WINDOW {
            assert_eq!(p.room(0, 8).rows, 8);
            p.note(&Outcome::Unknown, 0);
        }
        assert_eq!(p.room(1, 8).rows, 0);
        let probe = p.room(FIRST_PAUSE, 8);
        assert_eq!(probe.rows, 1);
        assert_eq!(p.room(FIRST_PAUSE, 8).rows, 0, "one try at a time");
        p.note(&Outcome::retry("503"), FIRST_PAUSE);
        drop(probe);
        assert_eq!(p.room(2 * FIRST_PAUSE, 8).rows, 0, "each pause is longer");
        let probe = p.room(3 * FIRST_PAUSE, 8);
        assert_eq!(probe.rows, 1);
        p.note(&Outcome::Conflict, 3 * FIRST_PAUSE);
        drop(probe);
        assert_eq!(p.room(3 * FIRST_PAUSE, 8).rows, 8);
    }

    #[test]
    fn a_try_that_came_to_no_request_leaves_the_breaker_to_the_next() {
        let p = pace();
        for _ in 0..WINDOW {
            p.note(&Outcome::Unknown, 0);
        }
        drop(p.room(FIRST_PAUSE, 8));
        assert_eq!(p.room(FIRST_PAUSE, 8).rows, 1);
    }

    #[test]
    fn what_was_under_way_when_the_breaker_opened_makes_no_pause_longer() {
        let p = pace();
        for _ in 0..WINDOW + 100 {
            p.note(&Outcome::Unknown, 0);
        }
        assert_eq!(p.closed_for(0), FIRST_PAUSE);
        assert_eq!((p.closed_for(FIRST_PAUSE), p.room(FIRST_PAUSE, 8).rows), (0, 1));
    }

    #[test]
    fn slots_keep_the_rate() {
        let p = pace();
        let waits: Vec<u128> = (0..3).map(|_| p.slot(0).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200]);
        assert_eq!(p.slot(1_000).as_millis(), 0);
    }

    #[test]
    fn pauses_grow_stay_bounded_and_respect_what_was_asked() {
        assert!(pause(0, 1, None) < pause(3, 1, None));
        assert!(pause(60, 1, None) <= LONGEST_RETRY * 6 / 5);
        assert_ne!(pause(4, 1, None), pause(4, 2, None));
        assert_eq!(pause(0, 1, Some(Duration::from_secs(900))), 900_000);
    }
}
