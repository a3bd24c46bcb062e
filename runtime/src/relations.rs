//! Indexes between objects of different kinds. When an object changes, they give the related
//! objects without a look at every object.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Job, Kind as _, ObjectKey, PartitionSet, Service, Task, WorkflowRun};

use crate::any::Any;
use crate::table::Sorted;

/// Indexes that span several kinds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Relations {
    /// The number of tasks that use each template.
    pub(crate) template_users: BTreeMap<ObjectKey, usize>,
    /// The number of tasks of each run of each owner, by the owner's uid.
    pub(crate) tasks_of_runs: BTreeMap<String, BTreeMap<u32, usize>>,
    /// The namespace and name of the job with each uid: a chunk of its completion record has only
    /// the uid.
    pub(crate) job_keys: BTreeMap<String, ObjectKey>,
    /// The tasks that are bound to each node and have not ended.
    pub(crate) tasks_on: BTreeMap<String, Sorted<Task>>,
    /// Those of them whose node was declared lost.
    pub(crate) lost_tasks: Sorted<Task>,
    /// The jobs that target each partition set.
    pub(crate) jobs_targeting: BTreeMap<ObjectKey, Sorted<Job>>,
    /// The runs of each workflow.
    pub(crate) runs_of_workflow: BTreeMap<ObjectKey, Sorted<WorkflowRun>>,
    /// The services that have one task on each node.
    pub(crate) services_per_node: Sorted<Service>,
    /// The partition sets whose assignment names each node.
    pub(crate) sets_naming: BTreeMap<String, Sorted<PartitionSet>>,
}

impl Relations {
    /// Adds an object. An object that it replaces must have been removed before.
    pub(crate) fn enter(&mut self, object: &Any) {
        if let Any::Task(task) = object {
            *self.template_users.entry(template_of(task)).or_default() += 1;
            if let Some(owner) = task.controller() {
                let runs = self.tasks_of_runs.entry(owner.uid.clone()).or_default();
                *runs.entry(task.spec.run).or_default() += 1;
            }
            if let Some(node) = open_on(task) {
                self.tasks_on.entry(node.to_owned()).or_default().insert(Arc::clone(task));
                if task.loss().is_some() {
                    self.lost_tasks.insert(Arc::clone(task));
                }
            }
        }
        if let Any::Job(job) = object {
            self.job_keys.insert(job.uid().to_owned(), job.key());
            if let Some(set) = target_of(job) {
                self.jobs_targeting.entry(set).or_default().insert(Arc::clone(job));
            }
        }
        if let Any::Service(service) = object
            && service.spec.is_per_node()
        {
            self.services_per_node.insert(Arc::clone(service));
        }
        if let Any::WorkflowRun(run) = object {
            self.runs_of_workflow.entry(workflow_of(run)).or_default().insert(Arc::clone(run));
        }
        if let Any::PartitionSet(set) = object {
            for node in set.nodes_serving(&[]) {
                self.sets_naming.entry(node.to_owned()).or_default().insert(Arc::clone(set));
            }
        }
    }

    /// Removes an object.
    pub(crate) fn leave(&mut self, object: &Any) {
        if let Any::Task(task) = object {
            let template = template_of(task);
            decrease(&mut self.template_users, &template);
            if let Some(owner) = task.controller()
                && let Some(runs) = self.tasks_of_runs.get_mut(&owner.uid)
            {
                decrease(runs, &task.spec.run);
                if runs.is_empty() {
                    self.tasks_of_runs.remove(&owner.uid);
                }
            }
            if let Some(node) = open_on(task) {
                take(&mut self.tasks_on, node, task);
                self.lost_tasks.remove(task);
            }
        }
        if let Any::Job(job) = object {
            self.job_keys.remove(job.uid());
            if let Some(set) = target_of(job) {
                take(&mut self.jobs_targeting, &set, job);
            }
        }
        if let Any::Service(service) = object {
            self.services_per_node.remove(service);
        }
        if let Any::WorkflowRun(run) = object {
            take(&mut self.runs_of_workflow, &workflow_of(run), run);
        }
        if let Any::PartitionSet(set) = object {
            for node in set.nodes_serving(&[]) {
                take(&mut self.sets_naming, node, set);
            }
        }
    }
}

/// The node that a task is bound to, if it has not ended.
fn open_on(task: &Task) -> Option<&str> {
    task.node().filter(|_| !task.has_ended())
}

fn template_of(task: &Task) -> ObjectKey {
    ObjectKey::new(task.namespace(), &*task.spec.template)
}

fn target_of(job: &Job) -> Option<ObjectKey> {
    let target = job.spec.target.as_ref()?;
    Some(ObjectKey::new(job.namespace(), &*target.partition_set))
}

fn workflow_of(run: &WorkflowRun) -> ObjectKey {
    ObjectKey::new(run.namespace(), &*run.spec.workflow)
}

