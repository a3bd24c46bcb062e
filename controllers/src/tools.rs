//! What the shells of all controllers use to read, write and tell.

use std::collections::BTreeMap;
use std::time::Duration;

use api::batch::{self, BATCH_OPS_MAX, Batch, Op};
use api::{Kind, Timestamp};
use base::{Clock, ErrorChain};
use client::Client;
use runtime::{Cache, ReconcileError, Recorder, Requeue, Severity};
use tracing::{debug, warn};

use crate::action::Group;
use crate::metrics::Metrics;
use crate::notice::Notice;

/// Longest reason that is passed on of a group that can never be written.
const WHY_CHARS_MAX: usize = 1024;

/// What the shells of all controllers use.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// Every write of it is guarded by this process's leadership.
    pub(crate) client: Client,
    pub(crate) cache: Cache,
    pub(crate) clock: Clock,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
}

impl Tools {
    /// Writes a plan's groups, and returns when the cache has seen them: no plan is made on less.
    /// What comes back are the groups that can never be written, and why: the controller has to say
    /// so where people look, since asking again changes nothing.
    pub(crate) async fn write(
        &self,
        controller: &'static str,
        groups: Vec<Group>,
    ) -> Result<Vec<(Group, String)>, ReconcileError> {
        self.metrics.planned(controller, groups.len());
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        debug!(controller, groups = groups.len(), "writing");
        let writes = groups.iter().map(Group::to_batch).collect();
        let outcome = runtime::controller::write(&self.client, &self.cache, writes).await;
        if outcome.is_err() {
            self.metrics.refused(controller);
        }
        let mut never: BTreeMap<usize, String> = outcome?.into_iter().collect();
        let refused = groups.into_iter().enumerate().filter_map(|(place, group)| {
            let why = never.remove(&place)?;
            warn!(controller, ops = group.ops(), why, "a group of writes can never succeed");
            // It goes into a status, which has to be written.
            Some((group, why.chars().take(WHY_CHARS_MAX).collect()))
        });
        Ok(refused.collect())
    }

    /// Tells people of an object. Best effort.
    pub(crate) async fn tell<K: Kind>(&self, object: &K, notices: Vec<Notice>) {
        let event = |notice: Notice| {
            self.metrics.told(notice.reason);
            let severity = if notice.warning { Severity::Warning } else { Severity::Normal };
            let event = self.recorder.event(object, severity, notice.reason, &notice.message);
            batch::Group::from(Op::create(&event))
        };
        let groups: Vec<batch::Group> =
            notices.into_iter().take(BATCH_OPS_MAX).map(event).collect();
        if !groups.is_empty() {
            // Nothing follows from an event, so that the work goes on without it.
            match self.client.batch(&Batch { groups }).await {
                Ok(answer) => {
                    let lost = answer.results.iter().filter(|result| !result.is_done()).count();
                    if lost > 0 {
                        debug!(lost, "could not write events");
                    }
                }
                Err(error) => debug!(error = %ErrorChain(&error), "could not write events"),
            }
        }
    }

