//! Says what a deletion waits for: tasks that still stop, other objects, and finalizers. Pure, but
//! for [`Tellings`], which limits how often it is said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::{KindId, ObjectMeta, Task, Timestamp, labels};
use runtime::Any;
use tokio::time::Instant;

/// What a deletion that is over sooner waits for is not said: nobody would read it.
pub(crate) const TELL_AFTER: Duration = Duration::from_secs(3);
/// What a deletion waits for is said anew no earlier than this after the last time. Numbers change
/// with each object that goes, and each time is a write.
const TELL_PERIOD: Duration = Duration::from_secs(10);
/// Most nodes, and most finalizers, that are named.
const NAMED_MAX: usize = 3;

/// An object that has to be gone before another one can be removed.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    /// Its kind.
    pub kind: KindId,
    /// Its metadata.
    pub meta: &'a ObjectMeta,
    /// It as a task, which may still run.
    pub task: Option<&'a Task>,
}

impl<'a> Left<'a> {
    /// This object.
    pub(crate) fn of(any: &'a Any) -> Self {
        let task = if let Any::Task(task) = any { Some(&**task) } else { None };
        Self { kind: any.kind(), meta: any.meta(), task }
    }
}

/// What a deletion waits for, in words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remaining {
    /// The objects. Empty if there are none.
    pub content: String,
    /// The finalizers that the objects have. Empty if there are none.
    pub finalizers: String,
}

impl Remaining {
    /// What the objects in `left` come to. `more` is how many others there are.
    pub fn of<'a>(left: impl IntoIterator<Item = Left<'a>>, more: usize) -> Self {
        let (mut tasks, mut others) = (BTreeMap::new(), BTreeMap::new());
        let mut finalizers: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for Left { kind, meta, task } in left {
            match task.and_then(|task| Some((task, task.takes_resources_on()?))) {
                Some((task, node)) => {
                    *tasks.entry((node, task.loss().is_some())).or_insert(0) += 1;
                }
                None => *others.entry(kind).or_insert(0) += 1,
            }
            for finalizer in foreign_finalizers(meta) {
                let object =
                    format!("{}/{}", kind.word(), meta.name.as_deref().unwrap_or_default());
                finalizers.entry(finalizer).or_default().insert(object);
            }
        }
        let stops =
            tasks.into_iter().map(|((node, is_lost), count)| still_stop(count, node, is_lost));
        let there: Vec<String> =
            others.into_iter().map(|(kind, count)| counted(count, kind)).collect();
        let there = (!there.is_empty()).then(|| format!("still there: {}", there.join(", ")));
        let more = (more > 0).then(|| format!("and {more} more"));
        let content = some_of(stops.collect(), "nodes").into_iter().chain(there).chain(more);
        let finalizers = finalizers.into_iter().map(|(finalizer, objects)| {
            let (first, others) = (objects.first().map_or("", String::as_str), objects.len() - 1);
            let others = if others == 0 { String::new() } else { format!(" and {others} more") };
            format!("finalizer {finalizer} of {first}{others}")
        });
        Self {
            content: content.collect::<Vec<_>>().join("; "),
            finalizers: some_of(finalizers.collect(), "finalizers").join("; "),
        }
    }

    /// All of it on one line.
    pub fn line(&self) -> String {
        let parts = [&self.content, &self.finalizers];
        parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("; ")
    }
}

/// The finalizers that are not our own garbage collector's: somebody else has to remove them.
pub fn foreign_finalizers(meta: &ObjectMeta) -> impl Iterator<Item = &str> {
    let ours = [labels::FINALIZER_FOREGROUND, labels::FINALIZER_ORPHAN];
    let all = meta.finalizers.iter().flatten().map(String::as_str);
    all.filter(move |finalizer| !ours.contains(finalizer))
}

fn still_stop(count: usize, node: &str, is_lost: bool) -> String {
    match (count, is_lost) {
        (1, false) => format!("1 task still stops on node {node}"),
        (_, false) => format!("{count} tasks still stop on node {node}"),
        (1, true) => format!("1 task was on node {node}, which is lost"),
        (_, true) => format!("{count} tasks were on node {node}, which is lost"),
    }
}

fn counted(count: usize, kind: KindId) -> String {
    let info = kind.info();
    format!("{count} {}", if count == 1 { info.singular } else { info.plural })
}

