//! Batches: how Heliox's own components write. `POST /apis/heliox.dev/v1/batches`.
//!
//! A batch holds groups of operations. Each group happens as a whole or not at all, independently
//! of the others; results come in the order of the groups. Preconditions are facts (uid, attempt,
//! phase) and not resource versions, because several writers share one object: a write of another
//! part must not make this one fail.

mod ranges;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use ranges::Ranges;

use crate::completion::End;
use crate::kind::KindId;
use crate::names;
use crate::object::{Kind, ObjectKey, is_default};
use crate::resource_version::ResourceVersion;
use crate::status::{Refusal, Why};
use crate::task::Task;
use crate::task::transition::TaskChange;

/// Most operations of a batch, all groups together. Each task that is made counts as one.
pub const BATCH_OPS_MAX: usize = 1_000;
/// Most operations of a group: what fits into one transaction of etcd.
pub const GROUP_OPS_MAX: usize = 110;

/// Groups of writes that are sent in one request.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Batch {
    /// The groups. Each happens as a whole or not at all.
    pub groups: Vec<Group>,
}

/// Operations that happen together or not at all.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// The operations, in order. No object may be in the group twice.
    pub ops: Vec<Op>,
}

impl Group {
    /// The number of operations that it counts as.
    pub fn count(&self) -> usize {
        self.ops.iter().map(Op::count).fold(0, usize::saturating_add)
    }

    /// The group without operations that apiservers of earlier versions do not know, or `None` if it
    /// has no such operation. Tasks are created one by one. Objects whose controller is created by
    /// the same group are left out, because earlier versions cannot fill in its uid: the component
    /// creates them later, when it sees the controller.
    pub fn for_earlier_versions(&self) -> Option<Self> {
        let mut ops = Vec::new();
        for op in &self.ops {
            match op.clone() {
                Op::CreateWithStatus { mut object } => {
                    object.as_object_mut().and_then(|fields| fields.shift_remove("status"));
                    ops.push(Op::Create { object });
                }
                Op::CreateTasks { mut task, indexes } => {
                    if owner_without_uid(&mut task).is_none() {
                        ops.extend(one_by_one(&task, &indexes));
                    }
                }
                Op::Create { mut object } => {
                    if owner_without_uid(&mut object).is_none() {
                        ops.push(Op::Create { object });
                    }
                }
                other @ (Op::Replace { .. }
                | Op::Status { .. }
                | Op::Delete { .. }
                | Op::Patch { .. }
                | Op::Emptied { .. }
                | Op::Remove { .. }
                | Op::Task { .. }
                | Op::Record { .. }) => ops.push(other),
            }
        }
        (ops != self.ops).then_some(Self { ops })
    }
}

/// An operation for each task of a [`Op::CreateTasks`].
fn one_by_one(task: &Value, indexes: &Ranges) -> Vec<Op> {
    let owner = owner_name(task).unwrap_or_default();
    let create = |index: u32| {
        let mut object = task.clone();
        object["metadata"]["name"] = names::task(owner, &index.to_string()).into();
        object["spec"]["index"] = index.into();
        Op::Create { object }
    };
    indexes.iter().map(create).collect()
}

impl From<Op> for Group {
    fn from(op: Op) -> Self {
        Self { ops: vec![op] }
    }
}

