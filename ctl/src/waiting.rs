//! One object that is waited for: what is known of it, and when the answer is certain. Pure.
//!
//! # Invariants
//!
//! * An object is known by its uid: one of the same name that is made later is another one.
//! * An answer is given as soon as it is certain: what can no longer happen is not waited for.

use api::{Kind as _, KindId, Workflow, WorkflowRun};
use serde_json::{Value, json};

use crate::deployed::{Deployed, deployed};
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
    /// The flag by which commands find it, with a space before it: empty where they need none.
    place: String,
    /// How it stood when it was last seen.
    last: String,
    /// Its phase then, in a word.
    phase: String,
    /// Whether no node took its tasks then.
    is_unschedulable: bool,
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

    /// The same, of this very object, which this command started or applied.
    #[must_use]
    pub fn started(mut self, object: Value) -> Self {
        self.uid = uid(&object);
        self.started = Some(object);
        self
    }

    /// What this command started or applied, as it was last seen.
    pub fn what_was_started(&self) -> Option<&Value> {
        self.started.as_ref()
    }

    /// Whether this is a workflow that was applied, and this is how it stands after its controller has
    /// handled it: then its runs are needed to say what counts.
    pub fn needs_runs(&self, object: &Value) -> bool {
        self.is_applied_workflow() && goal::is_handled(KindId::Workflow, object)
    }

    /// A workflow is not started: one that is waited for by a command that started something was applied.
    pub fn is_applied_workflow(&self) -> bool {
        self.started.is_some() && self.target.kind == KindId::Workflow
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

    /// The same of a workflow that was applied, of which these are all runs. What becomes of it is what
    /// becomes of the run that it started for what was applied.
    pub fn see_applied(&mut self, object: Option<&Value>, runs: &[WorkflowRun]) -> Option<Answer> {
        let Some(object) = object.filter(|object| self.is_it(object)) else {
            return Some(self.is_gone());
        };
        self.note(object);
        let typed: Option<Workflow> = serde_json::from_value(object.clone()).ok();
        // One that is not handled yet or being deleted says so itself.
        let Some(workflow) = typed.filter(|it| self.needs_runs(object) && !it.is_deleting()) else {
            return self.judge(&self.target.clone(), object);
        };
        match deployed(&workflow, runs) {
            Deployed::Run(run) => {
                let target = Target::new(KindId::WorkflowRun, run.name());
                let run = serde_json::to_value(run).unwrap_or_default();
                self.phase = phase(&run);
                self.judge(&target, &run)
            }
            Deployed::Nothing(why) => Some(Answer::Nothing(format!("{} {why}", self.target))),
        }
    }

    fn is_it(&self, object: &Value) -> bool {
        self.uid.is_none() || uid(object) == self.uid
    }

    fn note(&mut self, object: &Value) {
        self.uid = uid(object);
        self.phase = phase(object);
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
                "no run yet".clone_into(&mut self.last);
                let hint = format!("start one with hctl run{place} {target}");
                Some(Answer::NoRun(never("it has no run, and none starts by itself").hint(hint)))
            }
            Verdict::Suspended => {
                "no run yet: it is suspended".clone_into(&mut self.last);
                let hint = format!("start one with hctl resume{place} {target}");
                Some(Answer::NoRun(never("it is suspended, and has no run").hint(hint)))
            }
            Verdict::NotYet(seen) => {
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

    /// Its phase when it was last seen, and whether it was being deleted: what changes seldom.
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

fn phase(object: &Value) -> String {
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    let is_leaving = object["metadata"]["deletionTimestamp"].is_string();
    format!("{phase}{}", if is_leaving { ", being deleted" } else { "" })
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
mod tests {
    use api::KindId;
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    /// `-` is nothing; else `uid PHASE [deleting]`.
    fn object(text: &str) -> Option<Value> {
        let mut words = text.split(' ');
        let uid = words.next().filter(|uid| *uid != "-")?;
        let phase = words.next().unwrap_or_default();
        let mut object = json!({
            "metadata": {"uid": uid, "generation": 1},
            "spec": {},
            "status": {"phase": phase, "observedGeneration": 1},
        });
        for word in words {
            match word {
                "deleting" => {
                    object["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into()
                }
                "suspended" => object["spec"]["suspend"] = json!(true),
                "unfit" => object["status"]["conditions"] = json!([{"reason": "Unschedulable"}]),
                other => panic!("{other}"),
            }
        }
        Some(object)
    }

    fn told(failure: &Failure) -> String {
        format!("{}: {}", failure.code.number(), failure.message)
    }

    fn check((kind, goal): (KindId, Goal), story: &str, expected: &Expect) {
        let mut waited = Waited::new(Target::new(kind, "a"), "default", goal);
        let mut lines = String::new();
        for text in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let answer = waited.see(object(text).as_ref());
            let answer = match answer {
                None => "not yet".to_owned(),
                Some(Answer::Met) => "met".to_owned(),
                Some(Answer::Never(failure) | Answer::NoRun(failure)) => told(&failure),
                Some(Answer::Nothing(why)) => why,
            };
            lines.push_str(&format!("{text} -> {answer}\n"));
        }
        lines.push_str(&format!("late -> {}\n", told(&waited.late(None))));
        expected.assert_eq(&lines);
    }

    #[test]
    fn what_is_deleted_will_not_return() {
        check(
            (KindId::Job, Goal::Succeeded),
            "
            1 Running
            1 Running deleting
            -
            2 Succeeded
            ",
            &expect![[r#"
                1 Running -> not yet
                1 Running deleting -> 3: job/a did not succeed: Running, and it is being deleted
                - -> 3: job/a did not succeed: it was deleted; before: Running
                2 Succeeded -> 3: job/a did not succeed: it was deleted; before: Running
                late -> 4: timed out waiting for job/a to succeed: Running
            "#]],
        );
    }

    #[test]
    fn what_was_never_there_is_not_found() {
        check(
            (KindId::Job, Goal::Done),
            "-",
            &expect![[r#"
                - -> 6: job/a not found
                late -> 4: timed out waiting for job/a to finish: it was not seen yet
            "#]],
        );
    }

    #[test]
    fn a_deleted_object_is_gone_when_another_has_its_name() {
        check(
            (KindId::Job, Goal::Deleted),
            "
            1 Running
            1 Succeeded deleting
            2 Running
            ",
            &expect![[r#"
                1 Running -> not yet
                1 Succeeded deleting -> not yet
                2 Running -> met
                late -> 4: timed out waiting for job/a to be deleted: Succeeded
            "#]],
        );
    }

    #[test]
    fn a_suspended_workflow_without_a_run_is_not_waited_for() {
        let object = object("1  suspended").unwrap();
        let mut waited = Waited::new(Target::new(KindId::Workflow, "a"), "default", Goal::Done);
        let Some(Answer::NoRun(failure)) = waited.see(Some(&object)) else { panic!() };
        let said = "workflow/a did not finish: it is suspended, and has no run";
        assert_eq!(failure.message, said);
        assert_eq!(waited.standing(), "no run yet: it is suspended");
    }

    #[test]
    fn what_no_node_takes_is_told_from_what_takes_long() {
        check(
            (KindId::Job, Goal::Done),
            "1 Pending unfit",
            &expect![[r#"
                1 Pending unfit -> not yet
                late -> 2: timed out waiting for job/a to finish: Pending
            "#]],
        );
    }

    #[test]
    fn a_hint_finds_what_is_in_another_namespace() {
        let hint = |seen_from: &str| {
            let waited = Waited::new(Target::new(KindId::Job, "a"), "team", Goal::Done);
            waited.seen_from(seen_from).late(None).hint.unwrap()
        };
        assert!(hint("default").starts_with("see why with hctl describe -n team job/a, or"));
        assert!(hint("team").starts_with("see why with hctl describe job/a, or"));
        let object = object("1  suspended");
        let mut waited = Waited::new(Target::new(KindId::Workflow, "a"), "team", Goal::Done)
            .seen_from("default");
        let Some(Answer::NoRun(failure)) = waited.see(object.as_ref()) else { panic!() };
        assert_eq!(failure.hint.unwrap(), "start one with hctl resume -n team workflow/a");
    }

    #[test]
    fn a_server_that_is_lost_is_why_it_is_late() {
        let mut waited = Waited::new(Target::new(KindId::Job, "a"), "default", Goal::Done);
        let _not_yet = waited.see(object("1 Pending unfit").as_ref());
        let lost =
            Lost { server: "http://h:1".to_owned(), for_secs: 20, why: "refused".to_owned() };
        assert_eq!(
            told(&waited.late(Some(&lost))),
            "4: timed out waiting for job/a to finish: http://h:1 has been lost for 20s (refused); \
             before: Pending"
        );
    }

    #[test]
    fn the_code_that_says_most_is_that_of_several() {
        let failures = |codes: &[Code]| {
            codes.iter().map(|code| Failure::new("x").code(*code)).collect::<Vec<_>>()
        };
        let told = |all, codes: &[Code]| {
            outcome(all, Goal::Done, failures(codes)).map_err(|failure| told(&failure))
        };
        assert_eq!(told(2, &[]), Ok(()));
        assert_eq!(told(1, &[Code::Timeout]), Err("4: x".to_owned()));
        let of_three = |codes: &[Code], number: u8| {
            let message = format!("{number}: {} of 3 objects did not finish", codes.len());
            assert_eq!(told(3, codes), Err(message));
        };
        of_three(&[Code::Timeout, Code::Failed, Code::NotFound], 3);
        of_three(&[Code::Timeout, Code::NotFound], 6);
        of_three(&[Code::Timeout, Code::Unschedulable], 2);
        of_three(&[Code::Timeout], 4);
    }
}
