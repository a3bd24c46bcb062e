//! The beginning of an attempt: it is returned, started, or found running.

use api::task::{ReportState, reason};

use super::ending::Ending;
use super::{Action, Assignment, Node, Planner, SLOW_START, Template, later, report};
use crate::attempt::{Attempt, Begun, Content, InPlace, Manner, Progress, millis};
use crate::engine::{ContainerSpec, ContainerState, Identity, PullPolicy};
use crate::health::Health;
use crate::resolve::{Given, container_spec, merged, stop_signal};

impl Planner<'_> {
    /// A wanted attempt that is not in the ledger.
    pub(super) fn fresh(&mut self, identity: &Identity, assignment: &Assignment) {
        let newest = identity.newest_main_in(self.view.containers);
        let identity = newest.map_or(identity, |(newest, _)| newest);
        if self.view.busy.contains(identity) {
            return;
        }
        let container = self.view.containers.get(identity);
        let mut attempt =
            Attempt::found(identity.clone(), Progress::Starting { since: self.view.now });
        attempt.binding = assignment.binding();
        if container.is_some() {
            return self.adopt(assignment, attempt, container);
        }
        if assignment.task.report().is_some() {
            // It was started here before, and neither journal nor engine know of it any more. It
            // must not be started again, since it may have done its work.
            let started = assignment.task.status.started_at;
            if assignment.task.spec.next_attempt.is_some() {
                let message = "it ended after the backup that the cluster was restored from, so its \
                               exit code is unknown";
                let mut ending = Ending::failed(reason::RESTORED, message, self.view.wall);
                ending.started = started;
                return self.end(&attempt, ending);
            }
            return self.end(&attempt, self.gone(started));
        }
        if let Some(why) = assignment.stop() {
            return self.end(&attempt, Ending::stopped(why, self.view.wall));
        }
        let Some(template) = &assignment.template else {
            return;
        };
        match self.prepare(assignment, template, &mut attempt) {
            Ok(spec) => {
                attempt.session.begun = Begun::No;
                self.wake_at(identity, Some(later(self.view.now, SLOW_START)));
                self.plan.actions.push(Action::Start(Box::new(spec)));
                self.keep(attempt);
            }
            Err(Obstacle::Misfit(message)) => self.give_back(attempt, message),
            Err(Obstacle::Wrong(message)) => {
                self.end(&attempt, Ending::failed(reason::REFUSED, message, self.view.wall));
            }
        }
    }

    /// A container that the journal does not know, because the journal was lost. The agent takes it
    /// over as it is.
    fn adopt(
        &mut self,
        assignment: &Assignment,
        mut attempt: Attempt,
        container: Option<&ContainerState>,
    ) {
        // Only its template says whether the end of the container is the end of the attempt.
        let has_ended = matches!(container, Some(ContainerState::Exited { .. }));
        if has_ended && assignment.template.is_none() {
            return;
        }
        attempt.ports.clone_from(&assignment.task.status.ports);
        attempt.health = Health::Unread;
        if let Some(Template::Known(template)) = &assignment.template
            && let Ok(merged) = merged(&assignment.task, template)
        {
            attempt.requests = merged.requests();
            attempt.name_fixed_ports(&merged.ports);
            attempt.manner = manner(&merged, template);
            attempt.in_place = InPlace::of(assignment, template);
            attempt.health = Health::of(&merged);
        }
        let attempt = self.clear_others(&attempt);
        self.starting(assignment, &attempt, container);
    }

    /// Assigns ports and resources to the attempt, and builds the specification for the engine.
    fn prepare(
        &self,
        assignment: &Assignment,
        template: &Template,
        attempt: &mut Attempt,
    ) -> Result<ContainerSpec, Obstacle> {
        let template = match template {
            Template::Known(template) => template,
            Template::Missing => {
                let name = &assignment.task.spec.template;
                return Err(Obstacle::Wrong(format!("TaskTemplate {name:?} not found")));
            }
        };
        let merged = merged(&assignment.task, template).map_err(Obstacle::Wrong)?;
        stop_signal(&merged).map_err(Obstacle::Wrong)?;
        attempt.requests = merged.requests();
        attempt.name_fixed_ports(&merged.ports);
        attempt.manner = manner(&merged, template);
        attempt.in_place = InPlace::of(assignment, template);
        attempt.health = Health::of(&merged);
        if let Some(shortage) = self.view.node.shortage {
            return Err(Obstacle::Misfit(shortage.to_owned()));
        }
        if let Some(misfit) = self.room.misfit(&attempt.requests, &merged.ports) {
            return Err(Obstacle::Misfit(misfit));
        }
        let passed_over = attempt.identity.attempt().saturating_sub(1);
        let ports =
            self.room.allot(&merged.ports, passed_over, &self.named).map_err(Obstacle::Misfit)?;
        let gpus = self.room.allot_gpus(merged.gpus());
        let task = (&*assignment.task, &**template);
        attempt.image_digest.clone_from(&assignment.task.spec.image_digest);
        let digest = attempt.image_digest.as_deref();
        let given = Given { ports: &ports, gpus: &gpus, digest };
        let spec = container_spec(&attempt.identity, task, &merged, given, &self.view.node.host)
            .map_err(Obstacle::Wrong)?;
        (attempt.ports, attempt.gpus) = (ports, gpus);
        Ok(spec)
    }

    /// An attempt whose start was decided: looks at what came of it.
    pub(super) fn starting(
        &mut self,
        assignment: &Assignment,
        attempt: &Attempt,
        container: Option<&ContainerState>,
    ) {
        match container {
            Some(ContainerState::Running { since }) => {
                let mut next = attempt.clone();
                next.progress = Progress::Running { started: *since, seen: self.view.now };
                next.session.told = None;
                next.session.start_failures = 0;
                // What is restarted in place or probed is reported by `tell_run`.
                let is_plain = next.in_place.is_none() && next.health.is_unprobed();
                if assignment.stop().is_none() && is_plain {
                    let running = report(&next, self.view.node.boot_id, ReportState::Running);
                    self.say(&mut next, Content::Report(Box::new(running)));
                }
                self.keep(next.clone());
                self.running(assignment, &next, *since);
            }
            Some(ContainerState::Exited { .. }) => self.exited(assignment, attempt, container),
            None => match self.view.node.shortage {
                // Its start has not begun and will not begin here. Another node may have room for
                // it.
                Some(shortage)
                    if attempt.session.begun == Begun::No && assignment.stop().is_none() =>
                {
                    self.give_back(attempt.clone(), shortage.to_owned());
                }
                Some(_) | None => self.start_again(assignment, attempt),
            },
            Some(ContainerState::Created) => self.start_again(assignment, attempt),
            // Whether it runs can only be seen after the records were repaired.
            Some(ContainerState::Unreadable { .. }) => (),
        }
    }

    /// Returns the attempt: it does not run here and may run elsewhere.
    fn give_back(&mut self, mut attempt: Attempt, why: String) {
        attempt.progress = Progress::Refused;
        attempt.ports.clear();
        attempt.fixed_ports.clear();
        attempt.gpus.clear();
        self.say(&mut attempt, Content::Refuse(why));
        self.keep(attempt);
    }

    /// The engine did not do it, or the agent crashed in between.
    pub(super) fn start_again(&mut self, assignment: &Assignment, attempt: &Attempt) {
        if let Some(why) = assignment.stop() {
            return self.end(attempt, Ending::stopped(why, self.view.wall));
        }
        let attempt = &self.tell_slow_start(attempt);
        if attempt.session.wanted_image.is_some() || !self.is_alone(attempt) {
            return;
        }
        let template = match &assignment.template {
            None => return,
            Some(Template::Known(template)) => template,
            Some(Template::Missing) => {
                let name = &assignment.task.spec.template;
                let message = format!("TaskTemplate {name:?} not found");
                return self.end(attempt, Ending::failed(reason::REFUSED, message, self.view.wall));
            }
        };
        let Node { host, .. } = self.view.node;
        let task = (&*assignment.task, &**template);
        let mut next = attempt.clone();
        let spec = merged(&assignment.task, template).and_then(|merged| {
            if std::mem::take(&mut next.session.wants_ports) {
                next.ports = self.room.allot_others(&merged.ports, &attempt.ports);
            }
            let digest = next.image_digest.as_deref();
            let given = Given { ports: &next.ports, gpus: &next.gpus, digest };
            container_spec(&attempt.identity, task, &merged, given, &host)
        });
        match spec {
            Ok(mut spec) => {
                // Every container of an attempt runs the image that the first one was started with.
                let is_fetched = attempt.session.is_fetched || attempt.identity.restart() > 0;
                if is_fetched && spec.pull_policy == PullPolicy::Always {
                    spec.pull_policy = PullPolicy::IfNotPresent;
                }
                if next.ports != attempt.ports {
                    self.keep(next);
                }
                self.plan.actions.push(Action::Start(Box::new(spec)));
            }
            Err(message) => {
                self.end(attempt, Ending::failed(reason::REFUSED, message, self.view.wall));
            }
        }
    }

    /// Reports that a start takes a while, and what delays it. Returns the new state of the
    /// attempt.
    pub(super) fn tell_slow_start(&mut self, attempt: &Attempt) -> Attempt {
        let mut next = attempt.clone();
        let Progress::Starting { since } = &attempt.progress else { return next };
        let session = &mut next.session;
        if session.told_starting && session.told_trouble == session.trouble {
            return next;
        }
        let slow = later(*since, SLOW_START);
        if slow > self.view.now {
            self.wake_at(&attempt.identity, Some(slow));
            return next;
        }
        session.told_starting = true;
        session.told_trouble.clone_from(&session.trouble);
        let mut starting = report(&next, self.view.node.boot_id, ReportState::Starting);
        let is_asked = self.view.busy.contains(&attempt.identity);
        let silence = is_asked.then(|| UNANSWERED.to_owned());
        starting.message = next.session.trouble.clone().or(silence);
        self.say(&mut next, Content::Report(Box::new(starting)));
        self.keep(next.clone());
        next
    }
}

/// What is reported if the engine has not answered yet.
const UNANSWERED: &str = "the container engine has not answered yet";

/// Why an attempt is not started.
enum Obstacle {
    /// The node has no room. The attempt is returned.
    Misfit(String),
    /// It cannot run on any node. The attempt fails.
    Wrong(String),
}

fn manner(
    merged: &api::template::Template,
    template: &api::task_template::TaskTemplateSpec,
) -> Manner {
    Manner {
        signal: merged.stop_signal.clone().unwrap_or_else(|| Manner::default().signal),
        grace_millis: u64::from(merged.grace_seconds()) * 1000,
        // What stays up has no time limit.
        timeout_millis: template
            .attempt_timeout
            .filter(|_| template.restart.is_none())
            .map(|timeout| millis(timeout.get())),
        drain_millis: millis(merged.drain_delay().get()),
    }
}