/// What a deletion does to the objects that the deleted one owns. In manifests and requests:
/// `propagationPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Propagation {
    /// The owned objects are deleted after it.
    #[default]
    Background,
    /// The owned objects are deleted first, then the object itself.
    Foreground,
    /// The owned objects stay, without their owner.
    Orphan,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Op {
    /// Creates an object. The create of a task is guarded on its bit of the completion record and
    /// on its owner's uid, so that an index that has ended is not started again. If an object of
    /// the same name and the same controller exists, the result is "Done", because an earlier try
    /// created it; any other existing object makes the group be refused.
    Create {
        /// The object, with apiVersion and kind.
        object: Value,
    },
    /// Creates an object as [`Op::Create`] does, but with the given status. Objects that belong to it
    /// can be created by later operations of the same group: if such an object names this one as its
    /// controller, without a uid, the apiserver fills in the new uid.
    CreateWithStatus {
        /// The object, with apiVersion, kind and status.
        object: Value,
    },
    /// Creates tasks of one owner that differ only in their index and in the name that follows from
    /// the index ([`names::task`]). Each task has the guards of an [`Op::Create`], needs permission
    /// on its own, and counts as one operation.
    CreateTasks {
        /// One of them, with apiVersion and kind, and the owner as its controller.
        task: Value,
        /// Their indexes.
        indexes: Ranges,
    },
    /// Replaces spec and labels. The object must have the uid and resourceVersion of the current
    /// one. Components of earlier versions send this; newer ones patch the fields that they change.
    Replace {
        /// The object.
        object: Value,
    },
    /// Replaces the status. The object must have the uid and resourceVersion of the current one.
    Status {
        /// The object.
        object: Value,
    },
    /// Deletes an object as a user's delete does: finalizers are respected and owned objects are
    /// treated as `propagation` says.
    Delete {
        /// The kind.
        kind: String,
        /// Namespace and name.
        key: ObjectKey,
        /// The uid. Another object of the same name is not deleted.
        uid: String,
        /// What happens to the objects that it owns.
        #[serde(default, skip_serializing_if = "is_default")]
        propagation: Propagation,
        /// The resourceVersion that the decision was made on; the object must not have changed
        /// since. Without one, any state will do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<ResourceVersion>,
    },
    /// Applies a JSON merge patch to an object's metadata and spec. The patch must contain the uid
    /// and resourceVersion of the current object.
    Patch {
        /// The kind.
        kind: String,
        /// Namespace and name.
        key: ObjectKey,
        /// The patch.
        patch: Value,
    },
    /// Removes a namespace that is being deleted and that holds no objects any more.
    Emptied {
        /// The name; its namespace is empty.
        key: ObjectKey,
        /// The uid of the namespace.
        uid: String,
    },
    /// Removes a task's object. Its end must be recorded or its owner must be gone, and it must not
    /// run on any node.
    Remove {
        /// Namespace and name.
        key: ObjectKey,
        /// The uid of the task.
        uid: String,
    },
    /// Changes one part of a task.
    Task {
        /// Namespace and name.
        key: ObjectKey,
        /// The uid of the task.
        uid: String,
        /// The attempt that the change was decided on. A change for an earlier attempt is refused.
        attempt: u32,
        /// The change.
        change: TaskChange,
    },
    /// Records how indexes ended, in one chunk of a job's completion record. If one of them is
    /// recorded with another end already, the group is refused.
    Record {
        /// Namespace and name of the job.
        job: ObjectKey,
        /// The uid of the job.
        uid: String,
        /// The number of the run, from 1.
        run: u32,
        /// Indexes, all of one chunk, and how each ended.
        ends: Vec<(u32, End)>,
    },
}

impl Op {
    /// The words for all operations in JSON.
    pub const WORDS: [&str; 11] = [
        "create",
        "createWithStatus",
        "createTasks",
        "replace",
        "status",
        "delete",
        "patch",
        "emptied",
        "remove",
        "task",
        "record",
    ];

    /// Makes an object.
    pub fn create<K: Kind>(object: &K) -> Self {
        Op::Create { object: to_value(object) }
    }

    /// Creates tasks with these indexes. `task` is one of them, and the others equal it otherwise.
    pub fn create_tasks(task: &Task, indexes: Ranges) -> Self {
        Op::CreateTasks { task: to_value(task), indexes }
    }

    /// The number of operations that it counts as.
    pub fn count(&self) -> usize {
        match self {
            Op::CreateTasks { indexes, .. } => indexes.count(),
            Op::Create { .. }
            | Op::CreateWithStatus { .. }
            | Op::Replace { .. }
            | Op::Status { .. }
            | Op::Delete { .. }
            | Op::Patch { .. }
            | Op::Emptied { .. }
            | Op::Remove { .. }
            | Op::Task { .. }
            | Op::Record { .. } => 1,
        }
    }

    /// Changes one part of a task, decided on its current attempt.
    pub fn task(task: &Task, change: TaskChange) -> Self {
        let (uid, attempt) = (task.uid().to_owned(), task.spec.attempt);
        Op::Task { key: task.key(), uid, attempt, change }
    }
}

