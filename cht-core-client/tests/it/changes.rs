//! The changes feed as a whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cht_core_client::changes::{Event, HEARTBEAT, Seq};
use cht_core_client::transport::{IdleTimeout, TransportErrorKind};
use cht_core_client::{ChtClient, Error};
use futures_util::StreamExt;
use serde_json::json;

use super::replay::{Answer, Replay, anonymous, json_of};

fn feed(pieces: &[&str]) -> Answer {
    let mut answer = Answer::of(200, "application/json", "");
    answer.pieces = pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece.as_bytes()))).collect();
    answer
}

fn page(ids: &[&str], last_seq: &str, pending: u64) -> Answer {
    let rows: Vec<String> =
        ids.iter().map(|id| json!({"seq": id, "id": id, "changes": [{"rev": "1-a"}]}).to_string()).collect();
    feed(&[&format!(
        "{{\"results\":[\n{}\n],\n\"last_seq\":\"{last_seq}\",\"pending\":{pending}}}\n",
        rows.join(",\n")
    )])
}

fn serving(
    answers: impl Fn(usize) -> Result<Answer, TransportErrorKind> + Send + Sync + 'static,
) -> Arc<Replay> {
    Arc::new(Replay::new(move |_, number| answers(number).map_err(Into::into)))
}

