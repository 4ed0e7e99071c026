//! Durations (`5s`, `2m 30s`) and sizes (`64KiB`) with their unit; a number without one is an error.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::fmt::friendly::SpanParser;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A length of time, written with its unit: `5s`, `2m 30s`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A number of bytes, written with its unit: `512B`, `64KiB`, `2MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub usize);

/// Why a text is not what was expected; does not hold it.
pub(super) const PERIOD: &str = "a time with its unit, such as `500ms`, `5s`, `2m`, `1h` or `30d`";
pub(super) const SIZE: &str = "a size with its unit, such as `512B`, `64KiB`, `2MiB` or `1GiB`";

impl Period {
    /// From text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        static PARSER: SpanParser = SpanParser::new();
        // A day is always 24 hours here, which the parser leaves to calendars.
        if let Some(days) = text.trim().strip_suffix('d').and_then(|n| n.trim().parse::<u32>().ok()) {
            return Some(Self(Duration::from_secs(u64::from(days) * 86_400)));
        }
        PARSER.parse_unsigned_duration(text).ok().map(Self)
    }
}

impl Size {
    /// From text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let at = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(at);
        let shift = match unit.trim() {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return None,
        };
        number.parse::<usize>().ok()?.checked_mul(1 << shift).map(Self)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.as_secs() / 86_400;
        if days > 0 && self.0 == Duration::from_secs(days * 86_400) {
            return write!(f, "{days}d");
        }
        f.write_str(&jiff::fmt::friendly::SpanPrinter::new().unsigned_duration_to_string(&self.0))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = [(30, "GiB"), (20, "MiB"), (10, "KiB")]
            .into_iter()
            .find(|(s, _)| self.0 > 0 && self.0.is_multiple_of(1 << s));
        let (shift, unit) = fits.unwrap_or((0, "B"));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

macro_rules! textual {
    ($type:ident, $format:literal, $expected:ident) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                Self::parse(&text).ok_or_else(|| de::Error::custom(format!("expected {}", $expected)))
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "description": format!("Is {}.", $expected) })
            }

            fn inline_schema() -> bool {
                true
            }
        }
    };
}

textual!(Period, "period", PERIOD);
textual!(Size, "size", SIZE);

/// For `#[serde(deserialize_with)]` on a [`Duration`]; with `#[schemars(with = "Period")]` beside it.
pub fn period<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    Period::deserialize(from).map(|p| p.0)
}

/// For `#[serde(deserialize_with)]` on a number of bytes; with `#[schemars(with = "Size")]` beside it.
pub fn size<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    Size::deserialize(from).map(|s| s.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_its_unit() {
        for (text, millis) in
            [("5s", 5_000), ("500ms", 500), ("2m 30s", 150_000), ("1h", 3_600_000), ("30d", 2_592_000_000)]
        {
            assert_eq!(Period::parse(text).unwrap().0.as_millis(), millis, "{text}");
            assert_eq!(Period::parse(&Period::parse(text).unwrap().to_string()), Period::parse(text));
        }
        for text in ["5", "", "5 parsecs", "-5s", "5MiB", "s", "1y"] {
            assert_eq!(Period::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_needs_its_unit() {
        for (text, bytes) in [("512B", 512), ("64KiB", 65_536), ("2 MiB", 2 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(Size::parse(text).unwrap().0, bytes, "{text}");
            assert_eq!(Size::parse(&Size(bytes).to_string()).unwrap().0, bytes);
        }
        for text in ["2", "2MB", "MiB", "", "-1B", "2s", "99999999999999999999GiB"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }
}
