//! The plain loop: the same requests as a connector makes, with the same HTTP client, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use cht_core_client::transport::{HttpTransport, Transport, collect};
use serde::{Deserialize, Serialize};

/// What to send.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Requests, one JSON object a line; they are read before the clock starts.
    #[arg(long)]
    requests: std::path::PathBuf,
    /// Requests at a time.
    #[arg(long)]
    connections: usize,
    /// An answer that is no success does not end the loop.
    #[arg(long)]
    any_answer: bool,
}

/// One request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// What the loop came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    pub requests: usize,
    pub seconds: f64,
}

impl Done {
    pub fn per_s(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

pub async fn run(args: &Args) -> Result<()> {
    let text = std::fs::read_to_string(&args.requests).context("the requests cannot be read")?;
    let mut requests = Vec::new();
    for line in text.lines() {
        let line: Line = serde_json::from_str(line)?;
        let mut request = http::Request::builder().method(line.method.as_str()).uri(line.url);
        for (name, value) in line.headers {
            request = request.header(name, value);
        }
        requests.push(request.body(Bytes::from(line.body))?);
    }
    drop(text);
    let transport = HttpTransport::builder().pool(args.connections).build()?;
    let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
    let any = args.any_answer;
    let began = Instant::now();
    let mut loops = tokio::task::JoinSet::new();
    for _ in 0..args.connections {
        let (transport, requests, next) = (transport.clone(), requests.clone(), next.clone());
        loops.spawn(async move {
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (head, body) = transport.send(request.clone()).await?.into_parts();
                collect(body, 64 << 20).await?;
                if !any && !head.status.is_success() {
                    bail!("answer {}", head.status);
                }
            }
            Ok(())
        });
    }
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    let done = Done { requests: requests.len(), seconds: began.elapsed().as_secs_f64() };
    use std::io::Write;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&done)?)?;
    Ok(())
}
