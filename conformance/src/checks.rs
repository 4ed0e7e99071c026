//! The checks. Each runs for every flow that the connector takes, in a world of its own.

use std::future::Future;
use std::pin::Pin;

use connector_core::change::{Body, Change, Effect, Flow, Message, RecordId};
use connector_core::connector::{Fault, Known};
use serde_json::{Value, json};
use test_support::fault::{Action, Plan, Rule};

use crate::Harness;
use crate::world::{World, section};

/// How late a request takes effect, in milliseconds: the quiet time of a connector must be longer.
const LATE: u64 = 2_500;

type Checked<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

/// One check.
pub struct Check {
    /// Its name, as `docs/spec/connector.md` has it.
    pub name: &'static str,
    run: for<'a> fn(&'a dyn Harness, Flow) -> Checked<'a>,
    /// Whether it is about the connector as a whole instead of each flow.
    once: bool,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! checks {
    ($($name:ident $once:literal,)*) => {
        /// All checks.
        pub const CHECKS: &[Check] = &[$(Check {
            name: stringify!($name),
            run: |harness, flow| Box::pin($name(harness, flow)),
            once: $once,
        }),*];
    };
}

checks! {
    example_parses true,
    unknown_key_is_an_error_with_its_path true,
    secrets_are_not_in_debug true,
    capabilities_are_true true,
    check_writes_nothing true,
    one_effect_for_a_change false,
    answer_lost_before_applying false,
    answer_lost_after_applying false,
    applied_after_the_timeout false,
    success_answered_and_nothing_written false,
    error_answered_and_written false,
    poison_does_not_spoil_others false,
    retry_after_is_obeyed false,
    refused_login_halts false,
    order_in_one_lane false,
}

/// Runs one check.
pub fn run(harness: &dyn Harness, check: &Check) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let flows = match check.once {
            true => vec![Flow::Documents],
            false => World::new(harness).await?.capabilities.takes,
        };
        for flow in flows {
            let told = |e| format!("{} ({}): {e}", check.name, flow.as_str());
            (check.run)(harness, flow).await.map_err(told)?;
        }
        Ok(())
    })
}

