//! The REST module: which resource serves a request, and what all of them share.

mod clinical;
mod kinds;
mod parts;
mod people;
mod represent;
mod search;
mod system;
mod things;
pub(super) mod values;

pub(super) use clinical::{check_time, out_of_range};

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::{
    State,
    auth::Caller,
    edit::Hand,
    http::{Answer, Call, Reply, failure, thrown},
    ids::Id,
    metadata::metadata,
    model::UserIx,
};
use represent::{Rep, View, render};
use things::Thing;

/// One REST request at work.
pub(super) struct Rest<'a> {
    pub state: &'a mut State,
    pub call: &'a Call,
    pub caller: &'a Caller,
    pub origin: String,
}

/// Answers a request below `/openmrs/ws/rest/v1/`.
pub(super) fn answer(state: &mut State, call: &Call, caller: &Caller, path: &str) -> Answer {
    let origin = call.origin();
    let mut rest = Rest { state, call, caller, origin };
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if ![Method::GET, Method::POST, Method::DELETE].contains(&call.method) {
        return Ok(rest.unserved_verb());
    }
    let reply = match segments.as_slice() {
        ["session"] => rest.session(),
        ["patient"] | ["person"] if call.method == Method::GET => rest.search_patients(segments[0]),
        ["patient", rest_of @ ..] => rest.patient(rest_of),
        ["person", rest_of @ ..] => rest.person(rest_of),
        ["encounter", rest_of @ ..] => rest.encounter(rest_of),
        ["obs", rest_of @ ..] => rest.obs(rest_of),
        ["visit", rest_of @ ..] => rest.visit(rest_of),
        ["relationship", rest_of @ ..] => rest.relationship(rest_of),
        ["cohort", rest_of @ ..] => rest.cohort(rest_of),
        ["idgen", rest_of @ ..] => rest.idgen(rest_of),
        _ => rest.metadata(&segments),
    }?;
    Ok(rest.with_etag(reply))
}

impl Rest<'_> {
    fn hand(&self, by: UserIx) -> Hand<'_> {
        Hand { by, now: self.call.now, switches: &self.state.switches }
    }

    fn is(&self, method: &Method) -> bool {
        self.call.method == *method
    }

    fn view(&self) -> View<'_> {
        View { tables: &self.state.tables, origin: &self.origin, now: self.call.now }
    }

    fn allow(&self, privileges: &[&str]) -> Result<UserIx, Reply> {
        self.caller.rest(privileges, &self.origin)
    }

    /// Shows a thing in the representation that was asked for.
    fn show(&self, status: u16, thing: &Thing<'_>) -> Answer {
        let rep = Rep::asked(self.call.param("v"))?;
        Ok(Reply::rest(status, &render(thing, &rep, self.view())?))
    }

    /// A verb that is not served: 200 and the exception itself, nothing done.
    fn unserved_verb(&self) -> Reply {
        let message = format!("Request method '{}' not supported", self.call.method);
        Reply::rest(
            200,
            &json!({
                "cause": null,
                "method": self.call.method.as_str(),
                "supportedMethods": ["DELETE", "POST", "GET"],
                "supportedHttpMethods": ["GET", "POST", "DELETE"],
                "rootCause": null,
                "message": message,
                "suppressed": [],
                "localizedMessage": message,
                "stackTrace": ["(cut)"],
            }),
        )
    }

    /// GET answers carry a tag made from their content.
    fn with_etag(&self, reply: Reply) -> Reply {
        if !self.is(&Method::GET) || reply.status != 200 {
            return reply;
        }
        use sha1::{Digest, Sha1};
        let digest: String =
            Sha1::digest(&reply.body).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let tag = format!("\"0{digest}\"");
        if self.call.header("if-none-match") == tag {
            return Reply::empty(304).with("etag", tag);
        }
        reply.with("etag", tag)
    }

    /// The JSON object of a request.
    fn body(&self) -> Result<Map<String, Value>, Reply> {
        const UNREADABLE: &str = "org.springframework.http.converter.HttpMessageNotReadableException";
        if self.call.body.is_empty() {
            let raw = "Required request body is missing: public java.lang.Object \
                       org.openmrs.module.webservices.rest.web.v1_0.controller.MainSubResourceController.create(\
                       java.lang.String,java.lang.String,java.lang.String,\
                       org.openmrs.module.webservices.rest.SimpleObject,javax.servlet.http.HttpServletRequest,\
                       javax.servlet.http.HttpServletResponse) throws \
                       org.openmrs.module.webservices.rest.web.response.ResponseException";
            let code = "org.springframework.web.servlet.mvc.method.annotation.RequestResponseBodyMethodProcessor:163";
            return Err(failure(400, UNREADABLE, raw, code));
        }
        let kind = self.call.header("content-type");
        if !kind.contains("json") {
            let kind =
                if kind.contains("charset") { kind.to_owned() } else { format!("{kind};charset=UTF-8") };
            let raw = format!("Content type '{kind}' not supported");
            let class = "org.springframework.web.HttpMediaTypeNotSupportedException";
            let code = "org.springframework.web.servlet.mvc.method.annotation.\
                        AbstractMessageConverterMethodArgumentResolver:211";
            return Err(failure(500, class, &raw, code));
        }
        let unreadable = |why: String| {
            let raw = format!("JSON parse error: {why}");
            let code = "org.springframework.http.converter.json.AbstractJackson2HttpMessageConverter:391";
            thrown(400, UNREADABLE, &raw, &format!("[{raw}]"), code)
        };
        match serde_json::from_slice(&self.call.body) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(unreadable(
                "Cannot deserialize value of type `SimpleObject` from another token".to_owned(),
            )),
            Err(error) => Err(unreadable(format!("{error}"))),
        }
    }

    /// The uuid that a client chose for a new row, or one of the server's.
    fn chosen(&mut self, body: &Map<String, Value>) -> Id {
        match body.get("uuid").and_then(Value::as_str) {
            Some(uuid) => uuid.into(),
            None => self.state.tables.ids.next(),
        }
    }

    fn find_patient(&self, uuid: &str) -> Result<u32, Reply> {
        self.state.tables.find(uuid).ok_or_else(super::http::no_such_object)
    }
}

/// A uuid given as text or as an object that has one.
fn reference(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("uuid").and_then(Value::as_str))
}

/// Whether there is such a row of metadata, as an id.
fn metadata_id(table: &str, value: Option<&Value>) -> Option<Id> {
    let uuid = reference(value?)?;
    metadata().row(table, uuid).map(|_| uuid.into())
}
