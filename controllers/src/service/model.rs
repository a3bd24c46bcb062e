//! A store in a few lines, for tests: what the apiserver and its guards do to one service's objects,
//! and what scheduler and agents do with its tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::job::JobPhase;
use api::object::Kind as _;
use api::service::request::ask;
use api::service::{RolloutCommand, RolloutVerb};
use api::task::report::Report;
use api::task::transition::TaskChange;
use api::task::{ReportState, TaskState};
use api::{Job, KindId, Node, Service, Task, TaskTemplate, Timestamp};
use jiff::SignedDuration;
use serde_json::json;

use super::plan::{Plan, View, plan, template};
use crate::action::{Action, Group, New, Status};
use crate::model::{self, Tasks};

/// One service, its objects, and the time.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) service: Service,
    pub(super) tasks: Tasks,
    pub(super) templates: BTreeMap<String, TaskTemplate>,
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) draining: BTreeSet<String>,
    pub(super) jobs: BTreeMap<String, Job>,
    pub(super) taken: BTreeSet<String>,
    pub(super) now: Timestamp,
    /// Writes so far: resourceVersions, and uids.
    writes: u64,
}

impl World {
    pub(super) fn new(mut service: Service) -> Self {
        service.metadata.uid = Some("service-uid".to_owned());
        service.metadata.generation = Some(1);
        service.metadata.resource_version = Some("0".to_owned());
        Self {
            service,
            tasks: Tasks::new(),
            templates: BTreeMap::new(),
            nodes: BTreeMap::new(),
            draining: BTreeSet::new(),
            jobs: BTreeMap::new(),
            taken: BTreeSet::new(),
            now: Timestamp::UNIX_EPOCH,
            writes: 0,
        }
    }

    pub(super) fn plan(&self) -> Plan {
        let nodes: Vec<&Node> =
            self.nodes.values().filter(|_| self.service.spec.is_per_node()).collect();
        plan(&View {
            service: &self.service,
            tasks: &self.tasks.values().map(Arc::as_ref).collect::<Vec<_>>(),
            templates: &self.templates.values().collect::<Vec<_>>(),
            template: self.templates.get(template(&self.service).name()),
            nodes: &nodes,
            draining: &self.draining,
            jobs: &self.jobs.values().collect::<Vec<_>>(),
            taken_jobs: &self.taken,
            taken: &self.taken,
            now: self.now,
        })
    }

