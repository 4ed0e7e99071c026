//! People at the CHT who resemble nobody else, each in the state of a numbered change, and an OpenMRS beside it.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};
use test_support::openmrs::{CONNECTOR, LOCATION, NATIONAL_ID, OPENMRS_ID, SOURCE};
use test_support::process::StandIn;

use super::site::{self, Setup};

/// Documents of one request.
const TOGETHER: usize = 500;

/// Who shares an identifier with somebody else, or is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Usual,
    /// Born tomorrow, which OpenMRS refuses.
    Refused,
    /// With the national id of this other person.
    Twin(usize),
}

pub fn id(n: usize) -> String {
    format!("{n:08x}-bac0-4000-8000-{n:012x}")
}

/// The person as of change `change`, which stands in the last digit of the phone.
pub fn document(n: usize, kind: Kind, change: usize) -> Value {
    let letters = |n: usize| -> String {
        (0..5).rev().map(|at| char::from(b'a' + ((n / 26_usize.pow(at)) % 26) as u8)).collect()
    };
    let year = if kind == Kind::Refused { 2999 } else { 1930 + n % 90 };
    let national = if let Kind::Twin(other) = kind { other } else { n };
    json!({
        "_id": id(n), "type": "person", "parent": { "_id": "area" }, "reported_date": 1_790_000_000_000_i64,
        "name": format!("N{} F{}", letters(n), letters(n * 7919 % 11_881_376)),
        "sex": if n.is_multiple_of(2) { "female" } else { "male" },
        "date_of_birth": format!("{year}-{:02}-{:02}", 1 + n % 12, 1 + n % 28),
        "phone": format!("+2547{n:07}{change}"),
        "national_id": format!("7{national:09}"),
    })
}

/// The change that a phone belongs to.
pub fn change_of(phone: &str) -> Option<usize> {
    phone.strip_prefix("+2547")?.get(7..)?.parse().ok()
}

/// A CHT with the one place that everybody lives in.
pub async fn cht(http: &reqwest::Client) -> Result<StandIn> {
    let cht = site::stand_in("cht", None)?;
    edit(http, &cht, vec![json!({ "_id": "area", "type": "clinic", "name": "Area" })]).await?;
    Ok(cht)
}

/// Enters new people.
pub async fn enter(http: &reqwest::Client, cht: &StandIn, documents: &[Value]) -> Result<()> {
    for some in documents.chunks(TOGETHER) {
        let answer = http
            .post(format!("{}/medic/_bulk_docs", cht.url))
            .basic_auth("medic", Some("password"))
            .json(&json!({ "docs": some }))
            .send()
            .await?
            .error_for_status()?;
        let rows: Vec<Value> = answer.json().await?;
        let refused = rows.iter().filter(|row| row["ok"] != true).count();
        anyhow::ensure!(refused == 0, "the CHT refused {refused} of {} people", some.len());
    }
    Ok(())
}

/// Changes people on the screen.
pub async fn edit(http: &reqwest::Client, cht: &StandIn, documents: Vec<Value>) -> Result<()> {
    let url = format!("{}/_standin/cht/edit", cht.url);
    let mut edits = tokio::task::JoinSet::new();
    for document in documents {
        if edits.len() >= 8 {
            edits.join_next().await.context("no edit")???;
        }
        let (http, url) = (http.clone(), url.clone());
        edits.spawn(async move { site::send(&http, Method::POST, &url, &document).await });
    }
    while let Some(edit) = edits.join_next().await {
        edit??;
    }
    Ok(())
}

/// The real OpenMRS connector between the two; its reader looks once, then leaves the time to the writes.
pub fn openmrs(cht: &StandIn, openmrs: &StandIn, concurrency: usize, pass: Duration) -> Setup<'static> {
    Setup {
        binary: "connector-openmrs",
        begin: "everything",
        cht: json!({
            "url": cht.url, "user": "medic", "password": "password",
            "place": { "default": "area" },
            "fields": { "identifier.national": "national_id" },
            "feed": { "page": 500, "every": "50ms", "longpoll": "10s" },
        }),
        partner: json!({
            "url": format!("{}/openmrs", openmrs.url), "user": CONNECTOR.0, "password": CONNECTOR.1,
            "location": LOCATION,
            "identifiers": {
                "openmrs": { "type": OPENMRS_ID, "source": SOURCE },
                "national": { "type": NATIONAL_ID },
            },
            "concurrency": concurrency,
            "pass_seconds": pass.as_secs(), "changes_seconds": 86_400, "encounters_seconds": 86_400,
            "timeout_seconds": 10, "quiet_seconds": 10,
        }),
        tuning: json!({}),
    }
}