/// The name of an object's controller.
pub fn owner_name(object: &Value) -> Option<&str> {
    controller_in(object)?["name"].as_str()
}

fn controller_in(object: &Value) -> Option<&Value> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == Value::Bool(true))
}

/// The controller in the owner references of an object, if it has no uid because the same group
/// creates it.
pub fn owner_without_uid(object: &mut Value) -> Option<&mut Value> {
    let owners = object["metadata"].get_mut("ownerReferences")?.as_array_mut()?;
    let owner = owners.iter_mut().find(|owner| owner["controller"] == Value::Bool(true))?;
    let is_unknown = owner.get("uid").is_none_or(|uid| uid == "");
    is_unknown.then_some(owner)
}

fn to_value<K: Kind>(object: &K) -> Value {
    serde_json::to_value(object).expect("our kinds have text keys and finite numbers")
}

/// How each group ended, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    /// A watch cache that has reached this version has seen every write of the batch.
    pub resource_version: ResourceVersion,
    /// One result for each group, in the order of the request.
    pub results: Vec<GroupResult>,
}

/// How a group ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WireResult", into = "WireResult")]
pub enum GroupResult {
    /// The group happened, or all of it was in effect already.
    Done,
    /// The group did not happen, or it is not known whether it did: see `why`.
    Refused {
        /// The reason, which says what the writer does next.
        why: Why,
        /// The reason as a sentence.
        message: String,
    },
}

impl GroupResult {
    /// The result of a group that was refused.
    pub fn refused(why: Why, message: impl Into<String>) -> Self {
        GroupResult::Refused { why, message: message.into() }
    }

    /// Whether it happened.
    pub fn is_done(&self) -> bool {
        *self == GroupResult::Done
    }
}

impl From<Refusal> for GroupResult {
    fn from(refusal: Refusal) -> Self {
        GroupResult::Refused { why: refusal.why, message: refusal.message }
    }
}

/// A result on the wire: a coarse outcome that every version knows, and the finer reason that newer
/// ones add.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WireResult {
    outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// The only outcomes that the first versions write and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Outcome {
    Done,
    /// Read the objects again before deciding anew.
    Refused,
    /// It may have happened, may still happen, or failed only for now: send it again.
    Unknown,
    /// The operation as it is can never happen.
    Invalid,
    /// The writer is not the leader any more.
    Deposed,
}

impl Outcome {
    fn of(why: Why) -> Self {
        match why {
            Why::Mistaken(_) | Why::Invalid | Why::TooLarge => Outcome::Invalid,
            Why::Forbidden | Why::NotFound | Why::Exists | Why::Conflict | Why::Expired => {
                Outcome::Refused
            }
            // These refusals pass. An agent of the first versions drops a report that is "refused",
            // so it must read "unknown" here and send the end of its task again.
            Why::Contended
            | Why::Busy
            | Why::Unavailable
            | Why::Full
            | Why::Late
            | Why::Unknown
            | Why::Internal => Outcome::Unknown,
            Why::Deposed => Outcome::Deposed,
        }
    }

    /// The reason that this outcome stands for, where the sender gives no finer one that this
    /// version knows.
    fn why(self) -> Option<Why> {
        match self {
            Outcome::Done => None,
            Outcome::Refused => Some(Why::Conflict),
            Outcome::Unknown => Some(Why::Unknown),
            Outcome::Invalid => Some(Why::Invalid),
            Outcome::Deposed => Some(Why::Deposed),
        }
    }

    fn message(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Refused => "what it was decided on has changed",
            Outcome::Unknown => "the apiserver does not know whether it was written",
            Outcome::Invalid => "it can never be written as it is",
            Outcome::Deposed => "another process is the leader now",
        }
    }
}

impl From<GroupResult> for WireResult {
    fn from(result: GroupResult) -> Self {
        match result {
            GroupResult::Done => Self { outcome: Outcome::Done, why: None, message: None },
            GroupResult::Refused { why, message } => Self {
                outcome: Outcome::of(why),
                why: Some(why.word().to_owned()),
                message: Some(message),
            },
        }
    }
}

