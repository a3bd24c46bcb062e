//! One awaited object: what is known of it, and when its outcome is certain. Pure.
//!
//! # Invariants
//!
//! * An object is identified by its uid: a later one with the same name is another object.
//! * An outcome is reported as soon as it is certain: what can no longer happen is not awaited.
//! * Once the run of an applied workflow is known, that run decides, whatever happens to the
//!   workflow, even if it is deleted.

use api::{Kind as _, KindId, Workflow, WorkflowRun};
use serde_json::{Value, json};

use crate::deployed::{Deployed, deployed, is_replaced};
use crate::failure::{Code, Failure};
use crate::goal::{self, Goal, Verdict};
use crate::hints;
use crate::outage::Lost;
use crate::target::Target;

/// One awaited object.
#[derive(Debug)]
pub struct Waited {
    target: Target,
    namespace: String,
    goal: Goal,
    /// Known from the beginning, or since it was first seen.
    uid: Option<String>,
    /// The last known state of an object that this command started or applied: its document is
    /// printed at the end, whatever happens to it.
    started: Option<Value>,
    /// For an applied workflow: by what its run is found.
    deploying: Option<Deploying>,
    /// The flag by which commands find it, after a space; empty if they need none.
    place: String,
    /// Its last known state as text.
    last: String,
    /// Its last known phase.
    phase: String,
    /// Whether its tasks fit no node.
    is_unschedulable: bool,
}

/// An applied workflow and its run.
#[derive(Debug)]
struct Deploying {
    /// The workflow in the answer to the apply.
    applied: Value,
    /// Whether the workflow still exists.
    is_there: bool,
    run: Option<Ran>,
}

/// The awaited run, once it is known.
#[derive(Debug)]
struct Ran {
    target: Target,
    uid: Option<String>,
    /// Its last known state; `None` once it is deleted.
    object: Option<Value>,
}

/// The certain outcome of an object.
#[derive(Debug)]
pub enum Answer {
    /// It has reached the goal.
    Met,
    /// It will not; the reason.
    Never(Failure),
    /// It is a workflow without a run that its controller knows, and none starts by itself. It can
    /// only reach the goal if there is a run that the controller has not noticed yet.
    NoRun(Failure),
    /// It is an applied workflow that starts nothing to wait for; the reason.
    Nothing(String),
}

impl Waited {
    /// Waits until the object of this name reaches `goal`.
    pub fn new(target: Target, namespace: impl Into<String>, goal: Goal) -> Self {
        let last = "it was not seen yet".to_owned();
        let namespace = namespace.into();
        let (place, phase) = (String::new(), String::new());
        Self {
            target,
            namespace,
            goal,
            uid: None,
            started: None,
            deploying: None,
            place,
            last,
            phase,
            is_unschedulable: false,
        }
    }

    /// The same for this very object, from the answer to a request.
    #[must_use]
    pub fn of(mut self, object: &Value) -> Self {
        self.uid = uid(object);
        self
    }

    /// The same for this very object, which this command has started, or applied in the case of a
    /// workflow.
    #[must_use]
    pub fn started(mut self, object: Value) -> Self {
        self.uid = uid(&object);
        self.deploying = (self.target.kind == KindId::Workflow).then(|| Deploying {
            applied: object.clone(),
            is_there: true,
            run: None,
        });
        self.started = Some(object);
        self
    }

    /// The last known state of what this command started or applied.
    pub fn what_was_started(&self) -> Option<&Value> {
        self.started.as_ref()
    }

    /// Whether this is an applied workflow for which all of its runs are needed to decide which one
    /// counts.
    pub fn needs_runs(&self, object: &Value) -> bool {
        let Some(Deploying { applied, run: None, .. }) = &self.deploying else { return false };
        // A workflow that is being deleted needs no decision.
        self.is_it(object)
            && object["metadata"]["deletionTimestamp"].is_null()
            && (goal::is_handled(KindId::Workflow, object) || is_replaced(applied, object))
    }

    /// Whether this is an applied workflow.
    pub fn is_applied_workflow(&self) -> bool {
        self.deploying.is_some()
    }

    /// The run of an applied workflow, once it is known.
    pub fn run(&self) -> Option<&Target> {
        self.deploying.as_ref()?.run.as_ref().map(|run| &run.target)
    }

    /// Whether the applied workflow still shows an earlier state of its run: its controller is
    /// about to update it.
    pub fn is_behind_its_run(&self) -> bool {
        let Some(Deploying { is_there: true, run: Some(run), .. }) = &self.deploying else {
            return false;
        };
        let (Some(object), Some(workflow)) = (&run.object, &self.started) else { return false };
        // The controller does not update a workflow that is being deleted.
        workflow["metadata"]["deletionTimestamp"].is_null()
            && workflow["status"]["lastRun"] == run.target.name.as_str()
            && workflow["status"]["phase"] != object["status"]["phase"]
    }

