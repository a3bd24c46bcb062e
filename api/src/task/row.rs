//! Tasks in tables and field selectors, and their rules.

use std::fmt;

use jiff::Timestamp;

use super::{BACK_OFF, LastExit, PastAttempt, SUSPENDED, Stop, Task, TaskPhase, TaskState};
use crate::kind::KindId;
use crate::object::{Kind as _, number_problem};
use crate::resource::{Column, Resource, column, wide};
use crate::table::{NOTHING, age, or_dash, span, took};
use crate::violation::Violation;
use crate::{metadata, names};

impl Resource for Task {
    const SHOWN: &'static [&'static str] =
        &["/status/phase", "/status/conditions", "/spec/nodeName"];

    fn validate(&self) -> Vec<Violation> {
        let mut found = metadata::validate(KindId::Task, &self.metadata);
        if let Some(problem) = names::problem(&self.spec.template) {
            found.push(Violation::new("spec.template", problem));
        }
        for (field, number) in [("attempt", self.spec.attempt), ("run", self.spec.run)] {
            if number == 0 {
                found.push(Violation::new(format!("spec.{field}"), "counts from 1"));
            }
        }
        let counted = [
            ("attempt", self.spec.attempt),
            ("nextAttempt", self.spec.next_attempt.unwrap_or_default()),
            ("run", self.spec.run),
            ("failures", self.spec.failures),
        ];
        let problem =
            |(field, number): (&str, u32)| number_problem(&format!("spec.{field}"), number);
        found.extend(counted.into_iter().filter_map(problem));
        found
    }

    fn validate_update(&self, old: &Self) -> Vec<Violation> {
        // Parts are changed by transitions, which have their own checks. A replace may change only
        // the metadata.
        let (new, old) = (self.clone().to_stored(), old.clone().to_stored());
        if new.spec == old.spec {
            return Vec::new();
        }
        let violation = Violation::new("spec", "tasks can only be changed by Heliox");
        vec![violation.hint("change its job, or evict the task")]
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        // Few, because an apiserver keeps them in memory for each of up to a million tasks.
        vec![
            ("status.phase", self.phase().to_string()),
            ("spec.nodeName", self.node().unwrap_or_default().to_owned()),
            ("spec.template", self.spec.template.clone()),
        ]
    }

    fn show(&mut self) -> bool {
        self.status.phase = Some(self.phase());
        self.spec.node_name = self.node().map(str::to_owned);
        true
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                column("NAME"),
                column("STATUS"),
                column("READY"),
                column("ATTEMPT"),
                column("RESTARTS"),
                column("NODE"),
                column("PORTS"),
                wide("PARTITION"),
                wide("RUN"),
                wide("EXIT"),
                wide("TOOK"),
                wide("TEMPLATE"),
                column("AGE"),
                column("WHY"),
            ]
        }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let reported = self.report().is_some();
        let status = &self.status;
        let ports: Vec<String> =
            status.ports.iter().map(|(name, port)| format!("{name}={port}")).collect();
        let said = |cell: String| if reported { cell } else { NOTHING.to_owned() };
        vec![
            self.name().to_owned(),
            self.phase().to_string(),
            said(if self.is_ready() { "yes" } else { "no" }.to_owned()),
            self.spec.attempt.to_string(),
            said(status.restarts.to_string()),
            or_dash(self.node()),
            said(if ports.is_empty() { NOTHING.to_owned() } else { ports.join(",") }),
            or_dash(self.spec.overrides.partition.as_ref()),
            self.spec.run.to_string(),
            said(or_dash(status.exit_code)),
            said(took(status.started_at, status.finished_at, now)),
            self.spec.template.clone(),
            age(self.created(), now),
            self.why(now),
        ]
    }
}

