//! Logging in, and what is refused before anything is sent.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cht_core_client::bulk::DocRow;
use cht_core_client::features::Feature;
use cht_core_client::transport::{Timeout, TransportErrorKind};
use cht_core_client::{BuildError, ChtClient, Credentials, Error, Reason};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::replay::{Answer, Replay, Sent, anonymous, json_of, with_session};

fn logged_in(login: usize) -> Answer {
    Answer::json(200, json!({"ok": true, "name": "interop", "roles": ["mm-online"]}))
        .header("set-cookie", &format!("AuthSession=cookie-{login}; Version=1; Path=/; HttpOnly"))
}

fn is_login(sent: &Sent) -> bool {
    sent.path == "/_session" && sent.method == "POST"
}

fn unauthorized() -> Answer {
    Answer::json(401, json!({"code": 401, "error": "unauthorized"}))
}

/// Logs everybody in, and takes only this cookie.
fn taking(cookie: &'static str) -> Arc<Replay> {
    Arc::new(Replay::new(move |sent, number| {
        if is_login(sent) {
            return Ok(logged_in(number));
        }
        let given = sent.headers.get("cookie").and_then(|value| value.to_str().ok()).unwrap_or_default();
        Ok(if given.ends_with(cookie) {
            Answer::json(200, json!({"id": "a", "rev": "1-a"}))
        } else {
            unauthorized()
        })
    }))
}

fn paths(transport: &Replay) -> Vec<String> {
    transport.sent().into_iter().map(|sent| format!("{} {}", sent.method, sent.path)).collect()
}

#[tokio::test]
async fn one_login_serves_many_calls() {
    let transport = taking("cookie-0");
    let client = with_session(&transport);
    for _ in 0..2 {
        client.clone().medic().get::<Value>("a").await.unwrap();
    }
    assert_eq!(paths(&transport), ["POST /_session", "GET /medic/a", "GET /medic/a"]);
    let login = &transport.sent()[0];
    assert_eq!(json_of(&login.body), json!({"name": "interop", "password": "pass"}));
    assert_eq!(login.headers["content-type"], "application/json");
    assert!(!login.headers.contains_key("authorization"));
    assert_eq!(transport.sent()[1].headers["cookie"], "AuthSession=cookie-0");
}

#[tokio::test]
async fn many_calls_at_once_share_one_login() {
    let transport = taking("cookie-0");
    let client = with_session(&transport);
    let medic = client.medic();
    for outcome in join_all((0..10).map(|_| medic.get::<Value>("a"))).await {
        outcome.unwrap();
    }
    assert_eq!(transport.sent().iter().filter(|sent| is_login(sent)).count(), 1);
}

#[tokio::test]
async fn a_wrong_password_costs_one_try_for_all_who_wait() {
    let transport = Arc::new(Replay::new(|_, _| Ok(unauthorized())));
    let client = with_session(&transport);
    let medic = client.medic();
    for outcome in join_all((0..10).map(|_| medic.get::<Value>("a"))).await {
        assert!(matches!(outcome, Err(Error::LoginRequired { status: 401 })));
    }
    assert_eq!(paths(&transport), ["POST /_session"]);
}

#[tokio::test]
async fn an_expired_session_is_renewed_once_and_the_refused_write_sent_again() {
    let transport = taking("cookie-2");
    let written = with_session(&transport).medic().put("a", &json!({"x": 1})).await.unwrap();
    assert_eq!(written.rev, "1-a");
    assert_eq!(paths(&transport), ["POST /_session", "PUT /medic/a", "POST /_session", "PUT /medic/a"]);
    assert_eq!(transport.sent()[1].body, transport.sent()[3].body);
}

#[tokio::test]
async fn a_session_that_is_refused_twice_is_given_up() {
    let transport = taking("never");
    let client = with_session(&transport);
    let error = client.medic().put("a", &json!({})).await.unwrap_err();
    assert!(matches!(error, Error::LoginRequired { status: 401 }));
    assert!(!error.may_have_applied());
    assert_eq!(paths(&transport), ["POST /_session", "PUT /medic/a", "POST /_session", "PUT /medic/a"]);
}