    /// The same for a user whose commands use this namespace.
    #[must_use]
    pub fn seen_from(mut self, namespace: &str) -> Self {
        self.place = hints::place(self.namespace(), namespace);
        self
    }

    /// What it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its namespace; empty for cluster kinds.
    pub fn namespace(&self) -> &str {
        if self.target.kind.is_namespaced() { &self.namespace } else { "" }
    }

    /// Takes in the object's current state, `None` if it does not exist. Returns the outcome if it
    /// is certain.
    pub fn see(&mut self, object: Option<&Value>) -> Option<Answer> {
        let Some(object) = object.filter(|object| self.is_it(object)) else {
            return Some(self.is_gone());
        };
        self.note(object);
        self.judge(&self.target.clone(), object)
    }

    /// The same for an applied workflow, with all of its runs if they are needed. Its outcome is
    /// that of the run that it started for the change.
    pub fn see_applied(&mut self, object: Option<&Value>, runs: &[WorkflowRun]) -> Option<Answer> {
        let object = object.filter(|object| self.is_it(object));
        object.inspect(|object| self.note(object));
        if let Some(deploying) = &mut self.deploying {
            deploying.is_there = object.is_some();
        }
        if self.run().is_some() {
            let answer = self.judge_run();
            return answer.or_else(|| object.is_none().then(|| self.is_gone()));
        }
        let Some(object) = object else { return Some(self.is_gone()) };
        let read = |it: &Value| serde_json::from_value::<Workflow>(it.clone()).ok();
        let (true, Some(deploying)) = (self.needs_runs(object), &mut self.deploying) else {
            return self.judge(&self.target.clone(), object);
        };
        let (Some(applied), Some(now)) = (read(&deploying.applied), read(object)) else {
            return self.judge(&self.target.clone(), object);
        };
        let is_replaced = is_replaced(&deploying.applied, object);
        match deployed(&applied, (&now, is_replaced), runs) {
            Deployed::Run(run) => {
                let target = Target::new(KindId::WorkflowRun, run.name());
                let object = serde_json::to_value(run).ok();
                deploying.run = Some(Ran { target, uid: Some(run.uid().to_owned()), object });
                self.judge_run()
            }
            Deployed::Gone => Some(self.fails("its run was deleted before it was seen")),
            Deployed::Replaced => {
                Some(self.fails("another change replaced what was applied before that had a run"))
            }
            Deployed::Nothing(why) => Some(Answer::Nothing(format!("{} {why}", self.target))),
        }
    }

    /// Takes in the current state of an applied workflow's run, `None` if it was deleted.
    pub fn see_run(&mut self, object: Option<&Value>) -> Option<Answer> {
        // How it ended stays true after it is deleted.
        if let Some(answer) = self.judge_run() {
            return Some(answer);
        }
        if let Some(run) = self.deploying.as_mut().and_then(|it| it.run.as_mut()) {
            run.object = object.filter(|object| uid(object) == run.uid).cloned();
        }
        self.judge_run()
    }

    /// The outcome of an applied workflow's run in its last known state, if it is certain.
    pub fn judge_run(&mut self) -> Option<Answer> {
        let Ran { target, object, .. } = self.deploying.as_ref()?.run.as_ref()?;
        let (target, object) = (target.clone(), object.clone());
        let Some(object) = object else {
            let Self { goal, last, .. } = self;
            let message =
                format!("{target} {}: it was deleted; before: {last}", goal.missed(false));
            return Some(Answer::Never(Failure::new(message).code(Code::Failed)));
        };
        self.phase = phase(target.kind, &object);
        self.judge(&target, &object)
    }

    /// The outcome that the applied workflow will not reach the goal, with the reason.
    fn fails(&self, why: &str) -> Answer {
        let Self { target, goal, place, .. } = self;
        let message = format!("{target} {}: {why}", goal.missed(false));
        let hint = format!("see its runs and changes with hctl describe{place} {target}");
        Answer::Never(Failure::new(message).code(Code::Failed).hint(hint))
    }

    fn is_it(&self, object: &Value) -> bool {
        self.uid.is_none() || uid(object) == self.uid
    }

    fn note(&mut self, object: &Value) {
        self.uid = uid(object);
        self.phase = phase(self.target.kind, object);
        if let Some(started) = &mut self.started {
            started.clone_from(object);
        }
    }

    fn is_gone(&self) -> Answer {
        if self.goal == Goal::Deleted { Answer::Met } else { Answer::Never(self.gone()) }
    }

