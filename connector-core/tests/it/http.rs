//! The process's own HTTP: health, administration, and entrances that answer only after the commit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::ConnectInfo;
use connector_core::change::{Flow, Record, RecordId};
use connector_core::cli::{Admin, execute};
use connector_core::clock::{Clock, ManualClock};
use connector_core::config::HttpSettings;
use connector_core::connector::{Capabilities, Connector, Finding, Reject};
use connector_core::http::endpoint::{Access, Delivery, Endpoint};
use connector_core::http::serve;
use connector_core::http::server::Server;
use connector_core::outbox::{Keys, SeenDigests};
use connector_core::reconcile::Side;
use connector_core::runtime::{Bridge, BridgeOptions, Shutdown, System};
use connector_core::store::{Place, Store, StoreOptions};
use http_body_util::BodyExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

const TOKEN: &str = "admin-token";

/// A partner with one entrance.
#[derive(Default)]
struct Pushing {
    down: AtomicBool,
    read: Arc<AtomicUsize>,
}

#[async_trait]
impl Connector for Pushing {
    fn capabilities(&self) -> Capabilities {
        Capabilities { gives: vec![Flow::Documents], ..Capabilities::default() }
    }

    async fn check(&self) -> Vec<Finding> {
        match self.down.load(Ordering::Relaxed) {
            true => vec![Finding::bad("reachable", "does not answer")],
            false => vec![Finding::ok("reachable", "answers")],
        }
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let read = self.read.clone();
        vec![Endpoint {
            method: "POST",
            path: "/rows".into(),
            access: Access::Token("sesame".to_owned().into()),
            limit: 64,
            accept: Arc::new(move |request| {
                read.fetch_add(1, Ordering::Relaxed);
                let id = std::str::from_utf8(&request.body).ok().filter(|t| !t.starts_with('!'));
                let id = id.ok_or_else(|| Reject::new("line 1 is no row"))?;
                let record =
                    Record { id: row(id), version: None, deleted: false, body: json!({ "row": id }) };
                Ok(vec![Delivery { identity: id.to_owned(), record }])
            }),
        }]
    }
}

fn row(id: &str) -> RecordId {
    RecordId::new("partner", "row", id)
}

struct World {
    bridge: Arc<Bridge>,
    partner: Arc<Pushing>,
    server: Server,
}

async fn world(high_water: i64) -> World {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1_000_000));
    let store = Store::open(&StoreOptions { place: Place::Memory, key: None }, clock.clone()).await.unwrap();
    let partner = Arc::new(Pushing::default());
    let bridge = Arc::new(Bridge::new(
        "main",
        store,
        clock.clone(),
        System::new("cht", Side::Cht, Arc::new(Pushing::default())),
        System::new("partner", Side::Partner, partner.clone()),
        BridgeOptions { high_water, ..BridgeOptions::default() },
    ));
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let server = Server::new(metrics, TOKEN.to_owned().into(), clock, Duration::from_secs(5));
    server.serve(vec![bridge.clone()]);
    World { bridge, partner, server }
}

type Answer = (u16, Option<String>, Value);

impl World {
    async fn ask_from(&self, from: &str, method: &str, path: &str, auth: Option<&str>, body: &str) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        if let Some(auth) = auth {
            request = request.header("authorization", format!("Bearer {auth}"));
        }
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(ConnectInfo(from.parse::<SocketAddr>().unwrap()));
        let (head, body) = self.server.clone().router().oneshot(request).await.unwrap().into_parts();
        let later = head.headers.get("retry-after").map(|v| v.to_str().unwrap().to_owned());
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), later, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn ask(&self, method: &str, path: &str, auth: Option<&str>, body: &str) -> Answer {
        self.ask_from("127.0.0.1:9", method, path, auth, body).await
    }

    async fn push(&self, body: &str) -> Answer {
        self.ask("POST", "/main/rows", Some("sesame"), body).await
    }

    async fn stored(&self, id: &str) -> bool {
        let key = Keys(self.bridge.store().crypt()).record(&row(id));
        self.bridge.store().read(SeenDigests { records: vec![key] }).await.unwrap()[0].is_some()
    }
}

#[tokio::test]
async fn an_entrance_says_202_for_what_is_stored_and_nothing_else() {
    let world = world(1_000).await;
    let (status, _, body) = world.push("one").await;
    assert_eq!((status, body), (202, json!({ "accepted": 1 })));
    assert!(world.stored("one").await);

    assert_eq!(world.push("one").await.0, 202);
    let (status, _, body) = world.push("!secret row").await;
    assert_eq!((status, body), (400, json!({ "error": "line 1 is no row" })));
    assert_eq!(world.push(&"x".repeat(65)).await.0, 413);
    assert_eq!(world.ask("GET", "/main/rows", Some("sesame"), "").await.0, 405);
    assert_eq!(world.ask("POST", "/main/other", Some("sesame"), "").await.0, 404);
    assert_eq!(world.ask("POST", "/other/rows", Some("sesame"), "").await.0, 404);

    world.bridge.store().close().await;
    let (status, later, _) = world.push("two").await;
    assert_eq!((status, later.as_deref()), (503, Some("5")));
}

