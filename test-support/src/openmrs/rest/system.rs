//! What is not about patients: the session, metadata, the identifier source, relationships and cohorts.

use serde_json::{Value, json};

use super::{Rest, kinds::TABLES, metadata_id, things::Thing};
use crate::openmrs::{
    auth::null_pointer,
    http::{Answer, Reply, no_such_object, not_supported, statement_refused},
    idgen,
    ids::Id,
    metadata::{SYSTEM_DEVELOPER, metadata, text},
    model::{Audit, Cohort, Relationship, UserIx},
    time,
};

impl Rest<'_> {
    /// 200 for anybody; only `authenticated` tells.
    pub(super) fn session(&mut self) -> Answer {
        if self.call.method.as_str() == "DELETE" {
            self.state.auth.logout(&self.caller.session);
            return Ok(Reply::empty(204));
        }
        let mut body = json!({
            "authenticated": self.caller.user.is_some(),
            "locale": "en",
            "allowedLocales": metadata().allowed_locales,
        });
        if let Some(user) = self.caller.user {
            body["user"] = self.user(user);
            body["sessionLocation"] = Value::Null;
            let provider = metadata().users[usize::from(user)].provider.as_deref();
            let provider = provider.and_then(|uuid| metadata().row("provider", uuid));
            body["currentProvider"] = provider.map_or(Value::Null, |row| {
                let uri = format!("{}/openmrs/ws/rest/v1/provider/{}", self.origin, text(row, "uuid"));
                json!({"uuid": row["uuid"], "display": row["display"],
                       "links": [{"rel": "self", "uri": uri, "resourceAlias": "provider"}]})
            });
        }
        Ok(Reply::rest(200, &body))
    }

    fn user(&self, ix: UserIx) -> Value {
        let user = &metadata().users[usize::from(ix)];
        let role = user.role.as_deref().and_then(|role| metadata().roles.iter().find(|r| r.uuid == role));
        let named = |name: &str, uuid: &str| json!({"uuid": uuid, "display": name, "name": name, "resourceVersion": "1.8"});
        let uuid_of = |name: &str| metadata().privileges.get(name).map(String::as_str).unwrap_or_default();
        let privileges: Vec<Value> = match role {
            Some(role) => role.privileges.iter().map(|name| named(name, uuid_of(name))).collect(),
            None if user.role.as_deref() == Some(SYSTEM_DEVELOPER) => {
                metadata().privileges.iter().map(|(name, uuid)| named(name, uuid)).collect()
            }
            None => Vec::new(),
        };
        let uri = format!("{}/openmrs/ws/rest/v1/user/{}", self.origin, user.uuid);
        json!({
            "uuid": user.uuid,
            "display": user.username,
            "username": user.username,
            "systemId": user.system_id,
            "userProperties": {"lastLoginTimestamp": self.call.now.to_string(), "loginAttempts": "0"},
            "person": {
                "uuid": user.person,
                "display": format!("{} {}", user.given, user.family),
                "resourceVersion": "1.11",
            },
            "privileges": privileges,
            "roles": role.map(|role| named(&role.name, &role.uuid)).into_iter().collect::<Vec<_>>(),
            "links": [
                {"rel": "self", "uri": uri, "resourceAlias": "user"},
                {"rel": "default", "uri": format!("{uri}?v=default"), "resourceAlias": "user"},
            ],
            "resourceVersion": "1.8",
        })
    }

    /// Types, locations, concepts and settings: read only.
    pub(super) fn metadata(&mut self, path: &[&str]) -> Answer {
        let (name, rest) = path.split_first().map_or(("", &[][..]), |(name, rest)| (*name, rest));
        let Some(table) = TABLES.iter().find(|table| table.path == name) else {
            return Err(no_such_object());
        };
        match table.privilege {
            "" => self.caller.rest_any(&self.origin)?,
            privilege => self.allow(&[privilege])?,
        };
        match (self.call.method.as_str(), rest) {
            ("GET", [uuid]) => {
                let row = metadata().row(table.name, uuid).ok_or_else(no_such_object)?;
                self.show(200, &Thing::Row(table, row))
            }
            ("GET", []) => {
                let sought = self.call.param("q").unwrap_or_default().to_lowercase();
                let named = |row: &&Value| {
                    let shown =
                        ["display", "name", "property", "moduleId"].map(|key| text(row, key).to_lowercase());
                    shown.iter().any(|name| name.contains(&sought))
                };
                let rows: Vec<Thing<'_>> = metadata()
                    .table(table.name)
                    .iter()
                    .filter(named)
                    .map(|row| Thing::Row(table, row))
                    .collect();
                self.list(&rows)
            }
            _ => Err(not_supported()),
        }
    }

    /// The identifier source; every number it gives is used up.
    pub(super) fn idgen(&mut self, path: &[&str]) -> Answer {
        match (self.call.method.as_str(), path) {
            ("GET", ["identifiersource" | "autogenerationoption", ..]) => {
                self.caller.rest_any(&self.origin)?;
                let name = path[0];
                let table = TABLES.iter().find(|table| table.name == name).ok_or_else(no_such_object)?;
                match path.get(1) {
                    Some(uuid) => {
                        let row = metadata().row(name, uuid).ok_or_else(no_such_object)?;
                        self.show(200, &Thing::Row(table, row))
                    }
                    None => {
                        let rows: Vec<_> =
                            metadata().table(name).iter().map(|row| Thing::Row(table, row)).collect();
                        self.list(&rows)
                    }
                }
            }
            ("GET", ["nextIdentifier"]) => {
                self.allow(&["Edit Patient Identifiers"])?;
                let known = metadata()
                    .table("identifiersource")
                    .iter()
                    .any(|row| self.call.param("source") == Some(row["numericId"].to_string().as_str()));
                if !known {
                    return no_source();
                }
                let next = self.next_identifier();
                Ok(Reply::rest(200, &json!({"results": [{"identifierValue": next}]})))
            }
            ("POST", ["identifiersource", uuid, "identifier"]) => {
                self.body()?;
                self.allow(&["Edit Patient Identifiers"])?;
                if metadata().row("identifiersource", uuid).is_none() {
                    return no_source();
                }
                let next = self.next_identifier();
                Ok(Reply::rest(201, &json!({"identifier": next})))
            }
            ("POST", ["identifiersource"]) => {
                let body = self.body()?;
                self.allow(&["Generate Batch of Identifiers", "Edit Patient Identifiers"])?;
                let source = body.get("sourceUuid").and_then(Value::as_str).unwrap_or_default();
                if metadata().row("identifiersource", source).is_none() {
                    return no_source();
                }
                let number = body.get("numberToGenerate").and_then(Value::as_u64).unwrap_or(1).min(10_000);
                let identifiers: Vec<String> = (0..number).map(|_| self.next_identifier()).collect();
                Ok(Reply::rest(201, &json!({"identifiers": identifiers})))
            }
            _ => Err(not_supported()),
        }
    }

    fn next_identifier(&mut self) -> String {
        self.state.tables.sequence += 1;
        idgen::from_sequence(self.state.tables.sequence - 1, idgen::BASE_30)
    }

    pub(super) fn relationship(&mut self, path: &[&str]) -> Answer {
        let tables = &self.state.tables;
        match (self.call.method.as_str(), path) {
            ("GET", []) => {
                self.allow(&["Get Relationships"])?;
                let person = self.call.param("person").ok_or_else(not_supported)?;
                let at = self.find_patient(person)?;
                let rows: Vec<Thing<'_>> = tables
                    .relationships
                    .iter()
                    .filter(|row| !row.audit.is_voided() && (row.a == at || row.b == at))
                    .map(Thing::Relationship)
                    .collect();
                self.list(&rows)
            }
            ("GET", [uuid]) => {
                self.allow(&["Get Relationships"])?;
                let id = Id::from(*uuid);
                let row =
                    tables.relationships.iter().find(|row| row.uuid == id).ok_or_else(no_such_object)?;
                self.show(200, &Thing::Relationship(row))
            }
            ("POST", []) => {
                let body = self.body()?;
                let by = self.allow(&["Add Relationships"])?;
                let person = |key: &str| {
                    self.find_patient(body.get(key).and_then(super::reference).unwrap_or_default())
                };
                let (a, b) = (person("personA")?, person("personB")?);
                let kind = metadata_id("relationshiptype", body.get("relationshipType"))
                    .ok_or_else(no_such_object)?;
                let start = body
                    .get("startDate")
                    .and_then(Value::as_str)
                    .and_then(time::parse_rest)
                    .map(time::instant);
                let uuid = self.chosen(&body);
                if self.state.tables.relationships.iter().any(|row| row.uuid == uuid) {
                    return Err(duplicate(&uuid));
                }
                let audit = Audit::new(by, self.call.now);
                self.state.tables.relationships.push(Relationship { uuid, a, b, kind, start, audit });
                let row = &self.state.tables.relationships[self.state.tables.relationships.len() - 1];
                self.show(201, &Thing::Relationship(row))
            }
            _ => Err(not_supported()),
        }
    }

    /// Cohorts: `memberIds` and memberships are answered as if stored, and are not.
    pub(super) fn cohort(&mut self, path: &[&str]) -> Answer {
        let position = |uuid: &str, cohorts: &[Cohort]| {
            let id = Id::from(uuid);
            cohorts.iter().position(|row| row.uuid == id).ok_or_else(no_such_object)
        };
        match (self.call.method.as_str(), path) {
            ("GET", []) => {
                self.allow(&["Get Patient Cohorts"])?;
                self.list(&self.state.tables.cohorts.iter().map(Thing::Cohort).collect::<Vec<_>>())
            }
            ("GET", [uuid]) => {
                self.allow(&["Get Patient Cohorts"])?;
                let place = position(uuid, &self.state.tables.cohorts)?;
                self.show(200, &Thing::Cohort(&self.state.tables.cohorts[place]))
            }
            ("GET", [uuid, "membership"]) => {
                self.allow(&["Get Patient Cohorts"])?;
                let place = position(uuid, &self.state.tables.cohorts)?;
                let cohort = &self.state.tables.cohorts[place];
                let rows: Vec<_> =
                    (0..cohort.members.len()).map(|at| Thing::Membership(cohort, at)).collect();
                self.list(&rows)
            }
            ("POST", []) => {
                let body = self.body()?;
                let by = self.allow(&["Add Cohorts"])?;
                let uuid = self.chosen(&body);
                if self.state.tables.cohorts.iter().any(|row| row.uuid == uuid) {
                    return Err(duplicate(&uuid));
                }
                let field = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
                let (name, description) = (field("name").unwrap_or_default(), field("description"));
                let audit = Audit::new(by, self.call.now);
                self.state.tables.cohorts.push(Cohort {
                    uuid,
                    name,
                    description,
                    members: Vec::new(),
                    audit,
                });
                let row = &self.state.tables.cohorts[self.state.tables.cohorts.len() - 1];
                self.show(201, &Thing::Cohort(row))
            }
            ("POST", [uuid, "membership"]) => {
                let body = self.body()?;
                self.allow(&["Edit Cohorts"])?;
                let place = position(uuid, &self.state.tables.cohorts)?;
                let member = body.get("patientUuid").and_then(Value::as_str).unwrap_or_default();
                let at = self.find_patient(member)?;
                let start = body.get("startDate").and_then(Value::as_str).and_then(time::parse_rest);
                let start = start.map_or(self.call.now, time::instant);
                let mut shown = self.state.tables.cohorts[place].clone();
                shown.members = vec![(self.chosen(&body), at, start)];
                self.show(201, &Thing::Membership(&shown, 0))
            }
            _ => Err(not_supported()),
        }
    }
}

fn no_source() -> Answer {
    let raw =
        "Cannot invoke \"org.openmrs.module.idgen.IdentifierSource.getId()\" because \"source\" is null";
    null_pointer(raw, "org.openmrs.module.idgen.service.BaseIdentifierSourceService:167")
}

/// 500: the one key of a row that is held unique.
pub(super) fn duplicate(uuid: &Id) -> Reply {
    statement_refused(&format!("Duplicate entry '{uuid}' for key 'uuid'"), "ConstraintViolationException")
}
