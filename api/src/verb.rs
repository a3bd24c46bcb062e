//! Which verbs each kind and subresource has: the one table that routing, discovery and access
//! rules read.

use crate::kind::KindId;
pub use crate::subresource::Subresource;

/// What a request does, in Kubernetes' terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Creates an object, or does what the subresource is named after.
    Create,
    /// Deletes an object.
    Delete,
    /// Reads one object.
    Get,
    /// Reads several objects.
    List,
    /// Changes some fields of an object.
    Patch,
    /// Puts an object in the place of another.
    Update,
    /// Follows changes of objects.
    Watch,
}

/// The verbs of a kind or of one of its subresources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verbs {
    /// Verbs with requests of their own: discovery lists them, and they have routes.
    pub requests: &'static [Verb],
    /// Verbs that only operations of a batch have.
    pub batches: &'static [Verb],
}

impl Verb {
    /// Every verb.
    pub const ALL: [Verb; 7] =
        [Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];

    /// Its name in discovery and access rules.
    pub fn word(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Patch => "patch",
            Verb::Update => "update",
            Verb::Watch => "watch",
        }
    }
}

/// The subresources of a kind that have requests of their own. The others are reserved.
pub fn requested(kind: KindId) -> impl Iterator<Item = Subresource> {
    let parts = kind.info().subresources.iter().copied();
    parts.filter(move |part| !verbs(kind, Some(*part)).requests.is_empty())
}

/// The table. [`crate::kind::Info::subresources`] says which subresources a kind has.
pub fn verbs(kind: KindId, subresource: Option<Subresource>) -> Verbs {
    let requests: &[Verb] = match subresource {
        // Internal objects are only followed together with others, never read by themselves.
        None if kind.info().internal => &[Verb::Watch],
        None => &[
            Verb::Create,
            Verb::Delete,
            Verb::Get,
            Verb::List,
            Verb::Patch,
            Verb::Update,
            Verb::Watch,
        ],
        Some(Subresource::Status | Subresource::Scale) => &[Verb::Get, Verb::Patch, Verb::Update],
        Some(Subresource::Record | Subresource::Stats | Subresource::Log) => &[Verb::Get],
        Some(Subresource::Binding | Subresource::Evict | Subresource::Rollout) => &[Verb::Create],
        Some(Subresource::Exec) => &[Verb::Create, Verb::Get],
    };
    let batches: &[Verb] = match subresource {
        Some(Subresource::Record) => &[Verb::Update],
        None
        | Some(
            Subresource::Status
            | Subresource::Scale
            | Subresource::Rollout
            | Subresource::Stats
            | Subresource::Binding
            | Subresource::Evict
            | Subresource::Log
            | Subresource::Exec,
        ) => &[],
    };
    Verbs { requests, batches }
}
