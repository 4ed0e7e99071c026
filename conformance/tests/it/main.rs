//! A suite that passes what is broken is worth nothing: for each check there is a connector that fails it.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../../../examples/connector-template/tests/it/harness.rs"]
mod harness;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conformance::{CHECKS, Configured, Harness, StandIn, run};
use connector_core::change::{Change, Flow, Record, RecordId};
use connector_core::connector::{
    Capabilities, Command, Confirmed, Connector, Fault, Finding, Known, Outcome, Receipt, Reject, Repeat,
    Task,
};
use harness::Sink;
use serde_json::{Value, json};
use test_support::clock::Clock;

conformance::conformance!(Sink);

/// What is wrong with a connector.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    /// Its example leaves out what is required.
    Example,
    /// It takes unknown keys.
    UnknownKey,
    /// Its configuration shows its secret.
    ShowsSecret,
    /// It says that it takes a flow for which it has no command.
    Boasts,
    /// Its check writes.
    CheckWrites,
    /// It sends twice.
    SendsTwice,
    /// No answer, or one that tells nothing, counts as done.
    Believes,
    /// No answer, or one that tells nothing, counts as not done.
    Repeats,
    /// It asks before a late request has had its time.
    Impatient,
    /// A refusal is tried again.
    NeverRejects,
    /// It does not read `Retry-After`.
    ForgetsPause,
    /// A refused login is a fault of the body.
    NeverHalts,
}

/// For each check, a connector that only this check or one of its kin finds.
const BROKEN: &[(&str, Wrong)] = &[
    ("example_parses", Wrong::Example),
    ("unknown_key_is_an_error_with_its_path", Wrong::UnknownKey),
    ("secrets_are_not_in_debug", Wrong::ShowsSecret),
    ("capabilities_are_true", Wrong::Boasts),
    ("check_writes_nothing", Wrong::CheckWrites),
    ("one_effect_for_a_change", Wrong::SendsTwice),
    ("answer_lost_before_applying", Wrong::Believes),
    ("answer_lost_after_applying", Wrong::Repeats),
    ("applied_after_the_timeout", Wrong::Impatient),
    ("success_answered_and_nothing_written", Wrong::Believes),
    ("error_answered_and_written", Wrong::Repeats),
    ("poison_does_not_spoil_others", Wrong::NeverRejects),
    ("retry_after_is_obeyed", Wrong::ForgetsPause),
    ("refused_login_halts", Wrong::NeverHalts),
    ("order_in_one_lane", Wrong::Believes),
];

#[test]
fn each_check_finds_its_broken_connector() {
    let there: BTreeSet<_> = CHECKS.iter().map(|c| c.name).collect();
    let wanted: BTreeSet<_> = BROKEN.iter().map(|(name, _)| *name).collect();
    assert_eq!(there, wanted, "a check is missing, or nothing shows that it finds anything");
    for (name, wrong) in BROKEN {
        let check = CHECKS.iter().find(|c| c.name == *name).unwrap();
        assert!(run(&Broken(*wrong), check).is_err(), "{name} passes a connector that is wrong: {wrong:?}");
    }
}

struct Broken(Wrong);

impl Harness for Broken {
    fn example(&self) -> &str {
        match self.0 {
            Wrong::Example => "template:\n  concurrency: 1\n",
            Wrong::ShowsSecret => "template:\n  url: http://127.0.0.1:8090\n  password: change-me\n",
            _ => Sink.example(),
        }
    }

    fn parse(&self, mut section: Value) -> Result<Configured, String> {
        let debug = section.to_string();
        if let Some(map) = section.as_object_mut() {
            map.remove("password");
            if self.0 == Wrong::UnknownKey {
                map.remove("no_such_key");
            }
        }
        let read = Sink.parse(section)?;
        Ok(Configured {
            debug: if self.0 == Wrong::ShowsSecret { debug } else { read.debug },
            build: read.build,
        })
    }

    fn adjust(&self, section: &mut Value) {
        Sink.adjust(section);
    }

    fn stand_in(&self, clock: &Clock) -> Box<dyn StandIn> {
        Sink.stand_in(clock)
    }

    fn change(&self, flow: Flow, source: RecordId, subject: RecordId, mark: u32) -> Change {
        Sink.change(flow, source, subject, mark)
    }

    fn wrap(&self, connector: Arc<dyn Connector>) -> Arc<dyn Connector> {
        Arc::new(Spoilt { inner: connector, wrong: self.0 })
    }
}

struct Spoilt {
    inner: Arc<dyn Connector>,
    wrong: Wrong,
}

#[async_trait]
impl Connector for Spoilt {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        match self.wrong {
            Wrong::Boasts => capabilities.takes.push(Flow::Events),
            Wrong::Impatient => capabilities.quiet = Duration::from_millis(1),
            _ => {}
        }
        capabilities
    }

    async fn check(&self) -> Vec<Finding> {
        if self.wrong == Wrong::CheckWrites {
            let body = json!({ "path": "/records", "subject": "x", "key": "check", "body": {} });
            let task = Task {
                key: "check".into(),
                command: Command::new(body, Repeat::Safe),
                notes: Default::default(),
                attempt: 1,
                first_sent: 0,
            };
            self.inner.deliver(&[task]).await;
        }
        self.inner.check().await
    }

    fn changes(&self, record: &Record) -> Result<Vec<Change>, Reject> {
        self.inner.changes(record)
    }

    fn command(&self, change: &Change, known: &Known<'_>) -> Result<Option<Command>, Reject> {
        self.inner.command(change, known)
    }

    async fn deliver(&self, tasks: &[Task]) -> Vec<Outcome> {
        if self.wrong == Wrong::SendsTwice {
            self.inner.deliver(tasks).await;
        }
        let spoil = |outcome| match (self.wrong, outcome) {
            (Wrong::Believes, Outcome::Unknown) => Outcome::Done(Receipt::default()),
            (Wrong::Repeats, Outcome::Unknown) => Outcome::retry("no answer"),
            (Wrong::NeverRejects, Outcome::Rejected(_)) => Outcome::retry("refused"),
            (Wrong::ForgetsPause, Outcome::Retry { reason, .. }) => Outcome::retry(reason),
            (Wrong::NeverHalts, Outcome::Halt(why)) => Outcome::Rejected(Reject::new(why)),
            (_, outcome) => outcome,
        };
        self.inner.deliver(tasks).await.into_iter().map(spoil).collect()
    }

    async fn confirm(&self, task: &Task) -> Result<Confirmed, Fault> {
        self.inner.confirm(task).await
    }
}