impl Task {
    /// The reason for its phase as a line; empty if there is nothing to say.
    pub fn why(&self, now: Timestamp) -> String {
        match self.state() {
            TaskState::Pending => self.why_pending(now),
            TaskState::Bound { .. } | TaskState::Starting { .. } | TaskState::Running { .. } => {
                let reported = self.report().is_some();
                let waits = self.restart_wait(now).filter(|_| reported);
                let said = || self.status.message.clone().filter(|_| reported);
                let restarted = || self.restarted(now).filter(|_| reported);
                let known = waits.or_else(said).or_else(restarted);
                known.or_else(|| self.last_attempt()).unwrap_or_default()
            }
            TaskState::Stopping { .. } => {
                let since = self.stop().map(|stop| span(stop.at, now)).unwrap_or_default();
                let asked = format!("stopping for {since}: {}", self.cause());
                // What delays the stop, in the agent's words.
                let said = self.status.message.as_deref().filter(|_| self.report().is_some());
                with_message(&asked, said)
            }
            TaskState::Succeeded => String::new(),
            TaskState::Failed { exit_code, reason } => {
                with_message(&end(exit_code, reason), self.status.message.as_deref())
            }
            TaskState::TimedOut => with_message("timed out", self.status.message.as_deref()),
            TaskState::Cancelled { reason } => {
                self.stop().map_or_else(|| reason.words().to_owned(), Stop::words)
            }
            TaskState::Lost { node, since, replaceable, stop } => {
                let silent = format!("node silent for {}", span(since, now));
                let waits = self.loss().is_some_and(|loss| loss.waits);
                match (stop, replaceable) {
                    (Some(_), false) if waits => format!(
                        "{silent}; to be stopped: {}; the task waits for {node} to come back; to stop \
                         waiting: hctl delete node {node}",
                        self.cause()
                    ),
                    (Some(_), _) => format!("{silent}; to be stopped: {}", self.cause()),
                    (None, true) => format!("{silent}; to be replaced"),
                    (None, false) if waits => format!(
                        "{silent}; the task waits for {node} to come back; to stop waiting: hctl evict {} \
                         or hctl delete node {node}",
                        self.name()
                    ),
                    (None, false) => silent,
                }
            }
        }
    }

    /// Why its container is not running, and when it is started again: `BackOff: exit 1, again in
    /// 20s`. Nothing if it does not wait for that.
    fn restart_wait(&self, now: Timestamp) -> Option<String> {
        let status = &self.status;
        let at = status.restart_at?;
        let ended = || status.last_exit.as_ref().map(|last| last.to_string());
        let what = status.message.clone().or_else(ended).unwrap_or_default();
        let why = with_message(status.reason.as_deref().unwrap_or(BACK_OFF), Some(&what));
        // Its node's clock may be behind, and its report on the way.
        let when = if at > now { format!("in {}", span(now, at)) } else { "now".to_owned() };
        Some(format!("{why}, again {when}"))
    }

    /// How the container before this one ended: `restarted 2h ago: OOMKilled (exit 137)`. Nothing
    /// if there was none.
    fn restarted(&self, now: Timestamp) -> Option<String> {
        let last = self.status.last_exit.as_ref()?;
        Some(match self.status.started_at {
            Some(started) => format!("restarted {} ago: {last}", span(started, now)),
            None => format!("restarting: {last}"),
        })
    }

    /// Whether it is ready to serve. False on a lost node and while it is being stopped: the
    /// agent's last report says nothing of those.
    pub fn is_ready(&self) -> bool {
        let runs = matches!(self.phase(), TaskPhase::Starting | TaskPhase::Running);
        self.status.ready && self.report().is_some() && runs
    }

    /// Why it is being stopped, in a few words.
    fn cause(&self) -> String {
        self.stop().map(Stop::cause).unwrap_or_default()
    }

    fn why_pending(&self, now: Timestamp) -> String {
        if let Some(why) = self.unschedulable() {
            return why.to_owned();
        }
        let wait = self.spec.not_before.filter(|time| *time > now);
        let last = self.last_attempt();
        match (wait, last) {
            (Some(time), Some(last)) => format!("retries in {}: {last}", span(now, time)),
            (Some(time), None) => format!("retries in {}", span(now, time)),
            (None, Some(last)) => last,
            (None, None) => String::new(),
        }
    }

