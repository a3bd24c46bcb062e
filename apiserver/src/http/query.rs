//! What a query asks for.

use api::batch::Propagation;
use api::list::Continue;
use api::query::{QueryError, pairs};
use api::resource_version::ResourceVersion;
use api::selector::{FieldSelector, LabelSelector};
use api::status::{Reason, failure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use crate::write::Run;

/// Every parameter that is understood. Others are left alone, as Kubernetes does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a query is a flat list of switches, named by Kubernetes"
)]
pub(crate) struct Query {
    label_selector: String,
    field_selector: String,
    pub(crate) limit: Option<usize>,
    /// Where a list goes on.
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
    pub(crate) kinds: String,
    pub(crate) follow: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) attempt: Option<u32>,
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

/// How much of its object a row of a table bears: `includeObject`, as in Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it: what clients sort by.
    Object,
}

fn is_true(text: &str) -> bool {
    matches!(text, "true" | "1")
}

/// A request that makes no sense.
pub(crate) fn bad(message: impl Into<String>) -> Box<Status> {
    Box::new(failure(Reason::BadRequest, message))
}

/// Parameters that were read, by name.
const NAMES: [&str; 28] = [
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "watch",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "timeoutSeconds",
    "dryRun",
    "propagationPolicy",
    "orphanDependents",
    "gracePeriodSeconds",
    "kinds",
    "follow",
    "tailLines",
    "attempt",
    "timestamps",
    "sinceTime",
    "sinceSeconds",
    "limitBytes",
    "previous",
    "after",
    "records",
    "bootId",
    "connection",
    "includeObject",
];

impl Query {
    /// Reads a query.
    pub(crate) fn parse(uri: &http::Uri) -> Result<Self, Box<Status>> {
        Self::of_text(uri.query().unwrap_or_default())
    }

    fn of_text(text: &str) -> Result<Self, Box<Status>> {
        let mut query = Self::default();
        let mut seen = Vec::new();
        for (name, value) in pairs(text).map_err(|error| bad(error.to_string()))? {
            let Some(known) = NAMES.into_iter().find(|known| *known == name) else { continue };
            // Two values of which one silently wins are a mistake that would never be found.
            if seen.contains(&known) {
                return Err(bad(QueryError::Repeated(known).to_string()));
            }
            seen.push(known);
            query.set(known, value)?;
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), Box<Status>> {
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
            "watch" => self.watch = is_true(&value),
            "allowWatchBookmarks" => self.allow_watch_bookmarks = is_true(&value),
            "sendInitialEvents" => self.send_initial_events = is_true(&value),
            "timeoutSeconds" => self.timeout_seconds = number(name, &value)?,
            "dryRun" => self.dry_run = value,
            "propagationPolicy" => self.propagation_policy = value,
            "orphanDependents" => self.orphan_dependents = Some(is_true(&value)),
            "gracePeriodSeconds" => self.grace_period_seconds = number(name, &value)?,
            "kinds" => self.kinds = value,
            "follow" => self.follow = is_true(&value),
            "tailLines" => self.tail_lines = number(name, &value)?,
            "attempt" => self.attempt = number(name, &value)?,
            "timestamps" => self.timestamps = is_true(&value),
            "sinceTime" => self.since_time = value,
            "sinceSeconds" => self.since_seconds = number(name, &value)?,
            "limitBytes" => self.limit_bytes = number(name, &value)?,
            "previous" => self.previous = is_true(&value),
            "after" => self.after = value,
            "records" => self.records = is_true(&value),
            "bootId" => self.boot_id = value,
            "connection" => self.connection = number(name, &value)?.unwrap_or_default(),
            "includeObject" => {
                self.include_object = match value.as_str() {
                    "None" => IncludeObject::None,
                    "" | "Metadata" => IncludeObject::Metadata,
                    "Object" => IncludeObject::Object,
                    other => {
                        let why =
                            format!("includeObject: {other:?} is not None, Metadata or Object");
                        return Err(bad(why));
                    }
                }
            }
            other => unreachable!("{other} is among the names, and has no place"),
        }
        Ok(())
    }

    pub(crate) fn labels(&self) -> Result<LabelSelector, Box<Status>> {
        self.label_selector.parse().map_err(|error| bad(format!("labelSelector: {error}")))
    }

    pub(crate) fn fields(&self) -> Result<FieldSelector, Box<Status>> {
        self.field_selector.parse().map_err(|error| bad(format!("fieldSelector: {error}")))
    }

    /// The point in history that is named. "0" and "" name none.
    pub(crate) fn version(&self) -> Result<Option<ResourceVersion>, Box<Status>> {
        if matches!(self.resource_version.as_str(), "" | "0") {
            return Ok(None);
        }
        let version = self.resource_version.parse();
        version.map(Some).map_err(|_| bad("resourceVersion is not a number"))
    }

    pub(crate) fn is_watch(&self) -> bool {
        self.watch
    }

    pub(crate) fn run(&self) -> Result<Run, Box<Status>> {
        dry_run(&self.dry_run)
    }

    /// What a deletion means for the objects that it owns; empty where nothing is said.
    pub(crate) fn propagation_word(&self) -> &str {
        &self.propagation_policy
    }
}

/// Whether a write is only tried.
pub(crate) fn dry_run(word: &str) -> Result<Run, Box<Status>> {
    match word {
        "" => Ok(Run::Real),
        "All" => Ok(Run::Dry),
        other => Err(bad(format!("dryRun: {other:?} is not All"))),
    }
}

/// A number; nothing where none is given. What is over its type's bound is as little a number here.
fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<Option<T>, Box<Status>> {
    if text.is_empty() {
        return Ok(None);
    }
    let shown: String = text.chars().take(40).collect();
    let odd = |_| bad(format!("{name}: {shown:?} is not a number that is allowed here"));
    text.parse().map(Some).map_err(odd)
}

/// What a deletion means for the objects that it owns.
pub(crate) fn propagation(word: &str) -> Result<Propagation, Box<Status>> {
    match word {
        "" | "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        "Orphan" => Ok(Propagation::Orphan),
        other => Err(bad(format!(
            "propagationPolicy: {other:?} is not Background, Foreground or Orphan"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Query::of_text(text).unwrap_err().message.unwrap_or_default()
    }

    #[test]
    fn every_name_has_its_place() {
        for name in NAMES {
            let read = Query::of_text(&format!("{name}=1"));
            match name {
                // A number is no token, and no word.
                "continue" | "includeObject" => assert!(read.is_err(), "{name}"),
                _ => assert_ne!(read.unwrap(), Query::default(), "{name}"),
            }
        }
        assert_eq!(Query::of_text("pretty=1&pretty=2&command=a&command=b"), Ok(Query::default()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        assert_eq!(refusal("limit=1&limit=2"), "limit is given more than once");
        assert_eq!(refusal("limit=-1"), "limit: \"-1\" is not a number that is allowed here");
        let huge = "timeoutSeconds=99999999999999999999";
        assert!(refusal(huge).starts_with("timeoutSeconds: "), "{}", refusal(huge));
        assert!(refusal("attempt=4294967296").starts_with("attempt: "));
        assert!(
            refusal("labelSelector=%ff").starts_with("labelSelector: its value cannot be read")
        );
        let token = format!("continue=%7B%22revision%22:{},%22after%22:%22%22%7D", u64::MAX);
        assert_eq!(
            refusal(&token),
            "continue: it is not a token of this server; list from the beginning"
        );
    }
}
