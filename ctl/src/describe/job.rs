//! The description of a job.

use api::conditions::is_unschedulable;
use api::job::{Job, JobPhase, JobSpec};
use api::task::TaskPhase;
use api::{Kind as _, Task, Timestamp, table};

use super::{ROWS_MAX, Sheet, counted, labels, lasting, owner, place};

/// Most different reasons that are shown.
const REASONS_MAX: usize = 5;

/// The description of a job. `tasks` are its existing task objects.
pub fn text(job: &Job, tasks: &[Task], now: Timestamp) -> Sheet {
    let status = &job.status;
    let mut sheet = Sheet::default();
    sheet.line(&headline(job, now));
    sheet.field("Tasks", &counts(job));
    sheet.field("Fails", &fails(job));
    sheet.field("Retries", &retries(job, tasks));
    for why in whys(job, tasks, now) {
        sheet.field("Why", &why);
    }
    sheet.field("Spec", &spec(&job.spec));
    sheet.field("Target", &target(&job.spec));
    sheet.field("Place", &placement(&job.spec));
    sheet.field("Owner", &owner(job));
    sheet.field("Labels", &labels(job));
    sheet.conditions(&status.conditions);
    let unwell: Vec<Vec<String>> = tasks
        .iter()
        .filter(|task| !matches!(task.phase(), TaskPhase::Succeeded | TaskPhase::Pending))
        .map(|task| super::task_row(task, now))
        .collect();
    let all = format!("hctl get tasks --job {}", job.name());
    sheet.list("Now", &super::TASK_HEADINGS, unwell, (ROWS_MAX, &all));
    sheet
}

fn headline(job: &Job, now: Timestamp) -> String {
    let status = &job.status;
    let ending = status.ending.filter(|_| !status.phase.is_final());
    let ending = ending.map(|it| format!(", to end as {it}")).unwrap_or_default();
    let lasting = lasting(status.started_at, status.finished_at, now);
    let deleting = if job.is_deleting() { ", being deleted" } else { "" };
    let run = if status.run > 0 { format!(", run {}", status.run) } else { String::new() };
    let revision = match status.revision.as_str() {
        "" => String::new(),
        revision => format!(", revision {revision}"),
    };
    format!("Job {}: {}{lasting}{ending}{run}{revision}{deleting}", place(job), status.phase)
}

/// `10 = 6 succeeded + 1 failed + 2 active + 1 pending + 0 cancelled    60%`.
fn counts(job: &Job) -> String {
    let status = &job.status;
    let share = match u64::from(status.total) {
        0 => String::new(),
        total => format!("    {}%", u64::from(status.succeeded) * 100 / total),
    };
    format!(
        "{} = {} succeeded + {} failed + {} active + {} pending + {} cancelled{share}",
        status.total,
        status.succeeded,
        status.failed,
        status.active,
        status.pending,
        status.cancelled
    )
}

fn fails(job: &Job) -> String {
    let status = &job.status;
    if status.failed == 0 {
        return String::new();
    }
    let allowed = job.spec.max_failed_tasks.map_or(0, |it| it.of(status.total));
    let reasons = api::job::failures(&status.failures);
    let reasons = if reasons.is_empty() { reasons } else { format!(": {reasons}") };
    let logs = format!("hctl logs job/{} --failed", job.name());
    format!("{} of at most {allowed}{reasons}        {logs}", status.failed)
}

/// The number of retries, and why earlier attempts of existing tasks ended.
fn retries(job: &Job, tasks: &[Task]) -> String {
    if job.status.retries == 0 {
        return String::new();
    }
    let how = |past: &api::task::PastAttempt| match (&past.reason, past.exit_code) {
        (Some(reason), _) => reason.clone(),
        (None, Some(code)) => format!("exit {code}"),
        (None, None) => past.phase.to_string(),
    };
    // Attempts of earlier runs, and evicted ones, are not among a task's latest failures.
    let failed = |task: &Task| -> Vec<String> {
        let ended = task.status.attempts.iter().rev();
        let failed = ended.filter(|it| matches!(it.phase, TaskPhase::Failed | TaskPhase::TimedOut));
        let count = usize::try_from(task.spec.failures).unwrap_or(usize::MAX);
        failed.take(count).map(how).collect()
    };
    let (shown, others) = first_reasons(counted(tasks.iter().flat_map(failed)));
    let mut reasons: Vec<String> =
        shown.into_iter().map(|(why, count)| format!("{count} {why}")).collect();
    if others > 0 {
        reasons.push(format!("{others} for other reasons"));
    }
    let reasons =
        if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", ")) };
    format!("{}{reasons}", job.status.retries)
}

