//! The query of a request.

use api::batch::Propagation;
use api::list::Continue;
use api::query::{QueryError, pairs};
use api::resource_version::ResourceVersion;
use api::selector::{FieldSelector, LabelSelector};
use api::status::{Mistake, Refusal, Why};

use super::asks::Asks;
use crate::write::WriteMode;

/// The maximum length of a field manager's name, as in Kubernetes.
const FIELD_MANAGER_CHARS_MAX: usize = 128;

/// Every supported parameter. [`Asks`] says which request accepts which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a query is a flat list of switches, named by Kubernetes"
)]
pub(crate) struct Query {
    label_selector: String,
    field_selector: String,
    pub(crate) limit: Option<usize>,
    /// Where a list continues.
    pub(crate) next: Option<Continue>,
    resource_version: String,
    pub(crate) resource_version_match: String,
    watch: bool,
    pub(crate) allow_watch_bookmarks: bool,
    pub(crate) send_initial_events: bool,
    pub(crate) timeout_seconds: Option<u64>,
    dry_run: String,
    propagation_policy: String,
    pub(crate) orphan_dependents: Option<bool>,
    pub(crate) grace_period_seconds: Option<i64>,
    field_manager: String,
    field_validation: String,
    pub(crate) force: bool,
    pub(crate) kinds: String,
    pub(crate) follow: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) attempt: Option<u32>,
    pub(crate) uid: String,
    pub(crate) timestamps: bool,
    pub(crate) since_time: String,
    pub(crate) since_seconds: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) previous: bool,
    /// A position in a log.
    pub(crate) after: String,
    pub(crate) records: bool,
    pub(crate) boot_id: String,
    pub(crate) connection: u64,
    pub(crate) include_object: IncludeObject,
}

/// How much of its object a row of a table contains: `includeObject`, as in Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it, which clients use for sorting.
    Object,
}

/// A boolean. As in Kubernetes, a parameter without a value means true.
fn boolean(name: &str, text: &str) -> Result<bool, Refusal> {
    match text {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => {
            let shown: String = other.chars().take(40).collect();
            Err(bad(format!("{name}: must be true or false, not {shown:?}")))
        }
    }
}

/// A malformed request.
pub(crate) fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(Why::Mistaken(Mistake::Request), message)
}

impl Query {
    /// Reads the query of a request.
    pub(crate) fn parse(uri: &http::Uri, asks: Asks) -> Result<Self, Refusal> {
        Self::of_text(uri.query().unwrap_or_default(), asks)
    }

    fn of_text(text: &str, asks: Asks) -> Result<Self, Refusal> {
        let mut query = Self::default();
        let mut seen = Vec::new();
        for (name, value) in pairs(text).map_err(|error| bad(error.to_string()))? {
            if let Some(problem) = asks.problem(&name) {
                return Err(bad(problem));
            }
            let Some(known) = asks.read_of(&name) else { continue };
            // If one of two values silently won, the mistake would never be noticed.
            if seen.contains(&known) {
                return Err(bad(QueryError::Repeated(known).to_string()));
            }
            seen.push(known);
            query.set(known, value)?;
        }
        match query.contradiction(asks) {
            Some(problem) => Err(bad(problem)),
            None => Ok(query),
        }
    }