#[tokio::test]
async fn a_redirect_to_the_login_page_counts_as_an_expired_session() {
    let transport = Arc::new(Replay::new(|sent, number| {
        Ok(match number {
            _ if is_login(sent) => logged_in(number),
            1 => Answer::of(302, "text/plain", "Found")
                .header("location", "/medic/login?redirect=%2Fmedic%2Fa"),
            _ => Answer::json(200, json!({"_id": "a"})),
        })
    }));
    with_session(&transport).medic().get::<Value>("a").await.unwrap();
    assert_eq!(transport.sent().len(), 4);
}

#[tokio::test]
async fn a_login_that_fails_says_that_the_call_itself_was_not_sent() {
    let failing: [fn() -> Result<Answer, TransportErrorKind>; 4] = [
        || Err(TransportErrorKind::Timeout),
        || Ok(Answer::json(500, json!({"code": 500, "error": "Server error"}))),
        || Ok(Answer::of(200, "text/html", "<html>")),
        || Ok(Answer::json(200, json!({"ok": true}))),
    ];
    for fail in failing {
        let transport = Arc::new(Replay::new(move |_, _| fail().map_err(Into::into)));
        let error = with_session(&transport).medic().put("a", &json!({})).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert!(!error.may_have_applied(), "{error:?}");
        assert_eq!(paths(&transport), ["POST /_session"]);
    }
}

#[tokio::test]
async fn no_write_is_ever_repeated() {
    let failures: [fn() -> Result<Answer, TransportErrorKind>; 5] = [
        || Err(TransportErrorKind::Closed),
        || Err(TransportErrorKind::Timeout),
        || Ok(Answer::json(500, json!({"code": 500, "error": "Server error"}))),
        || Ok(Answer::json(503, json!({"error": "Service unavailable"}))),
        || Ok(Answer::json(429, json!({"code": 429, "error": "Too Many Requests"}))),
    ];
    for fail in failures {
        let transport = Arc::new(Replay::new(move |_, _| fail().map_err(Into::into)));
        let client = anonymous(&transport);
        client.medic().bulk_docs(&[json!({"_id": "a"})]).await.unwrap_err();
        assert_eq!(transport.sent().len(), 1);
    }
}

#[tokio::test]
async fn public_calls_carry_no_credentials() {
    let monitoring = json!({"version": {"app": "5.2.0", "couchdb": "3.5.2"}, "sentinel": {"backlog": 7}, "outbound_push": {"backlog": -1}});
    let transport = Arc::new(Replay::new(move |_, _| Ok(Answer::json(200, &monitoring))));
    let client = with_session(&transport);
    let monitoring = client.monitoring().await.unwrap();
    assert_eq!((monitoring.sentinel_backlog(), monitoring.outbound_backlog()), (Some(7), None));
    client.readiness().await.unwrap();
    assert_eq!(paths(&transport), ["GET /api/v2/monitoring", "GET /setup/poll"]);
    assert!(transport.sent().iter().all(|sent| !sent.headers.contains_key("cookie")));
}

#[tokio::test]
async fn any_password_goes_into_a_header_and_a_colon_in_the_user_does_not() {
    let transport = Arc::new(Replay::new(|_, _| Ok(Answer::json(200, json!({})))));
    let build = |user: &str, password: &str| {
        ChtClient::builder("http://cht.example")
            .transport(transport.clone())
            .credentials(Credentials::basic(user, password))
            .build()
    };
    build("u", "p:ä\n\"").unwrap().medic().get::<Value>("a").await.unwrap();
    let header = transport.sent()[0].headers["authorization"].clone();
    assert!(header.is_sensitive());
    let encoded = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
    assert_eq!(BASE64_STANDARD.decode(encoded).unwrap(), "u:p:ä\n\"".as_bytes());
    assert!(matches!(build("u:v", "p").unwrap_err(), BuildError::ColonInUser));
    assert!(matches!(build("", "p").unwrap_err(), BuildError::EmptyUser));
}

