#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

pub mod api;
pub mod auth;
pub mod bulk;
pub mod changes;
pub mod client;
pub mod docs;
pub mod error;
pub mod features;
pub mod model;
pub mod query;
pub mod transport;

pub use auth::Credentials;
pub use client::{BuildError, ChtClient, ChtClientBuilder};
pub use error::{Error, Reason};
