//! Who calls: basic login, the session cookie that nothing ends, roles and permissions, and the lock-out after ten
//! failures in ten seconds.

use std::collections::HashMap;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    http::{Fail, Guard, JSON, Reply, Req},
    state::State,
    time,
};

pub(super) const YEAR_MS: i64 = 365 * 24 * 3_600_000;
const FAILURES: u32 = 10;
const WINDOW_MS: i64 = 10_000;

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Account {
    pub roles: Vec<String>,
    salt: u64,
    derived: String,
    pub password_change_required: bool,
    /// Ids of the places an offline user belongs to.
    pub places: Vec<String>,
    pub contact: Option<String>,
}

impl Account {
    pub fn new(roles: Vec<String>, password: &str, salt: u64) -> Self {
        let derived = derive(salt, password);
        Self { roles, salt, derived, password_change_required: false, places: Vec::new(), contact: None }
    }

    pub fn set_password(&mut self, password: &str, salt: u64) {
        (self.salt, self.derived) = (salt, derive(salt, password));
    }
}

fn derive(salt: u64, password: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(salt.to_be_bytes());
    hasher.update(password);
    URL_SAFE_NO_PAD.encode(hasher.finalize())
}

#[derive(Clone)]
pub(super) struct User {
    pub name: String,
    pub roles: Vec<String>,
}

impl User {
    pub fn is_admin(&self) -> bool {
        self.roles.iter().any(|role| role == "_admin" || role == "admin")
    }

    pub fn is_online(&self) -> bool {
        self.is_admin() || self.roles.iter().any(|role| role == "mm-online")
    }

    pub fn has(&self, state: &State, permission: &str) -> bool {
        self.is_admin() || state.settings.allows(&self.roles, permission)
    }

    pub fn need_all(&self, state: &State, permissions: &[&str]) -> Result<(), Fail> {
        let all = permissions.iter().all(|permission| self.has(state, permission));
        if all { Ok(()) } else { Err(Fail::forbidden()) }
    }

    /// The check of the newer calls: online, and one of the permissions.
    pub fn need_online_any(&self, state: &State, permissions: &[&str]) -> Result<(), Fail> {
        let any = permissions.is_empty() || permissions.iter().any(|permission| self.has(state, permission));
        if self.is_online() && any { Ok(()) } else { Err(Fail::forbidden()) }
    }

    /// The wall in front of calls that are not for offline users.
    pub fn not_offline(&self) -> Result<(), Fail> {
        if self.is_online() { Ok(()) } else { Err(Fail::offline()) }
    }
}

/// The user of a request, if there is one, and how it logged in.
pub(super) struct Access {
    user: Option<User>,
    pub handler: &'static str,
}

impl Access {
    pub fn user(&self) -> Result<&User, Fail> {
        self.user_or(Guard::Api)
    }

    pub fn user_or(&self, guard: Guard) -> Result<&User, Fail> {
        self.user.as_ref().ok_or(Fail::NotLoggedIn(guard))
    }
}

pub(super) fn access(state: &State, req: &Req, now: i64) -> Access {
    if let Some((name, password)) = basic(req) {
        return Access { user: login(state, &name, &password), handler: "default" };
    }
    Access { user: cookie(req).and_then(|cookie| read_cookie(state, cookie, now)), handler: "cookie" }
}

fn basic(req: &Req) -> Option<(String, String)> {
    let encoded = req.header("authorization")?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

fn login(state: &State, name: &str, password: &str) -> Option<User> {
    let account = state.accounts.get(name)?;
    (derive(account.salt, password) == account.derived).then(|| user(state, name, account))
}

fn user(state: &State, name: &str, account: &Account) -> User {
    let mut roles = account.roles.clone();
    if name == state.admin {
        roles.insert(0, "_admin".into());
    }
    User { name: name.to_owned(), roles }
}

fn cookie(req: &Req) -> Option<&str> {
    let pairs = req.header("cookie")?.split(';');
    pairs.filter_map(|pair| pair.trim().strip_prefix("AuthSession=")).find(|value| !value.is_empty())
}

/// A cookie needs no memory of the server, so nothing but its year and a new password ends it.
fn make_cookie(account: &Account, name: &str, now: i64) -> String {
    let claim = format!("{name}:{now}");
    URL_SAFE_NO_PAD.encode(format!("{claim}:{}", derive(account.salt, &claim)))
}

fn read_cookie(state: &State, cookie: &str, now: i64) -> Option<User> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cookie).ok()?).ok()?;
    let (claim, proof) = text.rsplit_once(':')?;
    let (name, made) = claim.split_once(':')?;
    let account = state.accounts.get(name)?;
    let young = now - made.parse::<i64>().ok()? < YEAR_MS;
    (young && derive(account.salt, claim) == proof).then(|| user(state, name, account))
}

