//! The description of a task: its parts, its attempts, the reason for its phase.

use api::table::{NOTHING, or_dash, span, took};
use api::task::{PastAttempt, Task, TaskPhase};
use api::{Kind as _, Timestamp};

use super::{Sheet, labels, lasting, owner, place};

/// The description of a task.
pub fn text(task: &Task, now: Timestamp) -> Sheet {
    let (spec, status) = (&task.spec, &task.status);
    let mut sheet = Sheet::default();
    let reported = task.report().is_some();
    let lasting =
        if reported { lasting(status.started_at, status.finished_at, now) } else { String::new() };
    let node = task.node().map(|node| format!(" on {node}")).unwrap_or_default();
    let deleting = if task.is_deleting() { ", being deleted" } else { "" };
    let phase = task.phase();
    sheet.line(&format!(
        "Task {}: {phase}{node}{lasting}, attempt {}{deleting}",
        place(task),
        spec.attempt
    ));
    sheet.field("Why", &task.why(now));
    sheet.field("Index", &index(task));
    let binding = task.binding();
    sheet
        .field("Bound", &binding.map(|it| format!("{} ago", span(it.at, now))).unwrap_or_default());
    if let Some(stop) = task.stop() {
        sheet.field("Stop", &format!("{}, {} ago", stop.words(), span(stop.at, now)));
    }
    if let Some(loss) = task.loss() {
        let next = if loss.replaceable { "may be replaced" } else { "its place is still taken" };
        sheet.field("Lost", &format!("for {}; {next}", span(loss.since, now)));
    }
    if reported {
        let exit = status.exit_code.map(|code| format!("exit code {code}"));
        let ports: Vec<String> =
            status.ports.iter().map(|(name, port)| format!("{name}={port}")).collect();
        sheet.field("Ready", if task.is_ready() { "yes" } else { "" });
        sheet.field("Ended", &exit.unwrap_or_default());
        sheet.field("Restarts", &restarts(task, now));
        sheet.field("Ports", &ports.join(", "));
    }
    let not_before = spec.not_before.filter(|time| *time > now && task.node().is_none());
    sheet
        .field("Starts", &not_before.map(|it| format!("in {}", span(now, it))).unwrap_or_default());
    sheet.field("Avoids", &spec.avoid.join(", "));
    sheet.field("Runs", &format!("tasktemplate/{}", spec.template));
    sheet.field("Owner", &owner(task));
    sheet.field("Labels", &labels(task));
    let past = status.attempts.iter().map(|past| attempt_row(past, now)).collect();
    sheet.table(
        "Attempts",
        &["ATTEMPT", "RUN", "STATUS", "NODE", "EXIT", "REASON", "TOOK", "ENDED"],
        past,
    );
    sheet.field("Logs", &logs(task));
    sheet
}

/// How often it was restarted in place, and how its last container ended: `2, the last container
/// ended 3s ago: exit 1`.
fn restarts(task: &Task, now: Timestamp) -> String {
    let (count, last) = (task.status.restarts, task.status.last_exit.as_ref());
    let last =
        last.map(|last| format!(", the last container ended {} ago: {last}", span(last.at, now)));
    if count == 0 { String::new() } else { format!("{count}{}", last.unwrap_or_default()) }
}

/// The command that prints the output of its attempts.
fn logs(task: &Task) -> String {
    let (name, newest) = (task.name(), task.spec.attempt);
    let past = || task.status.attempts.iter().map(|past| past.attempt);
    let Some(attempt) = task.newest_attempt_of_run(task.spec.run) else {
        // Output of an earlier run needs the number of the run.
        let run = task.status.attempts.iter().map(|past| past.run).max();
        return run.map(|run| format!("hctl logs {name} --run {run}")).unwrap_or_default();
    };
    let which = if attempt < newest { format!(" (attempt {attempt})") } else { String::new() };
    let before = past().any(|before| before < attempt) || task.container_before(attempt).is_some();
    let before = if before {
        format!("    before that: hctl logs {name} --previous")
    } else {
        String::new()
    };
    format!("hctl logs {name}{which}{before}")
}

fn index(task: &Task) -> String {
    let (spec, own) = (&task.spec, &task.spec.overrides);
    let mut text = format!("{} of {}, run {}", spec.index, spec.count, spec.run);
    if let Some(name) = &own.name {
        text.push_str(&format!(", named {name}"));
    }
    if let Some(partition) = &own.partition {
        text.push_str(&format!(", partition {partition}"));
    }
    if let Some(item) = &own.item {
        text.push_str(&format!(", item {item}"));
    }
    text
}

fn attempt_row(past: &PastAttempt, now: Timestamp) -> Vec<String> {
    // A stopped attempt has the reason of the stop in place of one of its own.
    let stopped = past.message.as_ref().filter(|_| past.phase == TaskPhase::Cancelled);
    vec![
        past.attempt.to_string(),
        or_dash((past.run > 0).then_some(past.run)),
        past.phase.to_string(),
        or_dash(past.node_name.as_ref()),
        or_dash(past.exit_code),
        or_dash(past.reason.as_ref().or(stopped)),
        // When an attempt on a lost node ended is not known.
        past.finished_at
            .map_or_else(|| NOTHING.to_owned(), |_| took(past.started_at, past.finished_at, now)),
        past.finished_at
            .map_or_else(|| NOTHING.to_owned(), |end| format!("{} ago", span(end, now))),
    ]
}