    /// The outcome of `target` in the state `object`, if it is certain.
    fn judge(&mut self, target: &Target, object: &Value) -> Option<Answer> {
        let place = &self.place;
        let never = |why: &str| {
            let message = format!("{target} {}: {why}", self.goal.missed(false));
            let failure = Failure::new(message).code(Code::Failed);
            failure.hint(format!("see why with hctl describe{place} {target}"))
        };
        match goal::verdict(target.kind, self.goal, object) {
            Verdict::Met => Some(Answer::Met),
            Verdict::Never(why) => Some(Answer::Never(never(&why))),
            Verdict::NoRun => {
                self.phase.clear();
                "no run yet".clone_into(&mut self.last);
                let hint = format!("start one with hctl run{place} {target}");
                Some(Answer::NoRun(never("it has no run, and none starts by itself").hint(hint)))
            }
            Verdict::Suspended => {
                self.phase.clear();
                "no run yet: it is suspended".clone_into(&mut self.last);
                let hint = format!("start one with hctl resume{place} {target}");
                Some(Answer::NoRun(never("it is suspended, and has no run").hint(hint)))
            }
            Verdict::NotYet(seen) => {
                self.phase = phase(target.kind, object);
                self.last = seen;
                self.is_unschedulable = goal::is_unschedulable(target.kind, object);
                None
            }
        }
    }

    /// The failure of an object that does not exist (any more).
    fn gone(&self) -> Failure {
        let Self { target, last, .. } = self;
        if self.uid.is_some() {
            let missed = self.goal.missed(false);
            let message = format!("{target} {missed}: it was deleted; before: {last}");
            return Failure::new(message).code(Code::Failed);
        }
        Failure { message: format!("{target} not found"), ..Failure::not_found(target) }
    }

    /// Its last known state: `Running, 3 of 8 tasks succeeded`.
    pub fn standing(&self) -> &str {
        &self.last
    }

    /// Its last known phase, and whether it was being deleted: what changes seldom. Empty if its
    /// controller has not handled its latest change, because the phase is out of date then.
    pub fn phase(&self) -> &str {
        &self.phase
    }

    /// What is waited for.
    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// What is known of a deleted object: its identity.
    pub fn identity(&self) -> Value {
        let mut metadata = json!({ "name": self.target.name });
        if !self.namespace().is_empty() {
            metadata["namespace"] = self.namespace().into();
        }
        if let Some(uid) = &self.uid {
            metadata["uid"] = uid.as_str().into();
        }
        json!({ "metadata": metadata })
    }

    /// The failure that the time limit is over without a certain outcome, maybe because the server
    /// is lost.
    pub fn late(&self, lost: Option<&Lost>) -> Failure {
        let Self { target, goal, place, last, .. } = self;
        let late = format!("timed out waiting for {target} {}", goal.infinitive());
        if let Some(Lost { server, for_secs, why }) = lost {
            let message =
                format!("{late}: {server} has been lost for {for_secs}s ({why}); before: {last}");
            return Failure::new(message)
                .code(Code::Timeout)
                .hint("wait for it again once the server is back");
        }
        let code = if self.is_unschedulable { Code::Unschedulable } else { Code::Timeout };
        Failure::new(format!("{late}: {last}")).code(code).hint(format!(
            "see why with hctl describe{place} {target}, or give it a longer --timeout"
        ))
    }
}

fn phase(kind: KindId, object: &Value) -> String {
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    if object["metadata"]["deletionTimestamp"].is_string() {
        return format!("{phase}, being deleted");
    }
    if goal::is_handled(kind, object) { phase.to_owned() } else { String::new() }
}

fn uid(object: &Value) -> Option<String> {
    object["metadata"]["uid"].as_str().map(str::to_owned)
}

/// The result of waiting for `all` objects, from the failures of some of them.
///
/// # Errors
/// The failure of the only object, or one that counts them. Its exit code is the most telling one:
/// failed before missing, and that before timed out.
pub fn outcome(all: usize, goal: Goal, mut failures: Vec<Failure>) -> Result<(), Failure> {
    let says_most = [Code::Failed, Code::NotFound, Code::Unschedulable, Code::Timeout];
    let worst = says_most.into_iter().find(|code| failures.iter().any(|it| it.code == *code));
    match (worst, failures.len()) {
        (None, 0) => Ok(()),
        (_, 1) if all == 1 => Err(failures.remove(0)),
        (worst, count) => {
            let message = format!("{count} of {all} objects {}", goal.missed(true));
            Err(Failure::new(message).code(worst.unwrap_or(Code::Error)))
        }
    }
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
