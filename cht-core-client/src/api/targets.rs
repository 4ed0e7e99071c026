//! Targets (5.1).

use super::{ListPage, Paging};
use crate::client::{Call, ChtClient};
use crate::error::Error;
use crate::model::Target;

impl ChtClient {
    /// Reads a target document.
    pub async fn target(&self, id: &str) -> Result<Target, Error> {
        self.json(Call::get("/api/v1/target").at(id)?).await
    }

    /// The targets of these contacts in a month (`YYYY-MM`).
    pub async fn targets(
        &self,
        contact_ids: &[&str],
        period: &str,
        paging: &Paging,
    ) -> Result<ListPage<Target>, Error> {
        let call = Call::get("/api/v1/target")
            .query("contact_ids", contact_ids.join(","))
            .query("reporting_period", period);
        self.json(paging.apply(call)).await
    }
}
