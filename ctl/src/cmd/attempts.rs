//! Which attempts of tasks `hctl logs` prints. Pure.

use api::table::some_of;
use api::task::TaskPhase;
use api::{Kind as _, KindId, Task, Timestamp};
use serde_json::Value;

use crate::args::Logs;
use crate::failure::{Code, Failure};
use crate::not_running;
use crate::target::Target;

/// Most attempts that a message names.
const NAMED_MAX: usize = 5;

/// The attempt whose log is printed: the newest that has a node, or with `--previous` the one that
/// the container before had, as in kubectl.
pub(super) fn chosen(
    task: &Task,
    args: &Logs,
    run: Option<u32>,
    now: Timestamp,
) -> Result<u32, Failure> {
    let run = run.unwrap_or(task.spec.run);
    let missing = |why: String| Failure::new(why).code(Code::NotFound);
    let newest = args.attempt.or_else(|| task.newest_attempt_of_run(run));
    let Some(attempt) = newest else {
        let name = task.name();
        // An attempt of an earlier run must not be mistaken for one of this run.
        let past = task.status.attempts.iter().map(|past| past.run);
        let before = past.chain([task.spec.run]).filter(|before| (1..run).contains(before)).max();
        let is_current = args.run.is_none();
        return Err(match before {
            Some(before) if is_current => {
                missing(format!("{name} has not started in run {run} yet"))
                    .hint(format!("see the run before with --run {before}"))
            }
            _ if is_current => missing(not_running::not_started(task, now))
                .hint(format!("see why with hctl describe task/{name}")),
            _ => missing(format!("{name} has no attempt of run {run}"))
                .hint(format!("see its attempts with hctl describe task/{name}")),
        });
    };
    // What was restarted in place has an earlier container in the same attempt; the server knows
    // which.
    if !args.previous || task.container_before(attempt).is_some() {
        return Ok(attempt);
    }
    attempt_before(task, attempt).ok_or_else(|| {
        let name = task.name();
        let failure = missing(format!("{name} has no attempt before attempt {attempt}"));
        // While a retry waits, the user may take the failed attempt for the previous one.
        if args.attempt.is_none() && attempt < task.spec.attempt {
            failure.hint(format!("attempt {attempt} is the newest with a log: hctl logs {name}"))
        } else {
            failure
        }
    })
}

/// The message that printed attempts are not the newest ones; nothing if they are, or if the
/// command line selects them.
pub(super) fn not_the_newest(
    printed: &[(&Task, u32)],
    args: &Logs,
    now: Timestamp,
) -> Option<String> {
    let older = printed.iter().filter(|(task, attempt)| *attempt < task.spec.attempt);
    let older: Vec<&(&Task, u32)> = older.filter(|_| args.attempt.is_none()).collect();
    let words = |(task, attempt): &(&Task, u32)| format!("{} attempt {attempt}", task.name());
    match older.as_slice() {
        [] => None,
        [one] if printed.len() == 1 => {
            let (task, newest) = (one.0, one.0.spec.attempt);
            let state = not_running::state(task, now);
            let state = state.map(|state| format!(", which {state}")).unwrap_or_default();
            Some(format!("-- {}; the newest is attempt {newest}{state}", words(one)))
        }
        // The name before each line shows it.
        _ if args.previous || args.run.is_some() => None,
        several => {
            let some = some_of(several.iter().map(|it| words(it)), NAMED_MAX);
            Some(format!("-- the next attempts of these have not started: {some}"))
        }
    }
}

/// The current run of the object if that is a job: some of its tasks may still be in the previous
/// run.
pub(super) fn run_of(target: &Target, object: &Value) -> Option<u32> {
    let is_job = target.kind == KindId::Job;
    let run = object["status"]["run"].as_u64().filter(|_| is_job)?;
    u32::try_from(run).ok().filter(|run| *run > 0)
}

/// Whether a task has failed, in the given run of its job if there is one.
pub(super) fn has_failed(task: &Task, run: Option<u32>) -> bool {
    let phase = match run.filter(|run| *run != task.spec.run) {
        None => Some(task.phase()),
        Some(run) => task.attempts_of_run(run).last().map(|past| past.phase),
    };
    matches!(phase, Some(TaskPhase::Failed | TaskPhase::TimedOut))
}

