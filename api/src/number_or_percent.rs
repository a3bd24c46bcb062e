//! A number, or a share of something that is counted: `3`, `10%`.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number, or a share such as `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberOrPercent {
    /// An absolute number.
    Number(u32),
    /// A percentage.
    Percent(u32),
}

impl NumberOrPercent {
    /// The number that it means of `total`, rounded down.
    pub fn of(self, total: u32) -> u32 {
        match self {
            NumberOrPercent::Number(number) => number,
            NumberOrPercent::Percent(percent) => {
                let share = u64::from(total) * u64::from(percent) / 100;
                u32::try_from(share).unwrap_or(u32::MAX)
            }
        }
    }
}

impl fmt::Display for NumberOrPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NumberOrPercent::Number(number) => number.fmt(f),
            NumberOrPercent::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for NumberOrPercent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            NumberOrPercent::Number(number) => serializer.serialize_u32(*number),
            NumberOrPercent::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for NumberOrPercent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = NumberOrPercent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a share such as \"10%\"")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<NumberOrPercent, E> {
                u32::try_from(number).map(NumberOrPercent::Number).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<NumberOrPercent, E> {
                u32::try_from(number).map(NumberOrPercent::Number).map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<NumberOrPercent, E> {
                text.strip_suffix('%')
                    .and_then(|percent| percent.parse().ok())
                    .filter(|percent| *percent <= 100)
                    .map(NumberOrPercent::Percent)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for NumberOrPercent {
    fn schema_name() -> Cow<'static, str> {
        "NumberOrPercent".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["integer", "string"], "format": "number-or-percent" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down() {
        assert_eq!(NumberOrPercent::Percent(10).of(19), 1);
        assert_eq!(NumberOrPercent::Number(3).of(1), 3);
        assert!(serde_json::from_str::<NumberOrPercent>("\"110%\"").is_err());
        assert!(serde_json::from_str::<NumberOrPercent>("-1").is_err());
    }
}
