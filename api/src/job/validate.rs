//! Rules of a job.

use serde_json::Value;

use super::{
    Job, JobSpec, LISTED_TASKS_MAX, ListedTask, OnChange, Retry, RetryRule, TASKS_MAX, Target,
};
use crate::duration::Duration;
use crate::kind::KindId;
use crate::task::reason;
use crate::violation::{Violation, duplicates, nearest};
use crate::{merge, metadata, names, placement, substitute, template};

/// Most rules of a retry.
const RULES_MAX: usize = 100;
/// Reasons that a retry rule may name.
pub const RETRY_REASONS: [&str; 8] = [
    reason::OOM_KILLED,
    reason::TIMEOUT,
    reason::IMAGE_PULL,
    reason::START_FAILED,
    "Unhealthy",
    reason::NODE_LOST,
    reason::PREEMPTED,
    reason::SIGNAL,
];

/// What is wrong with a job.
pub(super) fn validate(job: &Job) -> Vec<Violation> {
    let mut found = metadata::validate(KindId::Job, &job.metadata);
    spec(&job.spec, "spec", &mut found);
    let document = Value::Object(merge::to_map(&job.spec));
    substitute::check_job(&document, substitute::Scope::Job, "spec", &mut found);
    found
}

/// What is wrong with changing `old` into `new`.
pub(super) fn validate_update(new: &Job, old: &Job) -> Vec<Violation> {
    let mut found = Vec::new();
    if old.spec.on_change() != OnChange::Reject {
        return found;
    }
    let hint = "make a job of another name, or set onChange: Rerun first";
    let mut reject = |field: &str| {
        let why = "may not change, as onChange is Reject";
        found.push(Violation::new(format!("spec.{field}"), why).hint(hint));
    };
    if new.spec.template != old.spec.template {
        reject("template");
    }
    if new.spec.target != old.spec.target {
        reject("target");
    }
    found
}

/// What is wrong with a job's spec that stands at `path`.
pub(crate) fn spec(spec: &JobSpec, path: &str, found: &mut Vec<Violation>) {
    template::validate(&spec.template, &format!("{path}.template"), found);
    if let Some(placement) = &spec.placement {
        placement::validate(placement, &format!("{path}.placement"), found);
    }
    which_tasks(spec, path, found);
    if spec.max_per_node == Some(0) {
        let violation = Violation::new(format!("{path}.maxPerNode"), "0 lets nothing run");
        found.push(violation.hint("leave it out for no limit"));
    }
    if let Some(wanted) = &spec.retry {
        retry(wanted, &format!("{path}.retry"), found);
    }
    timeout(spec.timeout, &format!("{path}.timeout"), found);
    timeout(spec.attempt_timeout, &format!("{path}.attemptTimeout"), found);
}

/// What is wrong with a timeout that stands at `path`.
pub(crate) fn timeout(timeout: Option<Duration>, path: &str, found: &mut Vec<Violation>) {
    if timeout.is_some_and(|timeout| timeout.get().is_zero()) {
        let violation = Violation::new(path, "0s lets nothing run");
        found.push(violation.hint("leave it out for no limit"));
    }
}

fn which_tasks(spec: &JobSpec, path: &str, found: &mut Vec<Violation>) {
    let ways = [
        ("count", spec.count.is_some()),
        ("tasks", !spec.tasks.is_empty()),
        ("items", spec.items.is_some()),
        ("target", spec.target.is_some()),
    ];
    let said: Vec<&str> = ways.into_iter().filter(|(_, said)| *said).map(|(way, _)| way).collect();
    if said.len() > 1 {
        let why = format!("only one of {} is allowed", said.join(" and "));
        found.push(Violation::new(path, why).hint("each of them says which tasks there are"));
    }
    if let Some(count) = spec.count.filter(|count| *count > TASKS_MAX) {
        let why = format!("{count} tasks; at most {TASKS_MAX} are allowed");
        found.push(Violation::new(format!("{path}.count"), why));
    }
    listed(spec, &format!("{path}.tasks"), found);
    if let Some(list) = &spec.items {
        items(list, &format!("{path}.items"), found);
    }
    if let Some(wanted) = &spec.target {
        target(wanted, &format!("{path}.target"), found);
    }
}

fn too_many(count: usize, path: &str, found: &mut Vec<Violation>) {
    if count > LISTED_TASKS_MAX {
        let why = format!("{count} entries; at most {LISTED_TASKS_MAX} are allowed");
        found.push(Violation::new(path, why));
    }
}

fn listed(spec: &JobSpec, path: &str, found: &mut Vec<Violation>) {
    too_many(spec.tasks.len(), path, found);
    duplicates(spec.tasks.iter().map(|task| &task.name), path, "name", found);
    for (index, task) in spec.tasks.iter().enumerate().take(LISTED_TASKS_MAX) {
        let at = format!("{path}[{index}]");
        if let Some(problem) = names::problem(&task.name) {
            found.push(Violation::new(format!("{at}.name"), problem));
        }
        own_parts(spec, task, &at, found);
    }
}

