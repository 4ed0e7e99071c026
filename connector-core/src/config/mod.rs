//! Configuration: file, environment and flags in; every problem reported at once, by path.
//!
//! [`load`] reads the sources, checks the whole against the JSON Schema of the connector at hand, resolves secrets, and
//! builds the connectors. It asks no server. A value of a secret appears in no problem and no `Debug`.

mod load;
mod overlay;
mod reference;
mod report;
mod schema;
mod secret;
mod units;
mod walk;

pub use load::{Built, Fixed, Loaded, Sources, load};
pub use reference::{reference_markdown, schema};
pub use report::{ConfigReport, Problem};
pub use schema::{
    Bridge, Configuration, Encryption, HttpSettings, Keep, Level, Log, LogFormat, Names, Otlp, Start,
    StorePlace, Tuning,
};
pub use secret::Secret;
pub use units::{Period, Size, period, size};
