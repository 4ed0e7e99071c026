//! Marked values go in everywhere and come out of no error, `Debug` or log line.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex};

use cht_core_client::api::contacts::ContactSearch;
use cht_core_client::api::records::{Record, SmsRecord};
use cht_core_client::api::sms::IncomingSms;
use cht_core_client::api::{ListPage, Paging};
use cht_core_client::changes::{Change, Page};
use cht_core_client::model::{Contact, NewUser, Report, Settings, Target, Task, User};
use cht_core_client::query::{FindQuery, ViewQuery};
use cht_core_client::transport::TransportErrorKind;
use cht_core_client::{ChtClient, Credentials, Error};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::replay::{Answer, Replay};

const MARKS: [&str; 3] = ["ZuriCanary", "+254700990099", "zuri_canary_id"];

fn assert_clean(shown: &str) {
    let lower = shown.to_lowercase();
    for mark in ["zuri", "canary", "254700990099", "hunter2"] {
        assert!(!lower.contains(mark), "{shown}");
    }
}

fn check(error: &Error) {
    assert_clean(&format!("{error} {error:?}"));
    let mut cause = error.source();
    while let Some(inner) = cause {
        assert_clean(&format!("{inner} {inner:?}"));
        cause = inner.source();
    }
}

fn bodies(mark: &str) -> Vec<(String, String)> {
    let json = "application/json";
    [
        json!({"code": 400, "error": format!("Parent contact [{mark}] not found.")}),
        json!({"code": 400, "error": format!("The [{mark}] fields must not be changed.")}),
        json!({"code": 400, "error": mark}),
        json!({"error": mark, "reason": mark}),
        json!({"code": 500, "error": "Server error", "details": format!("Form not found: {mark}")}),
        json!({"code": 500, "error": "Server error", "details": mark}),
        json!({"error": {"message": mark, "translationKey": format!("{mark}.taken"), "translationParams": {"x": mark}}}),
        json!({mark: mark, "docs": mark, "results": mark, "rows": mark, "userCtx": mark}),
        json!([{mark: mark}]),
        json!(mark),
    ]
    .iter()
    .map(|body| (json.to_owned(), body.to_string()))
    .chain([
        ("text/html".to_owned(), format!("<html>{mark}</html>")),
        ("text/plain".to_owned(), mark.to_owned()),
        (json.to_owned(), format!("{{\"rows\":[{{\"id\":\"{mark}\"")),
        (json.to_owned(), format!("{{\"results\":[{{\"id\":7,\"{mark}\":\"{mark}\"}}],\"last_seq\":true}}")),
    ])
    .collect()
}

