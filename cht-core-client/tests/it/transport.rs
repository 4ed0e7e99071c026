//! The HTTP transport over real sockets: one try, known kinds of failure, nothing of the URL in an error.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use cht_core_client::transport::{
    HttpTransport, IdleTimeout, Timeout, Transport, TransportError, TransportErrorKind, body_of, collect,
};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

fn transport() -> HttpTransport {
    HttpTransport::builder().user_agent("test/1").build().unwrap()
}

/// Ends a test that would otherwise wait for ever; the times under test are far shorter.
async fn or_hang<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("no limit was applied")
}

fn get(base: &str) -> http::Request<Bytes> {
    http::Request::get(format!("{base}/medic/zuri-id?phone=%2B254700")).body(Bytes::new()).unwrap()
}

/// A server that takes one connection, reads the request and goes on as told.
async fn server<F>(then: impl FnOnce(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        then(stream).await;
    });
    base
}

fn kind_of(outcome: Result<impl Sized, TransportError>, kind: TransportErrorKind) {
    let error = outcome.err().unwrap();
    assert_eq!(error.kind(), kind, "{error:?}");
    let mut shown = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        shown.push_str(&format!("{inner} {inner:?}"));
        cause = inner.source();
    }
    assert!(!shown.contains("zuri") && !shown.contains("254700"), "{shown}");
}

#[tokio::test]
async fn a_redirect_is_handed_back_and_not_followed() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/medic/zuri-id"))
        .and(header("user-agent", "test/1"))
        .respond_with(ResponseTemplate::new(302).insert_header("location", "/medic/login"))
        .expect(1)
        .mount(&server)
        .await;
    let answer = transport().send(get(&server.uri())).await.unwrap();
    assert_eq!(answer.status(), 302);
}

#[tokio::test]
async fn a_refused_connection_says_that_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let outcome = transport().send(get(&base)).await;
    assert!(outcome.as_ref().err().unwrap().nothing_sent());
    kind_of(outcome, TransportErrorKind::Connect);
}

#[tokio::test]
async fn a_connection_that_breaks_may_have_carried_the_request() {
    let base = server(|stream| async move { drop(stream) }).await;
    let outcome = transport().send(get(&base)).await;
    assert!(!outcome.as_ref().err().unwrap().nothing_sent());
    kind_of(outcome, TransportErrorKind::Closed);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error() {
    let base = server(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await.unwrap();
    })
    .await;
    let answer = transport().send(get(&base)).await.unwrap();
    kind_of(collect(answer.into_body(), 100).await, TransportErrorKind::Closed);
}

#[tokio::test]
async fn no_answer_in_time_is_a_timeout() {
    let base = server(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let mut request = get(&base);
    request.extensions_mut().insert(Timeout(Duration::from_millis(50)));
    kind_of(or_hang(transport().send(request)).await, TransportErrorKind::Timeout);
}

#[tokio::test]
async fn a_feed_that_falls_silent_ends_in_a_timeout() {
    let base = server(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let mut request = get(&base);
    request.extensions_mut().insert(IdleTimeout(Duration::from_millis(200)));
    let mut body = transport().send(request).await.unwrap().into_body();
    assert_eq!(body.next().await.unwrap().unwrap(), "\n");
    kind_of(or_hang(body.next()).await.unwrap(), TransportErrorKind::Timeout);
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn a_body_longer_than_the_limit_is_refused() {
    assert_eq!(collect(body_of("abc"), 3).await.unwrap(), "abc");
    kind_of(collect(body_of("abcd"), 3).await, TransportErrorKind::Other);
}

#[test]
fn a_root_certificate_that_is_none_is_refused() {
    let built = HttpTransport::builder().root_ca_pem("not a certificate").build();
    kind_of(built, TransportErrorKind::Other);
}
