//! The parts of objects that have a path of their own. What can be done to each is in [`crate::verb`].

/// A part of an object that has its own path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subresource {
    /// The observed state.
    Status,
    /// The desired number of tasks.
    Scale,
    /// A request about the rollout of a service.
    Rollout,
    /// The completion record of a job.
    Record,
    /// Measured usage of a node or a task.
    Stats,
    /// The node that a task is bound to.
    Binding,
    /// A request to stop a task.
    Evict,
    /// The output of a task.
    Log,
    /// A command run beside a task.
    Exec,
}

impl Subresource {
    /// Every subresource.
    pub const ALL: [Subresource; 9] = [
        Subresource::Status,
        Subresource::Scale,
        Subresource::Rollout,
        Subresource::Record,
        Subresource::Stats,
        Subresource::Binding,
        Subresource::Evict,
        Subresource::Log,
        Subresource::Exec,
    ];

    /// The last segment of its path.
    pub fn word(self) -> &'static str {
        match self {
            Subresource::Status => "status",
            Subresource::Scale => "scale",
            Subresource::Rollout => "rollout",
            Subresource::Record => "record",
            Subresource::Stats => "stats",
            Subresource::Binding => "binding",
            Subresource::Evict => "evict",
            Subresource::Log => "log",
            Subresource::Exec => "exec",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subresource_has_a_word_of_its_own() {
        for subresource in Subresource::ALL {
            let namesakes = Subresource::ALL.iter().filter(|it| it.word() == subresource.word());
            assert_eq!(namesakes.count(), 1, "{subresource:?}");
        }
    }
}
