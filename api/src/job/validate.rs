//! Rules of a job.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Job, JobSpec, JobStatus, LISTED_TASKS_MAX, ListedTask, OnChange, Retry, RetryRule, TASKS_MAX,
    Target, cancel, change, indexes,
};
use crate::duration::Duration;
use crate::kind::KindId;
use crate::object::number_problem;
use crate::schema::VIOLATIONS_MAX;
use crate::size::EXPANDED_BYTES_MAX;
use crate::task::reason;
use crate::violation::{Violation, duplicates, nearest};
use crate::{merge, metadata, names, path, placement, size, substitute, template};

/// Most rules of a retry.
const RULES_MAX: usize = 100;
/// The smallest number, 2^63, from which whole numbers may not fit into 64 bits. Those that do not are
/// parsed as floats, and rounded.
const WHOLE_MAX: f64 = 9_223_372_036_854_775_808.0;

/// What is wrong with a job.
pub(super) fn validate(job: &Job) -> Vec<Violation> {
    let mut found = metadata::validate(KindId::Job, &job.metadata);
    spec(&job.spec, "spec", &mut found);
    found.extend(cancel::reason(&job.spec));
    found.extend(number_problem("spec.reruns", job.spec.reruns));
    found.extend(too_late_to_retry(job.spec.timeout, job.spec.retry.as_ref(), "spec"));
    let document = Value::Object(merge::to_map(&job.spec));
    substitute::check_job(&document, substitute::Scope::Job, "spec", &mut found);
    found
}

/// What is wrong with changing `old` into `new`.
pub(super) fn validate_update(new: &Job, old: &Job) -> Vec<Violation> {
    let mut found = Vec::new();
    found.extend(no_index_left(new, old));
    found.extend(cancel::too_late(new, old));
    if new.status.run != old.status.run {
        found.extend(number_problem("status.run", new.status.run));
    }
    found.extend(change::refused(new, old));
    if new.spec.reruns > old.spec.reruns && new.spec.on_change() != OnChange::Rerun {
        let why = format!("the job does not run again: its onChange is {:?}", new.spec.on_change());
        found.push(Violation::new("spec.reruns", why).hint("set onChange: Rerun first"));
    }
    found
}

/// The violation of a list whose additions the run cannot store. The index of each removed task or
/// item stays taken for the run, so a job whose list changes again and again would outgrow the
/// largest object.
fn no_index_left(new: &Job, old: &Job) -> Option<Violation> {
    if (&new.spec.tasks, &new.spec.items) == (&old.spec.tasks, &old.spec.items) {
        return None;
    }
    let before =
        if change::run_begins_anew(new, old) { &JobStatus::default() } else { &old.status };
    let mut next = new.clone();
    (next.status.indexes, next.status.parts) = indexes::next(&new.spec, before)?;
    let of = "with its run's list of removed tasks, the job takes";
    let violation = size::problem(size::json_bytes(&next) + size::ADDED_BYTES, "spec", of)?;
    Some(
        violation
            .hint("create a job with another name, or change its template, which begins a new run"),
    )
}

/// The violations of a job's spec. Paths begin with `path`.
pub(crate) fn spec(spec: &JobSpec, path: &str, found: &mut Vec<Violation>) {
    template::validate(&spec.template, &format!("{path}.template"), found);
    if let Some(placement) = &spec.placement {
        placement::validate(placement, &format!("{path}.placement"), found);
    }
    which_tasks(spec, path, found);
    if spec.max_per_node == Some(0) {
        let violation = Violation::new(format!("{path}.maxPerNode"), "0 would let nothing run");
        found.push(violation.hint("leave it out for no limit"));
    }
    if let Some(wanted) = &spec.retry {
        retry(wanted, &format!("{path}.retry"), found);
    }
    timeout(spec.timeout, &format!("{path}.timeout"), found);
    timeout(spec.attempt_timeout, &format!("{path}.attemptTimeout"), found);
    if let (Some(attempt), Some(whole)) = (spec.attempt_timeout, spec.timeout)
        && attempt > whole
    {
        let why = format!("{attempt} is never reached: the job's timeout is {whole}");
        found.push(Violation::new(format!("{path}.attemptTimeout"), why));
    }
}

