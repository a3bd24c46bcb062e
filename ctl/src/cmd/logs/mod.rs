//! `hctl logs`: prints the output of tasks.

mod follow;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Kind as _, KindId, Task};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde_json::Value;

use super::attempts::{chosen, has_failed, not_the_newest, run_of};
use super::awaited;
use super::picked;
use super::silent::Nodes;
use crate::args::Logs;
use crate::arguments::Lines;
use crate::connection::{Connection, Query};
use crate::failure::{Code, Failure};
use crate::log::{AttemptLog, GiveUp, LogUpdate, Question};
use crate::log_printer::{Of, Printer};
use crate::target::{self, Target};
use crate::{hints, not_running, silence, terminal};

pub(super) async fn logs(connection: &Connection, args: Logs) -> Result<(), Failure> {
    let target = named(connection, &args).await?;
    let query = tasks_of(connection, &target)?;
    // The object may not exist, or merely have no tasks.
    let found = match args.follow {
        true => awaited::there(connection, &target).await?,
        false => connection.get::<Value>(&target).await?,
    };
    if args.follow {
        let why = why_no_tasks(connection, &target, &found);
        why.iter().for_each(|why| terminal::note(why));
        return follow::follow(connection, &args, (&target, query), why).await;
    }
    let run = args.run.or_else(|| run_of(&target, &found));
    let tasks = wanted(connection, (&target, &found), query, args.failed.then_some(run)).await?;
    let mut printer = Printer::new(args.timestamps, tasks.len() > 1);
    let now = connection.clock.now();
    let with_attempts = tasks.iter().map(|task| (task, chosen(task, &args, run, now)));
    let with_attempts: Vec<_> = with_attempts.collect();
    for (task, attempt) in &with_attempts {
        printer.make_room(&of(task, *attempt.as_ref().unwrap_or(&1)));
    }
    let printed = with_attempts.iter().filter_map(|(task, it)| Some((*task, *it.as_ref().ok()?)));
    // An attempt that did not start is reported with its number.
    let printed: Vec<_> = printed.filter(|(task, it)| task.failed_start(*it).is_none()).collect();
    if let Some(which) = not_the_newest(&printed, &args, now) {
        terminal::note(&which);
    }
    let (mut missing, mut nodes) = (0, Nodes::new(connection));
    for (task, attempt) in with_attempts {
        let attempt = match attempt {
            Ok(attempt) => attempt,
            // Of many tasks, some may not have been retried or started.
            Err(why) if tasks.len() > 1 => {
                terminal::note(&why.message);
                missing += 1;
                continue;
            }
            Err(why) => return Err(why),
        };
        let of = Arc::new(of(task, attempt));
        if let Some(why) = task.failed_start(attempt) {
            printer.did_not_start(&of, &why)?;
            continue;
        }
        let mut log = open(connection, &args, &of, GiveUp::default());
        if args.previous && task.container_before(attempt).is_some() {
            log = log.of_container_before();
        }
        let Some(failure) = read(&mut nodes, (task, log), &of, &mut printer).await? else {
            continue;
        };
        if tasks.len() == 1 {
            printer.flush()?;
            return Err(failure);
        }
        // The other logs are printed all the same.
        printer.failed(&of, &failure)?;
    }
    // If only one log, or the reason of failures, was asked for, an empty log is worth a message.
    let is_whole = args.since.is_none() && args.tail != Some(Lines::Last(0));
    if is_whole && (args.failed || tasks.len() == 1) {
        printer.tell_silent()?;
    }
    printer.finish()?;
    let by_number = args.run.is_some() || args.attempt.is_some() || args.previous;
    if by_number && missing > 0 && missing == tasks.len() {
        let message = format!("{target} has no such log");
        let hint = format!("see what there is with hctl describe {target}");
        return Err(Failure::new(message).code(Code::NotFound).hint(hint));
    }
    Ok(())
}

/// The object whose logs are printed: of a service, one of its tasks.
async fn named(connection: &Connection, args: &Logs) -> Result<Target, Failure> {
    let target = target::only_one(&args.of, Some(KindId::Task))?;
    if target.kind != KindId::Service || args.all || args.failed {
        return Ok(target);
    }
    picked::task_of(connection, &target, "; --all prints all of them").await
}

/// Prints the log of an attempt. Returns why it cannot be read (to its end), if so.
///
/// # Errors
/// Stdout cannot be written.
async fn read(
    nodes: &mut Nodes<'_>,
    (task, log): (&Task, AttemptLog),
    of: &Arc<Of>,
    printer: &mut Printer,
) -> Result<Option<Failure>, Failure> {
    // A request to a silent node would hang until the connection to it is given up.
    if silence::is_lost(task, of.attempt)
        && let Some(why) = nodes.no_log(task, of.attempt).await
    {
        return Ok(Some(why));
    }
    let mut log = heard(Arc::clone(of), log);
    while let Some((of, heard)) = log.next().await {
        let LogUpdate::Failed(error) = heard else {
            printer.heard(&of, heard)?;
            continue;
        };
        return Ok(Some(nodes.explained(task, of.attempt, &error).await));
    }
    Ok(None)
}

