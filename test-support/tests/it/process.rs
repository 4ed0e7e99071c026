//! The program: its ready line, its signals, its state file.

use std::path::Path;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use test_support::process::StandIn;

use crate::support::{send, send_with};

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-support");

fn spawn(args: &[&str]) -> StandIn {
    StandIn::spawn(Path::new(PROGRAM), args).unwrap()
}

async fn counts(url: &str) -> serde_json::Value {
    serde_json::from_str(&send(url, "GET", "/_standin/sink/counts", "").await.body).unwrap()
}

#[tokio::test]
async fn the_state_is_saved_on_sigterm_and_read_at_the_start() {
    let state = std::env::temp_dir().join(format!("sink-{}-process.state", std::process::id()));
    let state_arg = state.to_str().unwrap();
    let mut sink = spawn(&["sink", "--state", state_arg]);
    assert!(sink.url.starts_with("http://127.0.0.1:"), "{}", sink.url);
    send_with(&sink.url, "POST", "/", "idempotency-key: k\r\n", "x").await;
    assert!(sink.terminate().unwrap().success());

    let mut sink = spawn(&["sink", "--state", state_arg]);
    send_with(&sink.url, "POST", "/", "idempotency-key: k\r\n", "x").await;
    assert_eq!(counts(&sink.url).await["doubled"], 1);
    sink.kill9().unwrap();
    let sink = spawn(&["sink", "--state", state_arg]);
    assert_eq!(counts(&sink.url).await["received"], 1, "a kill saves nothing");
    std::fs::remove_file(state).unwrap();
}

#[tokio::test]
async fn a_cht_keeps_its_documents_over_a_restart() {
    let state = std::env::temp_dir().join(format!("cht-{}-process.state", std::process::id()));
    let args = ["cht", "--state", state.to_str().unwrap(), "--switches", r#"{"sentinel":"off"}"#];
    let admin = "authorization: Basic bWVkaWM6cGFzc3dvcmQ=\r\ncontent-type: application/json\r\n";
    let mut cht = spawn(&args);
    let put = send_with(&cht.url, "PUT", "/medic/kept", admin, r#"{"type":"task"}"#).await;
    assert_eq!(put.status(), Some(201), "{put:?}");
    assert!(cht.terminate().unwrap().success());
    let cht = spawn(&args);
    assert_eq!(send_with(&cht.url, "GET", "/medic/kept", admin, "").await.status(), Some(200));
    std::fs::remove_file(state).unwrap();
}

#[tokio::test]
async fn an_openmrs_gives_no_number_again_after_a_restart() {
    let state = std::env::temp_dir().join(format!("openmrs-{}-process.state", std::process::id()));
    let args = ["openmrs", "--state", state.to_str().unwrap(), "--seed", "3"];
    let admin = "authorization: Basic YWRtaW46QWRtaW4xMjM=\r\ncontent-type: application/json\r\n";
    let path =
        format!("/openmrs/ws/rest/v1/idgen/identifiersource/{}/identifier", test_support::openmrs::SOURCE);
    let number = async |url: &str| {
        let seen = send_with(url, "POST", &path, admin, "{}").await;
        assert_eq!(seen.status(), Some(201), "{seen:?}");
        seen.body
    };
    let mut openmrs = spawn(&args);
    let first = number(&openmrs.url).await;
    assert!(openmrs.terminate().unwrap().success());
    let openmrs = spawn(&args);
    assert_ne!(number(&openmrs.url).await, first);
    std::fs::remove_file(state).unwrap();
}

#[tokio::test]
async fn faults_switches_and_port_are_taken_from_the_command_line() {
    let plan = std::env::temp_dir().join(format!("plan-{}.json", std::process::id()));
    std::fs::write(&plan, r#"{"rules":[{"method":"PUT","action":{"kind":"status","code":502}}]}"#).unwrap();
    let switches = r#"{"id_pointer":"/id"}"#;
    let mut sink =
        spawn(&["sink", "--faults", plan.to_str().unwrap(), "--switches", switches, "--seed", "5"]);
    assert_eq!(send(&sink.url, "PUT", "/", "{}").await.status(), Some(502));
    send(&sink.url, "POST", "/", r#"{"id":"a"}"#).await;
    send(&sink.url, "POST", "/", r#"{"id":"a"}"#).await;
    assert_eq!(counts(&sink.url).await["doubled"], 1);
    assert!(send(&sink.url, "GET", "/_standin/faults", "").await.body.contains(r#""seed":5"#));
    let port = sink.url.rsplit_once(':').unwrap().1.to_owned();
    sink.terminate().unwrap();
    let again = spawn(&["sink", "--port", &port]);
    assert_eq!(again.url, sink.url);
    std::fs::remove_file(plan).unwrap();
}

#[tokio::test]
async fn a_stopped_process_goes_on_when_continued() {
    let mut sink = spawn(&["sink"]);
    let is_stopped = |sink: &StandIn| {
        let now = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&sink.child)), now).unwrap().is_some()
    };
    assert!(!is_stopped(&sink));
    sink.stop().unwrap();
    assert!(is_stopped(&sink));
    let url = sink.url.clone();
    let waiting = tokio::spawn(async move { send(&url, "POST", "/", "x").await });
    sink.cont().unwrap();
    assert_eq!(waiting.await.unwrap().status(), Some(200));
}

#[test]
fn a_program_that_never_gets_ready_is_an_error_and_a_dead_one_gets_no_signal() {
    let refused = StandIn::spawn(Path::new(PROGRAM), ["sink", "--switches", r#"{"latency":1}"#]);
    assert!(refused.is_err_and(|e| e.to_string().contains("ready URL")));
    let mut bare = spawn(&["bare"]);
    bare.kill9().unwrap();
    assert!(bare.stop().is_err());
}
