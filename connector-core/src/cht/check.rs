//! Whether the CHT can be worked with, and what planning needs to know of it.
//!
//! Reads only. A finding that is not well names what must be mended before anything is sent; what merely slows down or is
//! worth knowing is well and says so.

use std::sync::{Arc, PoisonError};

use cht_core_client::Error;
use cht_core_client::bulk::DocRow;
use cht_core_client::model::{Contact, Settings, Version};
use cht_core_client::query::ViewQuery;

use super::Cht;
use super::place::Places;
use crate::connector::Finding;

/// The oldest release whose recordings or sources were looked at.
const OLDEST: Version = Version { major: 4, minor: 0, patch: 0 };
/// The permission without which nothing can be written.
const CAN_EDIT: &str = "can_edit";

impl Cht {
    pub(super) async fn look_around(&self) -> Vec<Finding> {
        let mut findings = vec![];
        if !self.encrypted {
            let text = "over http: passwords and people travel in the clear; use https outside one machine or private network";
            findings.push(Finding::ok("encryption", text));
        }
        if let Err(finding) = self.look_inside(&mut findings).await {
            findings.push(finding);
        }
        findings
    }

    /// Ends at the first finding after which the others mean nothing.
    async fn look_inside(&self, findings: &mut Vec<Finding>) -> Result<(), Finding> {
        let monitoring = self.client.monitoring().await.map_err(|error| unwell("reachable", &error))?;
        if !monitoring.couchdb_reachable() {
            return Err(Finding::bad(
                "reachable",
                "the CHT answers but does not reach its CouchDB; start it",
            ));
        }
        findings.push(Finding::ok("reachable", "the CHT answers"));
        findings.push(match monitoring.release() {
            Some(release) if release < OLDEST => {
                Finding::bad("version", format!("CHT {release} is older than {OLDEST}; upgrade it"))
            }
            Some(release) => Finding::ok("version", format!("CHT {release}")),
            None => Finding::ok("version", "the CHT names no release"),
        });
        findings.push(self.backlog(monitoring.sentinel_backlog()));

        let user = self.client.user_context().await.map_err(|error| unwell("login", &error))?;
        findings.push(Finding::ok("login", "user and password are right"));
        if !user.is_online() {
            return Err(Finding::bad(
                "user",
                "is an offline user, to whom the CHT shows a part only; give it the role mm-online, or a configured role \
                 that is not offline",
            ));
        }
        let settings = self.client.settings().await.map_err(|error| unwell("settings", &error))?;
        findings.push(match settings.has_permission(&user.roles, CAN_EDIT) {
            true => Finding::ok("permission", format!("the user has {CAN_EDIT}")),
            false => Finding::bad(
                "permission",
                format!("the user lacks {CAN_EDIT}; give it to one of its roles in settings.permissions"),
            ),
        });
        findings.extend(self.types(&settings));
        findings.extend(self.learn_places(&settings).await?);
        Ok(())
    }

    fn backlog(&self, backlog: Option<u64>) -> Finding {
        let text = match (backlog, self.pace.limit()) {
            (Some(backlog), Some(limit)) if backlog > limit => {
                format!(
                    "{backlog} changes wait for sentinel, more than writes.backlog ({limit}): writes wait too"
                )
            }
            (Some(backlog), _) => format!("{backlog} changes wait for sentinel"),
            (None, _) => "the CHT does not say how many changes wait for sentinel".to_owned(),
        };
        Finding::ok("sentinel", text)
    }

    fn types(&self, settings: &Settings) -> Vec<Finding> {
        let unknown = self.shape.person_types.iter().filter(|id| !settings.is_person_type(id));
        let mut findings: Vec<Finding> = unknown
            .map(|id| {
                let text =
                    format!("`{id}` is no person type in settings.contact_types; correct person_types");
                Finding::bad("person type", text)
            })
            .collect();
        if findings.is_empty() {
            findings.push(Finding::ok("person type", self.shape.person_types.join(", ")));
        }
        findings
    }

    async fn learn_places(&self, settings: &Settings) -> Result<Vec<Finding>, Finding> {
        let mut places = Places::default();
        let mut findings = vec![];
        let ids: Vec<&str> = self.placement.named().into_iter().collect();
        if self.create.people && ids.is_empty() && !self.placement.looks_up() {
            let text =
                "no place is configured for new contacts; set place.default, or switch create.people off";
            findings.push(Finding::bad("place", text));
        }
        if !ids.is_empty() {
            let rows = self.client.medic().all_docs::<Contact>(&ids, true).await;
            for row in rows.map_err(|error| unwell("place", &error))? {
                match row {
                    DocRow::Found { id, doc: Some(place), .. } => {
                        findings.extend(self.unfit(settings, &id, &place));
                        places.learn(&place);
                    }
                    DocRow::Found { id, .. } | DocRow::Deleted { id, .. } | DocRow::Missing { id } => {
                        findings.push(Finding::bad(
                            "place",
                            format!("there is no place `{id}`; correct `place`"),
                        ));
                    }
                    _ => {}
                }
            }
        }
        if self.placement.looks_up() {
            for type_id in &self.placement.types {
                let query = ViewQuery {
                    key: Some(serde_json::json!([type_id])),
                    include_docs: true,
                    reduce: Some(false),
                    ..ViewQuery::default()
                };
                let rows =
                    self.client.medic().view::<Contact>("medic-client", "contacts_by_type", &query).await;
                for place in
                    rows.map_err(|error| unwell("place", &error))?.into_iter().filter_map(|row| row.doc)
                {
                    places.learn(&place);
                }
            }
        }
        if findings.iter().all(|finding| finding.ok) {
            findings.push(Finding::ok("place", format!("{} places known", places.len())));
        }
        *self.places.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(places);
        Ok(findings)
    }

    /// Why a contact of the configured type may not stand under this place.
    fn unfit(&self, settings: &Settings, id: &str, place: &Contact) -> Option<Finding> {
        let type_id = place.type_id();
        if type_id.is_none_or(|type_id| settings.is_person_type(type_id)) {
            return Some(Finding::bad("place", format!("`{id}` is no place; correct `place`")));
        }
        let problem = settings.person_problems(&self.create.type_id, type_id).into_iter().next()?;
        Some(Finding::bad("place", format!("under `{id}`: {problem}; choose another place or create.type")))
    }
}

fn unwell(what: &str, error: &Error) -> Finding {
    Finding::bad(what, error.to_string())
}
