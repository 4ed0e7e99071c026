//! A secret in the configuration: shown nowhere, and the only kind of field that may refer to something outside.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

/// The `format` by which the JSON Schema tells secrets from other text.
pub(super) const FORMAT: &str = "secret";

/// A secret: itself, `${NAME}` for an environment variable, or `file:PATH` for what a file holds.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// It, for the login.
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::from)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": FORMAT,
            "description": "A secret: itself, `${NAME}` for an environment variable, or `file:PATH` for what a file holds."
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// What a secret's text stands for. An error says what could not be resolved, never a value.
pub(super) fn resolve(
    text: &str,
    folder: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    if let Some(path) = text.strip_prefix("file:") {
        let path = folder.join(path);
        return std::fs::read_to_string(&path)
            .map(|t| t.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|e| format!("file {} cannot be read: {}", path.display(), e.kind()));
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else {
            return Err("`${` without `}`; write `${NAME}`".to_owned());
        };
        out.push_str(before);
        out.push_str(&variable(name).ok_or_else(|| {
            match name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                true => format!("environment variable {name} is not set"),
                false => "what stands in `${}` is no name of an environment variable".to_owned(),
            }
        })?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_or_are_errors_that_show_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pw"), "from file\n").unwrap();
        let variable = |name: &str| (name == "PW").then(|| "from env".to_owned());
        let go = |text: &str| resolve(text, dir.path(), &variable);
        assert_eq!(go("plain $ {text}").unwrap(), "plain $ {text}");
        assert_eq!(go("${PW}").unwrap(), "from env");
        assert_eq!(go("a:${PW}@b").unwrap(), "a:from env@b");
        assert_eq!(go("file:pw").unwrap(), "from file");
        assert!(go("${NONE}").unwrap_err().contains("NONE"));
        assert!(go("file:none").unwrap_err().contains("none"));
        for half in ["hush${PW", "${hush hush}"] {
            assert!(!go(half).unwrap_err().contains("hush"), "{half}");
        }
        assert_eq!(format!("{:?}", Secret::from("hush".to_owned())), "***");
    }
}