/// The first parts, and how many there are beside them.
fn some_of(mut parts: Vec<String>, what: &str) -> Vec<String> {
    let more = parts.len().saturating_sub(NAMED_MAX);
    parts.truncate(NAMED_MAX);
    if more > 0 {
        parts.push(format!("and {more} more {what}"));
    }
    parts
}

/// For how long the object with this metadata has been being deleted.
pub(crate) fn deleted_for(meta: &ObjectMeta, now: Timestamp) -> Duration {
    let since = meta.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

/// When it was last said what each deletion waits for.
#[derive(Debug, Default)]
pub(crate) struct Tellings {
    /// Guards the times, by what identifies an object that is being deleted. Locked for one look-up
    /// or change.
    last: Mutex<BTreeMap<String, Instant>>,
}

impl Tellings {
    /// For how long nothing is said about the object with this metadata.
    pub(crate) fn wait(&self, object: &str, meta: &ObjectMeta, now: Timestamp) -> Duration {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.get(object);
        let again = last.map_or(Duration::ZERO, |at| TELL_PERIOD.saturating_sub(at.elapsed()));
        again.max(TELL_AFTER.saturating_sub(deleted_for(meta, now)))
    }

    /// It is being said.
    pub(crate) fn told(&self, object: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(object.to_owned(), Instant::now());
    }

    /// The object is gone.
    pub(crate) fn forget(&self, object: &str) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

#[cfg(test)]
mod tests {
    use api::Job;
    use api::task::TaskSpec;

    use super::*;

    fn job(name: &str, finalizers: &[&str]) -> Job {
        let mut job = Job::new("default", name, <_>::default());
        let finalizers = finalizers.iter().map(|finalizer| (*finalizer).to_owned());
        job.metadata.finalizers = Some(finalizers.collect());
        job
    }

    fn left<K: api::Kind>(object: &K) -> Left<'_> {
        Left { kind: K::ID, meta: object.meta(), task: None }
    }

    #[test]
    fn what_is_there_is_counted_by_kind_and_finalizers_are_named() {
        let none = Remaining::of([], 0);
        assert_eq!((none.line(), none), (String::new(), Remaining::default()));
        let foreign = [labels::FINALIZER_FOREGROUND, "example.com/x"];
        let (a, b) = (job("a", &foreign), job("b", &["example.com/x"]));
        let task = Task::new("default", "t", TaskSpec::default());
        let as_task = |task| Left { task: Some(task), ..left(task) };
        let all = Remaining::of([left(&a), left(&b), as_task(&task)], 4);
        assert_eq!(all.content, "still there: 2 jobs, 1 task; and 4 more");
        assert_eq!(all.finalizers, "finalizer example.com/x of job/a and 1 more");
        assert_eq!(all.line(), format!("{}; {}", all.content, all.finalizers));
        let own = job("c", &[labels::FINALIZER_FOREGROUND]);
        assert_eq!(Remaining::of([left(&own)], 0).line(), "still there: 1 job");
    }

    #[test]
    fn no_more_nodes_and_finalizers_are_named_than_people_read() {
        let (one, two) = (still_stop(1, "n1", false), still_stop(2, "n1", false));
        assert_eq!(
            (&*one, &*two),
            ("1 task still stops on node n1", "2 tasks still stop on node n1")
        );
        assert_eq!(still_stop(2, "n1", true), "2 tasks were on node n1, which is lost");
        let parts = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        assert_eq!(some_of(parts, "nodes"), ["a", "b", "c", "and 2 more nodes"]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_said_once_a_deletion_lasts_and_then_from_time_to_time() {
        let (tellings, mut job) = (Tellings::default(), job("a", &[]));
        job.metadata.deletion_timestamp = Some(api::Time(Timestamp::UNIX_EPOCH));
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(tellings.wait("u", &job.metadata, at(1)), TELL_AFTER - Duration::from_secs(1));
        assert_eq!(tellings.wait("u", &job.metadata, at(3)), Duration::ZERO);
        tellings.told("u");
        assert_eq!(tellings.wait("u", &job.metadata, at(3)), TELL_PERIOD);
        tokio::time::advance(TELL_PERIOD).await;
        assert_eq!(tellings.wait("u", &job.metadata, at(13)), Duration::ZERO);
        tellings.told("u");
        tellings.forget("u");
        assert_eq!(
            tellings.wait("u", &job.metadata, at(13)),
            Duration::ZERO,
            "nothing is kept of it"
        );
    }
}