    /// When to reconcile again what wants it at a time of the wall clock, if at any, and is at rest
    /// or not. A time that has come already means at once.
    pub(crate) fn until(&self, at: Option<Timestamp>, is_at_rest: bool) -> Requeue {
        match at {
            Some(at) if at <= self.clock.now() => Requeue::After(Duration::ZERO),
            Some(at) if is_at_rest => Requeue::AtRestUntil(at),
            Some(at) => Requeue::At(at),
            None if is_at_rest => Requeue::AtRest,
            None => Requeue::OnChange,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use api::ObjectKey;
    use api::batch::{BatchResponse, GroupResult};
    use api::resource_version::ResourceVersion;
    use api::status::{Mistake, Refusal, Why};
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use serde_json::{Value, json};

    use super::*;
    use crate::action::{Action, NewTask, NewTasks, ObjectRef};
    use crate::obedient::tools_at;

    fn group(name: &str) -> Group {
        let key = ObjectKey::new("default", name);
        Action::Remove { task: ObjectRef { key, uid: "u".to_owned() } }.into()
    }

    /// What comes of groups `a`, `b`, ... where the apiserver answers with a code and a document.
    async fn written(
        names: &[&str],
        (code, answer): (u16, Value),
    ) -> Result<Vec<(Group, String)>, ReconcileError> {
        let answer = move |_: &Request<Bytes>| {
            let body = Full::new(Bytes::from(answer.to_string()));
            Response::builder().status(code).body(body).unwrap()
        };
        let tools = tools_at(Vec::new(), Timestamp::UNIX_EPOCH, answer);
        tools.write("test", names.iter().map(|name| group(name)).collect()).await
    }

    fn results(results: Vec<GroupResult>) -> (u16, Value) {
        let answer = BatchResponse { resource_version: ResourceVersion::default(), results };
        (200, serde_json::to_value(&answer).unwrap())
    }

    #[tokio::test]
    async fn what_can_never_be_written_comes_back_with_why() {
        let invalid = |why: &str| GroupResult::refused(Why::TooLarge, why);
        let answer = vec![GroupResult::Done, invalid("too large"), GroupResult::Done];
        let never = written(&["a", "b", "c"], results(answer)).await.unwrap();
        assert_eq!(never, [(group("b"), "too large".to_owned())]);
        let long = written(&["a"], results(vec![invalid(&"x".repeat(5000))])).await.unwrap();
        assert_eq!(long[0].1.len(), WHY_CHARS_MAX, "it goes into a status");
    }

    /// A group alone in its batch that is too large for any.
    #[tokio::test]
    async fn a_group_that_no_batch_takes_comes_back_alone() {
        let refused = json!(Refusal::new(Why::TooLarge, "the batch is too large").to_status());
        let never = written(&["a"], (413, refused.clone())).await.unwrap();
        assert_eq!(never, [(group("a"), "the batch is too large".to_owned())]);
        let both = written(&["a", "b"], (413, refused)).await;
        assert!(matches!(both, Err(ReconcileError::Again(_))), "one of two is too large: {both:?}");
    }

    #[tokio::test]
    async fn a_batch_that_is_refused_for_another_mistake_is_not_sent_again() {
        let asked: Arc<Mutex<u32>> = Arc::default();
        let seen = Arc::clone(&asked);
        let answer = move |_: &Request<Bytes>| {
            *seen.lock().unwrap() += 1;
            let refused = Refusal::new(Why::Mistaken(Mistake::Request), "too many groups");
            let body = Full::new(Bytes::from(json!(refused.to_status()).to_string()));
            Response::builder().status(400).body(body).unwrap()
        };
        let tools = tools_at(Vec::new(), Timestamp::UNIX_EPOCH, answer);
        let groups = vec![Action::create(api::Job::new("default", "j", <_>::default())).into()];
        let again = tools.write("test", groups).await;
        assert!(matches!(again, Err(ReconcileError::Again(_))), "{again:?}");
        assert_eq!(*asked.lock().unwrap(), 1);
    }

    /// While hosts are upgraded one after the other, an apiserver may know fewer operations than
    /// this.
    #[tokio::test]
    async fn an_apiserver_of_an_earlier_version_is_asked_for_each_task_by_itself() {
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let answer = move |request: &Request<Bytes>| {
            let batch: Value = serde_json::from_slice(request.body()).unwrap();
            seen.lock().unwrap().push(batch["groups"].clone());
            let (code, answer) = if batch.to_string().contains("createTasks") {
                (400, json!(Refusal::new(Why::Mistaken(Mistake::Operation), "?").to_status()))
            } else {
                let never = GroupResult::refused(Why::Invalid, "no");
                results(vec![GroupResult::Done, never, GroupResult::Done])
            };
            let body = Full::new(Bytes::from(answer.to_string()));
            Response::builder().status(code).body(body).unwrap()
        };
        let mut job = api::Job::new("default", "j", <_>::default());
        let unknown = job.as_controller();
        job.metadata.uid = Some("job-uid".to_owned());
        let owner = job.as_controller();
        let alike = Box::new(api::Task::new("default", "", <_>::default()).with_controller(owner));
        let task =
            |index: u32| NewTask { index, name: format!("j-{index}"), overrides: <_>::default() };
        let tasks = NewTasks { alike, each: vec![task(0), task(3)] };
        let tools = tools_at(Vec::new(), Timestamp::UNIX_EPOCH, answer);
        // What belongs to a job of the same group is made when that is there.
        job.status.run = 1;
        let mut first = tasks.clone();
        first.alike.metadata.owner_references = Some(vec![unknown]);
        let actions = vec![Action::create(job), Action::CreateTasks(first)];
        let groups = vec![Action::CreateTasks(tasks).into(), group("b"), Group { actions }];
        let never = tools.write("test", groups).await.unwrap();
        assert_eq!(never, [(group("b"), "no".to_owned())]);
        let asked = asked.lock().unwrap();
        let first = &asked[0][0]["ops"];
        assert_eq!(first[0]["createTasks"]["indexes"], json!([[0, 1], [3, 1]]), "{first}");
        let names = asked[1][0]["ops"].as_array().unwrap().iter().map(|op| {
            let object = &op["create"]["object"];
            format!("{} {}", object["metadata"]["name"], object["spec"]["index"])
        });
        assert_eq!(names.collect::<Vec<_>>(), ["\"j-0\" 0", "\"j-3\" 3"]);
        assert_eq!(asked.len(), 2);
        let begun = asked[1][2]["ops"].as_array().unwrap();
        assert_eq!(begun.len(), 1);
        let job = &begun[0]["create"]["object"];
        assert_eq!((&job["metadata"]["name"], &job["status"]), (&json!("j"), &Value::Null));
    }

    #[tokio::test]
    async fn what_did_not_happen_is_tried_again_unless_another_leads() {
        let refused = GroupResult::refused(Why::Conflict, "it has changed");
        let again = written(&["a", "b"], results(vec![refused, GroupResult::Done])).await;
        assert!(matches!(&again, Err(ReconcileError::Again(why)) if why == "it has changed"));
        let unknown =
            written(&["a"], results(vec![GroupResult::refused(Why::Unknown, "no answer")])).await;
        assert!(matches!(unknown, Err(ReconcileError::Again(_))), "{unknown:?}");
        let deposed =
            written(&["a"], results(vec![GroupResult::refused(Why::Deposed, "no more")])).await;
        assert!(matches!(deposed, Err(ReconcileError::Deposed)), "{deposed:?}");
    }
}