/// The violation of a timeout that is over before the retry policy could start a second attempt.
pub(crate) fn too_late_to_retry(
    timeout: Option<Duration>,
    retry: Option<&Retry>,
    path: &str,
) -> Option<Violation> {
    let (timeout, retry) = (timeout?, retry?);
    let initial = retry.backoff?.initial?;
    (retry.max_attempts != Some(1) && initial >= timeout).then(|| {
        let why = format!("no second attempt would begin: the job's timeout is {timeout}");
        Violation::new(format!("{path}.retry.backoff.initial"), why)
    })
}

/// The violation of a timeout.
pub(crate) fn timeout(timeout: Option<Duration>, path: &str, found: &mut Vec<Violation>) {
    if timeout.is_some_and(|timeout| timeout.get().is_zero()) {
        let violation = Violation::new(path, "0s would let nothing run");
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
        found.push(Violation::new(path, why).hint("each of them determines which tasks there are"));
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
    if spec.tasks.is_empty() {
        return;
    }
    let bytes = parts_bytes(spec);
    if bytes > EXPANDED_BYTES_MAX {
        let why = format!(
            "merged with the job's template they take {bytes} bytes; at most {EXPANDED_BYTES_MAX} are \
             allowed"
        );
        found.push(Violation::new(path, why).hint("make the template smaller or list fewer tasks"));
        return;
    }
    let mut before = Vec::new();
    template::validate(&spec.template, "", &mut before);
    for (index, task) in spec.tasks.iter().enumerate().take(LISTED_TASKS_MAX) {
        // Beyond the limit nothing is reported.
        if found.len() >= VIOLATIONS_MAX {
            return;
        }
        let at = format!("{path}[{index}]");
        if let Some(problem) = names::problem(&task.name) {
            found.push(Violation::new(format!("{at}.name"), problem));
        }
        own_parts(spec, task, &before, &at, found);
    }
}

/// Approximate size of the merged templates and placements of all listed tasks, each of which is
/// built to be checked.
pub(crate) fn parts_bytes(spec: &JobSpec) -> usize {
    let templates = spec.tasks.iter().filter(|task| task.template.is_some()).count();
    let placements = spec.tasks.iter().filter(|task| task.placement.is_some()).count();
    if templates + placements == 0 {
        return 0;
    }
    let (template, placement) =
        (size::json_bytes(&spec.template), size::json_bytes(&spec.placement));
    (templates * template).saturating_add(placements * placement)
}

/// The violations of a listed task's template and placement after they were merged over the job's,
/// without those that the job's own already have: `before` holds those, with paths relative to the
/// template.
fn own_parts(
    spec: &JobSpec,
    task: &ListedTask,
    before: &[Violation],
    at: &str,
    found: &mut Vec<Violation>,
) {
    let mut parts = Vec::new();
    if let Some(part) = &task.template {
        let at = format!("{at}.template");
        match merge::template(&spec.template, Some(part)) {
            Ok(merged) => {
                template::validate(&merged, "", &mut parts);
                parts.retain(|violation| !before.contains(violation));
                let (merged, under) = (merge::to_map(&merged), merge::to_map(&spec.template));
                let (merged, under) = (Value::Object(merged), Value::Object(under));
                let over = Value::Object(part.clone());
                for violation in &mut parts {
                    // Merging over the job's list may have moved an entry to another index.
                    let way = path::steps(violation.path.trim_start_matches('.'));
                    let (_, way) = merge::origin(&way, &merged, (&under, &over));
                    violation.path = format!("{at}.{}", path::text(&way));
                }
                let mut twice = Vec::new();
                merge::repeated(part, &at, &mut twice);
                twice.retain(|violation| !parts.contains(violation));
                parts.append(&mut twice);
            }
            Err(problems) => parts.extend(problems.into_iter().map(|it| it.under(&at))),
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
            let why = "an item must be text, a number, true or false, or a map of these";
            found.push(Violation::new(format!("{path}[{index}]"), why));
        }
        let at = format!("{path}[{index}]");
        match item.as_object() {
            None => inexact(item, &at, found),
            Some(map) => {
                map.iter().for_each(|(key, it)| inexact(it, &format!("{at}.{key}"), found))
            }
        }
    }
}

/// Refuses whole numbers that do not fit into 64 bits: they were rounded when they were parsed, so
/// tasks would get another number than the manifest contains.
fn inexact(value: &Value, path: &str, found: &mut Vec<Violation>) {
    let rounded = value.as_f64().filter(|_| value.is_f64());
    if rounded.is_some_and(|number| number.fract() == 0.0 && number.abs() >= WHOLE_MAX) {
        let violation = Violation::new(path, "the number is too large to be kept exactly");
        found.push(violation.hint("write it in quotes, as text"));
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

/// The violations of a retry policy.
pub(crate) fn retry(retry: &Retry, path: &str, found: &mut Vec<Violation>) {
    if retry.max_attempts == Some(0) {
        let violation = Violation::new(format!("{path}.maxAttempts"), "0 would let nothing run");
        found.push(violation.hint("write 1 for no second attempt"));
    }
    if let Some(backoff) = &retry.backoff {
        let ends = (backoff.initial, backoff.max);
        crate::backoff::validate(ends, backoff.factor, &format!("{path}.backoff"), found);
    }
    if retry.rules.len() > RULES_MAX {
        let why = format!("{} entries; at most {RULES_MAX} are allowed", retry.rules.len());
        found.push(Violation::new(format!("{path}.rules"), why));
    }
    let mut codes: BTreeMap<i32, usize> = BTreeMap::new();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, rule) in retry.rules.iter().enumerate().take(RULES_MAX) {
        let at = format!("{path}.rules[{index}]");
        retry_rule(rule, &at, found);
        let code = rule.exit_codes.iter().map(|code| codes.get(code).copied());
        let reason = rule.reasons.iter().map(|reason| reasons.get(reason.as_str()).copied());
        let earlier: Option<BTreeSet<usize>> = code.chain(reason).collect();
        if let Some(first) = earlier.and_then(|earlier| earlier.first().copied()) {
            let why =
                format!("never applies: rules[{first}] already matches everything that it names");
            found.push(Violation::new(at, why));
        }
        for code in &rule.exit_codes {
            codes.entry(*code).or_insert(index);
        }
        for reason in &rule.reasons {
            reasons.entry(reason).or_insert(index);
        }
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
            0 => "0 is success and needs no rule".to_owned(),
            1..=255 => continue,
            _ => format!("{code} is not an exit code: they are 1 to 255"),
        };
        found.push(Violation::new(format!("{at}.exitCodes[{index}]"), why));
    }
    for (index, named) in rule.reasons.iter().enumerate() {
        if reason::ALL.contains(&named.as_str()) {
            continue;
        }
        let why = format!("{named:?} is not a reason for a failed attempt");
        let hint = match nearest(named, reason::ALL.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("write one of {}", reason::ALL.join(", ")),
        };
        found.push(Violation::new(format!("{at}.reasons[{index}]"), why).hint(hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::RetryAction;

    #[test]
    fn every_reason_that_an_attempt_ends_with_may_be_named_and_is_documented() {
        let schema = serde_json::to_string(&schemars::schema_for!(RetryRule)).unwrap();
        for reason in reason::ALL {
            let rule = RetryRule {
                exit_codes: Vec::new(),
                reasons: vec![(*reason).to_owned()],
                action: RetryAction::Retry,
            };
            let mut found = Vec::new();
            retry_rule(&rule, "rules[0]", &mut found);
            assert_eq!(found, [], "{reason}");
            assert!(schema.contains(reason), "{reason} is missing in the doc of `reasons`");
        }
    }
}
