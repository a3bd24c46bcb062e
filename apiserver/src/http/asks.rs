//! Which parameters each kind of request takes. What is not here is refused: a parameter that is left
//! alone, since it is misspelt or means nothing here, is believed to have done something.

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// One object.
    Get,
    /// Objects, or what changes of them.
    List,
    Create,
    Replace,
    Patch,
    Delete,
    /// A task is evicted or bound.
    Post,
    Log,
    Exec,
    /// What changes, of several kinds.
    WatchMany,
    /// An agent's connection is turned round.
    Connect,
}

/// Of every request. `pretty` is about line breaks, and a `timeout` is how long the client waits.
const EVERYWHERE: [&str; 2] = ["pretty", "timeout"];

/// What a command reads of its request itself. Some of it may come more than once.
const OF_COMMANDS: [&str; 5] = ["command", "stdin", "stdout", "stderr", "tty"];

impl Asks {
    /// The parameters that it takes.
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
            // What a field manager owns is not kept; a body is always checked strictly.
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

    /// The parameter of this name that [`super::query::Query`] reads, if it is one of those that this
    /// request takes.
    pub(crate) fn read_of(self, name: &str) -> Option<&'static str> {
        let known = self.takes().iter().copied().find(|known| *known == name)?;
        (!OF_COMMANDS.contains(&known)).then_some(known)
    }

    /// Why it does not take a parameter, if so.
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
