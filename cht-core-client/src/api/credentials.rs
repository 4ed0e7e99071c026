//! Secrets of the CHT itself, such as the passwords of its outbound pushes. They can be set and never read.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::client::{Call, ChtClient};
use crate::error::Error;

impl ChtClient {
    /// Sets a secret (4.0; database administrators only).
    pub async fn set_credential(&self, key: &str, secret: &SecretString) -> Result<(), Error> {
        let body = secret.expose_secret().to_owned();
        let call = Call::put("/api/v1/credentials").at(key)?.body("text/plain", body);
        self.json::<Value>(call).await.map(drop)
    }
}