    /// How and where the previous attempt of the same run ended: `attempt 1 on node-1: CannotRun:
    /// sh: not found`, `attempt 1: node node-1 was lost`. Nothing if it was only suspended.
    pub fn last_attempt(&self) -> Option<String> {
        // An earlier version did not store the run of an attempt.
        let is_of_run = |past: &&PastAttempt| {
            past.run == self.spec.run || past.run == 0 && self.spec.failures > 0
        };
        let last: &PastAttempt = self.status.attempts.last().filter(is_of_run)?;
        let node = last.node_name.as_deref().map(|node| format!(" on {node}")).unwrap_or_default();
        let how = last.how_it_ended();
        match last.phase {
            TaskPhase::Lost => Some(format!("attempt {}: {how}", last.attempt)),
            TaskPhase::Cancelled => {
                let was_held = node.is_empty() || last.reason.as_deref() == Some(SUSPENDED);
                (!was_held).then(|| format!("attempt {}{node}: {how}", last.attempt))
            }
            TaskPhase::Pending
            | TaskPhase::Bound
            | TaskPhase::Starting
            | TaskPhase::Running
            | TaskPhase::Stopping
            | TaskPhase::Succeeded
            | TaskPhase::Failed
            | TaskPhase::TimedOut => Some(format!("attempt {}{node}: {how}", last.attempt)),
        }
    }

    /// The row of the task as it was at the end of a run of its job: by the newest attempt of that
    /// run, or by the current state if that is the current run. Nothing if no attempt of the run is
    /// stored any more.
    pub fn row_of_run(&self, run: u32, now: Timestamp) -> Option<Vec<String>> {
        if self.spec.run == run {
            return Some(self.row(now));
        }
        let past = self.attempts_of_run(run).last()?;
        let has_ended_well = past.phase == TaskPhase::Succeeded;
        let why = if has_ended_well { String::new() } else { past.how_it_ended() };
        let unknown = || NOTHING.to_owned();
        Some(vec![
            self.name().to_owned(),
            past.phase.to_string(),
            "no".to_owned(),
            past.attempt.to_string(),
            // The task keeps this, and the ports, only for its current attempt.
            unknown(),
            or_dash(past.node_name.as_ref()),
            unknown(),
            or_dash(self.spec.overrides.partition.as_ref()),
            run.to_string(),
            or_dash(past.exit_code),
            past.finished_at.map_or_else(unknown, |_| took(past.started_at, past.finished_at, now)),
            unknown(),
            age(self.created(), now),
            why,
        ])
    }
}

impl fmt::Display for LastExit {
    /// `exit 1`, `OOMKilled (exit 137): exceeded its memory limit`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = end(self.exit_code, self.reason.as_deref());
        f.write_str(&with_message(&how, self.message.as_deref()))
    }
}

impl PastAttempt {
    /// How it ended, as a line: `CannotRun: sh: not found`, `node node-1 was lost`, `evicted`.
    fn how_it_ended(&self) -> String {
        let (reason, message) = (self.reason.as_deref(), self.message.as_deref());
        match self.phase {
            TaskPhase::Lost => match &self.node_name {
                Some(node) => format!("node {node} was lost"),
                None => "its node was lost".to_owned(),
            },
            // It was stopped on request, so how its process ended says nothing.
            TaskPhase::Cancelled => message.or(reason).unwrap_or("stopped").to_owned(),
            TaskPhase::Pending
            | TaskPhase::Bound
            | TaskPhase::Starting
            | TaskPhase::Running
            | TaskPhase::Stopping
            | TaskPhase::Succeeded
            | TaskPhase::Failed
            | TaskPhase::TimedOut => {
                let is_unknown = self.exit_code.is_none() && reason.is_none();
                let how =
                    if is_unknown { self.phase.to_string() } else { end(self.exit_code, reason) };
                with_message(&how, message)
            }
        }
    }
}