/// The previous attempt among those that the task keeps.
fn attempt_before(task: &Task, attempt: u32) -> Option<u32> {
    let numbers = task.status.attempts.iter().map(|past| past.attempt);
    numbers.filter(|number| *number < attempt).max()
}

/// Whether the selected run or attempt is over, because another one has begun.
pub(super) fn is_past(args: &Logs, target: &Target, object: &Value) -> bool {
    let is_before = |asked: Option<u32>, now: &Value| {
        asked.is_some_and(|asked| now.as_u64().is_some_and(|now| u64::from(asked) < now))
    };
    if target.kind == KindId::Task {
        let spec = &object["spec"];
        return is_before(args.run, &spec["run"]) || is_before(args.attempt, &spec["attempt"]);
    }
    is_before(args.run, &object["status"]["run"])
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn task(status: &Value) -> Task {
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": "a-0" },
            "spec": { "template": "a", "run": 2, "attempt": 3, "index": 0, "count": 1 },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn the_log_of_a_task_is_that_of_its_run() {
        let past = |attempt: u32, run: u32| {
            serde_json::json!({ "attempt": attempt, "run": run, "phase": "Failed", "nodeName": "n",
                                "startedAt": "2026-01-01T00:00:00Z" })
        };
        let chosen = |attempts: Value, line: &str| {
            let args = Args::try_parse_from(line.split(' ')).unwrap();
            let Command::Logs(logs) = args.command else { panic!("{line}") };
            chosen(
                &task(&serde_json::json!({ "attempts": attempts })),
                &logs,
                logs.run,
                Timestamp::UNIX_EPOCH,
            )
            .map_err(|it| format!("{}; {}", it.message, it.hint.unwrap_or_default()))
        };
        let two_runs = || serde_json::json!([past(1, 1), past(2, 2)]);
        assert_eq!(chosen(two_runs(), "hctl logs job/a"), Ok(2));
        assert_eq!(chosen(two_runs(), "hctl logs job/a --run 1"), Ok(1));
        assert_eq!(
            chosen(two_runs(), "hctl logs job/a --previous"),
            Ok(1),
            "attempt 3 waits for its retry: without the flag it is attempt 2"
        );
        assert_eq!(chosen(two_runs(), "hctl logs job/a --attempt 2 --previous"), Ok(1));
        assert!(chosen(two_runs(), "hctl logs job/a --run 1 --previous").is_err());
        assert_eq!(
            chosen(serde_json::json!([past(2, 2)]), "hctl logs a-0 -p"),
            Err("a-0 has no attempt before attempt 2; attempt 2 is the newest with a log: hctl logs \
                 a-0"
                .to_owned())
        );
        let before = serde_json::json!([past(1, 1)]);
        assert_eq!(
            chosen(before, "hctl logs job/a"),
            Err("a-0 has not started in run 2 yet; see the run before with --run 1".to_owned())
        );
        assert_eq!(
            chosen(two_runs(), "hctl logs job/a --run 7"),
            Err("a-0 has no attempt of run 7; see its attempts with hctl describe task/a-0"
                .to_owned())
        );
        assert_eq!(
            chosen(serde_json::json!([]), "hctl logs a-0"),
            Err("a-0 has not started yet; see why with hctl describe task/a-0".to_owned())
        );
        let older = serde_json::json!([past(1, 0)]);
        assert_eq!(chosen(older, "hctl logs a-0"), Ok(1), "an older version did not say the run");
    }

    #[test]
    fn the_container_before_is_of_the_same_attempt_after_a_restart_in_place() {
        let args = Args::try_parse_from("hctl logs a-0 -p".split(' ')).unwrap();
        let Command::Logs(logs) = args.command else { panic!("it is logs") };
        let before = serde_json::json!([{ "attempt": 2, "run": 2, "phase": "Failed" }]);
        let status = |restarts: u32| {
            serde_json::json!({ "attempt": 3, "binding": 1, "state": "Running",
                                "restarts": restarts, "attempts": before })
        };
        let chosen = |restarts| {
            let mut task = task(&status(restarts));
            task.spec.binding = serde_json::from_value(serde_json::json!({
                "node": "n", "attempt": 3, "number": 1, "at": "2026-01-01T00:00:00Z",
            }))
            .unwrap();
            chosen(&task, &logs, None, Timestamp::UNIX_EPOCH).ok()
        };
        assert_eq!((chosen(0), chosen(1)), (Some(2), Some(3)));
    }

    #[test]
    fn an_attempt_that_is_not_the_newest_is_named() {
        let told = |line: &str, printed: &[u32]| {
            let args = Args::try_parse_from(line.split(' ')).unwrap();
            let Command::Logs(logs) = args.command else { panic!("{line}") };
            let task = task(&serde_json::json!({}));
            let printed: Vec<_> = printed.iter().map(|attempt| (&task, *attempt)).collect();
            not_the_newest(&printed, &logs, Timestamp::UNIX_EPOCH)
        };
        let said = |text: &str| Some(text.to_owned());
        let one = said("-- a-0 attempt 2; the newest is attempt 3, which is Pending");
        assert_eq!(told("hctl logs a-0", &[2]), one);
        assert_eq!(told("hctl logs a-0", &[3]), None);
        assert_eq!(told("hctl logs a-0 --attempt 2", &[2]), None, "it is named already");
        let some = said("-- the next attempts of these have not started: a-0 attempt 2");
        assert_eq!(told("hctl logs job/a", &[2, 3]), some);
        assert_eq!(told("hctl logs job/a -p", &[1, 2]), None);
    }

    #[test]
    fn a_task_that_is_not_yet_in_its_jobs_run_has_no_log_of_it() {
        let args = Args::try_parse_from("hctl logs job/a".split(' ')).unwrap();
        let Command::Logs(logs) = args.command else { panic!("it is logs") };
        let job = serde_json::json!({ "status": { "run": 3 } });
        let run = run_of(&Target::new(KindId::Job, "a"), &job);
        let before = task(&serde_json::json!({ "attempts": [] }));
        assert_eq!(
            chosen(&before, &logs, run, Timestamp::UNIX_EPOCH).unwrap_err().message,
            "a-0 has not started in run 3 yet"
        );
        assert_eq!(run_of(&Target::new(KindId::Task, "a-0"), &job), None);
    }

    #[test]
    fn what_is_asked_for_by_number_ends_when_another_has_begun() {
        let past = |line: &str, target: &Target, object: &Value| {
            let args = Args::try_parse_from(line.split(' ')).unwrap();
            let Command::Logs(logs) = args.command else { panic!("{line}") };
            is_past(&logs, target, object)
        };
        let (job, task) = (Target::new(KindId::Job, "a"), Target::new(KindId::Task, "a-0"));
        let of_run = |run: u32| serde_json::json!({ "status": { "run": run } });
        assert!(past("hctl logs -f job/a --run 1", &job, &of_run(2)));
        assert!(!past("hctl logs -f job/a --run 2", &job, &of_run(2)));
        assert!(!past("hctl logs -f job/a", &job, &of_run(2)));
        let in_attempt = serde_json::json!({ "spec": { "attempt": 3, "run": 2 } });
        assert!(past("hctl logs -f a-0 --attempt 2", &task, &in_attempt));
        assert!(!past("hctl logs -f a-0 --attempt 3", &task, &in_attempt));
        assert!(past("hctl logs -f a-0 --run 1", &task, &in_attempt));
    }

    #[test]
    fn what_failed_is_what_failed_in_the_run_that_is_meant() {
        let past = |attempt: u32, run: u32, phase: &str| serde_json::json!({ "attempt": attempt, "run": run, "phase": phase });
        // It had two attempts in run 1 and is in run 2 now.
        let attempts = [past(1, 1, "Failed"), past(2, 1, "TimedOut")];
        let failed = task(&serde_json::json!({ "attempts": attempts }));
        let failed_in = |run: Option<u32>| has_failed(&failed, run);
        assert_eq!([failed_in(Some(1)), failed_in(Some(2)), failed_in(None)], [true, false, false]);
        let attempts = [past(1, 1, "Failed"), past(2, 1, "Succeeded")];
        let retried = task(&serde_json::json!({ "attempts": attempts }));
        assert!(!has_failed(&retried, Some(1)), "the second attempt succeeded");
        assert!(!has_failed(&retried, Some(3)), "it is not in its job's run yet");
    }
}
