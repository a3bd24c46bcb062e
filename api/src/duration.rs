//! Durations as manifests write them: `30s`, `1h30m`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration as StdDuration;

use jiff::SignedDuration;
use jiff::fmt::friendly::{Designator, Spacing, SpanPrinter};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest duration: 100 years. Adding it to any current time cannot overflow.
pub const DURATION_MAX: StdDuration = StdDuration::from_secs(100 * 366 * 24 * 3600);

/// A duration from 0 to [`DURATION_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(StdDuration);

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration; write {}", .instead.as_deref().unwrap_or("for example 30s, 10m or 1h30m"))]
pub struct NotADuration {
    text: String,
    /// The same duration in the form that is accepted, where there is one.
    instead: Option<String>,
}

impl Duration {
    /// A whole number of seconds.
    pub const fn from_secs(secs: u32) -> Self {
        Self(StdDuration::from_secs(secs as u64))
    }

    /// Parses a duration as manifests must write it: `1h30m`. [`FromStr`] accepts more, because
    /// objects in a store may hold forms that earlier versions accepted.
    ///
    /// # Errors
    /// The text is no duration in this form; the error says what to write instead, where that is
    /// known.
    pub fn written(text: &str) -> Result<Self, NotADuration> {
        let is_plain = |c: char| c.is_ascii_digit() || c == '.' || UNITS.contains(c);
        match text.parse::<Self>() {
            Ok(duration) if text.chars().all(is_plain) => Ok(duration),
            Ok(duration) => Err(wrong(text, Some(duration.to_string()))),
            Err(error) => Err(error),
        }
    }

    /// As a duration of the standard library.
    pub fn get(self) -> StdDuration {
        self.0
    }

    /// As a duration of jiff, to add to a timestamp.
    pub fn signed(self) -> SignedDuration {
        SignedDuration::try_from(self.0).unwrap_or(SignedDuration::MAX)
    }
}

impl From<StdDuration> for Duration {
    fn from(duration: StdDuration) -> Self {
        Self(duration.min(DURATION_MAX))
    }
}

impl FromStr for Duration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || wrong(text, in_hours(text));
        // jiff accepts ISO 8601 (`PT30S`) as well. Manifests have one form alone, so that equal
        // durations look equal.
        if !text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(wrong());
        }
        let signed: SignedDuration = text.parse().map_err(|_| wrong())?;
        let duration = StdDuration::try_from(signed).map_err(|_| wrong())?;
        if duration > DURATION_MAX { Err(wrong()) } else { Ok(Self(duration)) }
    }
}

/// Letters that a unit may contain: hours, minutes, seconds and fractions of a second.
const UNITS: &str = "hmsun\u{b5}";

fn wrong(text: &str, instead: Option<String>) -> NotADuration {
    NotADuration { text: text.to_owned(), instead }
}

/// Days and weeks rewritten in hours, as a hint. They are not accepted, because a day is not always
/// 24 hours long.
fn in_hours(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let hours: u64 = match unit.trim() {
        "d" | "day" | "days" => 24,
        "w" | "week" | "weeks" => 7 * 24,
        _ => return None,
    };
    let hours = number.parse::<u64>().ok()?.checked_mul(hours)?;
    (hours <= DURATION_MAX.as_secs() / 3600).then(|| format!("{hours}h"))
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printer = SpanPrinter::new().spacing(Spacing::None).designator(Designator::Compact);
        f.write_str(&printer.duration_to_string(&self.signed()))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_in_other_words_is_told_in_ours() {
        let said = |text: &str| Duration::written(text).map_err(|error| error.to_string());
        for plain in ["30s", "1h30m", "1.5h", "250ms"] {
            assert_eq!(said(plain), Ok(plain.parse().unwrap()));
        }
        let wrong = |text: &str, ours: &str| {
            let expected = format!("{text:?} is not a duration; write {ours}");
            assert_eq!(said(text), Err(expected));
        };
        wrong("30 seconds", "30s");
        wrong("1 hour 30 minutes", "1h30m");
        wrong("1d", "24h");
        wrong("2 weeks", "336h");
        wrong("9999999999999d", "for example 30s, 10m or 1h30m");
        wrong("soon", "for example 30s, 10m or 1h30m");
    }

    #[test]
    fn durations_are_read_and_written_in_one_form() {
        for (text, secs) in [("30s", 30), ("1h30m", 5400), ("2h", 7200), ("90m", 5400), ("0s", 0)] {
            assert_eq!(text.parse::<Duration>().unwrap().get().as_secs(), secs, "{text}");
        }
        assert_eq!("90m".parse::<Duration>().unwrap().to_string(), "1h30m");
        assert_eq!("500ms".parse::<Duration>().unwrap().to_string(), "500ms");
        assert_eq!(Duration::from_secs(0).to_string(), "0s");
        for bad in ["", "30", "-3s", "PT5M", "5 parsecs", "999999999999h", "1h-3m"] {
            assert!(bad.parse::<Duration>().is_err(), "{bad:?}");
        }
    }
}
