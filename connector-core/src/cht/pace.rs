//! How fast the CHT is written to.
//!
//! Guarantees that one request holds no more documents than the CHT takes in good time, and that nothing is written while
//! sentinel is too far behind. Its state is a few numbers; losing them costs one slow request.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use super::config::Writes;

/// Requests between two looks at the backlog while it is short.
const LOOK_EVERY: u32 = 10;
/// Documents added after a request in good time.
const STEP: usize = 10;

/// Additive increase, multiplicative decrease.
#[derive(Debug)]
pub(super) struct Pace {
    size: AtomicUsize,
    most: usize,
    slow: Duration,
    backlog: u64,
    pause: Duration,
    held: AtomicBool,
    since: AtomicU32,
}

impl Pace {
    pub fn new(writes: &Writes) -> Self {
        Self {
            size: AtomicUsize::new(writes.batch.max(1)),
            most: writes.batch.max(1),
            slow: writes.slow,
            backlog: writes.backlog,
            pause: writes.pause,
            held: AtomicBool::new(false),
            since: AtomicU32::new(0),
        }
    }

    /// Documents in the next request.
    pub fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// A request with so many documents took so long, or ended without an answer.
    pub fn took(&self, documents: usize, time: Option<Duration>) {
        let size = self.size();
        let next = match time {
            Some(time) if time <= self.slow => {
                if documents < size {
                    return;
                }
                (size + STEP).min(self.most)
            }
            _ => (size / 2).max(1),
        };
        self.size.store(next, Ordering::Relaxed);
    }

    /// Whether the backlog must be asked for before the next write: always while it holds writes back, else now and then.
    pub fn must_look(&self) -> bool {
        self.backlog > 0
            && (self.held.load(Ordering::Relaxed)
                || self.since.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY))
    }

    /// The backlog is this; gives how long to wait if it is too long.
    pub fn saw(&self, backlog: Option<u64>) -> Option<Duration> {
        let held = backlog.is_some_and(|backlog| backlog > self.backlog);
        self.held.store(held, Ordering::Relaxed);
        held.then_some(self.pause)
    }

    /// The longest backlog at which writes go on; `None` is no limit.
    pub fn limit(&self) -> Option<u64> {
        (self.backlog > 0).then_some(self.backlog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_answers_halve_and_quick_ones_add() {
        let pace = Pace::new(&Writes::default());
        let (quick, slow) = (Some(Duration::from_millis(300)), Some(Duration::from_secs(3)));
        let mut sizes = vec![];
        for (documents, time) in [
            (100, quick),
            (100, slow),
            (50, None),
            (25, quick),
            (10, quick),
            (35, quick),
            (45, slow),
            (22, slow),
        ] {
            pace.took(documents, time);
            sizes.push(pace.size());
        }
        assert_eq!(sizes, [100, 50, 25, 35, 35, 45, 22, 11]);
        for _ in 0..10 {
            pace.took(1, slow);
        }
        assert_eq!(pace.size(), 1);
    }

    #[test]
    fn a_long_backlog_is_asked_for_until_it_is_short() {
        let pace = Pace::new(&Writes { backlog: 50, ..Writes::default() });
        let looks: Vec<bool> = (0..11).map(|_| pace.must_look()).collect();
        assert_eq!(looks.iter().filter(|look| **look).count(), 2);
        assert_eq!(pace.saw(Some(51)), Some(Duration::from_secs(30)));
        assert!((0..5).all(|_| pace.must_look()));
        assert_eq!(pace.saw(Some(50)), None);
        assert_eq!(pace.saw(None), None, "an unknown backlog stops nothing");
        assert!(!Pace::new(&Writes { backlog: 0, ..Writes::default() }).must_look());
    }
}
