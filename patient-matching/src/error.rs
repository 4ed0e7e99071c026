//! What can go wrong. No message holds a name, a number or any other personal data.

use thiserror::Error as ThisError;

/// An error of this crate.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The model file cannot be used.
    #[error("the model file cannot be used: {0}")]
    Model(String),
    /// The schema file cannot be used.
    #[error("the schema cannot be used: {0}")]
    Schema(String),
    /// A table of people cannot be read.
    #[error("cannot read people: {0}")]
    Input(String),
    /// A snapshot or journal is damaged or of another format.
    #[error("the index files cannot be used: {0}")]
    Storage(String),
    /// The operating system refused a file operation.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}
