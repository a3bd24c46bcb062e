//! What a page of a list says apart from its objects.

use api::resource_version::ResourceVersion;
use store::Revision;

/// A page of a list. Each page is as new as its own request. Pages are split by key, so an object
/// that exists all the time is on exactly one page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) revision: Revision,
    pub(super) more: Option<String>,
    /// The number of objects on later pages, if known.
    pub(super) remaining: Option<usize>,
}

impl Page {
    /// The metadata of the list.
    pub(super) fn metadata(&self) -> serde_json::Value {
        let version = ResourceVersion::after(self.revision.0).to_string();
        let mut metadata = serde_json::json!({ "resourceVersion": version });
        if let Some(more) = &self.more {
            metadata["continue"] = more.as_str().into();
            if let Some(remaining) = self.remaining {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        metadata
    }
}
