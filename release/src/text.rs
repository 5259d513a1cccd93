//! One way to give a type that is a checked text its serde and JSON Schema forms.

/// Serialises by `Display`, deserialises by `FromStr`, and describes itself as a string with a
/// pattern, so that no wire form can bypass the checks of the constructor.
macro_rules! serde_as_text {
    ($type:ty, $about:literal, $pattern:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string", "description": $about, "pattern": $pattern
                })
            }
        }
    };
}

pub(crate) use serde_as_text;
