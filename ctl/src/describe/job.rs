//! The description of a job.

use api::job::{Job, JobSpec, JobStatus};
use api::task::TaskPhase;
use api::{Kind as _, Task, Timestamp, table};

use super::{ROWS_MAX, Sheet, labels, lasting, owner, place};

/// The description of a job. `tasks` are its existing task objects.
pub fn text(job: &Job, tasks: &[Task], now: Timestamp) -> Sheet {
    let status = &job.status;
    let mut sheet = Sheet::default();
    sheet.line(&headline(job, now));
    sheet.field("Tasks", &counts(job));
    sheet.field("Fails", &fails(job));
    sheet.field("Retries", &retries(job));
    for why in job.whys(now) {
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

/// Attempts after the first, and why the earlier ones ended.
fn retries(job: &Job) -> String {
    let JobStatus { retries, retry_reasons, .. } = &job.status;
    if *retries == 0 {
        return String::new();
    }
    let reasons: Vec<String> =
        retry_reasons.iter().map(|it| format!("{} {}", it.count, it.reason)).collect();
    let reasons =
        if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", ")) };
    format!("{retries}{reasons}")
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