fn query_of(transport: &Replay, number: usize, name: &str) -> Option<String> {
    transport.sent()[number].query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

#[tokio::test]
async fn a_bad_row_is_one_error_and_not_a_lost_page() {
    let transport = serving(|_| {
        Ok(feed(&[
            "{\"results\":[\n{\"seq\":\"1\",\"id\":\"a\",\"changes\":[]},\n{\"seq\":\"2\",\"id\":",
            "7,\"doc\":{\"n\":\"]\"}},\n\n\n{\"seq\":\"3\",\"id\":\"c\",\"deleted\":true}\n],\n\"last_se",
            "q\":\"3-x\",\"pending\":4}\n",
        ]))
    });
    let page = anonymous(&transport).medic().changes().page().await.unwrap();
    let ids: Vec<_> = page
        .rows
        .iter()
        .map(|row| row.as_ref().map(|change| change.id.as_str()).map_err(|e| e.path.as_str()))
        .collect();
    assert_eq!(ids, [Ok("a"), Err("id"), Ok("c")]);
    assert_eq!(page.rows[1].as_ref().unwrap_err().seq, Some(Seq::kept("2")));
    assert_eq!((page.last_seq.as_str(), page.pending), ("3-x", Some(4)));
}

#[tokio::test]
async fn a_follower_pages_through_a_backlog_and_then_waits_from_where_it_is() {
    let transport = serving(|number| match number {
        0 => Ok(page(&["a", "b"], "2-opaque+/=", 1)),
        1 => Err(TransportErrorKind::Closed),
        2 => Ok(page(&["c"], "3-x", 0)),
        3 => Ok(page(&[], "3-y", 0)),
        _ => Ok(page(&["d"], "4-x", 0)),
    });
    let mut follower = anonymous(&transport).medic().changes().since(Seq::start()).limit(2).follower();
    assert_eq!(follower.next_page().await.unwrap().rows.len(), 2);
    follower.next_page().await.unwrap_err();
    assert_eq!(follower.since().unwrap().as_str(), "2-opaque+/=", "an error leaves the place as it was");
    assert!(!follower.caught_up());
    follower.next_page().await.unwrap();
    assert!(follower.caught_up());
    follower.next_page().await.unwrap();
    assert_eq!(follower.next_page().await.unwrap().rows.len(), 1);

    let seen: Vec<_> = (0..5)
        .map(|n| {
            (query_of(&transport, n, "since").unwrap(), query_of(&transport, n, "feed").unwrap_or_default())
        })
        .collect();
    let wanted =
        [("0", ""), ("2-opaque+/=", ""), ("2-opaque+/=", ""), ("3-x", "longpoll"), ("3-y", "longpoll")];
    assert_eq!(seen, wanted.map(|(since, feed)| (since.to_owned(), feed.to_owned())));
    assert_eq!(query_of(&transport, 3, "heartbeat").unwrap(), HEARTBEAT.as_millis().to_string());
    for sent in transport.sent() {
        assert_eq!(sent.idle, Some(IdleTimeout(HEARTBEAT * 3)), "a long catch-up has no limit as a whole");
        assert_eq!(
            sent.headers["accept-encoding"], "identity",
            "heartbeats are not held back by compression"
        );
    }
}

#[tokio::test]
async fn a_selector_lets_deletions_through() {
    let transport = serving(|_| Ok(page(&[], "1", 0)));
    let changes = anonymous(&transport).medic().changes();
    changes.selector(json!({"type": "person"})).page().await.unwrap();
    let sent = &transport.sent()[0];
    assert_eq!(sent.method, "POST");
    assert_eq!(json_of(&sent.body), json!({"selector": {"$or": [{"type": "person"}, {"_deleted": true}]}}));
}

async fn events(client: &ChtClient) -> Vec<Result<Event, Error>> {
    client.medic().changes().heartbeat(Duration::from_secs(1)).follow().await.unwrap().collect().await
}

#[tokio::test]
async fn a_continuous_feed_gives_rows_until_its_end() {
    let transport = serving(|_| {
        Ok(feed(&[
            "\n{\"seq\":\"1\",\"id\":\"a\"}\n\n{\"se",
            "q\":\"2\"}\n",
            "\n{\"last_seq\":\"2-x\",\"pending\":0}\n",
            "{\"seq\":\"9\",\"id\":\"z\"}\n",
        ]))
    });
    let events = events(&anonymous(&transport)).await;
    let [Ok(Event::Row(Ok(a))), Ok(Event::Row(Err(bad))), Ok(Event::End { last_seq, pending: Some(0) })] =
        events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!((a.id.as_str(), bad.path.as_str(), last_seq.as_str()), ("a", ".", "2-x"));
}

#[tokio::test]
async fn a_feed_that_breaks_off_or_fails_ends_in_an_error() {
    let cut = serving(|_| Ok(feed(&["{\"seq\":\"1\",\"id\":\"a\"}\n{\"seq\":"])));
    let got = events(&anonymous(&cut)).await;
    assert!(matches!(got.as_slice(), [Ok(Event::Row(Ok(_))), Err(Error::Transport(_))]), "{got:?}");

    let failed =
        serving(|_| Ok(feed(&["{\"error\":\"timeout\",\"reason\":\"x\"}\n{\"seq\":\"1\",\"id\":\"a\"}\n"])));
    let got = events(&anonymous(&failed)).await;
    assert!(matches!(got.as_slice(), [Err(Error::Server { .. })]), "{got:?}");

    let silent = serving(|_| {
        let mut answer = feed(&["{\"results\":[\n"]);
        answer.pieces.push(Err(TransportErrorKind::Timeout.into()));
        Ok(answer)
    });
    let error = anonymous(&silent).medic().changes().wait().await.unwrap_err();
    assert!(matches!(error, Error::Transport(e) if e.kind() == TransportErrorKind::Timeout));

    let cut = serving(|_| Ok(feed(&["{\"results\":[{\"seq\":\"1\",\"id\":\"a\"}],\"last_seq\":\"1"])));
    let error = anonymous(&cut).medic().changes().page().await.unwrap_err();
    assert!(matches!(error, Error::Transport(e) if e.kind() == TransportErrorKind::Closed));

    let headless = serving(|_| Ok(feed(&["{\"results\":[]}"])));
    let error = anonymous(&headless).medic().changes().page().await.unwrap_err();
    assert!(matches!(error, Error::Unreadable { path } if path == "last_seq"));
}

#[tokio::test]
async fn a_page_instead_of_a_feed_is_not_ready_and_an_endless_one_is_refused() {
    let html = serving(|_| Ok(Answer::of(200, "text/html", "<html>")));
    let error = anonymous(&html).medic().changes().page().await.unwrap_err();
    assert!(matches!(error, Error::NotReady { status: 200, .. }));

    let long = serving(|_| Ok(page(&["a"; 100], "1", 0)));
    let client = ChtClient::builder("http://cht.example").transport(long).max_body(1000).build().unwrap();
    let error = client.medic().changes().page().await.unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
}