    /// Parameters that exclude each other, if any.
    fn contradiction(&self, asks: Asks) -> Option<String> {
        if !matches!(self.resource_version_match.as_str(), "" | "NotOlderThan") {
            return Some("resourceVersionMatch: only NotOlderThan is supported".to_owned());
        }
        if asks == Asks::List && self.watch && (self.limit.is_some() || self.next.is_some()) {
            return Some("limit and continue apply to lists only, not to a watch".to_owned());
        }
        if asks == Asks::List && !self.watch && self.send_initial_events {
            return Some("sendInitialEvents applies to a watch only: add watch=true".to_owned());
        }
        None
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), Refusal> {
        match name {
            "labelSelector" => self.label_selector = value,
            "fieldSelector" => self.field_selector = value,
            "limit" => self.limit = number(name, &value)?,
            "continue" if value.is_empty() => (),
            "continue" => {
                let token = value.parse().map_err(|error| bad(format!("continue: {error}")))?;
                self.next = Some(token);
            }
            "resourceVersion" => self.resource_version = value,
            "resourceVersionMatch" => self.resource_version_match = value,
            "watch" => self.watch = boolean(name, &value)?,
            "allowWatchBookmarks" => self.allow_watch_bookmarks = boolean(name, &value)?,
            "sendInitialEvents" => self.send_initial_events = boolean(name, &value)?,
            // As in Kubernetes, 0 seconds means no limit.
            "timeoutSeconds" => {
                self.timeout_seconds = number(name, &value)?.filter(|seconds| *seconds > 0);
            }
            "dryRun" => self.dry_run = value,
            "propagationPolicy" => self.propagation_policy = value,
            "orphanDependents" => self.orphan_dependents = Some(boolean(name, &value)?),
            "gracePeriodSeconds" => self.grace_period_seconds = number(name, &value)?,
            "fieldManager" => self.field_manager = field_manager(value)?,
            "fieldValidation" => self.field_validation = field_validation(value)?,
            "force" => self.force = boolean(name, &value)?,
            "kinds" => self.kinds = value,
            "follow" => self.follow = boolean(name, &value)?,
            "tailLines" => self.tail_lines = number(name, &value)?,
            "attempt" => self.attempt = number(name, &value)?,
            "uid" => self.uid = value,
            "timestamps" => self.timestamps = boolean(name, &value)?,
            "sinceTime" => self.since_time = value,
            "sinceSeconds" => self.since_seconds = number(name, &value)?,
            "limitBytes" => self.limit_bytes = number(name, &value)?,
            "previous" => self.previous = boolean(name, &value)?,
            "after" => self.after = value,
            "records" => self.records = boolean(name, &value)?,
            "bootId" => self.boot_id = value,
            "connection" => self.connection = number(name, &value)?.unwrap_or_default(),
            "includeObject" => {
                self.include_object = match value.as_str() {
                    "None" => IncludeObject::None,
                    "" | "Metadata" => IncludeObject::Metadata,
                    "Object" => IncludeObject::Object,
                    other => {
                        let why = format!(
                            "includeObject: must be None, Metadata or Object, not {other:?}"
                        );
                        return Err(bad(why));
                    }
                }
            }
            other => unreachable!("{other} is among the names, and has no place"),
        }
        Ok(())
    }

    pub(crate) fn labels(&self) -> Result<LabelSelector, Refusal> {
        self.label_selector.parse().map_err(|error| bad(format!("labelSelector: {error}")))
    }

    pub(crate) fn fields(&self) -> Result<FieldSelector, Refusal> {
        self.field_selector.parse().map_err(|error| bad(format!("fieldSelector: {error}")))
    }

    /// The requested resource version. "0" and "" stand for none.
    pub(crate) fn version(&self) -> Result<Option<ResourceVersion>, Refusal> {
        if matches!(self.resource_version.as_str(), "" | "0") {
            return Ok(None);
        }
        let version = self.resource_version.parse();
        version.map(Some).map_err(|_| bad("resourceVersion: must be a number"))
    }

    pub(crate) fn is_watch(&self) -> bool {
        self.watch
    }

    pub(crate) fn write_mode(&self) -> Result<WriteMode, Refusal> {
        dry_run(&self.dry_run)
    }

    /// What happens to the objects that a deleted object owns; empty if not specified.
    pub(crate) fn propagation_word(&self) -> &str {
        &self.propagation_policy
    }
}

/// Whether a write is a dry run.
pub(crate) fn dry_run(word: &str) -> Result<WriteMode, Refusal> {
    match word {
        "" => Ok(WriteMode::Real),
        "All" => Ok(WriteMode::Dry),
        other => Err(bad(format!("dryRun: must be All, not {other:?}"))),
    }
}

