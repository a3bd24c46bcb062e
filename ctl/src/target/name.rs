//! The identification of an object: its kind and its name, `job/load`.

use std::fmt;

use api::KindId;

/// A kind and a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The kind.
    pub kind: KindId,
    /// The name.
    pub name: String,
}

impl Target {
    /// The label and field selectors for this task, or for the tasks that belong to this object;
    /// nothing if it has no tasks.
    pub fn task_selectors(&self) -> Option<(String, String)> {
        let name = &self.name;
        if self.kind == KindId::Task {
            return Some((String::new(), format!("metadata.name={name}")));
        }
        self.kind.info().task_label.map(|label| (format!("{label}={name}"), String::new()))
    }

    /// A target.
    pub fn new(kind: KindId, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.word(), self.name)
    }
}

/// The word for a kind in `KIND/NAME`.
pub fn word(kind: KindId) -> &'static str {
    kind.word()
}

/// The plural of a kind, as `hctl` prints it.
pub fn plural(kind: KindId) -> &'static str {
    if kind == KindId::WorkflowRun { "runs" } else { kind.info().plural }
}
