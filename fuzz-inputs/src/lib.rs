//! What is done with bytes from outside, each as a function of the bytes that must not panic.
//!
//! The targets in `fuzz/` call these under the fuzzer; the test of this crate calls them with mutated examples on
//! stable.
#![allow(clippy::expect_used, reason = "what is set up here is no input")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use cht_core_client::transport::{Body, Transport, TransportError, body_of};
use connector_core::change::{Change, Flow, Patient, Record, RecordId};
use connector_core::cht::ChtConfig;
use connector_core::clock::{Clock, SystemClock};
use connector_core::config::{ConfigReport, Sources, load};
use connector_core::connector::{Capabilities, Connector, ConnectorConfig, Finding, Reject};
use connector_core::http::endpoint::{Access, Delivery, Endpoint};
use connector_core::http::server::Server;
use connector_core::reconcile::Side;
use connector_core::runtime::{Bridge, BridgeOptions, System};
use connector_core::store::{Place, Store, StoreOptions};
use connector_core::transport::Wiring;
use serde_json::{Value, json};
use tower::ServiceExt;

mod matching;
pub use matching::{matching_files, matching_lists, matching_model};

/// A target: its name and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("cht_document", cht_document),
    ("changes_line", changes_line),
    ("openmrs_bundle", openmrs_bundle),
    ("openmrs_rest", openmrs_rest),
    ("intake", intake),
    ("configuration", configuration),
    ("matching_lists", matching_lists),
    ("matching_model", matching_model),
    ("matching_files", matching_files),
];

/// Answers every request with the same bytes.
#[derive(Debug, Default)]
struct Says(Mutex<Bytes>);

impl Says {
    fn set(&self, bytes: &[u8]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Bytes::copy_from_slice(bytes);
    }
}

#[derive(Debug)]
struct Line(Arc<Says>);

#[async_trait]
impl Transport for Line {
    async fn send(&self, _: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let bytes = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(http::Response::new(body_of(bytes)))
    }
}

