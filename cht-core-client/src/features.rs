//! Which calls this CHT has.
//!
//! Released calls are known by the release. Calls that no release has yet are found by trying, with reads only: a
//! development version has them and still names the last release. What was found present is remembered; what was
//! absent is looked for again, since the server may have been upgraded.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::client::{Call, ChtClient};
use crate::error::Error;
use crate::model::Version;

/// A call, or a group of calls, that not every CHT has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// Users listed with all roles (`/api/v2/users`).
    UsersV2,
    /// Users created by `/api/v3/users`.
    UsersV3,
    /// Persons and places read by `/api/v1/person` and `/api/v1/place`.
    ReadPersonsAndPlaces,
    /// Contacts and reports read by id, and ids listed, by `/api/v1/contact` and `/api/v1/report`.
    ReadContactsAndReports,
    /// Figures of `/api/v1/impact`.
    Impact,
    /// Targets read by `/api/v1/target`.
    Targets,
    /// Persons, places and reports written by `POST` and `PUT`.
    WriteContactsAndReports,
    /// Contacts listed with their documents.
    ListContacts,
    /// Summaries of contacts.
    ContactSummaries,
    /// Reports listed with their documents, by ids.
    ListReports,
    /// Summaries of reports.
    ReportSummaries,
    /// Ids of reports listed by form.
    ReportIdsByForm,
}

impl Feature {
    /// The release that brought it; `None` if it is in no release yet.
    fn since(self) -> Option<Version> {
        let (major, minor) = match self {
            Self::UsersV2 => (4, 1),
            Self::UsersV3 => (4, 9),
            Self::ReadPersonsAndPlaces => (4, 12),
            Self::ReadContactsAndReports => (4, 18),
            Self::Impact => (5, 0),
            Self::Targets => (5, 1),
            Self::WriteContactsAndReports => (5, 2),
            Self::ListContacts
            | Self::ContactSummaries
            | Self::ListReports
            | Self::ReportSummaries
            | Self::ReportIdsByForm => return None,
        };
        Some(Version { major, minor, patch: 0 })
    }

    /// A harmless call that tells whether the call is there.
    fn trial(self) -> Result<Call, Error> {
        let no_ids = json!({ "ids": [] });
        Ok(match self {
            Self::ContactSummaries => Call::post("/api/v1/contact/summary").json(&no_ids)?,
            Self::ReportSummaries => Call::post("/api/v1/report/summary").json(&no_ids)?,
            Self::ListReports => Call::get("/api/v1/report"),
            Self::ReportIdsByForm => Call::get("/api/v1/report/uuid").query("form", "-").query("limit", 1),
            _ => Call::get("/api/v1/contact"),
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Features {
    present: Mutex<HashSet<Feature>>,
}

impl ChtClient {
    /// Whether this CHT has the feature.
    pub async fn has(&self, feature: Feature) -> Result<bool, Error> {
        let known = || self.features().present.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(&feature) {
            return Ok(true);
        }
        let present = match feature.since() {
            Some(since) => self.release().await? >= since,
            None => self.try_out(feature).await?,
        };
        if present {
            known().insert(feature);
        }
        Ok(present)
    }

    async fn try_out(&self, feature: Feature) -> Result<bool, Error> {
        match self.json::<serde_json::Value>(feature.trial()?).await {
            Ok(_) | Err(Error::Forbidden { .. }) => Ok(true),
            Err(Error::NoSuchCall | Error::NotFound { .. }) => Ok(false),
            Err(Error::Invalid { .. }) => Ok(feature != Feature::ReportIdsByForm),
            Err(error) => Err(error),
        }
    }
}
