//! When a job needs no look any more, and whose looks bring it back.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::job::Target;
use api::{Kind as _, ObjectKey, PartitionSet};
use expect_test::expect;
use runtime::{Any, Controller as _, Snapshot};

use super::*;
use crate::job::Controller;

#[test]
fn a_job_is_at_rest_once_its_run_has_ended_until_its_tasks_have_been_kept_for_long_enough() {
    check(
        r#"
        spec count=1 keepTasks="1h"
        rest
        settle
        rest
        bind 0
        end 0 ok
        rest
        settle
        rest
        wait 3600
        rest
        settle
        rest
        "#,
        expect![[r"
            busy
            busy
            busy
            at rest until 3600s
            busy
            at rest
        "]],
    );
}

/// What it waits for is looked for with each full look, too, whatever phase its last run has.
#[test]
fn an_ended_job_whose_next_run_waits_for_something_is_not_at_rest() {
    check(
        r#"
        spec count=1
        settle
        bind 0
        end 0 ok
        settle
        rest
        spec count=null target={"partitionSet":"mydb"}
        settle
        status
        rest
        "#,
        expect![[r"
            at rest until 86400s
            Succeeded run=1 p0 a0 s1 f0 c0 of 1 (PartitionSet mydb does not exist)
            busy
        "]],
    );
}

/// Each finds the job by its own key, which one worker at a time has: a job was once worked on by the
/// worker that an event of its set came to, and by its own at the same time.
#[test]
fn whatever_concerns_a_job_brings_it_by_its_own_key() {
    let target = Target { partition_set: "s".to_owned(), ..Target::default() };
    let spec = JobSpec { target: Some(target), ..JobSpec::default() };
    let mut job = Job::new("default", "j", spec);
    let at = (1, api::Timestamp::UNIX_EPOCH);
    let stalled = api::conditions::Standing::Stalled;
    job.status.conditions = api::conditions::conditions(&[], stalled, "NameTaken", "", at);
    let other = Job::new("default", "other", JobSpec::default());
    let mut snapshot = Snapshot::default();
    for job in [&job, &other] {
        snapshot.insert(Any::Job(Arc::new(job.clone())));
    }
    let set = Any::PartitionSet(Arc::new(PartitionSet::new("default", "s", Default::default())));
    let task = Task::new("default", "j-0", Default::default());
    let owned = Any::Task(Arc::new(task.clone().with_controller(job.as_controller())));
    let (of_another, job) = (Any::Task(Arc::new(task)), Any::Job(Arc::new(job)));
    let key = BTreeSet::from([ObjectKey::new("default", "j")]);
    for (before, now) in [
        (None, Some(&job)),
        (Some(&set), Some(&set)),
        (None, Some(&owned)),
        (Some(&owned), None),
        // It had a name that the job waits for.
        (Some(&of_another), None),
    ] {
        let keys: BTreeSet<ObjectKey> =
            Controller::keys(before, now, &snapshot).into_iter().collect();
        assert_eq!(keys, key, "{before:?} {now:?}");
    }
    assert_eq!(Controller::keys(None, Some(&of_another), &snapshot), []);
}