/// The tasks whose logs are printed, in order: with `--failed`, those that failed in the selected
/// run. If there are none, the reason is printed.
async fn wanted(
    connection: &Connection,
    (target, found): (&Target, &Value),
    query: Query,
    failed: Option<Option<u32>>,
) -> Result<Vec<Task>, Failure> {
    let (mut tasks, _) = connection.list::<Task>(&query).await?;
    let there_are_some = !tasks.is_empty();
    if let Some(run) = failed {
        tasks.retain(|task| has_failed(task, run));
    }
    in_order(&mut tasks);
    if tasks.is_empty() && there_are_some {
        terminal::note(&format!("No task of {target} has failed."));
    } else if tasks.is_empty() {
        tell_of_no_tasks(connection, target, found);
    }
    Ok(tasks)
}

/// Sorts tasks by creation; those of a run by job, in the order in which the jobs began.
fn in_order(tasks: &mut [Task]) {
    let job = |task: &Task| task.label(api::labels::JOB).unwrap_or_default().to_owned();
    let mut began = BTreeMap::new();
    for task in &*tasks {
        let earliest = began.entry(job(task)).or_insert_with(|| task.created());
        *earliest = task.created().min(*earliest);
    }
    tasks.sort_by_cached_key(|task| {
        let job = job(task);
        (began.get(&job).copied().flatten(), job, task.spec.index)
    });
}

/// Why an object that should have tasks has none.
fn why_no_tasks(connection: &Connection, target: &Target, object: &Value) -> Option<String> {
    let has_tasks = object["status"]["total"].as_u64().unwrap_or_default() > 0;
    let is_without = target.kind != KindId::Task && !has_tasks;
    is_without.then(|| not_running::no_tasks(target, object, connection.clock.now()))
}

/// Prints why there are no tasks, with commands that show more.
fn tell_of_no_tasks(connection: &Connection, target: &Target, object: &Value) {
    let why = not_running::no_tasks(target, object, connection.clock.now());
    terminal::note(&why);
}

fn of(task: &Task, attempt: u32) -> Of {
    Of { task: task.name().to_owned(), uid: task.uid().to_owned(), attempt }
}

/// The query for the tasks.
fn tasks_of(connection: &Connection, target: &Target) -> Result<Query, Failure> {
    if target.kind == KindId::Workflow {
        let failure = Failure::usage("workflows have no logs");
        return Err(failure.hint(format!("its runs have: {}", hints::runs_of(&target.name))));
    }
    let Some((labels, fields)) = target.task_selectors() else {
        return Err(Failure::usage(format!("{} have no logs", target.kind.info().plural))
            .hint("print the logs of tasks, services, jobs or runs: hctl logs TASK, service/S, job/JOB or run/RUN"));
    };
    Ok(connection.query(KindId::Task, labels, fields))
}

/// The log of an attempt. Nothing is requested yet.
fn open(connection: &Connection, args: &Logs, of: &Of, give_up: GiveUp) -> AttemptLog {
    let path = connection.log_path(&of.task, &format!("attempt={}&uid={}&", of.attempt, of.uid));
    let mut selection = String::new();
    if let Some(Lines::Last(tail)) = args.tail {
        selection.push_str(&format!("&tailLines={tail}"));
    }
    if let Some(since) = args.since {
        selection.push_str(&format!("&sinceSeconds={}", since.get().as_secs()));
    }
    let question = Question { path, selection, follow: args.follow };
    AttemptLog::new(connection.client(), question, give_up)
}

type Hearing = BoxStream<'static, (Arc<Of>, LogUpdate)>;

/// The updates of a log up to its end, each with the attempt.
fn heard(of: Arc<Of>, log: AttemptLog) -> Hearing {
    let heard = stream::unfold(Some(log), |log| async move {
        let mut log = log?;
        let heard = log.next().await;
        let is_last = |heard: &LogUpdate| matches!(heard, LogUpdate::End | LogUpdate::Failed(_));
        let has_ended = heard.iter().flatten().any(is_last);
        Some((heard, (!has_ended).then_some(log)))
    });
    heard
        .flat_map(|heard| stream::iter(heard.into_iter().flatten()))
        .map(move |heard| (Arc::clone(&of), heard))
        .boxed()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_tasks_of_a_run_are_in_the_order_of_its_jobs() {
        let task = |job: &str, index: u32, second: u32| -> Task {
            serde_json::from_value(json!({
                "apiVersion": "heliox.dev/v1", "kind": "Task",
                "metadata": {
                    "name": format!("{job}-{index}"), "namespace": "default",
                    "creationTimestamp": format!("2026-01-02T12:00:{second:02}Z"),
                    "labels": { api::labels::JOB: job },
                },
                "spec": { "index": index, "template": "t" },
            }))
            .unwrap()
        };
        // The second task of `load` was created last, because only one may run at a time.
        let mut tasks =
            vec![task("clean", 0, 8), task("load", 0, 1), task("load", 1, 9), task("pack", 0, 1)];
        in_order(&mut tasks);
        let names: Vec<&str> = tasks.iter().map(|task| task.name()).collect();
        assert_eq!(names, ["load-0", "load-1", "pack-0", "clean-0"]);
    }
}
