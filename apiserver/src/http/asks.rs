//! Which parameters each kind of request accepts. All others are refused: a client would believe
//! that a parameter had an effect although it was misspelt or has no meaning here.

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// Get one object.
    Get,
    /// List or watch objects.
    List,
    Create,
    Replace,
    Patch,
    Delete,
    /// Evict or bind a task.
    Post,
    Log,
    Exec,
    /// Watch several kinds.
    WatchMany,
    /// Reverse an agent's connection.
    Connect,
}

/// Accepted by every request. `pretty` is about line breaks, and `timeout` is how long the client
/// waits.
const EVERYWHERE: [&str; 2] = ["pretty", "timeout"];

/// The parameters that an exec request reads itself. Some of them may be repeated.
const OF_COMMANDS: [&str; 5] = ["command", "stdin", "stdout", "stderr", "tty"];

impl Asks {
    /// The parameters that it accepts.
    pub(crate) fn takes(self) -> &'static [&'static str] {
        match self {
            Asks::Get => &["resourceVersion", "includeObject"],
            Asks::List => &[
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
                "includeObject",
            ],
            // Field ownership is not recorded, and a body is always checked strictly.
            Asks::Create | Asks::Replace | Asks::Post => {
                &["dryRun", "fieldManager", "fieldValidation"]
            }
            Asks::Patch => &["dryRun", "fieldManager", "fieldValidation", "force"],
            Asks::Delete => {
                &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"]
            }
            Asks::Log => &[
                "follow",
                "tailLines",
                "attempt",
                "uid",
                "timestamps",
                "sinceTime",
                "sinceSeconds",
                "limitBytes",
                "previous",
                "after",
                "records",
            ],
            Asks::Exec => &["command", "stdin", "stdout", "stderr", "tty", "attempt"],
            Asks::WatchMany => &[
                "kinds",
                "labelSelector",
                "fieldSelector",
                "resourceVersion",
                "allowWatchBookmarks",
                "sendInitialEvents",
                "timeoutSeconds",
            ],
            Asks::Connect => &["bootId", "connection"],
        }
    }

    /// The parameter with this name that [`super::query::Query`] reads, if this request accepts it.
    pub(crate) fn read_of(self, name: &str) -> Option<&'static str> {
        let known = self.takes().iter().copied().find(|known| *known == name)?;
        (!OF_COMMANDS.contains(&known)).then_some(known)
    }

    /// Why it does not accept a parameter, if so.
    pub(crate) fn problem(self, name: &str) -> Option<String> {
        if self.takes().contains(&name) || EVERYWHERE.contains(&name) {
            return None;
        }
        let what = match self {
            Asks::Get => "a GET of one object",
            Asks::List => "a list or watch",
            Asks::Create => "a create",
            Asks::Replace => "a replace",
            Asks::Patch => "a patch",
            Asks::Delete => "a delete",
            Asks::Post => "this request",
            Asks::Log => "a log request",
            Asks::Exec => "an exec request",
            Asks::WatchMany => "a watch of several kinds",
            Asks::Connect => "an agent's connection",
        };
        let shown: String = name.chars().take(100).collect();
        Some(format!(
            "unknown parameter {shown:?} for {what}; known parameters: {}",
            self.takes().join(", ")
        ))
    }
}
