//! A store in a few lines, for tests: what the apiserver and its guards do to one job's objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::completion::{End, chunk_name, place_of};
use api::object::Kind as _;
use api::resource::Resource as _;
use api::size::json_bytes;
use api::task::TaskState;
use api::task::transition::TaskChange;
use api::{CompletionChunk, Job, PartitionSet, Task, TaskTemplate, Timestamp};
use jiff::SignedDuration;

use crate::action::{Action, Group, New, Status};
use crate::model::{self, Tasks};

use super::plan::{Holder, Plan, View, plan, template_name};

/// One job, its objects, and the time.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) job: Job,
    pub(super) chunks: BTreeMap<(u32, u32), CompletionChunk>,
    pub(super) tasks: Tasks,
    pub(super) templates: BTreeMap<String, TaskTemplate>,
    pub(super) partition_set: Option<PartitionSet>,
    pub(super) taken: BTreeMap<String, Holder>,
    pub(super) now: Timestamp,
    /// Writes so far: the job's resourceVersion, and uids.
    writes: u64,
}

impl World {
    pub(super) fn new(mut job: Job) -> Self {
        job.metadata.uid = Some("job-uid".to_owned());
        job.metadata.generation = Some(1);
        job.metadata.resource_version = Some("0".to_owned());
        Self {
            job,
            chunks: BTreeMap::new(),
            tasks: Tasks::new(),
            templates: BTreeMap::new(),
            partition_set: None,
            taken: BTreeMap::new(),
            now: Timestamp::UNIX_EPOCH,
            writes: 0,
        }
    }

    pub(super) fn plan(&self) -> Plan {
        self.plan_at(self.now)
    }

    pub(super) fn plan_at(&self, now: Timestamp) -> Plan {
        plan(&View {
            job: &self.job,
            chunks: &self.chunks.values().collect::<Vec<_>>(),
            tasks: &self.tasks.values().map(Arc::as_ref).collect::<Vec<_>>(),
            template: self.templates.get(&template_name(&self.job)),
            taken: &self.taken,
            partition_set: self.partition_set.as_ref(),
            now,
        })
    }

    /// Another owner has the name of the job's TaskTemplate.
    pub(super) fn take_template(&mut self) {
        let name = template_name(&self.job);
        self.templates
            .insert(name.clone(), TaskTemplate::new("default", &name, Default::default()));
    }

    pub(super) fn advance(&mut self, secs: i64) {
        self.now = self.now.saturating_add(SignedDuration::from_secs(secs)).unwrap();
    }

    pub(super) fn edit_job(&mut self, edit: impl FnOnce(&mut Job)) {
        let before = self.job.spec.clone();
        edit(&mut self.job);
        // As the apiserver does with any change.
        let mut old = self.job.clone();
        old.spec = before.clone();
        self.job.let_go(&old);
        if self.job.spec != before {
            self.job.metadata.generation = Some(self.job.generation() + 1);
        }
        self.touch_job();
    }

    fn touch_job(&mut self) {
        self.writes += 1;
        self.job.metadata.resource_version = Some(self.writes.to_string());
    }

    pub(super) fn end_of(&self, run: u32, index: u32) -> Option<End> {
        let (chunk, place) = place_of(index);
        self.chunks.get(&(run, chunk))?.spec.bits.get(place)
    }

    /// Sets a bit of the current run's record; whether it says that now.
    pub(super) fn record(&mut self, index: u32, end: End) -> bool {
        let ((chunk, place), run) = (place_of(index), self.job.status.run);
        let empty = || CompletionChunk::empty("job-uid", run, chunk);
        self.chunks.entry((run, chunk)).or_insert_with(empty).spec.bits.set(place, end)
    }

    /// Changes one part of a task, as its writer would; whether it was accepted.
    pub(super) fn change(&mut self, name: &str, change: &TaskChange) -> bool {
        model::change(&mut self.tasks, name, change, self.now)
    }

    /// A person's deletion of a task, as the apiserver marks it.
    pub(super) fn delete(&mut self, name: &str) {
        model::delete(&mut self.tasks, name, self.now);
    }

    /// A group: all or nothing.
    pub(super) fn commit(&mut self, group: &Group) -> Result<(), String> {
        let mut next = self.clone();
        // The job first: a create is guarded on the run that the group itself opens.
        let (status, rest): (Vec<&Action>, Vec<&Action>) =
            group.actions.iter().partition(|action| matches!(action, Action::Status(_)));
        for action in status.into_iter().chain(rest) {
            next.commit_action(action)?;
        }
        *self = next;
        Ok(())
    }

