//! The settings document.

use serde::{Deserialize, Serialize};

use crate::client::{Call, ChtClient};
use crate::error::Error;
use crate::model::Settings;

/// How settings that are sent meet those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Objects are merged in depth, lists and values replaced.
    Extend,
    /// The top-level keys that are sent are replaced.
    ReplaceKeys,
    /// Everything is replaced.
    Overwrite,
}

#[derive(Deserialize)]
struct Updated {
    updated: bool,
}

impl ChtClient {
    /// The settings.
    pub async fn settings(&self) -> Result<Settings, Error> {
        self.json(Call::get("/api/v1/settings")).await
    }

    /// Changes the settings (needs `can_edit` and `can_configure`); `false` if they were so already.
    ///
    /// One transition with a wrong configuration stops sentinel as a whole, without a sign but its log.
    pub async fn update_settings<T: Serialize + ?Sized>(
        &self,
        settings: &T,
        merge: Merge,
    ) -> Result<bool, Error> {
        let call = Call::put("/api/v1/settings");
        let call = match merge {
            Merge::Extend => call,
            Merge::ReplaceKeys => call.query("replace", 1),
            Merge::Overwrite => call.query("overwrite", 1),
        };
        let answer: Updated = self.json(call.json(settings)?).await?;
        Ok(answer.updated)
    }
}
