//! Whose a container is, and what is seen of it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The cluster that a container belongs to.
pub const LABEL_CLUSTER: &str = "heliox.dev/cluster";
/// The node whose agent started it.
pub const LABEL_NODE: &str = "heliox.dev/node";
/// The task's namespace.
pub const LABEL_NAMESPACE: &str = "heliox.dev/namespace";
/// The task's name.
pub const LABEL_TASK: &str = "heliox.dev/task";
/// The task's uid.
pub const LABEL_UID: &str = "heliox.dev/uid";
/// The attempt.
pub const LABEL_ATTEMPT: &str = "heliox.dev/attempt";

/// Longest accepted uid, cluster, node, namespace or task: Kubernetes' limit for a DNS subdomain.
const NAME_BYTES_MAX: usize = 253;

/// For which node of which cluster an engine speaks.
///
/// Invariant: both are names that are safe in labels and container names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    cluster: String,
    node: String,
}

/// Which execution of which task a container is. One container per identity and scope.
///
/// Invariant: the uid is hex digits and dashes, the names are DNS-like: all are safe as parts of
/// file names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "IdentityRecord")]
pub struct Identity {
    namespace: String,
    task: String,
    uid: String,
    attempt: u32,
}

#[derive(Deserialize)]
struct IdentityRecord {
    namespace: String,
    task: String,
    uid: String,
    attempt: u32,
}

/// A part of an identity that could reach a file name or a label and must not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{part} {value:?} is not a valid name")]
pub struct InvalidIdentity {
    /// Which part.
    pub part: &'static str,
    /// What it was.
    pub value: String,
}

/// A container as an engine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Whose it is.
    pub identity: Identity,
    /// What it does.
    pub state: ContainerState,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Made and not started. Creating it again starts it.
    Created,
    /// Its main process runs.
    Running {
        /// Since when.
        since: Timestamp,
    },
    /// Its main process has ended.
    Exited {
        /// When it had started; nothing where that is not known.
        started: Option<Timestamp>,
        /// When it ended.
        at: Timestamp,
        /// Its exit code: 128 + n where signal n ended it. Without meaning where nobody saw it end.
        code: i32,
        /// The signal that ended it. Docker tells it by the code alone, so a program that exits
        /// with 128 + n by itself looks the same there.
        signal: Option<i32>,
        /// Whether the kernel ended it for want of memory.
        oom_killed: bool,
        /// Whether nobody saw how it ended.
        is_unseen: bool,
        /// What else is known, where the code does not tell the story.
        message: Option<String>,
    },
    /// It may run, or may have: what is known of it is damaged, and a person has to see to that.
    /// Nothing is done to it meanwhile: taken for gone, it would be started twice.
    Unreadable {
        /// What is damaged, and what to do.
        why: String,
    },
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// The engine's name: `docker`, `process` or `sim`.
    pub engine: String,
    /// Its version.
    pub engine_version: String,
    /// The operating system, as `linux`.
    pub os: String,
    /// The architecture, as `x86_64`.
    pub arch: String,
    /// The kernel's release.
    pub kernel: String,
    /// Processors.
    pub cpus: u32,
    /// Memory.
    pub memory_bytes: u64,
}

impl Scope {
    /// Checks both names.
    pub fn new(cluster: &str, node: &str) -> Result<Self, InvalidIdentity> {
        Ok(Self { cluster: name("cluster", cluster)?, node: name("node", node)? })
    }

    /// The cluster's id.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The name of the container with this identity: the same whenever it is asked, so that a
    /// create whose answer was lost meets its own container.
    pub fn container_name(&self, identity: &Identity) -> String {
        let uid: String = identity.uid.chars().filter(|c| *c != '-').take(8).collect();
        format!("heliox-{}-{}-{}-{uid}", self.node, identity.task, identity.attempt)
    }

    /// The labels that say whose the container with this identity is.
    pub fn labels(&self, identity: &Identity) -> BTreeMap<String, String> {
        BTreeMap::from([
            (LABEL_CLUSTER.to_owned(), self.cluster.clone()),
            (LABEL_NODE.to_owned(), self.node.clone()),
            (LABEL_NAMESPACE.to_owned(), identity.namespace.clone()),
            (LABEL_TASK.to_owned(), identity.task.clone()),
            (LABEL_UID.to_owned(), identity.uid.clone()),
            (LABEL_ATTEMPT.to_owned(), identity.attempt.to_string()),
        ])
    }

