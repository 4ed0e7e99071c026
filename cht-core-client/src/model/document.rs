//! Reading and writing documents without loss.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Takes a field out of `rest` if it has the expected type; otherwise it stays where it is.
pub(crate) fn take<T: DeserializeOwned>(rest: &mut Map<String, Value>, key: &str) -> Option<T> {
    match rest.get(key) {
        None | Some(Value::Null) => None,
        Some(value) => {
            let typed = T::deserialize(value).ok()?;
            rest.remove(key);
            Some(typed)
        }
    }
}

/// Puts a field back, replacing what `rest` holds under its name.
pub(crate) fn put<T: Serialize, E: serde::ser::Error>(
    all: &mut Map<String, Value>,
    key: &str,
    field: &Option<T>,
) -> Result<(), E> {
    if let Some(field) = field {
        all.insert(key.to_owned(), serde_json::to_value(field).map_err(E::custom)?);
    }
    Ok(())
}

/// Declares a document: typed optional fields and `rest`, lossless, with a `Debug` that shows no values.
macro_rules! document {
    (
        $(#[$about:meta])*
        $name:ident {
            $( $(#[$field_about:meta])* $field:ident: $type:ty = $key:literal, )*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Default, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $( $(#[$field_about])* pub $field: Option<$type>, )*
            /// Every other field, and fields whose value has another type than expected.
            pub rest: serde_json::Map<String, serde_json::Value>,
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut rest = serde_json::Map::deserialize(deserializer)?;
                Ok(Self {
                    $( $field: crate::model::document::take(&mut rest, $key), )*
                    rest,
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut all = self.rest.clone();
                $( crate::model::document::put::<_, S::Error>(&mut all, $key, &self.$field)?; )*
                all.serialize(serializer)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut shown = f.debug_struct(stringify!($name));
                $( if self.$field.is_some() { shown.field($key, &format_args!("…")); } )*
                shown.field("others", &self.rest.len()).finish()
            }
        }
    };
}
pub(crate) use document;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    document! {
        /// A document for the tests.
        Sample {
            /// Text.
            name: String = "name",
            /// Number.
            age: i64 = "age",
        }
    }

    #[test]
    fn odd_values_and_unknown_fields_come_back_as_they_were() {
        for doc in [
            json!({"name": "A", "age": 3, "x": {"y": [1]}}),
            json!({"name": 7, "age": "three"}),
            json!({"name": null, "age": 1.5, "": ""}),
            json!({}),
        ] {
            let sample: Sample = serde_json::from_value(doc.clone()).unwrap();
            assert_eq!(serde_json::to_value(&sample).unwrap(), doc);
        }
    }

    #[test]
    fn a_field_that_is_set_replaces_the_odd_value() {
        let mut sample: Sample = serde_json::from_value(json!({"name": 7})).unwrap();
        assert_eq!(sample.name, None);
        sample.name = Some("B".into());
        let text = serde_json::to_string(&sample).unwrap();
        assert_eq!(text, r#"{"name":"B"}"#);
    }

    #[test]
    fn debug_shows_no_values() {
        let sample: Sample = serde_json::from_value(json!({"name": "Zuri", "zuri": "Zuri"})).unwrap();
        assert!(!format!("{sample:?}").to_lowercase().contains("zuri"), "{sample:?}");
        assert_eq!(serde_json::to_value(&sample).unwrap()["zuri"], Value::from("Zuri"));
    }
}