impl From<WireResult> for GroupResult {
    fn from(WireResult { outcome, why, message }: WireResult) -> Self {
        let Some(coarse) = outcome.why() else { return GroupResult::Done };
        let fine = why.as_deref().and_then(Why::of_word);
        GroupResult::Refused {
            why: fine.unwrap_or(coarse),
            message: message.unwrap_or_else(|| outcome.message().to_owned()),
        }
    }
}

/// The header that names the leader on whose behalf a component writes:
/// `<component>/<identity>/<term>`. The write is refused if another one leads.
pub const LEADER_HEADER: &str = "heliox-leader";

/// The kind that a plural, or a kind's name in any case, means: the words that [`Op::Delete`]
/// takes.
pub fn kind_of(word: &str) -> Option<KindId> {
    KindId::ALL.into_iter().find(|id| id.info().plural == word)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{from_str, to_string};

    use super::*;

    #[test]
    fn a_result_is_read_back_as_it_was_written() {
        let all = Why::ALL.map(|why| GroupResult::refused(why, "no"));
        let mut lines = String::new();
        for result in all.into_iter().chain([GroupResult::Done]) {
            let written = to_string(&result).unwrap();
            assert_eq!(from_str::<GroupResult>(&written).unwrap(), result);
            lines.push_str(&format!("{written}\n"));
        }
        expect![[r#"
            {"outcome":"Invalid","why":"BadRequest","message":"no"}
            {"outcome":"Invalid","why":"UnknownOperation","message":"no"}
            {"outcome":"Invalid","why":"MethodNotAllowed","message":"no"}
            {"outcome":"Invalid","why":"UnsupportedMediaType","message":"no"}
            {"outcome":"Invalid","why":"Invalid","message":"no"}
            {"outcome":"Invalid","why":"RequestEntityTooLarge","message":"no"}
            {"outcome":"Refused","why":"Forbidden","message":"no"}
            {"outcome":"Refused","why":"NotFound","message":"no"}
            {"outcome":"Refused","why":"AlreadyExists","message":"no"}
            {"outcome":"Refused","why":"Conflict","message":"no"}
            {"outcome":"Unknown","why":"Contended","message":"no"}
            {"outcome":"Deposed","why":"Deposed","message":"no"}
            {"outcome":"Refused","why":"Expired","message":"no"}
            {"outcome":"Unknown","why":"TooManyRequests","message":"no"}
            {"outcome":"Unknown","why":"ServiceUnavailable","message":"no"}
            {"outcome":"Unknown","why":"StoreFull","message":"no"}
            {"outcome":"Unknown","why":"ReadTimeout","message":"no"}
            {"outcome":"Unknown","why":"Timeout","message":"no"}
            {"outcome":"Unknown","why":"InternalError","message":"no"}
            {"outcome":"Done"}
        "#]]
        .assert_eq(&lines);
    }

    #[test]
    fn the_words_are_those_of_all_operations() {
        let why = from_str::<Op>(r#"{"peel":{}}"#).unwrap_err().to_string();
        let words = Op::WORDS.map(|word| format!("`{word}`")).join(", ");
        assert!(why.contains(&format!("expected one of {words} at")), "{why}");
    }

    /// Of a version that has only the coarse words, or finer ones than this one knows.
    #[test]
    fn a_result_of_another_version_is_read_by_its_coarse_word() {
        for (written, why) in [
            (r#"{"outcome":"Refused","message":"no"}"#, Why::Conflict),
            (r#"{"outcome":"Unknown"}"#, Why::Unknown),
            (r#"{"outcome":"Invalid","message":"no"}"#, Why::Invalid),
            (r#"{"outcome":"Deposed"}"#, Why::Deposed),
            (r#"{"outcome":"Invalid","why":"Newer","message":"no"}"#, Why::Invalid),
        ] {
            let read = from_str::<GroupResult>(written).unwrap();
            assert!(
                matches!(read, GroupResult::Refused { why: read, .. } if read == why),
                "{written}"
            );
        }
        assert_eq!(from_str::<GroupResult>(r#"{"outcome":"Done"}"#).unwrap(), GroupResult::Done);
    }
}
