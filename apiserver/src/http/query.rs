//! What a query asks for.

use api::resource_version::ResourceVersion;
use api::selector::{FieldSelector, LabelSelector};
use api::status::{Reason, failure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;

use crate::write::{Propagation, Run};

/// Every parameter that is understood. Others are left alone, as Kubernetes does.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Query {
    label_selector: String,
    field_selector: String,
    pub(crate) limit: Option<usize>,
    #[serde(rename = "continue")]
    pub(crate) next: String,
    resource_version: String,
    pub(crate) resource_version_match: String,
    watch: String,
    pub(crate) allow_watch_bookmarks: String,
    send_initial_events: String,
    pub(crate) timeout_seconds: Option<u64>,
    dry_run: String,
    propagation_policy: String,
    pub(crate) kinds: String,
    follow: String,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) attempt: Option<u32>,
    pub(crate) timestamps: String,
    pub(crate) boot_id: String,
    pub(crate) connection: u64,
}

fn is_true(text: &str) -> bool {
    matches!(text, "true" | "1")
}

/// A request that makes no sense.
pub(crate) fn bad(message: impl Into<String>) -> Box<Status> {
    Box::new(failure(Reason::BadRequest, message))
}

impl Query {
    /// Reads a query.
    pub(crate) fn parse(uri: &http::Uri) -> Result<Self, Box<Status>> {
        axum::extract::Query::try_from_uri(uri)
            .map(|axum::extract::Query(query)| query)
            .map_err(|error| bad(format!("the query cannot be read: {error}")))
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
        is_true(&self.watch)
    }

    pub(crate) fn wants_bookmarks(&self) -> bool {
        is_true(&self.allow_watch_bookmarks)
    }

    pub(crate) fn wants_initial_events(&self) -> bool {
        is_true(&self.send_initial_events)
    }

    pub(crate) fn is_follow(&self) -> bool {
        is_true(&self.follow)
    }

    pub(crate) fn run(&self) -> Result<Run, Box<Status>> {
        match self.dry_run.as_str() {
            "" => Ok(Run::Real),
            "All" => Ok(Run::Dry),
            other => Err(bad(format!("dryRun: {other:?} is not All"))),
        }
    }

    pub(crate) fn propagation(&self) -> Result<Propagation, Box<Status>> {
        propagation(&self.propagation_policy)
    }
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