#[tokio::test]
async fn a_base_url_is_checked_and_a_path_in_it_kept() {
    let build = |url: &str| ChtClient::builder(url).build().map(drop);
    assert!(matches!(build("http://user:pass@cht.example"), Err(BuildError::UrlWithCredentials)));
    assert!(matches!(build("http://user@cht.example"), Err(BuildError::UrlWithCredentials)));
    assert!(matches!(build("ftp://cht.example"), Err(BuildError::Url)));
    assert!(matches!(build("cht.example"), Err(BuildError::Url)));
    assert!(matches!(build("http://cht.example/?a=1"), Err(BuildError::UrlWithQuery)));
    let transport = Arc::new(Replay::new(|_, _| Ok(Answer::json(200, json!({})))));
    let client = ChtClient::builder("http://cht.example/sub/").transport(transport.clone()).build().unwrap();
    client.medic().get::<Value>("a").await.unwrap();
    assert_eq!(paths(&transport), ["GET /sub/medic/a"]);
}

#[tokio::test]
async fn an_id_cannot_change_the_meaning_of_a_path() {
    let transport =
        Arc::new(Replay::new(|_, _| Ok(Answer::json(200, json!({"ok": true, "id": "x", "rev": "1"})))));
    let medic = anonymous(&transport).medic();
    for id in ["", ".", "..", "_all_docs", "_design/medic", "_local/x"] {
        let error = medic.delete(id, "1-a").await.unwrap_err();
        assert!(matches!(error, Error::Invalid { status: None, reason: Reason::DocumentId }), "{id:?}");
    }
    assert!(transport.sent().is_empty());
    for (id, path) in
        [("a/../b", "/medic/a%2F..%2Fb"), ("a?rev=1#x", "/medic/a%3Frev%3D1%23x"), ("ä ", "/medic/%C3%A4%20")]
    {
        medic.put(id, &json!({})).await.unwrap();
        assert_eq!(transport.sent().last().unwrap().path, path);
    }
}

#[tokio::test]
async fn people_are_created_and_never_replaced_by_mistake() {
    let transport =
        Arc::new(Replay::new(|_, _| Ok(Answer::json(200, json!({"ok": true, "id": "x", "rev": "1-a"})))));
    let client = anonymous(&transport);
    for key in ["_rev", "_deleted"] {
        let person = json!({"name": "n", key: "1-a"}).as_object().unwrap().clone();
        let error = client.people().create(&person).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { status: None, reason: Reason::FieldsNotAllowed(_) }));
    }
    assert!(transport.sent().is_empty());
}

#[tokio::test]
async fn a_record_without_an_id_in_the_answer_is_a_failure() {
    let transport = Arc::new(Replay::new(|_, _| Ok(Answer::json(200, json!({"success": true})))));
    let error = anonymous(&transport).records().send_body(&json!({})).await.unwrap_err();
    assert!(matches!(&error, Error::Unreadable { path } if path == "."), "{error:?}");
}

#[tokio::test]
async fn a_bulk_answer_with_rows_missing_is_no_success() {
    let transport = Arc::new(Replay::new(|_, _| Ok(Answer::json(201, json!([])))));
    let error = anonymous(&transport).medic().bulk_docs(&[json!({"_id": "a"})]).await.unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }) && error.may_have_applied());
}

#[tokio::test]
async fn only_not_found_means_that_a_document_is_missing() {
    let medic = |body: Value| {
        let transport = Arc::new(Replay::new(move |_, _| Ok(Answer::json(200, &body))));
        anonymous(&transport)
    };
    let row = |error: &str| json!({"rows": [{"key": "a", "error": error}]});
    let read = medic(row("not_found")).medic().all_docs::<Value>(&["a"], true).await.unwrap();
    assert!(matches!(read.as_slice(), [DocRow::Missing { id }] if id == "a"));
    let error = medic(row("timeout")).medic().all_docs::<Value>(&["a"], true).await.unwrap_err();
    assert!(matches!(error, Error::Unreadable { path } if path == "rows.[0]"));

    let row = |error: &str| json!([{"id": "a", "error": error}]);
    assert_eq!(medic(row("not_found")).hydrate(&["a"]).await.unwrap(), [("a".to_owned(), None)]);
    assert!(medic(row("timeout")).hydrate(&["a"]).await.is_err());

    let row = |error: &str| json!({"results": [{"id": "a", "docs": [{"error": {"error": error}}]}]});
    assert_eq!(medic(row("not_found")).medic().bulk_get(&["a"]).await.unwrap(), [("a".to_owned(), None)]);
    assert!(medic(row("timeout")).medic().bulk_get(&["a"]).await.is_err());
}