/// `/_session`, which CouchDB answers itself.
pub(super) fn session(state: &State, req: &Req, access: &Access, now: i64) -> Result<Reply, Fail> {
    let set_cookie = |value: &str| {
        let expires = time::cookie_date(now + YEAR_MS, '-');
        format!("AuthSession={value}; Version=1; Expires={expires}; Max-Age=31536000; Path=/; HttpOnly")
    };
    match req.method.as_str() {
        "POST" => {
            let (name, password) = credentials(req, "name")?;
            let user = login(state, &name, &password).ok_or(Fail::NotLoggedIn(Guard::Couch))?;
            let account = state.accounts.get(&name).ok_or(Fail::NotLoggedIn(Guard::Couch))?;
            let body = json!({ "ok": true, "name": name, "roles": user.roles });
            Ok(Reply::couch(200, body.to_string())
                .with("set-cookie", set_cookie(&make_cookie(account, &name, now))))
        }
        "DELETE" => Ok(Reply::couch(200, r#"{"ok":true}"#).with("set-cookie", set_cookie(""))),
        _ => {
            let user = access.user_or(Guard::Couch)?;
            let info =
                json!({ "authentication_handlers": ["cookie", "default"], "authenticated": access.handler });
            let body =
                json!({ "ok": true, "userCtx": { "name": user.name, "roles": user.roles }, "info": info });
            Ok(Reply::couch(200, body.to_string()))
        }
    }
}

/// `POST /medic/login`: a redirect without a Location, and no session while a password change is due.
pub(super) fn login_page(state: &State, req: &Req, now: i64) -> Result<Reply, Fail> {
    req.exact_json()?;
    let (name, password) = credentials(req, "user")?;
    let (Some(user), Some(account)) = (login(state, &name, &password), state.accounts.get(&name)) else {
        return Ok(Reply::api_with(401, &json!({ "error": "Not logged in" })));
    };
    let until = |name: &str, value: &str, more: &str| {
        let expires = time::cookie_date(now + YEAR_MS, ' ');
        format!("{name}={value}; Max-Age=31536000; Path=/; Expires={expires}; {more}SameSite=Lax")
    };
    let home = if user.is_admin() && !account.password_change_required { r#","home":"/admin/""# } else { "" };
    let context = format!(r#"{{"name":{},"roles":{}{home}}}"#, json!(name), json!(user.roles));
    let context: String = url::form_urlencoded::byte_serialize(context.as_bytes()).collect();
    let home = if account.password_change_required {
        "/medic/password-reset"
    } else if user.is_admin() {
        "/admin/"
    } else {
        "/"
    };
    let mut reply = Reply::new(302, "text/html; charset=utf-8", home);
    if !account.password_change_required {
        let session = make_cookie(account, &name, now);
        reply = reply.with("set-cookie", until("AuthSession", &session, "HttpOnly; "));
    }
    reply = reply.with("set-cookie", until("userCtx", &context, ""));
    if !account.password_change_required {
        let past = "login=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax";
        reply = reply.with("set-cookie", past);
    }
    Ok(reply.with("set-cookie", until("locale", "en", "")))
}

fn credentials(req: &Req, name_field: &str) -> Result<(String, String), Fail> {
    if req.is_form() {
        let form = req.form();
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        return Ok((field(name_field).unwrap_or_default(), field("password").unwrap_or_default()));
    }
    let body = req.json()?;
    let field = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    Ok((field(name_field), field("password")))
}

/// Failures per address, user name and password; the first failure opens a window of ten seconds that nothing extends.
#[derive(Default)]
pub(super) struct Lockout(HashMap<String, (i64, u32)>);

impl Lockout {
    /// What a failure of this request counts for, and whether it can be refused at all.
    fn keys(req: &Req) -> (Vec<String>, bool) {
        let address =
            req.header("x-forwarded-for").and_then(|list| list.split(',').next()).unwrap_or("local");
        let mut keys = vec![format!("address {}", address.trim())];
        let mut refusable = false;
        if let Some((name, password)) = basic(req) {
            keys.extend([format!("user {name}"), format!("password {password}")]);
            refusable = true;
        }
        if req.path.as_slice() == ["medic", "login"] && req.content_type() == JSON {
            let body: Value = serde_json::from_slice(&req.body).unwrap_or_default();
            if let Some(name) = body["user"].as_str() {
                let password = body["password"].as_str().unwrap_or_default();
                keys.extend([format!("user {name}"), format!("password {password}")]);
                refusable = true;
            }
        }
        (keys, refusable)
    }

    pub fn check(&self, req: &Req, now: i64) -> Result<(), Fail> {
        let (keys, refusable) = Self::keys(req);
        let full = |key: &String| {
            self.0.get(key).is_some_and(|(first, count)| *count >= FAILURES && now < first + WINDOW_MS)
        };
        if refusable && keys.iter().any(full) { Err(Fail::api(429, "Too Many Requests")) } else { Ok(()) }
    }

    pub fn failed(&mut self, req: &Req, now: i64) {
        self.0.retain(|_, (first, _)| now < *first + WINDOW_MS);
        for key in Self::keys(req).0 {
            self.0.entry(key).or_insert((now, 0)).1 += 1;
        }
    }
}
