//! What a page of a list says beside its objects.

use api::resource_version::ResourceVersion;
use store::Revision;

/// A page of a list. Each page is as fresh as its request; an object that is there throughout is on
/// exactly one page, since pages are cut by key.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) revision: Revision,
    pub(super) more: Option<String>,
    /// How many objects are on the pages after it, where that is known.
    pub(super) remaining: Option<usize>,
}

impl Page {
    /// The list's metadata.
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
