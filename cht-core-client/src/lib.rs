//! A client for the Community Health Toolkit and the CouchDB behind it.
#![deny(missing_docs)]

pub mod transport;
