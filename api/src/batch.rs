//! Batches: how Heliox's own components write. `POST /apis/heliox.dev/v1/batches`.
//!
//! Groups are all or nothing and independent of each other; results come in order. Preconditions
//! are facts (uid, attempt, phase), not resource versions, since several writers share an object.

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

/// Most operations of a batch, over all groups; each task that is made is one.
pub const BATCH_OPS_MAX: usize = 1_000;
/// Most operations of a group: what one transaction of etcd takes.
pub const GROUP_OPS_MAX: usize = 110;

/// Writes that travel together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Batch {
    /// Each all or nothing.
    pub groups: Vec<Group>,
}

/// Operations that happen together or not at all.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// In order; no object twice.
    pub ops: Vec<Op>,
}

impl Group {
    /// For how many operations it counts.
    pub fn count(&self) -> usize {
        self.ops.iter().map(Op::count).fold(0, usize::saturating_add)
    }
}

impl From<Op> for Group {
    fn from(op: Op) -> Self {
        Self { ops: vec![op] }
    }
}

/// What a deletion means for the objects that the deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Propagation {
    /// They go after it.
    #[default]
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Op {
    /// Makes an object. A task's create is guarded on its bit of the completion record and on its
    /// owner's uid. An object of the same name and the same controller is "Done" (it was asked for
    /// before); any other is a refusal.
    Create {
        /// The object, with apiVersion and kind.
        object: Value,
    },
    /// Makes tasks of one owner that differ in nothing but their index, and the name that follows from it
    /// ([`names::task`]). Each is made as [`Op::Create`] makes it: with the same guards, as a request of
    /// its own, and counted as an operation of its own.
    CreateTasks {
        /// One of them, with apiVersion and kind, and the owner as its controller.
        task: Value,
        /// Their indexes.
        indexes: Ranges,
    },
    /// Replaces spec and labels. The uid and resourceVersion in it must be there, and be the current
    /// ones. Asked for by components of earlier versions; now they patch the fields that they mean.
    Replace {
        /// The object.
        object: Value,
    },
    /// Replaces the status. The uid and resourceVersion in it must be there, and be the current ones.
    Status {
        /// The object.
        object: Value,
    },
    /// Deletes an object: as a person's delete does, owners and finalizers respected.
    Delete {
        /// Its kind.
        kind: String,
        /// Where it is.
        key: ObjectKey,
        /// Which one.
        uid: String,
        /// What happens to the objects that it owns.
        #[serde(default, skip_serializing_if = "is_default")]
        propagation: Propagation,
        /// The state that this was decided on; any, where none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<ResourceVersion>,
    },
    /// Applies a merge patch to an object's metadata and spec. The uid and resourceVersion in the
    /// patch must be there, and be the current ones.
    Patch {
        /// Its kind.
        kind: String,
        /// Where it is.
        key: ObjectKey,
        /// The patch.
        patch: Value,
    },
    /// Removes a namespace that is being deleted and holds nothing any more.
    Emptied {
        /// Where it is.
        key: ObjectKey,
        /// Which one.
        uid: String,
    },
    /// Removes a task's object: it is recorded or its owner is gone, and it runs nowhere.
    Remove {
        /// Where it is.
        key: ObjectKey,
        /// Which one.
        uid: String,
    },
    /// Changes one part of a task.
    Task {
        /// Where it is.
        key: ObjectKey,
        /// Which one.
        uid: String,
        /// The attempt that the change was decided on.
        attempt: u32,
        /// The change.
        change: TaskChange,
    },
    /// Records ends in a chunk of a job's completion record. What is recorded otherwise refuses the
    /// group.
    Record {
        /// The job.
        job: ObjectKey,
        /// Which one.
        uid: String,
        /// The run.
        run: u32,
        /// Indexes, all of one chunk, and how they ended.
        ends: Vec<(u32, End)>,
    },
}

impl Op {
    /// Makes an object.
    pub fn create<K: Kind>(object: &K) -> Self {
        Op::Create { object: to_value(object) }
    }

    /// Makes tasks that are all like this one of theirs.
    pub fn create_tasks(task: &Task, indexes: Ranges) -> Self {
        Op::CreateTasks { task: to_value(task), indexes }
    }

    /// For how many operations it counts.
    pub fn count(&self) -> usize {
        match self {
            Op::CreateTasks { indexes, .. } => indexes.count(),
            Op::Create { .. }
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

    /// The same in operations that every version knows.
    pub fn one_by_one(self) -> Vec<Self> {
        let Op::CreateTasks { task, indexes } = self else { return vec![self] };
        let owner = owner_name(&task).unwrap_or_default().to_owned();
        let create = |index: u32| {
            let mut object = task.clone();
            object["metadata"]["name"] = names::task(&owner, &index.to_string()).into();
            object["spec"]["index"] = index.into();
            Op::Create { object }
        };
        indexes.iter().map(create).collect()
    }

    /// Changes one part of a task, decided on its current attempt.
    pub fn task(task: &Task, change: TaskChange) -> Self {
        let (uid, attempt) = (task.uid().to_owned(), task.spec.attempt);
        Op::Task { key: task.key(), uid, attempt, change }
    }
}

/// The name of an object's controller.
pub fn owner_name(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == Value::Bool(true))?;
    owner["name"].as_str()
}

fn to_value<K: Kind>(object: &K) -> Value {
    serde_json::to_value(object).expect("our kinds have text keys and finite numbers")
}

/// How each group ended, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    /// A cache that has reached this has seen every write of the batch.
    pub resource_version: ResourceVersion,
    /// In the order of the request.
    pub results: Vec<GroupResult>,
}

/// How a group ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WireResult", into = "WireResult")]
pub enum GroupResult {
    /// It happened, or was in effect already.
    Done,
    /// It did not happen, as far as `why` says.
    Refused {
        /// What the writer does next.
        why: Why,
        /// What happened, as a sentence.
        message: String,
    },
}

impl GroupResult {
    /// A group that was refused.
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

/// A result as it is written: a coarse word that every version knows, and the finer one.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WireResult {
    outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// All that the first versions tell of a result, and read of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Outcome {
    Done,
    /// Look again.
    Refused,
    /// It may have happened, or may still, or can be had later: what was to be told is told again.
    Unknown,
    /// It can never happen as it is.
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
            // An agent of the first versions takes "refused" for heard, and would not tell the end of a
            // task again which was refused only for now.
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

    /// What it means of a version that says no more, or more than this one knows.
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

/// The header by which a leader's write is guarded: `<component>/<identity>/<term>`.
pub const LEADER_HEADER: &str = "heliox-leader";

/// A kind's plural, or its name in any case, as [`Op::Delete`] has it.
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
