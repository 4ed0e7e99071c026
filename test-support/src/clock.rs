//! The one clock of a stand-in, real or moved by hand, with a queue of jobs that fall due on it.
//!
//! Guarantees: jobs run in the order of their due time (equal times in the order they were queued), never before it,
//! never two at once, and never while the clock's own lock is held, so a job may read the clock and queue more jobs.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

type Job = Box<dyn FnOnce() + Send>;

/// How often the ticker of a real clock looks for due jobs.
const TICK: Duration = Duration::from_millis(20);

/// A cheap handle; clones share one time and one queue.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    /// Milliseconds since the epoch; `None` is the system's time.
    manual: Option<AtomicI64>,
    queue: Mutex<Queue>,
    running: AtomicBool,
}

#[derive(Default)]
struct Queue {
    jobs: BTreeMap<(i64, u64), Job>,
    queued: u64,
}

impl Clock {
    /// The system's time.
    pub fn real() -> Self {
        Self::with(None)
    }

    /// A time that moves by [`Clock::advance`] only.
    pub fn manual(start_ms: i64) -> Self {
        Self::with(Some(AtomicI64::new(start_ms)))
    }

    fn with(manual: Option<AtomicI64>) -> Self {
        Self(Arc::new(Inner { manual, queue: Mutex::default(), running: AtomicBool::new(false) }))
    }

    /// Whether time moves by hand: then nothing may wait for it.
    pub fn is_manual(&self) -> bool {
        self.0.manual.is_some()
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn now_ms(&self) -> i64 {
        match &self.0.manual {
            Some(now) => now.load(Ordering::SeqCst),
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                millis(since)
            }
        }
    }

    /// Moves a manual clock on; it runs no job. A real clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Some(now) = &self.0.manual {
            now.fetch_add(millis(by), Ordering::SeqCst);
        }
    }

    /// Queues a job for a time; one in the past is due at the next [`Clock::run_due`].
    pub fn at(&self, due_ms: i64, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.queue();
        let n = queue.queued;
        queue.queued += 1;
        queue.jobs.insert((due_ms, n), Box::new(job));
    }

    /// Queues a job for so long from now.
    pub fn after(&self, delay: Duration, job: impl FnOnce() + Send + 'static) {
        self.at(self.now_ms().saturating_add(millis(delay)), job);
    }

    /// Runs every due job, those that became due by running one included, and says how many. A call made by a job, or
    /// while another call is at work, returns at once: the call at work takes the rest.
    pub fn run_due(&self) -> usize {
        if self.0.running.swap(true, Ordering::SeqCst) {
            return 0;
        }
        let _reset = Reset(&self.0.running);
        let mut ran = 0;
        while let Some(job) = self.take_due() {
            job();
            ran += 1;
        }
        ran
    }

    fn take_due(&self) -> Option<Job> {
        let now = self.now_ms();
        let mut queue = self.queue();
        let first = queue.jobs.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the next job is due.
    pub fn next_due(&self) -> Option<i64> {
        self.queue().jobs.keys().next().map(|(due, _)| *due)
    }

    /// Runs due jobs about every 20 ms for as long as the runtime lives or until the handle is aborted.
    pub fn spawn_ticker(&self) -> tokio::task::AbortHandle {
        let clock = self.clone();
        let ticker = tokio::spawn(async move {
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                clock.run_due();
            }
        });
        ticker.abort_handle()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("manual", &self.is_manual())
            .field("now_ms", &self.now_ms())
            .finish_non_exhaustive()
    }
}

struct Reset<'a>(&'a AtomicBool);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noting(log: &Arc<Mutex<Vec<&'static str>>>, what: &'static str) -> impl FnOnce() + Send + use<> {
        let log = log.clone();
        move || log.lock().unwrap().push(what)
    }

    #[test]
    fn jobs_run_in_due_order_and_never_early() {
        let (clock, log) = (Clock::manual(1_000), Arc::default());
        clock.at(1_030, noting(&log, "c"));
        clock.at(1_010, noting(&log, "a"));
        clock.at(1_010, noting(&log, "b"));
        assert_eq!((clock.run_due(), clock.next_due()), (0, Some(1_010)));
        clock.advance(Duration::from_millis(10));
        assert_eq!((clock.now_ms(), log.lock().unwrap().len()), (1_010, 0), "advance runs nothing");
        assert_eq!((clock.run_due(), clock.next_due()), (2, Some(1_030)));
        clock.advance(Duration::from_secs(1));
        clock.run_due();
        assert_eq!(*log.lock().unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn a_job_may_queue_and_run_more_but_the_order_stays() {
        let (clock, log) = (Clock::manual(0), Arc::default());
        let (inner, inner_log) = (clock.clone(), Arc::clone(&log));
        clock.at(0, move || {
            inner.at(0, noting(&inner_log, "queued by a job"));
            assert_eq!(inner.run_due(), 0, "the outer call takes it");
            noting(&inner_log, "job")();
        });
        clock.at(0, noting(&log, "second"));
        assert_eq!(clock.run_due(), 3);
        assert_eq!(*log.lock().unwrap(), ["job", "second", "queued by a job"]);
    }

    #[tokio::test]
    async fn the_ticker_runs_jobs_of_the_real_clock() {
        let clock = Clock::real();
        let (tell, told) = tokio::sync::oneshot::channel();
        clock.after(Duration::from_millis(1), move || tell.send(()).unwrap());
        let ticker = clock.spawn_ticker();
        told.await.unwrap();
        ticker.abort();
    }
}
