//! One object that is waited for: what is known of it, and when the answer is certain. Pure.
//!
//! # Invariants
//!
//! * An object is known by its uid: one of the same name that is made later is another one.
//! * An answer is given as soon as it is certain: what can no longer happen is not waited for.
//! * Once the run of a workflow that was applied is known, that run decides, whatever becomes of the
//!   workflow: also one that is deleted before it has ended.

use api::{Kind as _, KindId, Workflow, WorkflowRun};
use serde_json::{Value, json};

use crate::deployed::{Deployed, deployed, is_replaced};
use crate::failure::{Code, Failure};
use crate::goal::{self, Goal, Verdict};
use crate::hints;
use crate::outage::Lost;
use crate::target::Target;

/// One object that is waited for.
#[derive(Debug)]
pub struct Waited {
    target: Target,
    namespace: String,
    goal: Goal,
    /// Known from the start, or since it was seen first.
    uid: Option<String>,
    /// As it was when it was last seen, of an object that this command started or applied: its document
    /// is what the command prints in the end, whatever becomes of it.
    started: Option<Value>,
    /// Where a workflow was applied: by what its run is found.
    deploying: Option<Deploying>,
    /// The flag by which commands find it, with a space before it: empty where they need none.
    place: String,
    /// How it stood when it was last seen.
    last: String,
    /// Its phase then, in a word.
    phase: String,
    /// Whether no node took its tasks then.
    is_unschedulable: bool,
}

/// A workflow that was applied, and its run.
#[derive(Debug)]
struct Deploying {
    /// The workflow as the apply was answered.
    applied: Value,
    /// The workflow is there still.
    is_there: bool,
    run: Option<Ran>,
}

/// The run that is waited for, once it is known.
#[derive(Debug)]
struct Ran {
    target: Target,
    uid: Option<String>,
    /// As it was seen last; nothing once it is gone.
    object: Option<Value>,
}

/// What is certain of an object.
#[derive(Debug)]
pub enum Answer {
    /// It is as it should be.
    Met,
    /// It will not be. Why.
    Never(Failure),
    /// It is a workflow without a run that is known to its controller, and none starts by itself.
    /// It will not be as it should unless there is a run that the controller has not seen yet.
    NoRun(Failure),
    /// It is a workflow that was applied, and starts nothing that could be waited for. Why.
    Nothing(String),
}

impl Waited {
    /// Waits until the object of this name is as `goal` says.
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

    /// The same, of this very object: as a request has just answered with it.
    #[must_use]
    pub fn of(mut self, object: &Value) -> Self {
        self.uid = uid(object);
        self
    }

    /// The same, of this very object, which this command started or applied. A workflow is not started: it
    /// was applied.
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

    /// What this command started or applied, as it was last seen.
    pub fn what_was_started(&self) -> Option<&Value> {
        self.started.as_ref()
    }

    /// Whether this is a workflow that was applied, and as it stands its runs are needed to say which one
    /// counts.
    pub fn needs_runs(&self, object: &Value) -> bool {
        let Some(Deploying { applied, run: None, .. }) = &self.deploying else { return false };
        // One that is being deleted says so itself.
        self.is_it(object)
            && object["metadata"]["deletionTimestamp"].is_null()
            && (goal::is_handled(KindId::Workflow, object) || is_replaced(applied, object))
    }

    /// Whether this is a workflow that was applied.
    pub fn is_applied_workflow(&self) -> bool {
        self.deploying.is_some()
    }

    /// The run of a workflow that was applied, once it is known.
    pub fn run(&self) -> Option<&Target> {
        self.deploying.as_ref()?.run.as_ref().map(|run| &run.target)
    }

    /// Whether the workflow that was applied still shows its run as that was before: its controller is about
    /// to say how the run ended.
    pub fn is_behind_its_run(&self) -> bool {
        let Some(Deploying { is_there: true, run: Some(run), .. }) = &self.deploying else {
            return false;
        };
        let (Some(object), Some(workflow)) = (&run.object, &self.started) else { return false };
        // Nobody says anything of a workflow that is being deleted.
        workflow["metadata"]["deletionTimestamp"].is_null()
            && workflow["status"]["lastRun"] == run.target.name.as_str()
            && workflow["status"]["phase"] != object["status"]["phase"]
    }

    /// The same, for somebody whose commands are for this namespace.
    #[must_use]
    pub fn seen_from(mut self, namespace: &str) -> Self {
        self.place = hints::place(self.namespace(), namespace);
        self
    }

    /// What it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Where it is; empty for kinds that are in no namespace.
    pub fn namespace(&self) -> &str {
        if self.target.kind.is_namespaced() { &self.namespace } else { "" }
    }

    /// Looks at the object as it is now, or at nothing where there is none; what is certain then.
    pub fn see(&mut self, object: Option<&Value>) -> Option<Answer> {
        let Some(object) = object.filter(|object| self.is_it(object)) else {
            return Some(self.is_gone());
        };
        self.note(object);
        self.judge(&self.target.clone(), object)
    }

    /// The same of a workflow that was applied, of which these are all runs, where they are needed. What
    /// becomes of it is what becomes of the run that it started for what was applied.
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

    /// Looks at the run of a workflow that was applied as it is now, or at nothing where it is gone.
    pub fn see_run(&mut self, object: Option<&Value>) -> Option<Answer> {
        // How it ended stays true when it is gone.
        if let Some(answer) = self.judge_run() {
            return Some(answer);
        }
        if let Some(run) = self.deploying.as_mut().and_then(|it| it.run.as_mut()) {
            run.object = object.filter(|object| uid(object) == run.uid).cloned();
        }
        self.judge_run()
    }

    /// What is certain of the run of a workflow that was applied, as it was seen last.
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

    /// What was applied will not be as it should. Why.
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

    /// What is certain of `target`, by which this is decided, as `object` says.
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

    /// It is not there, or not any more.
    fn gone(&self) -> Failure {
        let Self { target, last, .. } = self;
        if self.uid.is_some() {
            let missed = self.goal.missed(false);
            let message = format!("{target} {missed}: it was deleted; before: {last}");
            return Failure::new(message).code(Code::Failed);
        }
        Failure { message: format!("{target} not found"), ..Failure::not_found(target) }
    }

    /// How it stood when it was last seen: `Running, 3 of 8 tasks succeeded`.
    pub fn standing(&self) -> &str {
        &self.last
    }

    /// Its phase when it was last seen, and whether it was being deleted: what changes seldom. Empty where
    /// its controller has not looked at it yet: its phase is that of before then.
    pub fn phase(&self) -> &str {
        &self.phase
    }

    /// What is waited for.
    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// What is known of an object that is gone: which one it was.
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

    /// The time is up, and nothing is certain; maybe since the server is lost.
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

/// What waiting came to, out of what went wrong with some of `all` objects: their codes, and the
/// failure where it is one.
///
/// # Errors
/// The failure of the one object, or one that counts them, with the code that says most: what
/// failed before what is not there, and that before what took too long.
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