impl Task {
    /// Why and where an attempt could not be started: `on node-1: CannotRun: sh: not found`.
    /// Nothing if its program ran, or if the attempt is not stored any more. An attempt that did
    /// not start has no log.
    pub fn failed_start(&self, attempt: u32) -> Option<String> {
        let (node, code, reason, message) = if attempt == self.spec.attempt {
            let TaskState::Failed { exit_code, reason } = self.state() else { return None };
            let status = &self.status;
            status.started_at.is_none().then_some(())?;
            (self.node(), exit_code, reason, status.message.as_deref())
        } else {
            let past = self.status.attempts.iter().find(|past| past.attempt == attempt)?;
            (past.phase == TaskPhase::Failed && past.started_at.is_none()).then_some(())?;
            let (node, reason) = (past.node_name.as_deref(), past.reason.as_deref());
            (node, past.exit_code, reason, past.message.as_deref())
        };
        let node = node.map(|node| format!("on {node}: ")).unwrap_or_default();
        Some(format!("{node}{}", with_message(&end(code, reason), message)))
    }
}

/// How a process ended: `exit 3`, `OOMKilled`, `OOMKilled (exit 137)`.
fn end(exit_code: Option<i32>, reason: Option<&str>) -> String {
    match (exit_code, reason) {
        (Some(code), Some(reason)) => format!("{reason} (exit {code})"),
        (Some(code), None) => format!("exit {code}"),
        (None, Some(reason)) => reason.to_owned(),
        (None, None) => "failed".to_owned(),
    }
}

