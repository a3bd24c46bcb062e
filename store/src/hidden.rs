//! `Debug` implementations that do not show values, because values may be Secrets.

use std::fmt;

use crate::{Change, Expectation, Record};

/// Stands for bytes that are not shown.
struct Bytes(usize);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key)
            .field("value", &Bytes(self.value.len()))
            .field("created", &self.created)
            .field("modified", &self.modified)
            .field("position", &self.position)
            .finish()
    }
}

impl fmt::Debug for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("Any"),
            Self::Absent => f.write_str("Absent"),
            Self::Modified(revision) => f.debug_tuple("Modified").field(revision).finish(),
            Self::Created(revision) => f.debug_tuple("Created").field(revision).finish(),
            Self::Value(value) => f.debug_tuple("Value").field(&Bytes(value.len())).finish(),
        }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { value, lease } => f
                .debug_struct("Put")
                .field("value", &Bytes(value.len()))
                .field("lease", lease)
                .finish(),
            Self::Delete => f.write_str("Delete"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Change, Conflict, Event, Expectation, Group, Key, Outcome, Page, Record, Revision,
    };

    const SECRET: &str = "hunter2";

    /// Everything that contains a value, in both forms of `Debug`.
    #[test]
    fn nothing_that_can_be_logged_shows_a_value() {
        let key: Key = "/a".into();
        let record = Record {
            key: key.clone(),
            value: SECRET.into(),
            created: Revision(1),
            modified: Revision(2),
            position: 0,
        };
        let group = Group::default().guard("/g", Expectation::Value(SECRET.into())).put(
            "/a",
            Expectation::Value(SECRET.into()),
            SECRET,
        );
        let refused = Outcome::Refused {
            conflicts: vec![Conflict { key: key.clone(), found: Some(record.clone()) }],
        };
        let event = Event { revision: Revision(2), position: 0, key, now: Some(record.clone()) };
        let page = Page { revision: Revision(2), records: vec![record.clone()], more: false };
        let put = Change::Put { value: SECRET.into(), lease: None };
        // `Debug` could show bytes as text or as a list of numbers.
        let numbers = format!("{:?}", SECRET.as_bytes());
        for shown in [
            format!("{record:?} {group:?} {refused:?} {event:?} {page:?} {put:?}"),
            format!("{record:#?} {group:#?} {refused:#?} {event:#?} {page:#?} {put:#?}"),
        ] {
            assert!(!shown.contains(SECRET) && !shown.contains(&numbers), "{shown}");
            assert!(shown.contains("<7 bytes>"), "{shown}");
        }
    }
}