    fn commit_action(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Create(New::TaskTemplate(template)) => {
                self.templates.insert(template.name().to_owned(), TaskTemplate::clone(template));
                Ok(())
            }
            Action::CreateTasks(tasks) => tasks.objects().try_for_each(|task| self.create(task)),
            Action::Status(Status::Job(job)) => {
                if job.resource_version() != self.job.resource_version() {
                    return Err("the job has changed".to_owned());
                }
                self.job.status = job.status.clone();
                self.touch_job();
                Ok(())
            }
            Action::Task { task: of, attempt, change } => {
                model::commit_change(&mut self.tasks, (of, *attempt, change), self.now)
            }
            Action::Record { run, ends, .. } => {
                for (index, end) in ends {
                    let (chunk, place) = place_of(*index);
                    let empty = || CompletionChunk::empty("job-uid", *run, chunk);
                    let bits =
                        &mut self.chunks.entry((*run, chunk)).or_insert_with(empty).spec.bits;
                    if !bits.set(place, *end) {
                        let name = chunk_name(*run, chunk);
                        return Err(format!("{name} records another end for index {index}"));
                    }
                }
                Ok(())
            }
            Action::Remove { task: of } => {
                let task = model::found(&self.tasks, of)?;
                if task.takes_resources_on().is_some() {
                    return Err("it is still bound to a node".to_owned());
                }
                let is_done = task.spec.run == self.job.status.run
                    && matches!(task.state(), TaskState::Succeeded);
                // Without its mark, the record can say so, too, as it is now.
                let end = self.end_of(task.spec.run, task.spec.index);
                let is_recorded = task.is_recorded() || is_done && end == Some(End::Succeeded);
                if !is_recorded && (is_done || !task.is_deleting()) {
                    return Err("it is not recorded".to_owned());
                }
                self.tasks.remove(&of.key.name);
                Ok(())
            }
            Action::Create(_)
            | Action::Status(_)
            | Action::Delete { .. }
            | Action::Patch(_)
            | Action::Emptied { .. } => Err("not asked for by jobs".to_owned()),
        }
    }

    fn create(&mut self, mut task: Task) -> Result<(), String> {
        if self.tasks.contains_key(task.name()) {
            return Ok(());
        }
        if self.taken.contains_key(task.name()) {
            return Err("it already exists and belongs to another owner".to_owned());
        }
        if !self.templates.contains_key(&task.spec.template) {
            return Err("its TaskTemplate does not exist".to_owned());
        }
        if task.spec.run < self.job.status.run {
            return Err("its run is over".to_owned());
        }
        if self.end_of(task.spec.run, task.spec.index).is_some() {
            return Err("its end is already recorded".to_owned());
        }
        self.writes += 1;
        task.metadata.uid = Some(format!("uid-{}", self.writes));
        self.tasks.insert(task.name().to_owned(), Arc::new(task));
        Ok(())
    }

    /// Commits all of a plan; each refusal is an error.
    pub(super) fn act(&mut self, plan: &Plan) -> Result<(), String> {
        for group in &plan.groups {
            assert!(group.ops() <= api::batch::GROUP_OPS_MAX, "a group fits a transaction");
            self.commit(group)?;
            let bytes: usize = group.actions.iter().map(|action| self.bytes_written(action)).sum();
            assert!(
                bytes <= api::size::GROUP_BYTES_MAX,
                "{bytes} bytes are too many for one transaction"
            );
        }
        if let Some(job) = &plan.status {
            self.commit(&Action::status(Job::clone(job)).into())?;
        }
        Ok(())
    }

    /// What the store writes for an action that has happened.
    fn bytes_written(&self, action: &Action) -> usize {
        match action {
            Action::Create(New::TaskTemplate(template)) => json_bytes(template),
            Action::CreateTasks(tasks) => tasks.objects().map(|task| json_bytes(&task)).sum(),
            Action::Status(_) => json_bytes(&self.job),
            Action::Task { task, .. } => {
                self.tasks.get(&task.key.name).map_or(0, |task| json_bytes(&**task))
            }
            Action::Create(_)
            | Action::Record { .. }
            | Action::Remove { .. }
            | Action::Delete { .. }
            | Action::Patch(_)
            | Action::Emptied { .. } => 0,
        }
    }

    /// Plans and acts until there is nothing to do, and says how many rounds it took.
    pub(super) fn settle(&mut self) -> usize {
        for round in 0..200 {
            let plan = self.plan();
            if plan.groups.is_empty() && plan.status.is_none() {
                return round;
            }
            self.act(&plan).unwrap_or_else(|why| panic!("refused: {why}\n{plan:#?}"));
        }
        panic!("no fixpoint: {:#?}", self.plan());
    }

    /// The promises that hold of every state.
    pub(super) fn check(&self) {
        let status = &self.job.status;
        let sum =
            status.pending + status.active + status.succeeded + status.failed + status.cancelled;
        assert_eq!(sum, status.total, "counts add up: {status:#?}");
        if status.phase.is_final() {
            assert_eq!(status.pending + status.active, 0, "a finished job has nothing open");
        }
    }
}
