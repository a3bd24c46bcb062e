//! The identity of containers, and what is observed of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

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
/// Label with a container's name in its attempt; the main one has [`MAIN`].
pub const LABEL_CONTAINER: &str = "heliox.dev/container";
/// Label with the number of a container's restart.
pub const LABEL_RESTART: &str = "heliox.dev/restart";

/// The name of an attempt's main container.
pub const MAIN: &str = "main";

/// Longest name of a container in its attempt: a DNS label's.
const CONTAINER_BYTES_MAX: usize = 63;

/// Longest uid, cluster, node, namespace or task name that is accepted: Kubernetes' limit for a DNS
/// subdomain.
const NAME_BYTES_MAX: usize = 253;

/// The node and cluster that an engine works for.
///
/// Invariant: both are names that are safe in labels and container names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    cluster: String,
    node: String,
}

/// The identity of a container: which task, which attempt, and which of the attempt's containers.
/// Within a scope there is one container for each identity.
///
/// An attempt may have several containers: one after another when it is restarted in place, and
/// several at the same time, each with a name. Every attempt has its main container with restart
/// number 0. Earlier versions knew no other container and wrote neither name nor number; what they
/// wrote (journals, labels, file names) means this one, and it is still written in that form.
///
/// Invariant: the uid consists of hexadecimal digits and dashes, the names are DNS-like, and the
/// container's name is a DNS label. So all of them are safe in file names, and none contains an
/// underscore.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "IdentityRecord")]
pub struct Identity {
    namespace: String,
    task: String,
    uid: String,
    attempt: u32,
    #[serde(skip_serializing_if = "is_main")]
    container: Cow<'static, str>,
    #[serde(skip_serializing_if = "is_first")]
    restart: u32,
}

fn is_main(container: &str) -> bool {
    container == MAIN
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_first(restart: &u32) -> bool {
    *restart == 0
}

/// A field that is not known is an error: without it two containers could be taken for one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityRecord {
    namespace: String,
    task: String,
    uid: String,
    attempt: u32,
    container: Option<String>,
    #[serde(default)]
    restart: u32,
}

/// A part of an identity that is not safe in file names or labels.
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
    /// Created, not started. Creating it again starts it.
    Created,
    /// Its main process is running.
    Running {
        /// Since when.
        since: Timestamp,
    },
    /// Its main process has ended.
    Exited {
        /// When it started; nothing if that is not known.
        started: Option<Timestamp>,
        /// When it ended.
        at: Timestamp,
        /// Its exit code: 128 + n if signal n ended it. It has no meaning if nobody saw the end.
        code: i32,
        /// The signal that ended it. Docker reports only the exit code, so a program that exits
        /// with 128 + n looks the same there.
        signal: Option<i32>,
        /// Whether the kernel killed it because it exceeded its memory limit.
        oom_killed: bool,
        /// Whether nobody saw how it ended.
        is_unseen: bool,
        /// More details, where the exit code is not enough.
        message: Option<String>,
    },
    /// It may be running, or have run: its records are damaged, and a person has to act. Nothing is
    /// done with it until then. If it were treated as gone, it would be started a second time.
    Unreadable {
        /// What is damaged and what to do.
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
    /// Validates both names.
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

    /// The name of the container with this identity. It is always the same, so that a repeated
    /// create whose first answer was lost finds its own container.
    pub fn container_name(&self, identity: &Identity) -> String {
        let uid: String = identity.uid.chars().filter(|c| *c != '-').take(8).collect();
        let mut name = format!("heliox-{}-{}-{}-{uid}", self.node, identity.task, identity.attempt);
        if !identity.is_first_main() {
            name.push_str(&format!("-{}-{}", identity.container, identity.restart));
        }
        name
    }

    /// The labels that identify the container.
    pub fn labels(&self, identity: &Identity) -> BTreeMap<String, String> {
        BTreeMap::from([
            (LABEL_CLUSTER.to_owned(), self.cluster.clone()),
            (LABEL_NODE.to_owned(), self.node.clone()),
            (LABEL_NAMESPACE.to_owned(), identity.namespace.clone()),
            (LABEL_TASK.to_owned(), identity.task.clone()),
            (LABEL_UID.to_owned(), identity.uid.clone()),
            (LABEL_ATTEMPT.to_owned(), identity.attempt.to_string()),
            (LABEL_CONTAINER.to_owned(), identity.container.clone().into_owned()),
            (LABEL_RESTART.to_owned(), identity.restart.to_string()),
        ])
    }

    /// Reads an identity from a container's labels; nothing if it belongs to another scope.
    pub fn identity_in<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> Option<Identity> {
        if label(LABEL_CLUSTER)? != self.cluster || label(LABEL_NODE)? != self.node {
            return None;
        }
        let attempt = label(LABEL_ATTEMPT)?.parse().ok()?;
        let (namespace, task, uid) =
            (label(LABEL_NAMESPACE)?, label(LABEL_TASK)?, label(LABEL_UID)?);
        // An earlier version, which had only the main container, did not set these two labels.
        let restart = label(LABEL_RESTART).map_or(Ok(0), str::parse).ok()?;
        let container = label(LABEL_CONTAINER).unwrap_or(MAIN);
        Identity::new(namespace, task, uid, attempt).ok()?.of_container(container, restart).ok()
    }
}