    pub(super) fn advance(&mut self, secs: i64) {
        self.now = self.now.saturating_add(SignedDuration::from_secs(secs)).unwrap();
    }

    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut Service)) {
        let before = self.service.spec.clone();
        edit(&mut self.service);
        if self.service.spec != before {
            self.service.metadata.generation = Some(self.service.generation() + 1);
        }
        self.touch();
    }

    /// What a person asks of the rollout, as the apiserver stores it; whether it was accepted.
    pub(super) fn ask(&mut self, verb: RolloutVerb, to_revision: Option<u32>) -> bool {
        let command = RolloutCommand { verb, to_revision, revision: None };
        let Ok(asked) = ask(&self.service, command, "ann", self.now) else { return false };
        if let Some(status) = asked {
            self.service.status = status;
            self.touch();
        }
        true
    }

    fn touch(&mut self) {
        self.writes += 1;
        self.service.metadata.resource_version = Some(self.writes.to_string());
    }

    /// Changes one part of a task, as its writer would; whether it was accepted.
    pub(super) fn change(&mut self, name: &str, change: &TaskChange) -> bool {
        model::change(&mut self.tasks, name, change, self.now)
    }

    /// An agent's report.
    pub(super) fn report(&mut self, name: &str, state: ReportState, ready: bool) -> bool {
        let Some(task) = self.tasks.get(name) else { return false };
        let Some(binding) = task.binding().map(|binding| binding.number) else { return false };
        let is_over = state.is_terminal();
        let report: Report = serde_json::from_value(json!({
            "binding": binding, "bootId": "boot", "state": state, "ready": ready,
            "exitCode": (state == ReportState::Failed).then_some(3),
            "startedAt": self.now, "finishedAt": is_over.then_some(self.now),
        }))
        .unwrap();
        self.change(name, &TaskChange::Report(Box::new(report)))
    }

    /// A person's deletion of a task, as the apiserver marks it.
    pub(super) fn delete(&mut self, name: &str) {
        model::delete(&mut self.tasks, name, self.now);
    }

    /// A group: all or nothing.
    pub(super) fn commit(&mut self, group: &Group) -> Result<(), String> {
        let mut next = self.clone();
        group.actions.iter().try_for_each(|action| next.commit_action(action))?;
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
            Action::Status(Status::Service(service)) => {
                if service.resource_version() != self.service.resource_version() {
                    return Err("the service has changed".to_owned());
                }
                self.service.status = service.status.clone();
                self.touch();
                Ok(())
            }
            Action::Task { task: of, attempt, change } => {
                model::commit_change(&mut self.tasks, (of, *attempt, change), self.now)
            }
            Action::Remove { task: of } => {
                let task = model::found(&self.tasks, of)?;
                let node = task.takes_resources_on();
                if node.is_some_and(|node| self.nodes.contains_key(node)) {
                    return Err(format!("{} is still bound to a node", task.name()));
                }
                self.tasks.remove(&of.key.name);
                Ok(())
            }
            Action::Create(New::Job(job)) => {
                if self.jobs.contains_key(job.name()) || self.taken.contains(job.name()) {
                    return Err(format!("job {} already exists", job.name()));
                }
                let mut job = Job::clone(job);
                job.metadata.generation = Some(1);
                job.status.observed_generation = 1;
                self.jobs.insert(job.name().to_owned(), job);
                Ok(())
            }
            Action::Patch(patch) if patch.kind == KindId::Job => {
                let job = self.jobs.get_mut(&patch.object.key.name).ok_or("no such job")?;
                if job.spec.cancel {
                    return Err("it is cancelled already".to_owned());
                }
                job.spec.cancel = true;
                Ok(())
            }
            Action::Delete { kind: KindId::Job, object, .. } => {
                let gone = self.jobs.remove(&object.key.name);
                gone.map(|_| ()).ok_or("no such job".to_owned())
            }
            Action::Delete { object, .. } => {
                let is_used = |task: &Arc<Task>| task.spec.template == object.key.name;
                if self.tasks.values().any(is_used) {
                    return Err(format!("{} is in use", object.key.name));
                }
                self.templates.remove(&object.key.name);
                Ok(())
            }
            Action::Create(_)
            | Action::Status(_)
            | Action::Record { .. }
            | Action::Patch(_)
            | Action::Emptied { .. } => Err("not asked for by services".to_owned()),
        }
    }

    fn create(&mut self, mut task: Task) -> Result<(), String> {
        if self.tasks.contains_key(task.name()) || self.taken.contains(task.name()) {
            return Err(format!("{} already exists", task.name()));
        }
        if !self.templates.contains_key(&task.spec.template) {
            return Err("its TaskTemplate does not exist".to_owned());
        }
        self.writes += 1;
        task.metadata.uid = Some(format!("uid-{}", self.writes));
        task.metadata.creation_timestamp = Some(api::Time(self.now));
        self.tasks.insert(task.name().to_owned(), Arc::new(task));
        Ok(())
    }

    /// Commits all of a plan; each refusal is an error.
    pub(super) fn act(&mut self, plan: &Plan) -> Result<(), String> {
        self.check_what_is_stopped(plan);
        for group in &plan.groups {
            assert!(group.ops() <= api::batch::GROUP_OPS_MAX, "a group fits a transaction");
            self.commit(group)?;
        }
        if let Some(service) = &plan.status {
            self.commit(&Action::status(Service::clone(service)).into())?;
        }
        Ok(())
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

    /// Promise 10a: nothing that a plan stops leaves fewer tasks ready than `maxUnavailable` allows.
    fn check_what_is_stopped(&self, plan: &Plan) {
        let spec = &self.service.spec;
        if spec.is_suspended() || spec.has_expired(self.now) {
            return;
        }
        let total = self.wanted();
        let ready = self.tasks.values().filter(|task| task.is_ready()).count();
        let stopped = plan.groups.iter().flat_map(|group| &group.actions).filter(|action| {
            let Action::Task { task, change: TaskChange::Evict { .. }, .. } = action else {
                return false;
            };
            self.tasks[&task.key.name].is_ready() && self.is_in_place(&self.tasks[&task.key.name])
        });
        let (stopped, least) = (stopped.count(), total.saturating_sub(spec.max_unavailable(total)));
        let least = usize::try_from(least).unwrap();
        assert!(
            stopped == 0 || ready - stopped >= least,
            "{stopped} of {ready} ready tasks are stopped, {least} are needed: {plan:#?}"
        );
    }

    /// Whether a task is where the service wants one.
    fn is_in_place(&self, task: &Task) -> bool {
        let pins = task.spec.overrides.placement.as_ref().map(|it| it["nodes"][0].clone());
        match pins {
            None => !self.service.spec.is_per_node(),
            Some(node) => self.nodes.get(node.as_str().unwrap()).is_some_and(|node| {
                let label = |label: &str| node.constraint_label(label);
                self.service.spec.placement().allows(node.name(), label)
            }),
        }
    }

    /// How many tasks there should be.
    pub(super) fn wanted(&self) -> u32 {
        let spec = &self.service.spec;
        if !spec.is_per_node() {
            return spec.replicas();
        }
        let placement = spec.placement();
        let ready = self.nodes.values().filter(|node| {
            let label = |label: &str| node.constraint_label(label);
            node.is_schedulable()
                && placement.allows(node.name(), label)
                && node.repelling(&placement.tolerations).is_none()
        });
        u32::try_from(ready.count()).unwrap()
    }

    /// How a job ends, as its controller says it; whether there is such a job.
    pub(super) fn end_job(&mut self, name: &str, phase: JobPhase) -> bool {
        let Some(job) = self.jobs.get_mut(name) else { return false };
        job.status.phase = phase;
        true
    }

    /// The job controller, in few words: each job succeeds, or is cancelled.
    fn work_on_jobs(&mut self) {
        for job in self.jobs.values_mut().filter(|job| !job.status.phase.is_final()) {
            job.status.phase =
                if job.spec.cancel { JobPhase::Cancelled } else { JobPhase::Succeeded };
        }
    }

    /// Scheduler and agents in one: each task that waits gets a node and runs; each one that is
    /// being stopped ends.
    pub(super) fn work(&mut self) {
        self.work_on_jobs();
        for name in self.tasks.keys().cloned().collect::<Vec<_>>() {
            let task = Arc::clone(&self.tasks[&name]);
            let pin = task.spec.overrides.placement.as_ref();
            let pin = pin.and_then(|it| it["nodes"][0].as_str()).map(str::to_owned);
            let node = pin.unwrap_or_else(|| self.open_node().to_owned());
            let is_there = !self.service.spec.is_per_node()
                || self.nodes.get(&node).is_some_and(Node::is_schedulable);
            match task.state() {
                TaskState::Pending if is_there => {
                    self.change(&name, &TaskChange::Bind { node });
                    self.report(&name, ReportState::Running, true);
                }
                TaskState::Bound { .. } | TaskState::Starting { .. } => {
                    self.report(&name, ReportState::Running, true);
                }
                TaskState::Stopping { .. } => {
                    self.report(&name, ReportState::Cancelled, false);
                }
                TaskState::Pending
                | TaskState::Running { .. }
                | TaskState::Succeeded
                | TaskState::Failed { .. }
                | TaskState::TimedOut
                | TaskState::Cancelled { .. }
                | TaskState::Lost { .. } => (),
            }
        }
    }

    /// The node that new tasks go to.
    pub(super) fn open_node(&self) -> &'static str {
        if self.draining.contains("n1") { "n2" } else { "n1" }
    }

    /// Each task that is being stopped ends, and nothing else happens.
    pub(super) fn work_on_stops(&mut self) {
        for name in self.tasks.keys().cloned().collect::<Vec<_>>() {
            if matches!(self.tasks[&name].state(), TaskState::Stopping { .. }) {
                self.report(&name, ReportState::Cancelled, false);
            }
        }
    }

    /// Lets everything happen that leads to a state in which nothing is left to do.
    pub(super) fn finish(&mut self) {
        for _ in 0..1_000 {
            let before = (self.tasks.clone(), self.jobs.clone(), self.service.status.clone());
            self.settle();
            self.work();
            if before == (self.tasks.clone(), self.jobs.clone(), self.service.status.clone()) {
                match self.plan().wake_at {
                    Some(at) => self.now = self.now.max(at),
                    None => return,
                }
            }
        }
        panic!("it never ends: {:#?}", self.service.status);
    }
}
