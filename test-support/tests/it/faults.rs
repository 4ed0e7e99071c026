//! Each kind of fault, in process and on a socket, and what the journal says of it.

use std::{io::ErrorKind, time::Duration};

use test_support::{
    clock::Clock,
    fault::{Action, Broken, Faults, InProcess, Outage, Plan, Rule},
    serve::Server,
};
use tokio::io::AsyncReadExt;

use crate::support::{Counter, open, request, send};

/// The answer (status and body, or why there is none) and how often the request was applied when it came.
async fn in_process(action: Action) -> (Result<(u16, String), Broken>, u64) {
    let counter = Counter::default();
    let system = InProcess::new(counter.router(), Faults::new(Plan::always(action)), Clock::manual(0));
    let answer = system.call(request("POST", "/a", "x")).await;
    let answer = answer.map(|a| (a.status().as_u16(), String::from_utf8(a.body().to_vec()).unwrap()));
    (answer, counter.get())
}

fn fake() -> Action {
    Action::FakeSuccess { code: 201, body: r#"{"uuid":"u"}"#.to_owned() }
}

#[tokio::test]
async fn every_kind_in_process() {
    let text = |s: &str| s.to_owned();
    for (action, expected) in [
        (Action::Pass, (Ok((200, text("1"))), 1)),
        (Action::Delay { ms: 100 }, (Ok((200, text("1"))), 1)),
        (Action::Delay { ms: 30_000 }, (Err(Broken::TimedOut), 0)),
        (Action::DropBefore, (Err(Broken::Reset), 0)),
        (Action::DropAfter, (Err(Broken::Reset), 1)),
        (Action::ApplyLater { ms: 5 }, (Err(Broken::TimedOut), 0)),
        (Action::status(503, false), (Ok((503, text(""))), 0)),
        (Action::status(500, true), (Ok((500, text(""))), 1)),
        (fake(), (Ok((201, text(r#"{"uuid":"u"}"#))), 0)),
        (Action::Reset, (Err(Broken::Reset), 0)),
        (Action::HalfOpen, (Err(Broken::TimedOut), 0)),
    ] {
        assert_eq!(in_process(action.clone()).await, expected, "{action:?}");
    }
}

#[tokio::test]
async fn a_late_request_is_applied_once_when_due() {
    let (counter, clock) = (Counter::default(), Clock::manual(0));
    let faults =
        Faults::new(Plan::default().with(Rule::on("POST", "/a", Action::ApplyLater { ms: 40_000 }).nth(1)));
    let system = InProcess::new(counter.router(), faults.clone(), clock.clone());
    assert_eq!(system.call(request("POST", "/a", "")).await.unwrap_err(), Broken::TimedOut);
    clock.advance(Duration::from_millis(39_999));
    assert_eq!((clock.run_due(), counter.get()), (0, 0));
    clock.advance(Duration::from_millis(1));
    let answer = system.call(request("POST", "/a", "")).await.unwrap();
    assert_eq!(answer.body(), "2", "the late one is applied before the next request");

    let log: Vec<_> = faults
        .log(0)
        .into_iter()
        .map(|e| (e.n, e.late_of, e.action, e.status, e.applied, e.start_ms))
        .collect();
    assert_eq!(
        log,
        [
            (0, None, "apply_later", None, false, 0),
            (1, Some(0), "applied_late", Some(200), true, 40_000),
            (2, None, "pass", Some(200), true, 40_000),
        ]
    );
}

#[tokio::test]
async fn whether_an_answer_is_late_is_the_callers_to_say() {
    let system = InProcess::new(
        Counter::default().router(),
        Faults::new(Plan::always(Action::Delay { ms: 900 })),
        Clock::manual(0),
    );
    let within =
        async |ms| system.call_within(Duration::from_millis(ms), request("POST", "/", "")).await.map(drop);
    assert_eq!(within(901).await, Ok(()));
    assert_eq!(within(900).await, Err(Broken::TimedOut));
}

#[tokio::test]
async fn calls_overlap_as_the_seed_says() {
    let order_of = async |seed| {
        let (counter, faults) = (Counter::default(), Faults::new(Plan { seed, ..Plan::default() }));
        let system = InProcess::new(counter.router(), faults.clone(), Clock::manual(0));
        let calls = (0..8).map(|_| async {
            let answer = system.call(request("POST", "/", "")).await.unwrap();
            String::from_utf8(answer.body().to_vec()).unwrap()
        });
        let order = futures_util::future::join_all(calls).await;
        (order, faults.requests().max_concurrent)
    };
    let (order, concurrent) = order_of(1).await;
    assert!(concurrent > 1);
    assert_eq!((&order, concurrent), (&order_of(1).await.0, order_of(1).await.1));
    assert_ne!(order, order_of(2).await.0);
}

#[tokio::test]
async fn an_outage_refuses_and_ends() {
    let (counter, clock) = (Counter::default(), Clock::manual(7_000));
    let plan = Plan { outages: vec![Outage { from_ms: 10, to_ms: 20 }], ..Plan::default() };
    let system = InProcess::new(counter.router(), Faults::new(plan), clock.clone());
    assert!(system.call(request("GET", "/", "")).await.is_ok());
    clock.advance(Duration::from_millis(10));
    assert_eq!(system.call(request("GET", "/", "")).await.unwrap_err(), Broken::Refused);
    clock.advance(Duration::from_millis(10));
    assert!(system.call(request("GET", "/", "")).await.is_ok());
    assert_eq!(counter.get(), 2);
}

#[tokio::test]
async fn a_write_under_read_only_is_refused_and_counted() {
    let (counter, faults) = (Counter::default(), Faults::new(Plan { read_only: true, ..Plan::default() }));
    let system = InProcess::new(counter.router(), faults.clone(), Clock::manual(0));
    for (method, path, status) in [
        ("GET", "/medic/x", 200),
        ("POST", "/medic/_find", 200),
        ("POST", "/medic/_session", 200),
        ("POST", "/medic/_bulk_docs", 403),
        ("DELETE", "/medic/x", 403),
    ] {
        assert_eq!(system.call(request(method, path, "")).await.unwrap().status(), status, "{method} {path}");
    }
    let counts = faults.requests();
    assert_eq!((counts.writes_refused, counter.get(), counts.by_route["POST /medic/_bulk_docs"]), (2, 3, 1));
}

#[tokio::test]
async fn refused_logins_are_counted() {
    let faults = Faults::new(Plan::always(Action::status(401, false)));
    let system = InProcess::new(Counter::default().router(), faults.clone(), Clock::manual(0));
    let mut with_password = request("GET", "/a", "");
    with_password.headers_mut().insert("authorization", "Basic eDp5".parse().unwrap());
    for request in [with_password, request("GET", "/a", ""), request("POST", "/_session", "")] {
        system.call(request).await.unwrap();
    }
    assert_eq!(faults.requests().refused_logins, 2);
}

#[tokio::test]
async fn an_endless_answer_is_what_came_so_far() {
    let rows = axum::routing::get(|| async {
        let rows = futures_util::stream::iter(
            ["{\"seq\":1}\n", "{\"seq\":2}\n"].map(Ok::<_, std::convert::Infallible>),
        );
        axum::body::Body::from_stream(futures_util::StreamExt::chain(rows, futures_util::stream::pending()))
    });
    let system =
        InProcess::new(axum::Router::new().route("/_changes", rows), Faults::none(), Clock::manual(0));
    let answer = system.call(request("GET", "/_changes", "")).await.unwrap();
    assert_eq!(answer.body(), "{\"seq\":1}\n{\"seq\":2}\n");
}

async fn server(plan: Plan) -> (Server, Counter, Faults) {
    let (counter, faults) = (Counter::default(), Faults::new(plan));
    let server = Server::start(counter.router(), faults.clone(), Clock::real(), 0).await.unwrap();
    (server, counter, faults)
}

#[tokio::test]
async fn every_answered_kind_over_tcp() {
    let late = Action::Status {
        code: 429,
        headers: [("retry-after".into(), "3".into())].into(),
        body: String::new(),
        applied: false,
    };
    for (action, status, body, applied) in [
        (Action::Pass, 200, "1", 1),
        (Action::Delay { ms: 1 }, 200, "1", 1),
        (late, 429, "", 0),
        (Action::too_many(None), 429, "", 0),
        (Action::status(500, true), 500, "", 1),
        (fake(), 201, r#"{"uuid":"u"}"#, 0),
    ] {
        let (server, counter, _) = server(Plan::always(action.clone())).await;
        let seen = send(&server.url, "POST", "/a", "x").await;
        assert_eq!(
            (seen.status(), seen.body.as_str(), counter.get()),
            (Some(status), body, applied),
            "{action:?}"
        );
        let retry_after = matches!(&action, Action::Status { headers, .. } if !headers.is_empty());
        assert_eq!(seen.head.contains("retry-after: 3"), retry_after);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_drop_ends_the_connection_without_an_answer() {
    for (action, applied) in [(Action::DropBefore, 0), (Action::DropAfter, 1)] {
        let (server, counter, _) = server(Plan::always(action)).await;
        let seen = send(&server.url, "POST", "/a", "x").await;
        assert_eq!((seen.head.as_str(), seen.ended, counter.get()), ("", Ok(()), applied));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_on_the_socket() {
    let outage = Plan { outages: vec![Outage { from_ms: 0, to_ms: i64::MAX }], ..Plan::default() };
    for plan in [Plan::always(Action::Reset), outage] {
        let (server, counter, _) = server(plan).await;
        let seen = send(&server.url, "POST", "/a", "x").await;
        assert_eq!((seen.head.as_str(), seen.ended, counter.get()), ("", Err(ErrorKind::ConnectionReset), 0));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_half_open_request_stays_open_until_the_server_ends() {
    let (server, counter, faults) = server(Plan::always(Action::HalfOpen)).await;
    let mut silent = open(&server.url, "POST", "/a", "x").await;
    let seen = send(&server.url, "GET", "/_standin/requests", "").await;
    assert_eq!(seen.status(), Some(200), "the stand-in's own paths are served meanwhile");
    let mut byte = [0];
    assert!(futures_util::FutureExt::now_or_never(silent.read(&mut byte)).is_none());
    server.abort().await;
    assert!(matches!(silent.read(&mut byte).await, Ok(0) | Err(_)));
    assert_eq!((counter.get(), faults.log(0)[0].action), (0, "half_open"));
}

#[tokio::test]
async fn a_write_goes_on_after_its_client_left() {
    let (server, counter, faults) =
        server(Plan::default().with(Rule::on("POST", "/late", Action::ApplyLater { ms: 1 }))).await;
    drop(open(&server.url, "POST", "/late", "x").await);
    while counter.get() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(counter.get(), 1);
    faults.set(Plan::always(Action::Delay { ms: 20 }));
    let connection = open(&server.url, "POST", "/slow", "x").await;
    while faults.requests().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    drop(connection);
    while counter.get() == 1 {
        tokio::task::yield_now().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_plan_is_set_read_and_removed_over_http() {
    let (server, counter, _) = server(Plan::calm()).await;
    let url = &server.url;
    let plan = r#"{"rules":[{"method":"PUT","action":{"kind":"status","code":502}}]}"#;
    assert_eq!(send(url, "PUT", "/_standin/faults", plan).await.status(), Some(204));
    assert!(send(url, "GET", "/_standin/faults", "").await.body.contains("502"));
    assert_eq!(send(url, "PUT", "/x?q=1", "").await.status(), Some(502));
    assert_eq!(send(url, "PUT", "/_standin/faults", r#"{"rule":[]}"#).await.status(), Some(400));
    assert_eq!(send(url, "DELETE", "/_standin/faults", "").await.status(), Some(204));
    assert_eq!(send(url, "PUT", "/x", "").await.status(), Some(200));
    assert_eq!(
        counter.get(),
        1,
        "neither the refused request nor the stand-in's own paths reached the router"
    );

    let log = send(url, "GET", "/_standin/log?from=1", "").await.body;
    let entries: Vec<serde_json::Value> = log.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(
        (entries.len(), &entries[0]["path"], &entries[0]["action"]),
        (1, &"/x".into(), &"pass".into())
    );
    let counts: serde_json::Value =
        serde_json::from_str(&send(url, "GET", "/_standin/requests", "").await.body).unwrap();
    assert_eq!(
        (&counts["total"], &counts["applied"], &counts["by_status"]["502"]),
        (&2.into(), &1.into(), &1.into())
    );
    server.stop().await;
}

#[tokio::test]
async fn a_stopped_server_refuses_and_its_port_can_be_taken_again() {
    let (server, counter, faults) = server(Plan::calm()).await;
    let url = server.url.clone();
    let address = url.strip_prefix("http://").unwrap();
    let idle = tokio::net::TcpStream::connect(address).await.unwrap();
    server.stop().await;
    let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    drop(idle);
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let server = Server::start(counter.router(), faults, Clock::real(), port).await.unwrap();
    assert_eq!(send(&server.url, "GET", "/", "").await.status(), Some(200));
    server.stop().await;
}
