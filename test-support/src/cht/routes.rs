//! Which call is which, and what comes before all of them: the starting phase, the lock-out, an unreachable CouchDB.

use serde_json::json;

use super::{
    auth::{self, Access},
    contacts,
    couch::{self, Answer},
    datasource::{self, Kind},
    export,
    http::{Fail, Guard, Reply, Req, STARTING_PAGE},
    info, lookup, records, settings, sms, standin,
    state::{Calls, State},
    users,
};

pub(super) fn answer(state: &mut State, req: &Req, now: i64) -> Result<Answer, Fail> {
    let path: Vec<&str> = req.path.iter().map(String::as_str).collect();
    if let ["_standin", "cht", call] = path.as_slice() {
        return standin::call(state, req, call, now).map(Into::into);
    }
    if state.switches.starting {
        return Ok(starting(req).into());
    }
    state.lockout.check(req, now)?;
    if state.switches.couchdb_down && !matches!(path.as_slice(), ["api", "v1" | "v2", "monitoring"]) {
        return Err(Fail::server(None));
    }
    let access = auth::access(state, req, now);
    match path.as_slice() {
        ["api" | "setup", ..] => api(state, req, &path, &access, now).map(Into::into),
        ["_session"] => auth::session(state, req, &access, now).map(Into::into),
        ["medic", "login"] if req.method == "POST" => auth::login_page(state, req, now).map(Into::into),
        ["_all_dbs"] => {
            let user = access.user_or(Guard::Couch)?;
            if !user.is_admin() {
                return Err(Fail::NotLoggedIn(Guard::Couch));
            }
            Ok(Reply::couch(200, json!(["_users", "medic", "medic-sentinel"]).to_string()).into())
        }
        _ => couch::database(state, req, &access, now),
    }
}

fn starting(req: &Req) -> Reply {
    if req.wants_json() {
        Reply::api_with(503, &json!({ "error": "Service unavailable" }))
    } else {
        Reply::new(200, "text/html; charset=utf-8", STARTING_PAGE)
    }
}

fn api(state: &mut State, req: &Req, path: &[&str], access: &Access, now: i64) -> Result<Reply, Fail> {
    let method = req.method.as_str();
    if req.trailing_slash {
        return Err(unknown(access));
    }
    match (method, path) {
        ("GET", ["api", "info"]) => Ok(info::version()),
        ("GET", ["setup", "poll"]) => Ok(info::ready()),
        ("GET", ["api", "v1", "startup-progress"]) => Ok(info::progress(state)),
        ("GET", ["api", "v1", "target"]) => lookup::targets(state, req, access),
        ("GET", ["api", "v1", "target", id]) => lookup::target(state, id, access),
        ("GET", ["api", "deploy-info"]) => info::deployed(state, access),
        ("GET", ["api", "v1", "monitoring"]) => Ok(info::monitoring(state, false, now)),
        ("GET", ["api", "v2", "monitoring"]) => Ok(info::monitoring(state, true, now)),
        ("GET", ["api", "v1", "impact"]) => info::impact(state, access),
        ("GET" | "POST", ["api", "v1", "hydrate"]) => lookup::hydrate(state, req, access),
        ("GET" | "POST", ["api", "v1", "contacts-by-phone"]) => lookup::contacts_by_phone(state, req, access),
        ("POST", ["api", "v1", "bulk-delete"]) => lookup::bulk_delete(state, req, access, now),
        ("GET", ["api", "v1", "forms"]) => lookup::forms(state, access),
        ("GET", ["api", "v1", "forms", file]) => lookup::form(state, file, access),
        ("POST", ["api", "v1" | "v2", "records"]) => records::post(state, req, access, now),
        ("GET", ["api", "sms"]) => sms::options(state, access),
        ("POST", ["api", "sms"]) => sms::poll(state, req, access, now),
        ("POST", ["api", "v1", "sms", "radpidpro", "incoming-messages"])
        | ("POST", ["api", "v2", "sms", "rapidpro", "incoming-messages"]) => sms::rapidpro(state, req, now),
        ("GET" | "POST", ["api", "v2", "export", name]) => export::export(state, req, name, access, now),
        ("POST", ["api", "v1" | "v2" | "v3", "users"]) => users::create(state, req, access, now),
        ("POST", ["api", "v1" | "v3", "users", name]) => users::update(state, req, name, access, now),
        ("DELETE", ["api", "v1", "users", name]) => users::delete(state, name, access, now),
        ("GET", ["api", "v1", "users"]) => users::list(state, req, true, access),
        ("GET", ["api", "v2", "users"]) => users::list(state, req, false, access),
        ("GET", ["api", "v2", "users", name]) => users::get(state, name, access),
        ("GET", ["api", "v1", "users-info"]) => users::info(state, req, access),
        ("GET", ["api", "v1", "settings"]) => settings::get(state, access),
        ("PUT", ["api", "v1", "settings"]) => settings::put(state, req, access, now),
        ("PUT", ["api", "v1", "credentials", key]) => settings::put_credential(state, req, key, access),
        ("POST", ["api", "v1", "people"]) => contacts::post_person(state, req, access, now),
        ("POST", ["api", "v1", "places"]) => contacts::post_place(state, req, access, now),
        ("POST", ["api", "v1", "places", id]) => contacts::update_place(state, req, id, access, now),
        (_, ["api", "v1", name @ ("contact" | "person" | "place" | "report"), rest @ ..]) => {
            let kind = Kind::named(name).ok_or_else(|| unknown(access))?;
            let newest = match (method, rest) {
                ("POST", ["summary"]) => true,
                ("GET", []) => matches!(kind, Kind::Contact | Kind::Report),
                ("GET", ["uuid"]) => kind == Kind::Report && req.param("form").is_some(),
                _ => false,
            };
            if state.switches.calls < if newest { Calls::V53 } else { Calls::V52 } {
                return Err(unknown(access));
            }
            match (method, rest) {
                ("GET", []) => datasource::list(state, req, kind, access),
                ("GET", ["uuid"]) if matches!(kind, Kind::Contact | Kind::Report) => {
                    datasource::list_ids(state, req, kind, access)
                }
                ("POST", ["summary"]) if matches!(kind, Kind::Contact | Kind::Report) => {
                    datasource::summary(state, req, kind, access)
                }
                ("GET", [id]) => datasource::get(state, req, kind, id, access),
                ("POST", []) if kind != Kind::Contact => datasource::post(state, req, kind, access, now),
                ("PUT", [id]) if kind != Kind::Contact => datasource::put(state, req, kind, id, access, now),
                _ => Err(unknown(access)),
            }
        }
        _ => Err(unknown(access)),
    }
}

/// What the api does not know goes to CouchDB, which has no database of that name.
fn unknown(access: &Access) -> Fail {
    match access.user() {
        Ok(_) => Fail::no_database(),
        Err(fail) => fail,
    }
}