async fn errors(client: &ChtClient, mark: &str) -> Vec<Error> {
    let person = json!({"_id": mark, "name": mark, "phone": mark}).as_object().unwrap().clone();
    let message = IncomingSms { id: mark.into(), from: mark.into(), content: mark.into() };
    let search = ContactSearch { freetext: Some(mark.into()), ..ContactSearch::default() };
    let user = NewUser::for_program(mark, "hunter2".to_owned().into(), vec![]);
    let record = Record::new("F", person.clone()).from(mark);
    let sms = SmsRecord { message: mark.into(), from: mark.into(), ..SmsRecord::default() };
    let find = FindQuery { selector: json!({"name": mark}), ..FindQuery::default() };
    let view = ViewQuery { key: Some(json!([mark])), ..ViewQuery::default() };
    assert_clean(&format!("{client:?} {message:?} {search:?} {user:?} {record:?} {sms:?} {find:?} {view:?}"));
    let medic = client.medic();
    [
        medic.get::<Contact>(mark).await.err(),
        medic.put(mark, &person).await.err(),
        medic.bulk_docs(std::slice::from_ref(&person)).await.err(),
        medic.all_docs::<Report>(&[mark], true).await.err(),
        medic.find::<Value>(&find).await.err(),
        medic.view::<Value>("medic-client", "contacts_by_phone", &view).await.err(),
        medic.changes().doc_ids([mark]).page().await.err(),
        client.people().create(&person).await.err(),
        client.persons().create(&person).await.err(),
        client.contacts().by_phone(mark).await.err(),
        client.contacts().ids(&search, &Paging::first(1)).await.err(),
        client.records().send(&record).await.err(),
        client.records().send_sms(&sms).await.err(),
        client.users().create(&user).await.err(),
        client.sms().rapidpro_incoming(&"hunter2".to_owned().into(), &message).await.err(),
        client.set_credential("key", &"hunter2".to_owned().into()).await.err(),
        client.hydrate(&[mark]).await.err(),
        client.user_context().await.err(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_error_and_no_log_line_holds_a_value() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut seen = 0;
    for mark in MARKS {
        for status in [200, 201, 302, 400, 401, 403, 404, 409, 413, 415, 429, 500, 502, 503] {
            for (content_type, body) in bodies(mark) {
                let location = format!("/medic/login?redirect={mark}");
                let transport = Arc::new(Replay::new(move |_, _| {
                    Ok(Answer::of(status, &content_type, body.clone()).header("location", &location))
                }));
                let client = ChtClient::builder("http://cht.example")
                    .transport(transport)
                    .credentials(Credentials::basic(mark, "hunter2"))
                    .build()
                    .unwrap();
                for error in errors(&client, mark).await {
                    check(&error);
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 5000, "{seen}");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("CHT answered") && log.contains("/api/v1/people"));
    assert_clean(&log);
}

#[tokio::test]
async fn the_path_of_an_error_holds_no_key_of_the_data() {
    let body =
        json!({"rows": [{"key": "a", "id": "a", "value": {"rev": "1-a"}, "doc": {"zuri": {"id": "x"}}}]});
    let transport = Arc::new(Replay::new(move |_, _| Ok(Answer::json(200, &body))));
    let client = ChtClient::builder("http://cht.example").transport(transport).build().unwrap();
    type Nested = BTreeMap<String, BTreeMap<String, u32>>;
    let error = client.medic().all_docs::<Nested>(&["a"], true).await.unwrap_err();
    assert!(matches!(&error, Error::Unreadable { path } if path == "rows.[0].doc.?.id"), "{error:?}");
    check(&error);
}

#[tokio::test]
async fn no_transport_error_of_a_session_holds_a_value() {
    let transport = Arc::new(Replay::new(|_, _| Err(TransportErrorKind::Timeout.into())));
    let client = ChtClient::builder("http://cht.example")
        .transport(transport)
        .credentials(Credentials::session(MARKS[0], "hunter2"))
        .build()
        .unwrap();
    for error in errors(&client, MARKS[0]).await {
        check(&error);
    }
    let built = ChtClient::builder(format!("http://{}:hunter2@cht.example/", MARKS[2])).build().unwrap_err();
    assert_clean(&format!("{built} {built:?}"));
    let credentials = Credentials::session(MARKS[0], "hunter2");
    let builder = ChtClient::builder("http://cht.example").credentials(credentials.clone());
    assert_clean(&format!("{credentials:?} {builder:?}"));
}

fn debug<T: DeserializeOwned + std::fmt::Debug>(value: &Value) {
    let read: T = serde_json::from_value(value.clone()).unwrap();
    assert_clean(&format!("{read:?}"));
}

#[tokio::test]
async fn no_model_shows_what_it_holds() {
    let mark = MARKS[0];
    let inner = json!({"_id": mark, "name": mark, "parent": {"_id": mark, "name": mark}, mark: mark});
    let whole = json!({
        "_id": mark, "_rev": "1-a", "type": "person", "name": mark, "phone": mark, "parent": inner, "contact": mark,
        "fields": inner, "errors": [{"code": mark, "message": mark}], "tasks": [{"messages": [inner]}], mark: mark,
        "username": mark, "place": [inner], "emission": inner, "targets": [inner], "forms": {mark: inner},
    });
    debug::<Contact>(&whole);
    debug::<Report>(&whole);
    debug::<Task>(&whole);
    debug::<Target>(&whole);
    debug::<User>(&whole);
    debug::<Settings>(&whole);
    debug::<ListPage<Contact>>(&json!({"data": [whole], "cursor": null}));

    let body = json!({"results": [{"seq": "1", "id": mark, "changes": [], "doc": whole}, {"seq": "2", "id": mark, "doc": mark}], "last_seq": "2"});
    let transport = Arc::new(Replay::new(move |_, _| Ok(Answer::json(200, &body))));
    let client = ChtClient::builder("http://cht.example").transport(transport).build().unwrap();
    let page: Page = client.medic().changes().page().await.unwrap();
    assert_clean(&format!("{page:?} {:?}", page.rows));
    let [Ok(change), Err(bad)] = page.rows.as_slice() else { panic!() };
    let _: (&Change, &Map<String, Value>) = (change, change.doc.as_ref().unwrap());
    assert_clean(&bad.to_string());
}