/// Why it is in its phase: its own message, and what its pending tasks wait for.
fn whys(job: &Job, tasks: &[Task], now: Timestamp) -> Vec<String> {
    // Tasks that fit no node are listed with their number.
    let is_unschedulable = is_unschedulable(&job.status.conditions);
    let message = job.status.message.iter().filter(|_| !is_unschedulable);
    let pending = tasks.iter().filter(|task| task.phase() == TaskPhase::Pending);
    // Waiting for a retry is listed with the tasks, including the time; so is why a task fits no
    // node while others run.
    let is_said = |message: &&String| {
        pending.clone().any(|task| {
            task.unschedulable() == Some(message.as_str())
                || task.last_attempt().is_some_and(|last| {
                    **message == format!("retrying task {}: {last}", task.name())
                })
        })
    };
    let mut whys: Vec<String> = message.filter(|message| !is_said(message)).cloned().collect();
    if job.status.phase == JobPhase::Running && job.spec.parallelism == Some(0) {
        whys.push("parallelism is 0: nothing starts".to_owned());
    }
    let reasons = pending.map(|task| task.why(now)).filter(|why| !why.is_empty());
    let (waiting, others) = first_reasons(counted(reasons));
    whys.extend(waiting.into_iter().map(|(why, count)| match count {
        1 => format!("1 task waits: {why}"),
        count => format!("{count} tasks wait: {why}"),
    }));
    if others > 0 {
        let wait = if others == 1 { "task waits" } else { "tasks wait" };
        let all = format!("hctl get tasks --job {} --phase Pending", job.name());
        whys.push(format!("{others} more {wait} for other reasons: {all}"));
    }
    whys
}

/// The most frequent reasons, and how many tasks have other ones.
fn first_reasons(mut reasons: Vec<(String, usize)>) -> (Vec<(String, usize)>, usize) {
    let others = reasons.split_off(reasons.len().min(REASONS_MAX));
    (reasons, others.iter().map(|(_, count)| count).sum())
}

fn spec(spec: &JobSpec) -> String {
    let mut parts = Vec::new();
    let template = &spec.template;
    if !template.image.is_empty() {
        parts.push(format!("image {}", template.image));
    }
    let requests: Vec<String> =
        template.resources.requests.iter().map(|(name, it)| format!("{name} {it}")).collect();
    if !requests.is_empty() {
        parts.push(format!("{} a task", requests.join(" ")));
    }
    let numbers = [("parallelism", spec.parallelism), ("maxPerNode", spec.max_per_node)];
    parts.extend(numbers.iter().filter_map(|(name, it)| Some(format!("{name} {}", (*it)?))));
    parts.push(format!("maxAttempts {}", spec.retry().max_attempts()));
    let times = [("attemptTimeout", spec.attempt_timeout), ("timeout", spec.timeout)];
    parts.extend(times.iter().filter_map(|(name, it)| Some(format!("{name} {}", (*it)?))));
    if spec.is_suspended() {
        parts.push("suspended".to_owned());
    }
    if spec.cancel {
        parts.push("cancelled".to_owned());
    }
    parts.join(", ")
}

fn target(spec: &JobSpec) -> String {
    let Some(target) = &spec.target else { return String::new() };
    let which = match target.partitions.as_slice() {
        [] => "each partition".to_owned(),
        some => some.join(", "),
    };
    let states = match target.states.as_slice() {
        [] => String::new(),
        states => format!(", beside its {}", states.join(" or ")),
    };
    format!("{which} of partitionset/{}{states}", target.partition_set)
}

fn placement(spec: &JobSpec) -> String {
    let placement = spec.placement();
    if placement == api::placement::Placement::default() {
        return String::new();
    }
    // As it was written.
    serde_json::to_string(&placement).unwrap_or_else(|_| table::NOTHING.to_owned())
}