/// What is wrong with a listed task's parts once they are laid over the job's, and was not before.
fn own_parts(spec: &JobSpec, task: &ListedTask, at: &str, found: &mut Vec<Violation>) {
    let mut parts = Vec::new();
    if task.template.is_some() {
        let path = format!("{at}.template");
        match merge::template(&spec.template, task.template.as_ref()) {
            Ok(merged) => {
                let mut before = Vec::new();
                template::validate(&spec.template, &path, &mut before);
                template::validate(&merged, &path, &mut parts);
                parts.retain(|violation| !before.contains(violation));
            }
            Err(problems) => parts.extend(problems.into_iter().map(|it| it.under(&path))),
        }
    }
    if task.placement.is_some() {
        let path = format!("{at}.placement");
        match merge::placement(&spec.placement(), task.placement.as_ref()) {
            Ok(merged) => placement::validate(&merged, &path, &mut parts),
            Err(problems) => parts.extend(problems.into_iter().map(|it| it.under(&path))),
        }
    }
    found.append(&mut parts);
}

fn items(items: &[Value], path: &str, found: &mut Vec<Violation>) {
    too_many(items.len(), path, found);
    let plain = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    for (index, item) in items.iter().enumerate() {
        let fine = item.as_object().map_or_else(|| plain(item), |it| it.values().all(plain));
        if !fine {
            let why = "an item is text, a number, or a map of such";
            found.push(Violation::new(format!("{path}[{index}]"), why));
        }
    }
}

fn target(target: &Target, path: &str, found: &mut Vec<Violation>) {
    if let Some(problem) = names::problem(&target.partition_set) {
        found.push(Violation::new(format!("{path}.partitionSet"), problem));
    }
    for (index, partition) in target.partitions.iter().enumerate() {
        if let Some(problem) = names::problem(partition) {
            found.push(Violation::new(format!("{path}.partitions[{index}]"), problem));
        }
    }
    duplicates(&target.partitions, &format!("{path}.partitions"), "", found);
    placement::states(&target.states, path, found);
}

/// What is wrong with a retry that stands at `path`.
pub(crate) fn retry(retry: &Retry, path: &str, found: &mut Vec<Violation>) {
    if retry.max_attempts == Some(0) {
        let violation = Violation::new(format!("{path}.maxAttempts"), "0 lets nothing run");
        found.push(violation.hint("write 1 for no second attempt"));
    }
    if let Some(backoff) = &retry.backoff {
        if backoff.factor == Some(0) {
            let violation = Violation::new(format!("{path}.backoff.factor"), "0 is not allowed");
            found.push(violation.hint("write 1 for equal waits"));
        }
        if let (Some(initial), Some(max)) = (backoff.initial, backoff.max)
            && initial > max
        {
            let why = format!("{initial} is more than max, {max}");
            found.push(Violation::new(format!("{path}.backoff.initial"), why));
        }
    }
    if retry.rules.len() > RULES_MAX {
        let why = format!("{} entries; at most {RULES_MAX} are allowed", retry.rules.len());
        found.push(Violation::new(format!("{path}.rules"), why));
    }
    for (index, rule) in retry.rules.iter().enumerate() {
        retry_rule(rule, &format!("{path}.rules[{index}]"), found);
    }
}

fn retry_rule(rule: &RetryRule, at: &str, found: &mut Vec<Violation>) {
    match (rule.exit_codes.is_empty(), rule.reasons.is_empty()) {
        (true, true) => {
            found.push(Violation::new(at, "one of exitCodes and reasons is required"));
        }
        (false, false) => {
            found.push(Violation::new(at, "only one of exitCodes and reasons is allowed"));
        }
        (true, false) | (false, true) => (),
    }
    for (index, code) in rule.exit_codes.iter().enumerate() {
        let why = match code {
            0 => "0 is success, which nothing has to be done about".to_owned(),
            1..=255 => continue,
            _ => format!("{code} is no exit code: they go from 1 to 255"),
        };
        found.push(Violation::new(format!("{at}.exitCodes[{index}]"), why));
    }
    for (index, reason) in rule.reasons.iter().enumerate() {
        if RETRY_REASONS.contains(&reason.as_str()) {
            continue;
        }
        let why = format!("{reason:?} is no reason that an attempt fails for");
        let hint = match nearest(reason, RETRY_REASONS) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("write one of {}", RETRY_REASONS.join(", ")),
        };
        found.push(Violation::new(format!("{at}.reasons[{index}]"), why).hint(hint));
    }
}