impl Identity {
    /// The main container of an attempt with restart number 0. Validates every part.
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
            container: Cow::Borrowed(MAIN),
            restart: 0,
        })
    }

    /// A container of the same attempt with this name and restart number.
    pub fn of_container(self, container: &str, restart: u32) -> Result<Self, InvalidIdentity> {
        let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = container.as_bytes();
        let is_label = (1..=CONTAINER_BYTES_MAX).contains(&bytes.len())
            && bytes.iter().all(|b| is_part(*b) || *b == b'-')
            && [bytes.first(), bytes.last()].into_iter().flatten().all(|b| is_part(*b));
        if !is_label {
            return Err(InvalidIdentity { part: "container", value: container.to_owned() });
        }
        let container =
            if container == MAIN { Cow::Borrowed(MAIN) } else { Cow::Owned(container.to_owned()) };
        Ok(Self { container, restart, ..self })
    }

    /// An identity without the task's name, for lookups by uid and attempt.
    pub(crate) fn nameless(uid: &str, attempt: u32) -> Result<Self, InvalidIdentity> {
        Self::new("unknown", "unknown", uid, attempt)
    }

    /// The same, from the name that files of the container have.
    pub(crate) fn of_file_stem(stem: &str) -> Option<Self> {
        let mut parts = stem.split('_');
        let (uid, attempt) = parts.next()?.rsplit_once('-')?;
        let identity = Self::nameless(uid, attempt.parse().ok()?).ok()?;
        let identity = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => identity,
            (Some(container), Some(restart), None) => {
                identity.of_container(container, restart.parse().ok()?).ok()?
            }
            (Some(_), ..) => return None,
        };
        // The canonical name of the file must be equal: another spelling, for example with a
        // leading zero, is not a name of this container.
        (identity.file_stem() == stem).then_some(identity)
    }

    /// The identity without the task's name, for comparisons in which the name does not matter.
    pub(crate) fn without_name(&self) -> Self {
        let unknown = || "unknown".to_owned();
        Self { namespace: unknown(), task: unknown(), ..self.clone() }
    }

    /// The attempt's main container with restart number 0, by which the attempt is assigned.
    #[must_use]
    pub(crate) fn into_attempt(self) -> Self {
        Self { container: Cow::Borrowed(MAIN), restart: 0, ..self }
    }

    /// The same, without a copy if it is that container.
    pub(crate) fn of_attempt(&self) -> Cow<'_, Self> {
        if self.is_first_main() {
            return Cow::Borrowed(self);
        }
        Cow::Owned(self.clone().into_attempt())
    }

    /// The container that follows this one when it is restarted in place; nothing if its number is
    /// the last one.
    pub(crate) fn restarted(&self) -> Option<Self> {
        Some(Self { restart: self.restart.checked_add(1)?, ..self.clone() })
    }

    /// The first and the last identity that a container of the same attempt can have.
    pub(crate) fn all_of_attempt(&self) -> RangeInclusive<Self> {
        // A tilde is greater than all that a container's name may contain.
        let [first, last] = [("", 0), ("~", u32::MAX)].map(|(container, restart)| {
            let container = Cow::Borrowed(container);
            Self { container, restart, ..self.clone() }
        });
        first..=last
    }

    /// The main container of the same attempt with the greatest restart number in `known`.
    pub(crate) fn newest_main_in<'a, T>(
        &self,
        known: &'a BTreeMap<Self, T>,
    ) -> Option<(&'a Self, &'a T)> {
        let is_one = |other: &Self| is_main(&other.container) && other.is_of_same_attempt(self);
        let known = known.range::<Self, _>(&*self.of_attempt()..);
        known.take_while(|(other, _)| is_one(other)).last()
    }

    /// Whether both are containers of one attempt.
    pub(crate) fn is_of_same_attempt(&self, other: &Self) -> bool {
        (self.attempt, &self.uid) == (other.attempt, &other.uid)
            && (&self.task, &self.namespace) == (&other.task, &other.namespace)
    }

    fn is_first_main(&self) -> bool {
        is_main(&self.container) && is_first(&self.restart)
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

    /// Which of the attempt's containers, by name.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// The restart number: how often it was restarted in place, from 0.
    pub fn restart(&self) -> u32 {
        self.restart
    }

    /// The name of files of this container: `<uid>-<attempt>` for the main container with restart
    /// number 0, otherwise `<uid>-<attempt>_<container>_<restart>`.
    pub fn file_stem(&self) -> String {
        let mut stem = format!("{}-{}", self.uid, self.attempt);
        if !self.is_first_main() {
            stem.push_str(&format!("_{}_{}", self.container, self.restart));
        }
        stem
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} attempt {}", self.namespace, self.task, self.attempt)?;
        if !self.is_first_main() {
            write!(f, " container {} restart {}", self.container, self.restart)?;
        }
        Ok(())
    }
}