fn with_message(what: &str, message: Option<&str>) -> String {
    match message.filter(|message| !message.is_empty()) {
        Some(message) => format!("{what}: {message}"),
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn task(status: &Value) -> Task {
        serde_json::from_value(json!({
            "metadata": { "name": "a-0" },
            "spec": {
                "template": "a", "attempt": 2, "failures": 1, "nodeName": "n2",
                "binding": { "node": "n2", "attempt": 2, "number": 2, "at": "2026-01-01T00:00:00Z" },
            },
            "status": status,
        }))
        .unwrap()
    }

    fn past(started: Option<&str>) -> Value {
        json!({ "attempt": 1, "phase": "Failed", "nodeName": "n1", "reason": "CannotRun",
                "message": "sh: not found", "startedAt": started })
    }

    #[test]
    fn an_attempt_that_could_not_start_says_why() {
        let failed = json!({
            "attempt": 2, "binding": 2, "state": "Failed", "reason": "ImagePull",
            "message": "no such image", "attempts": [past(None)],
        });
        let task = task(&failed);
        assert_eq!(task.failed_start(1).unwrap(), "on n1: CannotRun: sh: not found");
        assert_eq!(task.failed_start(2).unwrap(), "on n2: ImagePull: no such image");
        assert_eq!(task.failed_start(3), None);
        assert_eq!(task.last_attempt().unwrap(), "attempt 1 on n1: CannotRun: sh: not found");
    }

    #[test]
    fn an_attempt_that_ran_or_runs_has_a_log() {
        let at = "2026-01-01T00:00:00Z";
        let status = |state: &str| {
            json!({ "attempt": 2, "binding": 2, "state": state, "startedAt": at, "exitCode": 3,
                    "attempts": [past(Some(at))] })
        };
        for state in ["Running", "Failed"] {
            let task = task(&status(state));
            assert_eq!((task.failed_start(1), task.failed_start(2)), (None, None), "{state}");
        }
        let starting = json!({ "attempt": 2, "binding": 2, "state": "Starting" });
        assert_eq!(task(&starting).failed_start(2), None);
    }

    #[test]
    fn a_row_of_an_earlier_run_is_that_of_its_newest_attempt() {
        let attempt = |attempt: u32, run: u32, phase: &str, code: i32| {
            json!({ "attempt": attempt, "run": run, "phase": phase, "nodeName": "n1", "exitCode": code,
                    "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:00Z" })
        };
        let attempts = [attempt(1, 1, "Failed", 3), attempt(2, 1, "Succeeded", 0)];
        let attempts = [&attempts[..], &[attempt(3, 2, "Failed", 4)]].concat();
        let mut task = task(&json!({ "attempts": attempts }));
        (task.spec.run, task.spec.attempt) = (3, 4);
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let row = |run: u32| {
            let row = task.row_of_run(run, now)?;
            let shown = ["STATUS", "ATTEMPT", "NODE", "RUN", "EXIT", "TOOK", "WHY"];
            let columns = Task::columns().iter().map(|column| column.name).zip(row);
            let cells = columns.filter(|(name, _)| shown.contains(name)).map(|(_, cell)| cell);
            Some(cells.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(row(1).as_deref(), Some("Succeeded 2 n1 1 0 60s "));
        assert_eq!(row(2).as_deref(), Some("Failed 3 n1 2 4 60s exit 4"));
        assert!(row(3).unwrap().starts_with("Pending 4 - 3 "), "it is in this one");
        assert_eq!(row(4), None);
        assert_eq!(task.row_of_run(1, now).unwrap().len(), Task::columns().len());
    }

    /// What a task says of the attempt before this one.
    #[test]
    fn the_attempt_before_says_what_happened_to_it() {
        let said = |failures: u32, past: Value| {
            let mut before = json!({ "attempt": 1, "run": 1, "nodeName": "a" });
            before.as_object_mut().unwrap().extend(past.as_object().unwrap().clone());
            let mut task = task(&json!({ "attempts": [before] }));
            (task.spec.run, task.spec.failures) = (1, failures);
            task.last_attempt().unwrap_or_default()
        };
        let evicted = json!({
            "phase": "Cancelled", "exitCode": 137, "reason": "Evicted", "message": "evicted",
        });
        for failures in [0, 1] {
            assert_eq!(said(failures, evicted.clone()), "attempt 1 on a: evicted");
        }
        let lost = json!({ "phase": "Lost", "reason": "NodeLost" });
        assert_eq!(said(0, lost), "attempt 1: node a was lost");
        let killed = json!({ "phase": "Failed", "exitCode": 137 });
        assert_eq!(said(1, killed), "attempt 1 on a: exit 137");
        let held = json!({ "phase": "Cancelled", "reason": "Suspended", "message": "stopped" });
        assert_eq!(said(0, held), "");
        let unbound = json!({ "phase": "Cancelled", "nodeName": null, "message": "evicted" });
        assert_eq!(said(0, unbound), "");
        let other_run = json!({ "phase": "Failed", "exitCode": 1, "run": 2 });
        assert_eq!(said(1, other_run), "");
    }

    #[test]
    fn a_task_that_is_restarted_in_place_says_why_and_when() {
        let said = |status: Value| {
            let mut whole = json!({ "attempt": 2, "binding": 2, "restarts": 3,
                "lastExit": { "exitCode": 1, "at": "2026-01-01T00:00:00Z" } });
            whole.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
            let task = task(&whole);
            task.why("2026-01-01T00:00:10Z".parse().unwrap())
        };
        let waits = json!({ "state": "Starting", "reason": "BackOff",
            "restartAt": "2026-01-01T00:00:30Z" });
        assert_eq!(said(waits), "BackOff: exit 1, again in 20s");
        let late = json!({ "state": "Starting", "reason": "Flapping",
            "restartAt": "2026-01-01T00:00:09Z" });
        assert_eq!(said(late), "Flapping: exit 1, again now");
        let failed = json!({ "state": "Starting", "reason": "PortTaken",
            "message": "port 80 is in use", "restartAt": "2026-01-01T00:00:14Z" });
        assert_eq!(said(failed), "PortTaken: port 80 is in use, again in 4s");
        let killed = json!({ "state": "Running", "startedAt": "2026-01-01T00:00:01Z",
            "lastExit": { "exitCode": 137, "reason": "OOMKilled", "message": "exceeded its memory limit",
                          "at": "2026-01-01T00:00:00Z" } });
        let expected = "restarted 9s ago: OOMKilled (exit 137): exceeded its memory limit";
        assert_eq!(said(killed), expected);
        let begun = json!({ "state": "Starting" });
        assert_eq!(said(begun), "restarting: exit 1");
        let pulls = json!({ "state": "Starting", "message": "pulling image a" });
        assert_eq!(said(pulls), "pulling image a");
    }

    /// What the agent of a lost node said last is no promise.
    #[test]
    fn a_task_of_a_lost_node_is_not_ready() {
        let running = json!({ "attempt": 2, "binding": 2, "state": "Running", "ready": true });
        assert!(task(&running).is_ready());
        let mut lost = running;
        lost["loss"] = json!({ "attempt": 2, "since": "2026-01-01T00:00:00Z" });
        assert!(!task(&lost).is_ready());
    }
}
