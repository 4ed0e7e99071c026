//! What the sink counts, on the short way and through the fault layer.

use bytes::Bytes;
use http::Request;
use test_support::{
    clock::Clock,
    fault::{Action, Faults, InProcess, Plan},
    sink::{Counts, Options, Sink},
};

use crate::support::{Seen, request, send, send_with};

fn delivery(headers: &[(&str, &str)], body: &'static str) -> Request<Bytes> {
    let mut request = request("POST", "/any/path", body);
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

fn of(options: serde_json::Value) -> (std::sync::Arc<Sink>, InProcess) {
    let clock = Clock::manual(0);
    let sink = Sink::new(serde_json::from_value(options).unwrap(), clock.clone());
    let call = InProcess::new(sink.router(), Faults::none(), clock);
    (sink, call)
}

#[tokio::test]
async fn duplicates_are_taken_and_counted() {
    let (sink, call) = of(serde_json::json!({}));
    for key in ["a", "b", "a"] {
        let answer = call.call(delivery(&[("idempotency-key", key)], "xy")).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (200, b"{\"ok\":true}".as_slice()));
    }
    call.call(delivery(&[], "no key")).await.unwrap();
    let counts = sink.counts();
    assert_eq!((counts.received, counts.distinct, counts.doubled, counts.bytes), (4, 3, 1, 12));
    assert_eq!((sink.times("a"), sink.times("c")), (2, 0));
    let asked = call.call(request("GET", "/sink/effects?key=a", "")).await.unwrap();
    assert_eq!(asked.body(), r#"{"applied":true,"count":2}"#);
    let effects = call.call(request("GET", "/_standin/sink/effects", "")).await.unwrap();
    assert_eq!(String::from_utf8(effects.body().to_vec()).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn order_is_watched_per_subject() {
    let (sink, call) = of(serde_json::json!({}));
    for (subject, seq) in [("a", "1"), ("b", "5"), ("a", "3"), ("a", "1"), ("a", "2"), ("a", "3"), ("b", "6")]
    {
        call.call(delivery(&[("x-subject", subject), ("x-seq", seq)], "")).await.unwrap();
    }
    assert_eq!((sink.counts().out_of_order, sink.counts().subjects), (2, 2));
}

#[tokio::test]
async fn id_and_version_are_found_in_the_body() {
    let (sink, call) =
        of(serde_json::json!({"id_pointer": "/doc/_id", "seq_pointer": "/doc/_rev", "keep_bodies": true}));
    for body in [
        r#"{"doc":{"_id":"p","_rev":"9-x"}}"#,
        r#"{"doc":{"_id":"p","_rev":"10-a"}}"#,
        r#"{"doc":{"_id":"p","_rev":"9-x"}}"#,
        "not json",
    ] {
        call.call(delivery(&[], body)).await.unwrap();
    }
    let counts = sink.counts();
    assert_eq!((counts.received, counts.distinct, counts.doubled, counts.out_of_order), (4, 3, 1, 1));
    let effects = serde_json::to_value(sink.effects()).unwrap();
    assert_eq!(
        (&effects[1]["subject"], &effects[1]["seq"], &effects[3]["body"]),
        (&"p".into(), &10.into(), &"not json".into())
    );
}

#[tokio::test]
async fn a_saved_sink_goes_on_counting() {
    let (sink, call) = of(serde_json::json!({}));
    let headers = [("idempotency-key", "a"), ("x-subject", "s"), ("x-seq", "4")];
    call.call(delivery(&headers, "x")).await.unwrap();
    let file = std::env::temp_dir().join(format!("sink-{}-{}.state", std::process::id(), line!()));
    sink.save(&file).unwrap();
    let again = Sink::load(&file, Options::default(), Clock::manual(0)).unwrap();
    assert_eq!(Counts { max_concurrent: 0, ..sink.counts() }, again.counts());
    let call = InProcess::new(again.router(), Faults::none(), Clock::manual(0));
    call.call(delivery(&[("idempotency-key", "a"), ("x-subject", "s"), ("x-seq", "3")], "x")).await.unwrap();
    assert_eq!((again.counts().doubled, again.counts().out_of_order), (1, 1));
    std::fs::write(&file, "{}").unwrap();
    assert!(Sink::load(&file, Options::default(), Clock::manual(0)).is_err());
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn both_ways_over_tcp_count_alike() {
    let faults = Faults::none();
    let sink = Sink::new(Options::default(), Clock::real());
    let server = sink.serve(faults.clone(), 0).await.unwrap();
    let deliver = async |key: &str| -> Seen {
        send_with(&server.url, "PUT", "/x", &format!("idempotency-key: {key}\r\n"), "body").await
    };
    assert_eq!(deliver("a").await.body, r#"{"ok":true}"#);
    faults.set(Plan::always(Action::DropAfter));
    assert_eq!(deliver("a").await.head, "", "applied, but the answer is lost");
    faults.set(Plan::always(Action::DropBefore));
    deliver("b").await;
    faults.clear();
    let counts: Counts =
        serde_json::from_str(&send(&server.url, "GET", "/_standin/sink/counts", "").await.body).unwrap();
    assert_eq!((counts.received, counts.distinct, counts.doubled, counts.max_concurrent), (2, 1, 1, 1));
    assert_eq!(
        send(&server.url, "GET", "/sink/effects?key=b", "").await.body,
        r#"{"applied":false,"count":0}"#
    );
    server.stop().await;
}

#[tokio::test]
async fn more_at_a_time_than_allowed_are_turned_away() {
    let options = Options { concurrent: Some(1), latency_ms: 600_000, ..Options::default() };
    let sink = Sink::new(options, Clock::real());
    let server = sink.serve(Faults::none(), 0).await.unwrap();
    let first = crate::support::open(&server.url, "POST", "/x", "1").await;
    while sink.counts().received == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(send(&server.url, "POST", "/x", "2").await.status(), Some(429));
    let counts = sink.counts();
    assert_eq!((counts.received, counts.rejected, counts.max_concurrent), (1, 1, 2));
    drop(first);
    server.abort().await;
}