impl TryFrom<IdentityRecord> for Identity {
    type Error = InvalidIdentity;

    fn try_from(record: IdentityRecord) -> Result<Self, InvalidIdentity> {
        let container = record.container.as_deref().unwrap_or(MAIN);
        Self::new(&record.namespace, &record.task, &record.uid, record.attempt)?
            .of_container(container, record.restart)
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

    /// As versions wrote it that knew no other container.
    #[test]
    fn without_container_and_restart_it_is_the_first_main_container() {
        let first = Identity::new("default", "web-0", "0af3-77", 2).unwrap();
        assert_eq!((first.container(), first.restart()), ("main", 0));
        let record = r#"{"namespace":"default","task":"web-0","uid":"0af3-77","attempt":2}"#;
        assert_eq!(serde_json::from_str::<Identity>(record).unwrap(), first);
        assert_eq!(serde_json::to_string(&first).unwrap(), record, "older versions read it, too");
        let scope = Scope::new("c1", "node-1").unwrap();
        let mut labels = scope.labels(&first);
        labels.retain(|key, _| key != LABEL_CONTAINER && key != LABEL_RESTART);
        let read = scope.identity_in(|key| labels.get(key).map(String::as_str));
        assert_eq!(read, Some(first.clone()));
        assert_eq!(scope.container_name(&first), "heliox-node-1-web-0-2-0af377");
        assert_eq!(first.file_stem(), "0af3-77-2");
        assert_eq!(Identity::of_file_stem("0af3-77-2"), Some(first.without_name()));
        assert_eq!(first.to_string(), "default/web-0 attempt 2");
    }

    #[test]
    fn containers_of_one_attempt_are_told_apart_wherever_they_are_named() {
        let first = Identity::new("default", "web-0", "0af3-77", 2).unwrap();
        let of = |container, restart| first.clone().of_container(container, restart).unwrap();
        let all = [first.clone(), of("main", 1), of("proxy-2", 0), of("proxy", 2)];
        let scope = Scope::new("c1", "node-1").unwrap();
        let mut names = std::collections::BTreeSet::new();
        for identity in &all {
            let record = serde_json::to_string(identity).unwrap();
            assert_eq!(serde_json::from_str::<Identity>(&record).unwrap(), *identity);
            let labels = scope.labels(identity);
            let read = scope.identity_in(|key| labels.get(key).map(String::as_str));
            assert_eq!(read.as_ref(), Some(identity));
            let stem = identity.file_stem();
            assert_eq!(Identity::of_file_stem(&stem), Some(identity.without_name()));
            assert!(!stem.contains('.'), "what follows a dot is no part of a stem");
            names.extend([record, stem, scope.container_name(identity), identity.to_string()]);
        }
        assert_eq!(names.len(), 4 * all.len());
        for container in ["", "Main", "-a", "a-", "a_b", "a.b", "a/b", &"a".repeat(64)] {
            assert!(first.clone().of_container(container, 0).is_err(), "{container:?}");
        }
        for stem in ["0a-1_main_0", "0a-1_main_01", "0a-01", "0a-1_a", "0a-1_a_1_2", "0a-1__1"] {
            assert_eq!(Identity::of_file_stem(stem), None, "{stem}");
        }
    }

    #[test]
    fn the_containers_of_an_attempt_are_found_together() {
        let first = Identity::new("default", "web-0", "0af3-77", 2).unwrap();
        let of = |container, restart| first.clone().of_container(container, restart).unwrap();
        let all = first.all_of_attempt();
        for identity in [first.clone(), of("main", u32::MAX), of("a", 0), of("z9-z", 7)] {
            assert!(all.contains(&identity), "{identity}");
            assert_eq!(*identity.of_attempt(), first);
        }
        for other in [("web-0", "0af3-77", 1), ("web-0", "0af3-77", 3), ("web-1", "0af3-77", 2)] {
            assert!(!all.contains(&Identity::new("default", other.0, other.1, other.2).unwrap()));
        }
        assert_eq!(first.restarted(), Some(of("main", 1)));
        assert_eq!(of("main", u32::MAX).restarted(), None);
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
