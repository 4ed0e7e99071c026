//! All problems of a configuration at once, each with its path and what to do.

use std::fmt;

use serde::Serialize;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where: `bridges[0].partner.openmrs.url`.
    pub path: String,
    /// What is wrong and what to do. Holds no secret.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// Collects problems below a path.
#[derive(Clone, Debug, Default)]
pub struct ConfigReport {
    prefix: String,
    problems: Vec<Problem>,
}

impl ConfigReport {
    /// Nothing found yet; paths begin with `prefix`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), problems: vec![] }
    }

    /// Adds a problem at `path` below the prefix.
    pub fn add(&mut self, path: &str, text: impl Into<String>) {
        let path = match (self.prefix.as_str(), path) {
            ("", path) => path.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, path) => format!("{prefix}.{path}"),
        };
        self.problems.push(Problem { path, text: text.into() });
    }

    /// Takes over the problems of another report as they are.
    pub fn merge(&mut self, other: ConfigReport) {
        self.problems.extend(other.problems);
    }

    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// What was found, in the order it was found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}