fn decrease<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    let Some(count) = counts.get_mut(key) else { return };
    *count -= 1;
    if *count == 0 {
        counts.remove(key);
    }
}

fn take<K, Q, T>(index: &mut BTreeMap<K, Sorted<T>>, key: &Q, object: &Arc<T>)
where
    K: Ord + std::borrow::Borrow<Q>,
    Q: Ord + ?Sized,
    T: api::Kind,
{
    let Some(objects) = index.get_mut(key) else { return };
    objects.remove(object);
    if objects.is_empty() {
        index.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use api::job::{JobSpec, Target};
    use api::partition_set::PartitionSetSpec;
    use api::task::TaskSpec;
    use api::task::transition::{Applied, TaskChange, apply};
    use api::workflow_run::WorkflowRunSpec;
    use api::{KindId, Timestamp};

    use super::*;
    use crate::Snapshot;

    fn changed(task: &Task, change: &TaskChange) -> Task {
        match apply(task, 1, change, Timestamp::UNIX_EPOCH).unwrap() {
            Applied::Changed(task) => *task,
            Applied::Already => panic!("nothing changed"),
        }
    }

    #[test]
    fn tasks_are_found_by_their_node_until_they_have_ended() {
        let spec = TaskSpec { run: 1, attempt: 1, ..TaskSpec::default() };
        let owner = Job::new("default", "j", JobSpec::default()).as_controller();
        let uid = owner.uid.clone();
        let new = Task::new("default", "t", spec).with_controller(owner);
        let bound = changed(&new, &TaskChange::Bind { node: "n".to_owned() });
        let lost = changed(&bound, &TaskChange::Lose);
        let rerun = Task { spec: TaskSpec { run: 2, ..new.spec.clone() }, ..new.clone() };
        let ended = changed(&new, &TaskChange::evict(api::task::StopReason::Cancel));
        let mut snapshot = Snapshot::default();
        for (task, on, is_lost) in [
            (&new, 0, 0),
            (&bound, 1, 0),
            (&lost, 1, 1),
            (&bound, 1, 0),
            (&rerun, 0, 0),
            (&lost, 1, 1),
            (&ended, 0, 0),
        ] {
            snapshot.insert(Any::Task(Arc::new(task.clone())));
            assert_eq!(snapshot.tasks_on("n").count(), on, "{task:?}");
            assert_eq!(snapshot.nodes_with_tasks().count(), on);
            assert_eq!(snapshot.lost_tasks().count(), is_lost, "{task:?}");
            for run in [1, 2] {
                assert_eq!(snapshot.has_tasks_of_run(&uid, run), task.spec.run == run);
            }
        }
        snapshot.insert(Any::Task(Arc::new(lost)));
        snapshot.remove(KindId::Task, &ObjectKey::new("default", "t"));
        assert!(snapshot.relations_are_empty());
    }

    #[test]
    fn what_names_another_object_is_found_by_that_until_it_names_another_one() {
        let mut snapshot = Snapshot::default();
        let key = |name: &str| ObjectKey::new("default", name);
        let insert = |snapshot: &mut Snapshot, to: &str| {
            let target = Target { partition_set: to.to_owned(), ..Target::default() };
            let spec = JobSpec { target: Some(target), ..JobSpec::default() };
            snapshot.insert(Any::Job(Arc::new(Job::new("default", "j", spec))));
            let spec = WorkflowRunSpec { workflow: to.to_owned(), ..WorkflowRunSpec::default() };
            snapshot.insert(Any::WorkflowRun(Arc::new(WorkflowRun::new("default", "r", spec))));
            let assignment = serde_json::json!({ "s-0": { to: "ONLINE", "all": "ONLINE" } });
            let spec: PartitionSetSpec = serde_json::from_value(serde_json::json!({
                "partitions": 1, "stateModel": "OnlineOffline", "assignment": assignment,
            }))
            .unwrap();
            snapshot.insert(Any::PartitionSet(Arc::new(PartitionSet::new("default", "s", spec))));
        };
        for (to, other) in [("a", "b"), ("b", "a"), ("b", "a")] {
            insert(&mut snapshot, to);
            for (name, count) in [(to, 1), (other, 0)] {
                assert_eq!(snapshot.jobs_targeting(&key(name)).count(), count);
                assert_eq!(snapshot.runs_of_workflow(&key(name)).count(), count);
                assert_eq!(snapshot.sets_naming(name).count(), count);
            }
            assert_eq!(snapshot.sets_naming("all").count(), 1);
        }
        assert_eq!(snapshot.jobs_targeting(&ObjectKey::new("elsewhere", "b")).count(), 0);
        snapshot.remove(KindId::Job, &key("j"));
        snapshot.remove(KindId::WorkflowRun, &key("r"));
        snapshot.remove(KindId::PartitionSet, &key("s"));
        assert!(snapshot.relations_are_empty());
    }
}