#[tokio::test]
async fn an_entrance_reads_nothing_without_credentials_or_while_it_is_full() {
    let open = world(1_000).await;
    for auth in [None, Some("sesam"), Some(TOKEN)] {
        assert_eq!(open.ask("POST", "/main/rows", auth, "one").await.0, 401);
    }
    let full = world(0).await;
    let (status, later, _) = full.push("one").await;
    assert_eq!((status, later.as_deref()), (503, Some("5")));
    for world in [open, full] {
        assert_eq!(world.partner.read.load(Ordering::Relaxed), 0);
        assert!(!world.stored("one").await);
    }
}

#[tokio::test]
async fn a_partner_that_is_down_degrades_and_a_store_that_is_down_ends_readiness() {
    let world = world(1_000).await;
    let (status, _, body) = world.ask("GET", "/health/ready", None, "").await;
    assert_eq!((status, &body["status"]), (200, &json!("degraded")), "before the first check");
    world.partner.down.store(true, Ordering::Relaxed);
    world.bridge.ready(Side::Cht).await.unwrap();
    world.bridge.ready(Side::Partner).await.unwrap();
    let (status, _, body) = world.ask("GET", "/health/ready", None, "").await;
    assert_eq!((status, &body["status"]), (200, &json!("degraded")));
    assert_eq!(body["bridges"][0]["systems"], json!({ "cht": "up", "partner": "down" }));
    world.partner.down.store(false, Ordering::Relaxed);
    world.bridge.ready(Side::Partner).await.unwrap();
    let (status, _, body) = world.ask("GET", "/health/ready", None, "").await;
    assert_eq!((status, &body["status"]), (200, &json!("up")));

    world.server.refused(true);
    let (status, _, body) = world.ask("GET", "/health/ready", None, "").await;
    assert_eq!(
        (status, &body["status"], &body["configuration"]),
        (200, &json!("degraded"), &json!("refused"))
    );

    world.bridge.store().close().await;
    let (status, _, body) = world.ask("GET", "/health/ready", None, "").await;
    assert_eq!((status, &body["status"]), (503, &json!("down")));
    assert_eq!(world.ask("GET", "/health/live", None, "").await.0, 200);
}

#[tokio::test]
async fn administration_over_http_gives_what_the_store_itself_gives() {
    let world = world(1_000).await;
    world.push("one").await;
    let record = "partner/row/one".to_owned();
    let requests = [
        Admin::Status,
        Admin::DeadLetters { after: 0, bodies: true, limit: None },
        Admin::Reviews { after: 0, all: true, bodies: true, limit: Some(1) },
        Admin::Conflicts { after: 0 },
        Admin::Link { record: record.clone() },
        Admin::Links { after: String::new() },
        Admin::ReplayAll,
        Admin::Fetch { record },
    ];
    for request in requests {
        let text = serde_json::to_string(&request).unwrap();
        let (status, _, over_http) = world.ask("POST", "/admin/main", Some(TOKEN), &text).await;
        let direct = execute(world.bridge.store(), request).await.unwrap();
        assert_eq!((status, over_http), (200, direct), "{text}");
    }
    let status = serde_json::to_string(&Admin::Status).unwrap();
    assert_eq!(world.ask("POST", "/admin/main", None, &status).await.0, 401);
    assert_eq!(world.ask("POST", "/admin/main", Some("sesame"), &status).await.0, 401);
    assert_eq!(world.ask("POST", "/admin/other", Some(TOKEN), &status).await.0, 404);
    assert_eq!(world.ask("POST", "/admin/main", Some(TOKEN), "{}").await.0, 400);
    assert_eq!(world.ask_from("192.0.2.7:9", "POST", "/admin/main", Some(TOKEN), &status).await.0, 401);
    assert_eq!(world.ask_from("192.0.2.7:9", "GET", "/status", None, "").await.0, 403);
    assert_eq!(world.ask("GET", "/status", None, "").await.0, 200);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_and_the_end_waits_for_nobody_idle() {
    let world = world(1_000).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = Shutdown::default();
    let settings = HttpSettings::default();
    let serving = tokio::spawn(serve(listener, world.server.clone().router(), settings, stopping.clone()));

    let mut good = tokio::net::TcpStream::connect(address).await.unwrap();
    good.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    good.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");

    let mut long = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(32 << 10));
    let _ = long.write_all(head.as_bytes()).await;
    let mut answer = [0; 12];
    long.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");

    stopping.stop();
    serving.await.unwrap();
}