/// A number; `None` if there is no value. A number that exceeds its type is as invalid as any other
/// text.
fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<Option<T>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let shown: String = text.chars().take(40).collect();
    let odd = |_| bad(format!("{name}: invalid number {shown:?}"));
    text.parse().map(Some).map_err(odd)
}

/// The field manager, within the limits of Kubernetes. It is not stored.
fn field_manager(name: String) -> Result<String, Refusal> {
    let is_long = name.chars().count() > FIELD_MANAGER_CHARS_MAX;
    if is_long || name.chars().any(char::is_control) {
        return Err(bad(format!(
            "fieldManager: must be at most {FIELD_MANAGER_CHARS_MAX} printable characters"
        )));
    }
    Ok(name)
}

/// What to do about unknown fields. They are always refused here. This is stricter than the other
/// two options, and never silent.
fn field_validation(word: String) -> Result<String, Refusal> {
    if matches!(word.as_str(), "" | "Ignore" | "Warn" | "Strict") {
        return Ok(word);
    }
    let shown: String = word.chars().take(40).collect();
    Err(bad(format!("fieldValidation: must be Ignore, Warn or Strict, not {shown:?}")))
}

/// What happens to the objects that a deleted object owns.
pub(crate) fn propagation(word: &str) -> Result<Propagation, Refusal> {
    match word {
        "" | "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        "Orphan" => Ok(Propagation::Orphan),
        other => Err(bad(format!(
            "propagationPolicy: must be Background, Foreground or Orphan, not {other:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const ALL: [Asks; 11] = [
        Asks::Get,
        Asks::List,
        Asks::Create,
        Asks::Replace,
        Asks::Patch,
        Asks::Delete,
        Asks::Post,
        Asks::Log,
        Asks::Exec,
        Asks::WatchMany,
        Asks::Connect,
    ];

    /// The message of a request that accepts these parameters but refuses their values.
    fn refusal(text: &str) -> String {
        let name = text.split('=').next().unwrap();
        let asks = ALL.into_iter().find(|asks| asks.takes().contains(&name)).unwrap();
        Query::of_text(text, asks).unwrap_err().message
    }

    #[test]
    fn every_name_has_its_place() {
        // If several requests accept a parameter, the first one is tested.
        let mut read_by: BTreeMap<&str, Asks> = BTreeMap::new();
        for asks in ALL {
            for name in asks.takes().iter().filter_map(|name| asks.read_of(name)) {
                read_by.entry(name).or_insert(asks);
            }
        }
        for (name, asks) in read_by {
            let read = Query::of_text(&format!("{name}=1"), asks);
            match name {
                // A number is not a valid token or word; the last one needs another parameter.
                "continue"
                | "includeObject"
                | "fieldValidation"
                | "resourceVersionMatch"
                | "sendInitialEvents" => assert!(read.is_err(), "{name}"),
                _ => assert_ne!(read.unwrap(), Query::default(), "{name}"),
            }
        }
        let command = Query::of_text("pretty=1&pretty=2&command=a&command=b", Asks::Exec);
        assert_eq!(command, Ok(Query::default()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        assert_eq!(refusal("limit=1&limit=2"), "limit is given more than once");
        assert_eq!(refusal("limit=-1"), "limit: invalid number \"-1\"");
        let huge = "timeoutSeconds=99999999999999999999";
        assert!(refusal(huge).starts_with("timeoutSeconds: "), "{}", refusal(huge));
        assert!(refusal("attempt=4294967296").starts_with("attempt: "));
        assert!(refusal("labelSelector=%ff").starts_with("labelSelector: cannot decode the value"));
        let token = format!("continue=%7B%22revision%22:{},%22after%22:%22%22%7D", u64::MAX);
        assert_eq!(refusal(&token), "continue: invalid token; list from the beginning");
    }
}
