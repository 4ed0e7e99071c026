//! The shared core of all connectors: the [`Connector`](connector::Connector) trait, canonical changes, the durable
//! delivery core and its stores, configuration, HTTP server and command line.
//!
//! A new partner system is a new crate that implements one trait; the core gives it durable exactly-once delivery in
//! order per person. `docs/architecture.md` shows how one patient flows through.
#![deny(missing_docs)]

pub mod change;
pub mod cht;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connector;
pub mod http;
pub mod outbox;
pub mod reconcile;
pub mod rules;
pub mod runtime;
pub mod store;
pub mod transport;

pub use cli::main;