/// A connector whose server says what it is told to.
struct Told {
    says: Arc<Says>,
    connector: Arc<dyn Connector>,
    runtime: tokio::runtime::Runtime,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn told<C: ConnectorConfig>(name: &str, section: Value) -> Told {
    let says = Arc::new(Says::default());
    let line = says.clone();
    let wiring = Wiring::new(
        Arc::new(SystemClock::new()),
        Arc::new(move |_, _| Ok(Arc::new(Line(line.clone())) as _)),
    );
    let config: C = serde_json::from_value(section).expect("the section parses");
    let connector = config.build(name, &wiring, &mut ConfigReport::default()).expect("the section builds");
    Told { says, connector, runtime: runtime() }
}

thread_local! {
    static CHT: Told = told::<ChtConfig>("cht", json!({
        "url": "http://cht.example", "user": "u", "password": "p", "documents": ["data_record", "person"],
    }));
    static OPENMRS: Told = {
        let example: Value = serde_saphyr::from_str(include_str!("../../connector-openmrs/example.yaml")).expect("YAML");
        told::<connector_openmrs::Config>("openmrs", example.get("openmrs").cloned().unwrap_or_default())
    };
    static INTAKE: (axum::Router, tokio::runtime::Runtime) = intake_router();
}

/// A document of the CHT becomes changes.
pub fn cht_document(data: &[u8]) {
    let Ok(body) = serde_json::from_slice::<Value>(data) else { return };
    CHT.with(|cht| {
        let id = RecordId::new("cht", "person", "id");
        for deleted in [false, true] {
            let record = Record { id: id.clone(), version: None, deleted, body: body.clone() };
            let _ = cht.connector.changes(&record);
        }
    });
}

/// A row of `_changes`, alone and as what a server answers.
pub fn changes_line(data: &[u8]) {
    let _ = cht_core_client::changes::Change::read(data);
    CHT.with(|cht| {
        cht.says.set(data);
        cht.runtime.block_on(async {
            for after in [None, Some("1-x")] {
                if let Ok(page) = cht.connector.poll("changes", after, 10).await {
                    for record in page.records {
                        let _ = cht.connector.changes(&record);
                    }
                }
            }
            let _ = cht.connector.fetch(&[RecordId::person("cht", "id")]).await;
        });
    });
}

/// A page of patients.
pub fn openmrs_bundle(data: &[u8]) {
    OPENMRS.with(|openmrs| {
        openmrs.says.set(data);
        openmrs.runtime.block_on(async {
            for feed in openmrs.connector.capabilities().feeds {
                if let Ok(page) = openmrs.connector.poll(&feed.name, None, 10).await {
                    for record in page.records {
                        let _ = openmrs.connector.changes(&record);
                    }
                    let _ = openmrs.connector.poll(&feed.name, Some(&page.next), 10).await;
                }
            }
        });
    });
    OPENMRS.with(|openmrs| {
        let text = String::from_utf8_lossy(data);
        openmrs.says.set(b"{}");
        openmrs.runtime.block_on(async {
            for feed in openmrs.connector.capabilities().feeds {
                let _ = openmrs.connector.poll(&feed.name, Some(&text), 10).await;
            }
        });
    });
}

/// Patients, look-ups and metadata by REST.
pub fn openmrs_rest(data: &[u8]) {
    OPENMRS.with(|openmrs| {
        openmrs.says.set(data);
        openmrs.runtime.block_on(async {
            let id = RecordId::person("openmrs", "a1111111-0000-4000-8000-000000000001");
            if let Ok(found) = openmrs.connector.fetch(&[id]).await {
                for record in found.into_iter().flatten() {
                    let _ = openmrs.connector.changes(&record);
                }
            }
            let fields = BTreeMap::from([("name".to_owned(), "A B".to_owned())]);
            let _ = openmrs.connector.candidates(&Patient { fields, gone: None }).await;
            let _ = openmrs.connector.check().await;
        });
    });
}

/// Reads any JSON that was pushed as a record.
struct Pushed;

#[async_trait]
impl Connector for Pushed {
    fn capabilities(&self) -> Capabilities {
        Capabilities { gives: vec![Flow::Documents], ..Capabilities::default() }
    }
    async fn check(&self) -> Vec<Finding> {
        vec![]
    }
    fn changes(&self, record: &Record) -> Result<Vec<Change>, Reject> {
        let change = serde_json::from_value(record.body.clone());
        change.map(|c| vec![c]).map_err(|_| Reject::new("this is no change"))
    }
    fn endpoints(&self) -> Vec<Endpoint> {
        let accept = |request: &connector_core::http::endpoint::Request| {
            let body = serde_json::from_slice(&request.body).map_err(|_| Reject::new("this is no JSON"))?;
            let record = Record { id: RecordId::new("p", "x", "1"), version: None, deleted: false, body };
            Ok(vec![Delivery { identity: request.path.clone(), record }])
        };
        vec![Endpoint {
            method: "POST",
            path: "/in".into(),
            access: Access::Loopback,
            limit: 4_096,
            accept: Arc::new(accept),
        }]
    }
}

fn intake_router() -> (axum::Router, tokio::runtime::Runtime) {
    let runtime = runtime();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = StoreOptions { place: Place::Memory, key: None };
    let store = runtime.block_on(Store::open(&options, clock.clone())).expect("a store in memory");
    let bridge = Bridge::new(
        "b",
        store,
        clock.clone(),
        System::new("cht", Side::Cht, Arc::new(Pushed)),
        System::new("p", Side::Partner, Arc::new(Pushed)),
        BridgeOptions { lease: Duration::from_secs(8), ..BridgeOptions::default() },
    );
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
    let server = Server::new(metrics, "token".to_owned().into(), clock, Duration::from_secs(5));
    server.serve(vec![Arc::new(bridge)]);
    (server.router(), runtime)
}

/// A request to the process: the first line is the path, the second a header's value, the rest the body.
pub fn intake(data: &[u8]) {
    let mut parts = data.splitn(3, |b| *b == b'\n');
    let (path, header, body) = (parts.next(), parts.next(), parts.next());
    let path = String::from_utf8_lossy(path.unwrap_or_default());
    INTAKE.with(|(router, runtime)| {
        for at in ["/b/in", "/admin/b", path.as_ref()] {
            let mut request = http::Request::builder().method("POST").uri(at);
            if let Ok(value) = http::HeaderValue::from_bytes(header.unwrap_or_default()) {
                request = request.header("authorization", value);
            }
            let body = axum::body::Body::from(body.unwrap_or_default().to_vec());
            let Ok(mut request) = request.body(body) else { continue };
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))));
            let _ = runtime.block_on(router.clone().oneshot(request));
        }
    });
}

/// A configuration file.
pub fn configuration(data: &[u8]) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), data).expect("a temporary file can be written");
    let sources = Sources { file: file.path().to_owned(), ..Sources::default() };
    let wiring = Wiring::new(
        Arc::new(SystemClock::new()),
        Arc::new(|_, _| Ok(Arc::new(Line(Arc::new(Says::default()))) as _)),
    );
    let _ = load::<connector_openmrs::Config>(&sources, &wiring);
}