#[tokio::test]
async fn the_time_for_a_call_is_handed_to_the_transport() {
    let transport = Arc::new(Replay::new(|_, _| Ok(Answer::json(200, json!({})))));
    let client = anonymous(&transport);
    client.medic().get::<Value>("a").await.unwrap();
    client.with_timeout(Duration::from_secs(90)).medic().get::<Value>("a").await.unwrap();
    let times: Vec<_> = transport.sent().iter().map(|sent| sent.timeout).collect();
    assert_eq!(times, [None, Some(Timeout(Duration::from_secs(90)))]);
}

/// A CHT of this release, which has the calls whose paths it is given.
fn cht(release: &'static str, calls: &'static [&'static str]) -> Arc<Replay> {
    Arc::new(Replay::new(move |sent, _| {
        Ok(if sent.path == "/api/v2/monitoring" {
            Answer::json(200, json!({"version": {"app": release}}))
        } else if calls.contains(&sent.path.as_str()) {
            Answer::json(400, json!({"code": 400, "error": "Either query param ids or type is required"}))
        } else {
            Answer::json(404, json!({"error": "not_found", "reason": "Database does not exist."}))
        })
    }))
}

#[tokio::test]
async fn released_calls_are_known_by_the_release_and_later_ones_by_trying() {
    let old = anonymous(&cht("4.18.2", &["/api/v1/report/uuid"]));
    assert!(old.has(Feature::ReadContactsAndReports).await.unwrap());
    assert!(!old.has(Feature::WriteContactsAndReports).await.unwrap());
    assert!(!old.has(Feature::ListContacts).await.unwrap());
    assert!(!old.has(Feature::ReportIdsByForm).await.unwrap());

    let transport = cht("5.2.0", &["/api/v1/contact", "/api/v1/report"]);
    let development = anonymous(&transport);
    assert!(development.has(Feature::WriteContactsAndReports).await.unwrap());
    for _ in 0..2 {
        assert!(development.has(Feature::ListContacts).await.unwrap());
    }
    assert!(development.has(Feature::ListReports).await.unwrap());
    assert!(!development.has(Feature::ContactSummaries).await.unwrap());
    assert_eq!(transport.sent().iter().filter(|sent| sent.path == "/api/v1/contact").count(), 1);
}

#[tokio::test]
async fn every_call_asks_for_json_and_names_its_own_content_type_exactly() {
    // Without the first an error is a page or a redirect, with a parameter beside the second it is a 400, and a document
    // without the second ends the api.
    let transport = Arc::new(Replay::new(|_, number| Ok(logged_in(number))));
    let client = with_session(&transport);
    let doc = json!({"_id": "a", "type": "person"}).as_object().unwrap().clone();
    let _ = client.medic().put("a", &doc).await;
    let _ = client.medic().bulk_docs(std::slice::from_ref(&doc)).await;
    let _ = client.people().create(&doc).await;
    let _ = client.medic().get::<Value>("a").await;
    let sent = transport.sent();
    assert!(sent.len() >= 5, "{:?}", paths(&transport));
    for sent in sent {
        assert_eq!(sent.headers["accept"], "application/json", "{}", sent.path);
        let content_type = sent.headers.get("content-type").map(|v| v.to_str().unwrap());
        assert_eq!(content_type, (!sent.body.is_empty()).then_some("application/json"), "{}", sent.path);
    }
}