    /// Reads an identity from a container's labels; nothing where it is not of this scope.
    pub fn identity_in<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> Option<Identity> {
        if label(LABEL_CLUSTER)? != self.cluster || label(LABEL_NODE)? != self.node {
            return None;
        }
        let attempt = label(LABEL_ATTEMPT)?.parse().ok()?;
        Identity::new(label(LABEL_NAMESPACE)?, label(LABEL_TASK)?, label(LABEL_UID)?, attempt).ok()
    }
}

impl Identity {
    /// Checks every part.
    pub fn new(
        namespace: &str,
        task: &str,
        uid: &str,
        attempt: u32,
    ) -> Result<Self, InvalidIdentity> {
        let is_uid = (1..=64).contains(&uid.len())
            && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
            && uid.starts_with(|c: char| c != '-');
        if !is_uid {
            return Err(InvalidIdentity { part: "uid", value: uid.to_owned() });
        }
        Ok(Self {
            namespace: name("namespace", namespace)?,
            task: name("task", task)?,
            uid: uid.to_owned(),
            attempt,
        })
    }

    /// A container whose task has a name that is not known. Where its uid and attempt are what counts.
    pub(crate) fn nameless(uid: &str, attempt: u32) -> Result<Self, InvalidIdentity> {
        Self::new("unknown", "unknown", uid, attempt)
    }

    /// The same, by what files of the container are called.
    pub(crate) fn of_file_stem(stem: &str) -> Option<Self> {
        let (uid, attempt) = stem.rsplit_once('-')?;
        Self::nameless(uid, attempt.parse().ok()?).ok()
    }

    /// The task's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The task's name.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// The task's uid.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What it is known by where the task's name may be missing.
    pub(crate) fn uid_and_attempt(&self) -> (String, u32) {
        (self.uid.clone(), self.attempt)
    }

    /// `<uid>-<attempt>`: what files of this container are called.
    pub fn file_stem(&self) -> String {
        format!("{}-{}", self.uid, self.attempt)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} attempt {}", self.namespace, self.task, self.attempt)
    }
}

impl TryFrom<IdentityRecord> for Identity {
    type Error = InvalidIdentity;

    fn try_from(record: IdentityRecord) -> Result<Self, InvalidIdentity> {
        Self::new(&record.namespace, &record.task, &record.uid, record.attempt)
    }
}

fn name(part: &'static str, value: &str) -> Result<String, InvalidIdentity> {
    let is_name = (1..=NAME_BYTES_MAX).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        && value.starts_with(|c: char| c.is_ascii_alphanumeric());
    if is_name {
        Ok(value.to_owned())
    } else {
        Err(InvalidIdentity { part, value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_name_the_identity_and_only_to_its_own_scope() {
        let identity = Identity::new("default", "web-0", "0af3-77", 2).unwrap();
        let scope = Scope::new("c1", "node-1").unwrap();
        let labels = scope.labels(&identity);
        let read = |key: &str| labels.get(key).map(String::as_str);
        assert_eq!(scope.identity_in(read), Some(identity));
        assert_eq!(Scope::new("c1", "node-2").unwrap().identity_in(read), None);
        assert_eq!(Scope::new("c2", "node-1").unwrap().identity_in(read), None);
    }

    #[test]
    fn files_tell_the_uid_and_the_attempt() {
        let identity = Identity::new("default", "web-0", "0af3-77", 2).unwrap();
        let read = Identity::of_file_stem(&identity.file_stem()).unwrap();
        assert_eq!((read.uid(), read.attempt()), ("0af3-77", 2));
        for stem in ["", "0af3", "-1", "0af3-", "x-1", "0af3-1.new"] {
            assert_eq!(Identity::of_file_stem(stem), None, "{stem:?}");
        }
    }

    #[test]
    fn names_that_are_paths_are_no_identity() {
        for uid in ["", "..", "../../etc", "a/b", "xyz", "-1", "a b"] {
            assert!(Identity::new("default", "web-0", uid, 1).is_err(), "uid {uid:?}");
        }
        for task in ["", "..", "a/b", "a b", "-a", "a\n"] {
            assert!(Identity::new("default", task, "0a", 1).is_err(), "task {task:?}");
        }
        let stored = r#"{"namespace":"default","task":"a","uid":"../x","attempt":1}"#;
        assert!(serde_json::from_str::<Identity>(stored).is_err());
    }
}
