//! What a stand-in noted of its requests, read while they go on.

use anyhow::{Context, Result};
use serde::Deserialize;

/// One request, as the stand-in saw it.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    pub n: u64,
    pub method: String,
    pub path: String,
    pub action: String,
    #[serde(default)]
    pub status: Option<u16>,
    pub start_ms: i64,
    #[serde(default)]
    pub end_ms: Option<i64>,
    #[serde(default)]
    pub body: Option<String>,
}

impl Request {
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|s| (200..300).contains(&s))
    }

    pub fn ended(&self) -> i64 {
        self.end_ms.unwrap_or(self.start_ms)
    }

    /// Whether it makes a patient.
    pub fn creates(&self) -> bool {
        self.method == "POST" && self.path.ends_with("/rest/v1/patient")
    }

    /// Whether it is about the connection and not about anybody.
    pub fn is_login(&self) -> bool {
        self.path.contains("/session")
    }
}

/// Reads the log from where it stood last.
pub struct Log<'a> {
    http: &'a reqwest::Client,
    url: &'a str,
    next: u64,
}

impl<'a> Log<'a> {
    pub fn new(http: &'a reqwest::Client, url: &'a str) -> Self {
        Self { http, url, next: 0 }
    }

    /// Requests that have ended since, in the order of their arrival; one that is under way holds up those after it.
    pub async fn read(&mut self) -> Result<Vec<Request>> {
        let url = format!("{}/_standin/log?from={}", self.url, self.next);
        let text = self.http.get(url).send().await?.error_for_status()?.text().await?;
        let mut requests = vec![];
        for line in text.lines() {
            let request: Request = serde_json::from_str(line).context("a line of the log")?;
            if request.end_ms.is_none() {
                break;
            }
            anyhow::ensure!(
                self.next == request.n,
                "the stand-in has forgotten requests {} to {}",
                self.next,
                request.n
            );
            self.next = request.n + 1;
            requests.push(request);
        }
        Ok(requests)
    }
}
