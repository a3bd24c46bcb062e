//! What can be done to what: the one table that routing, discovery and access rules read.

use crate::kind::KindId;

/// What a request does, in Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Makes an object, or does what the subresource is named for.
    Create,
    /// Asks for an object's deletion.
    Delete,
    /// Reads one object.
    Get,
    /// Reads objects.
    List,
    /// Changes some fields of an object.
    Patch,
    /// Puts an object in the place of another.
    Update,
    /// Follows what changes of objects.
    Watch,
}

/// A part of an object that has a path of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subresource {
    /// What was seen of an object.
    Status,
    /// How many there are to be.
    Scale,
    /// A job's completion record.
    Record,
    /// What a node or a task uses.
    Stats,
    /// On which node a task runs.
    Binding,
    /// That a task is stopped.
    Evict,
    /// A task's output.
    Log,
    /// Commands beside a task.
    Exec,
}

/// What can be done to a kind's objects, or to a part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verbs {
    /// By a request of its own: discovery shows these, and there are routes for them.
    pub requests: &'static [Verb],
    /// By an operation of a batch, beside those.
    pub batches: &'static [Verb],
}

impl Verb {
    /// Its word in discovery and access rules.
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

impl Subresource {
    /// Every one.
    pub const ALL: [Subresource; 8] = [
        Subresource::Status,
        Subresource::Scale,
        Subresource::Record,
        Subresource::Stats,
        Subresource::Binding,
        Subresource::Evict,
        Subresource::Log,
        Subresource::Exec,
    ];

    /// Its word in paths.
    pub fn word(self) -> &'static str {
        match self {
            Subresource::Status => "status",
            Subresource::Scale => "scale",
            Subresource::Record => "record",
            Subresource::Stats => "stats",
            Subresource::Binding => "binding",
            Subresource::Evict => "evict",
            Subresource::Log => "log",
            Subresource::Exec => "exec",
        }
    }

    /// The subresource of this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subresource| subresource.word() == word)
    }
}

/// The table. Which subresources a kind has says [`crate::kind::Info::subresources`].
pub fn verbs(kind: KindId, subresource: Option<Subresource>) -> Verbs {
    let requests: &[Verb] = match subresource {
        // Nobody asks for such an object by itself: it is followed with others.
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
        Some(Subresource::Status) => &[Verb::Get, Verb::Patch, Verb::Update],
        // It is known by name alone so far.
        Some(Subresource::Scale) => &[],
        Some(Subresource::Record | Subresource::Stats | Subresource::Log) => &[Verb::Get],
        Some(Subresource::Binding | Subresource::Evict) => &[Verb::Create],
        Some(Subresource::Exec) => &[Verb::Create, Verb::Get],
    };
    let batches: &[Verb] = match subresource {
        Some(Subresource::Record) => &[Verb::Update],
        None
        | Some(
            Subresource::Status
            | Subresource::Scale
            | Subresource::Stats
            | Subresource::Binding
            | Subresource::Evict
            | Subresource::Log
            | Subresource::Exec,
        ) => &[],
    };
    Verbs { requests, batches }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subresource_has_a_word_of_its_own() {
        for subresource in Subresource::ALL {
            assert_eq!(Subresource::of_word(subresource.word()), Some(subresource));
        }
    }
}