fn expect(holds: bool, otherwise: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// A change about a subject of its own.
fn change(harness: &dyn Harness, flow: Flow, n: u32) -> Change {
    about(harness, flow, n, n)
}

fn about(harness: &dyn Harness, flow: Flow, n: u32, subject: u32) -> Change {
    let person = RecordId::person("cht", format!("subject-{subject}"));
    let source = match flow {
        Flow::Patients => person.clone(),
        _ => RecordId::new("cht", "report", format!("source-{n}")),
    };
    harness.change(flow, source, person, n)
}

fn fault(world: &World, action: Action) -> Rule {
    let (method, path) = world.stand_in.writes();
    Rule::on(method, path, action)
}

/// One change meets one fault at its first write; how often its effect happened in the end.
async fn with_fault(
    harness: &dyn Harness,
    flow: Flow,
    make: impl Fn(&World) -> Action,
) -> Result<(), String> {
    let world = World::new(harness).await?;
    let rule = fault(&world, make(&world)).nth(1);
    world.faults().set(Plan::calm().with(rule));
    let change = change(harness, flow, 1);
    // A person's state makes a person, and that once.
    let once = matches!(change.effect, Effect::Once(_)) || flow == Flow::Patients;
    world.give(change);
    world.settle().await;
    expect(world.open().await == 0, "the row never ends")?;
    expect(world.dead().await.is_empty(), "it became a dead letter, though trying again would do")?;
    let times = world.times(1);
    expect(times > 0, "the change never took effect")?;
    // A state may be written twice; a once-only effect may not.
    expect(times == 1 || !once, format!("the effect happened {times} times"))
}

async fn example_parses(harness: &dyn Harness, _: Flow) -> Result<(), String> {
    World::new(harness).await.map(drop)?;
    harness.parse(section(harness)?).map(drop)
}

async fn unknown_key_is_an_error_with_its_path(harness: &dyn Harness, _: Flow) -> Result<(), String> {
    let mut section = section(harness)?;
    let Some(map) = section.as_object_mut() else { return Err("the section is no mapping".into()) };
    map.insert("no_such_key".into(), json!(1));
    match harness.parse(section) {
        Ok(_) => Err("the unknown key no_such_key is taken in silence".into()),
        Err(e) => expect(e.contains("no_such_key"), format!("the error does not name no_such_key: {e}")),
    }
}

async fn secrets_are_not_in_debug(harness: &dyn Harness, _: Flow) -> Result<(), String> {
    const SECRET: &str = "s3cr3t-0f-the-suite";
    let mut section = section(harness)?;
    let found = plant(&mut section, SECRET);
    expect(found > 0 || !asks_for_secret(&section), "no secret to plant")?;
    let debug = harness.parse(section)?.debug;
    expect(!debug.contains(SECRET), "Debug of the configuration shows a secret")
}

/// Whether a key is the name of a secret.
fn is_secret(key: &str) -> bool {
    ["password", "secret", "token", "api_key"].iter().any(|s| key.ends_with(s))
}

fn asks_for_secret(value: &Value) -> bool {
    value.as_object().is_some_and(|m| m.iter().any(|(k, v)| is_secret(k) || asks_for_secret(v)))
}

/// Puts the secret in place of every secret in the section; how many.
fn plant(value: &mut Value, secret: &str) -> usize {
    let Some(map) = value.as_object_mut() else { return 0 };
    let mut found = 0;
    for (key, value) in map {
        if is_secret(key) && value.is_string() {
            *value = json!(secret);
            found += 1;
        } else {
            found += plant(value, secret);
        }
    }
    found
}

async fn capabilities_are_true(harness: &dyn Harness, _: Flow) -> Result<(), String> {
    let world = World::new(harness).await?;
    let c = &world.capabilities;
    expect(c.batch > 0 && c.concurrency > 0, "batch and concurrency must be at least 1")?;
    expect(!c.quiet.is_zero() && !c.probe.is_zero(), "quiet and probe must not be zero")?;
    expect(!c.takes.is_empty() || !c.gives.is_empty(), "no flow at all")?;
    let findings = world.connector.check().await;
    expect(findings.iter().all(|f| f.ok), format!("check finds fault with a good system: {findings:?}"))?;
    for feed in &c.feeds {
        let page = world.connector.poll(&feed.name, None, 10).await;
        expect(!matches!(page, Err(Fault::Unsupported)), format!("feed {} cannot be polled", feed.name))?;
    }
    for flow in &c.takes {
        let change = change(harness, *flow, 1);
        expect(
            change.body.flow() == *flow,
            format!("{} is taken, but the harness has no change of it", flow.as_str()),
        )?;
        let wanted = world.connector.destinations(&change).map_err(|r| r.reason)?;
        let Some(first) = wanted.first() else {
            return Err(format!("{} is taken, but no destination wants it", flow.as_str()));
        };
        let known =
            Known { now: 0, links: &Default::default(), current: None, destination: &first.name, key: "key" };
        let command = world
            .connector
            .command(&change, &known)
            .map_err(|r| format!("{}: {}", flow.as_str(), r.reason))?;
        expect(command.is_some(), format!("{} is taken, but gives no command", flow.as_str()))?;
    }
    let foreign = [
        (Flow::Documents, Change::state(RecordId::new("cht", "report", "x"), Body::Document(json!({})))),
        (Flow::Messaging, {
            let to = RecordId::person("cht", "x");
            let text = Message::Text { to: to.clone(), phone: "0".into(), text: "x".into() };
            Change::once(RecordId::new("cht", "report", "x"), "text", to, Body::Message(text))
        }),
    ];
    for (flow, change) in foreign {
        if !c.takes.contains(&flow) {
            let wanted = world.connector.destinations(&change).map_err(|r| r.reason)?;
            expect(wanted.is_empty(), format!("{} is wanted, but not among what is taken", flow.as_str()))?;
        }
    }
    Ok(())
}

async fn check_writes_nothing(harness: &dyn Harness, _: Flow) -> Result<(), String> {
    let world = World::new(harness).await?;
    world.faults().set(Plan { read_only: true, ..Plan::calm() });
    world.connector.check().await;
    let refused = world.faults().requests().writes_refused;
    expect(refused == 0, format!("check sent {refused} requests that may write"))
}

async fn one_effect_for_a_change(harness: &dyn Harness, flow: Flow) -> Result<(), String> {
    let world = World::new(harness).await?;
    let change = change(harness, flow, 1);
    world.give(change.clone());
    world.settle().await;
    world.give(change);
    world.settle().await;
    expect(world.times(1) == 1, format!("the effect happened {} times", world.times(1)))
}

async fn answer_lost_before_applying(harness: &dyn Harness, flow: Flow) -> Result<(), String> {
    with_fault(harness, flow, |_| Action::DropBefore).await
}

async fn answer_lost_after_applying(harness: &dyn Harness, flow: Flow) -> Result<(), String> {
    with_fault(harness, flow, |_| Action::DropAfter).await
}

async fn applied_after_the_timeout(harness: &dyn Harness, flow: Flow) -> Result<(), String> {
    with_fault(harness, flow, |_| Action::ApplyLater { ms: LATE }).await
}

async fn success_answered_and_nothing_written(harness: &dyn Harness, flow: Flow) -> Result<(), String> {
    with_fault(harness, flow, |_| Action::FakeSuccess { code: 200, body: "{}".into() }).await
}

async fn error_answered_and_written(harness: &dyn Harness, flow: Flow) -> Result<(), String> {
    with_fault(harness, flow, |_| Action::status(500, true)).await
}

async fn poison_does_not_spoil_others(harness: &dyn Harness, flow: Flow) -> Result<(), String> {
    let world = World::new(harness).await?;
    world.faults().set(Plan::calm().with(fault(&world, world.stand_in.refusal()).nth(2)));
    for n in 1..=4 {
        world.give(change(harness, flow, n));
    }
    world.settle().await;
    let arrived = (1..=4).filter(|n| world.times(*n) == 1).count();
    let dead = world.dead().await;
    expect(arrived == 3, format!("{arrived} of the 3 that are well arrived once"))?;
    expect(dead.len() == 1, format!("{} dead letters for one refused body", dead.len()))?;
    expect(dead.iter().all(|d| !d.reason.is_empty()), "the dead letter has no reason")
}

async fn retry_after_is_obeyed(harness: &dyn Harness, flow: Flow) -> Result<(), String> {
    const ASKED: i64 = 30_000;
    let world = World::new(harness).await?;
    world.faults().set(Plan::calm().with(fault(&world, Action::too_many(Some(30))).nth(1)));
    world.give(change(harness, flow, 1));
    let from = loop {
        if world.faults().requests().by_action.contains_key("status") || world.elapsed() > 60_000 {
            break world.elapsed();
        }
        world.second().await;
    };
    world.settle().await;
    expect(world.times(1) == 1, format!("the effect happened {} times", world.times(1)))?;
    let waited = world.first_seen(1).unwrap_or_default() - from;
    expect(waited >= ASKED - 2_000, format!("sent again after {waited} ms; the system had asked for {ASKED}"))
}

async fn refused_login_halts(harness: &dyn Harness, flow: Flow) -> Result<(), String> {
    let world = World::new(harness).await?;
    world.faults().set(Plan::calm().with(fault(&world, Action::status(401, false)).burst(u64::MAX)));
    for n in 1..=3 {
        world.give(change(harness, flow, n));
    }
    let mut halted = false;
    for _ in 0..10 {
        world.second().await;
        halted |= world.is_halted().await;
    }
    expect(halted, "requests go on to a system that refuses the login")?;
    expect(world.dead().await.is_empty(), "a refused login made a dead letter")?;
    world.faults().clear();
    world.settle().await;
    let arrived = (1..=3).filter(|n| world.times(*n) == 1).count();
    expect(arrived == 3, format!("{arrived} of 3 arrived once after the login was mended"))
}

async fn order_in_one_lane(harness: &dyn Harness, flow: Flow) -> Result<(), String> {
    let world = World::new(harness).await?;
    world.faults().set(
        Plan::calm()
            .with(fault(&world, Action::ApplyLater { ms: LATE }).nth(1))
            .with(fault(&world, Action::status(503, false)).nth(3)),
    );
    for n in 1..=5 {
        world.give(about(harness, flow, n, 1));
    }
    world.settle().await;
    let mut first: Vec<u32> = vec![];
    for mark in world.stand_in.effects() {
        if !first.contains(&mark) {
            first.push(mark);
        }
    }
    // Of states of one record only the newest must arrive.
    let all = if flow == Flow::Patients { first.last() == Some(&5) } else { first.len() == 5 };
    expect(first.is_sorted() && all, format!("changes of one person took effect in the order {first:?}"))
}
