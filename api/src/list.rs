//! The `continue` token of a list: where the next page begins.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::resource_version::ResourceVersion;

/// Longest token, in bytes: the longest store key with every character escaped, and the text around
/// it.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Where the next page of a list begins. Clients must treat it as opaque: its content may change
/// with any version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continue {
    /// The revision of the first page. Every later page reports it as its resourceVersion, so that
    /// a watch from there misses nothing.
    revision: u64,
    /// The last key of the page before.
    after: String,
}

/// The text is not a token that this version made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid token; list from the beginning")]
pub struct NotAToken;

impl Continue {
    /// The token of the page after `after`, in a list whose first page shows `revision`.
    pub fn new(revision: u64, after: impl Into<String>) -> Self {
        Self { revision, after: after.into() }
    }

    /// The revision of the first page.
    ///
    /// Invariant: a [`ResourceVersion`] can represent it.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The last key of the page before.
    pub fn after(&self) -> &str {
        &self.after
    }
}

/// The token's content, which is encoded as base64.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    revision: u64,
    after: String,
}

impl fmt::Display for Continue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = Wire { revision: self.revision, after: self.after.clone() };
        f.write_str(&serde_json::to_string(&wire).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Continue {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(NotAToken);
        }
        let Wire { revision, after } = serde_json::from_str(text).map_err(|_| NotAToken)?;
        if revision > ResourceVersion::REVISION_MAX {
            return Err(NotAToken);
        }
        Ok(Self { revision, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back() {
        let token = Continue::new(7, "/heliox/v1/jobs/default/\"a\"");
        assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn what_no_server_gave_is_refused() {
        let largest = format!(r#"{{"revision":{},"after":"x"}}"#, u64::MAX);
        let just = format!(r#"{{"revision":{},"after":"x"}}"#, ResourceVersion::REVISION_MAX);
        assert_eq!(largest.parse::<Continue>(), Err(NotAToken));
        let at_bound: Continue = just.parse().unwrap();
        assert_eq!(ResourceVersion::after(at_bound.revision()).get(), u64::MAX);
        let long = format!(r#"{{"revision":1,"after":"{}"}}"#, "x".repeat(TOKEN_BYTES_MAX));
        for bad in ["", "x", "{}", "[1]", r#"{"revision":-1,"after":""}"#, long.as_str()] {
            assert_eq!(bad.parse::<Continue>(), Err(NotAToken), "{bad}");
        }
    }
}
