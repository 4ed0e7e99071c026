//! Forms of the app (XForms).

use bytes::Bytes;

use crate::client::{Call, ChtClient};
use crate::error::Error;

impl ChtClient {
    /// The file names of the uploaded forms, such as `visit.xml`.
    pub async fn form_files(&self) -> Result<Vec<String>, Error> {
        self.json(Call::get("/api/v1/forms")).await
    }

    /// The XForm of a form, by its id without `.xml`.
    pub async fn form_xml(&self, form: &str) -> Result<Bytes, Error> {
        self.bytes(Call::get("/api/v1/forms").at(&format!("{form}.xml"))?).await
    }
}
