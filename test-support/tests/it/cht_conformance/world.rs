//! A stand-in with the places, people and users that the recordings speak of.

use std::time::Duration;

use axum::{Router, body::Body};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use test_support::{
    cht::{Cht, Options, Sentinel},
    clock::Clock,
};
use tower::ServiceExt;

use super::{
    Call, Request, Setup,
    compare::{Answer, Match, is_rev, is_seq},
};

const WORLD: &str = include_str!("../../fixtures/cht/world.json");
/// 2026-11-24T09:40:00Z
const START: i64 = 1_795_513_200_000;
const PASSWORD: &str = "Dummy.pass-123";

pub struct World {
    router: Router,
    clock: Clock,
    pub matched: Match,
    cookie_of: Option<(String, String)>,
    cht: std::sync::Arc<Cht>,
}

impl World {
    pub async fn new(setup: &Setup) -> Self {
        let world: Value = serde_json::from_str(WORLD).unwrap();
        let mut options = Options::default();
        for (name, roles) in world["users"].as_object().unwrap() {
            if !setup.without.contains(name) {
                let roles: Vec<&str> = roles.as_array().unwrap().iter().filter_map(Value::as_str).collect();
                options = options.user(name, PASSWORD, &roles);
            }
        }
        let permissions = world["permissions"].as_object().unwrap();
        for (permission, roles) in permissions {
            options.settings["permissions"][permission] = roles.clone();
        }
        let clock = Clock::manual(START);
        let cht = Cht::new(options, clock.clone());
        let made = Self { router: cht.router(), clock, matched: Match::default(), cookie_of: None, cht };
        if setup.sentinel_off {
            made.cht.switch(|switches| switches.sentinel = Sentinel::Off);
        }
        if setup.bare_admin {
            made.direct("DELETE", "/api/v1/users/medic", Value::Null).await;
        }
        let docs: Vec<&Value> = world["docs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|doc| {
                let id = doc["_id"].as_str().unwrap();
                let replaced = setup.docs.iter().any(|own| own["_id"] == doc["_id"]);
                !replaced && !setup.without.iter().any(|other| other == id)
            })
            .chain(&setup.docs)
            .collect();
        made.direct("POST", "/medic/_bulk_docs", json!({ "new_edits": false, "docs": docs })).await;
        if !setup.without.iter().any(|name| name == "chw1") {
            let user = json!({
                "username": "chw1", "password": PASSWORD, "roles": ["chw"], "place": world["chw"]["place"],
                "contact": world["chw"]["contact"],
            });
            made.direct("POST", "/api/v1/users", user).await;
        }
        if let Some(settings) = &setup.settings {
            made.direct("PUT", "/api/v1/settings", settings.clone()).await;
        }
        made.pass(1000);
        made
    }

    /// What comes last before the recording itself.
    pub async fn prepare(&mut self, setup: &Setup) {
        if let Some(user) = &setup.cookie_of {
            let password = if user == "medic" { "password" } else { PASSWORD };
            let login = json!({ "name": user, "password": password });
            let answer = self.direct("POST", "/_session", login).await;
            let set = answer.headers.iter().find(|(name, _)| name == "set-cookie").unwrap().1.clone();
            self.cookie_of = Some(("AuthSession=<cookie>".into(), set.split(';').next().unwrap().to_owned()));
        }
        for _ in 0..setup.failures {
            self.call("GET", "/api/v1/settings", &[], Vec::new()).await;
        }
        if let Some(switches) = &setup.switches {
            self.direct("PUT", "/_standin/cht/settings", switches.clone()).await;
        }
    }

    pub fn pass(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
        self.cht.tick();
    }

    pub async fn seq_text(&self) -> String {
        let answer = self.direct("GET", "/medic/_changes?limit=1&descending=true", Value::Null).await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        body["last_seq"].as_str().unwrap().to_owned()
    }

    /// A call that only the set-up makes.
    pub async fn make(&mut self, call: &Call) -> Result<(), String> {
        let (method, path) = call.call.split_once(' ').unwrap();
        let login = match &call.r#as {
            Some(user) => STANDARD.encode(format!("{user}:{PASSWORD}")),
            None => STANDARD.encode("medic:password"),
        };
        let content_type =
            if call.form.is_some() { "application/x-www-form-urlencoded" } else { "application/json" };
        let headers = [
            ("accept".to_owned(), "application/json".to_owned()),
            ("authorization".to_owned(), format!("Basic {login}")),
            ("content-type".to_owned(), content_type.to_owned()),
        ];
        let body = match (&call.form, &call.body) {
            (Some(form), _) => form.clone(),
            (None, Value::Null) => String::new(),
            (None, body) => self.matched.here(&body.to_string()),
        };
        let answer = self.call(method, path, &headers, body.into_bytes()).await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if let Some(made) = &call.made {
            let id = body["id"].as_str().or(body["_id"].as_str());
            self.matched.call_it(made, id.unwrap_or_default());
        }
        if answer.status < 300 {
            Ok(())
        } else {
            Err(format!("set-up: {} is {}: {body}", call.call, answer.status))
        }
    }

    async fn direct(&self, method: &str, uri: &str, body: Value) -> Answer {
        let headers = [
            ("accept".to_owned(), "application/json".to_owned()),
            ("authorization".to_owned(), "Basic bWVkaWM6cGFzc3dvcmQ=".to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
        ];
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.call(method, uri, &headers, body).await
    }

    async fn call(&self, method: &str, uri: &str, headers: &[(String, String)], body: Vec<u8>) -> Answer {
        let mut request = http::Request::builder().method(method).uri(uri).header("host", "127.0.0.1:5988");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = self.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let headers =
            parts.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        Answer {
            status: parts.status.as_u16(),
            headers: headers.collect(),
            body: axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec(),
        }
    }

    /// Sends a recorded request with the names that things have here; `since` is what its place in the feed means.
    pub async fn send(&self, request: &Request, since: Option<&str>) -> Answer {
        let path = self.matched.here(&request.path);
        let path_id = path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in &request.query {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let place = is_seq(&text) || text == "<seq>" || text == "<last_seq>";
            let text = match name.as_str() {
                _ if place => since.unwrap_or("0").to_owned(),
                "rev" => self.own_revision(&path_id, &text),
                _ => self.matched.here(&text),
            };
            query.append_pair(name, &text);
        }
        let query = query.finish();
        let uri = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
        let mut headers: Vec<(String, String)> = request.headers.clone().into_iter().collect();
        for (name, value) in &mut headers {
            if let Some((recorded, own)) = &self.cookie_of
                && name.eq_ignore_ascii_case("cookie")
            {
                *value = value.replace(recorded, own);
            }
        }
        if query.contains("feed=continuous") {
            headers.push(("Authorization".into(), "Basic bWVkaWM6cGFzc3dvcmQ=".into()));
        }
        let body = match &request.body {
            Value::Null => Vec::new(),
            Value::String(text) if text.starts_with("<33 MiB") => vec![b' '; 33 << 20],
            Value::String(text) => self.matched.here(text).into_bytes(),
            body => {
                let mut body: Value = serde_json::from_str(&self.matched.here(&body.to_string())).unwrap();
                self.with_own_revisions(&mut body, &path_id);
                body.to_string().into_bytes()
            }
        };
        self.call(&request.method, &uri, &headers, body).await
    }

    /// Revisions in a body become those of this server with the same number.
    fn with_own_revisions(&self, value: &mut Value, path_id: &str) {
        match value {
            Value::Object(map) => {
                let id = map.get("_id").and_then(Value::as_str).unwrap_or(path_id).to_owned();
                if let Some(Value::String(rev)) = map.get_mut("_rev") {
                    *rev = self.own_revision(&id, rev);
                }
                map.values_mut().for_each(|inner| self.with_own_revisions(inner, path_id));
            }
            Value::Array(items) => items.iter_mut().for_each(|inner| self.with_own_revisions(inner, path_id)),
            _ => {}
        }
    }

    /// The revision of a document here that has the number of a recorded one.
    fn own_revision(&self, id: &str, recorded: &str) -> String {
        let number = recorded.split('-').next().and_then(|number| number.parse::<usize>().ok());
        let revisions = self.cht.revisions(id);
        let known = revisions.iter().any(|rev| rev == recorded) || !is_rev(recorded);
        let own = revisions.iter().find(|rev| rev.split('-').next().and_then(|n| n.parse().ok()) == number);
        if known { recorded.to_owned() } else { own.cloned().unwrap_or_else(|| recorded.to_owned()) }
    }
}
