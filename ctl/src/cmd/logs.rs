//! `hctl logs`: what tasks print.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use api::task::TaskPhase;
use api::{Kind as _, KindId, Task};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream, SelectAll};
use serde_json::Value;

use crate::args::Logs;
use crate::connection::{Connection, Query};
use crate::failure::{Code, Failure};
use crate::goal::{self, Goal, Verdict};
use crate::live::{self, News};
use crate::log::{AttemptLog, GiveUp, Heard, Question};
use crate::log_printer::{Of, Printer};
use crate::target::{self, Target};
use crate::terminal;

/// Logs that are followed at once; others follow as these end.
const LOGS_AT_ONCE_MAX: usize = 64;
/// How long after the server is back its agents may take to be there again, before their logs are
/// said to be lost.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn logs(connection: &Connection, args: Logs) -> Result<(), Failure> {
    let target = target::only_one(&args.of, Some(KindId::Task))?;
    let query = tasks_of(connection, &target)?;
    // Not there, or just without tasks?
    connection.get::<Value>(&target).await?;
    if args.follow {
        return follow(connection, &args, &target, query).await;
    }
    let (mut tasks, _) = connection.list::<Task>(&query).await?;
    if args.failed {
        tasks.retain(|task| matches!(task.phase(), TaskPhase::Failed | TaskPhase::TimedOut));
    }
    tasks.sort_by_key(|task| (task.meta().labels.clone(), task.spec.index));
    if tasks.is_empty() {
        terminal::note(&format!(
            "{target} has no tasks now; finished ones are removed after a while (keepTasks)."
        ));
    }
    let mut printer = Printer::new(args.timestamps, tasks.len() > 1);
    for task in &tasks {
        printer.make_room(task.name(), 1);
    }
    for task in &tasks {
        let attempt = match chosen(task, &args) {
            Ok(attempt) => attempt,
            // Of many tasks only some were tried more than once, or have started.
            Err(why) if tasks.len() > 1 => {
                terminal::note(&why.message);
                continue;
            }
            Err(why) => return Err(why),
        };
        let of = Arc::new(Of { task: task.name().to_owned(), attempt });
        if let Some(why) = task.failed_start(attempt) {
            printer.did_not_start(&of, &why)?;
            continue;
        }
        let mut log = heard(of, open(connection, &args, task.name(), attempt, GiveUp::default()));
        while let Some((of, heard)) = log.next().await {
            let Heard::Failed(error) = heard else {
                printer.heard(&of, heard)?;
                continue;
            };
            let failure = connection.failure(&error);
            // The others' logs are wanted all the same.
            if tasks.len() > 1 {
                printer.failed(&of, &failure)?;
            } else {
                printer.flush()?;
                return Err(failure);
            }
        }
    }
    printer.finish()
}

/// The attempt of a task whose log is meant.
fn chosen(task: &Task, args: &Logs) -> Result<u32, Failure> {
    let run = args.run.unwrap_or(task.spec.run);
    let missing = |why: String| Failure::new(why).code(Code::NotFound);
    let newest = args.attempt.or_else(|| task.newest_attempt_of_run(run));
    let Some(attempt) = newest else {
        let name = task.name();
        // What an earlier run printed would be taken for what this one did.
        let before =
            task.status.attempts.last().map(|past| past.run).filter(|before| *before < run);
        return Err(match before {
            Some(before) if run == task.spec.run => {
                missing(format!("{name} has not started in run {run} yet"))
                    .hint(format!("see the run before with --run {before}"))
            }
            _ if run == task.spec.run => missing(format!("{name} has not started yet"))
                .hint(format!("see why with hctl describe task/{name}")),
            _ => missing(format!("{name} has no attempt of run {run}"))
                .hint(format!("see its attempts with hctl describe task/{name}")),
        });
    };
    if !args.previous {
        return Ok(attempt);
    }
    attempt_before(task, attempt)
        .ok_or_else(|| missing(format!("{} has no attempt before attempt {attempt}", task.name())))
}

/// The attempt before this one, of those that are remembered.
fn attempt_before(task: &Task, attempt: u32) -> Option<u32> {
    let numbers = task.status.attempts.iter().map(|past| past.attempt);
    numbers.filter(|number| *number < attempt).max()
}

/// The tasks whose logs are meant.
fn tasks_of(connection: &Connection, target: &Target) -> Result<Query, Failure> {
    let name = &target.name;
    let (labels, fields) = match target.kind {
        KindId::Task => (String::new(), format!("metadata.name={name}")),
        KindId::Job => (format!("{}={name}", api::labels::JOB), String::new()),
        KindId::WorkflowRun => (format!("{}={name}", api::labels::RUN), String::new()),
        KindId::Namespace
        | KindId::ConfigMap
        | KindId::Secret
        | KindId::Event
        | KindId::Lease
        | KindId::Node
        | KindId::NodeLease
        | KindId::PartitionSet
        | KindId::Workflow
        | KindId::CompletionChunk
        | KindId::TaskTemplate => {
            return Err(Failure::usage(format!("{target} has no log"))
                .hint("write TASK, task/T, job/J or run/R"));
        }
    };
    Ok(connection.query(KindId::Task, labels, fields))
}

/// The log of an attempt, which is not asked for yet.
fn open(
    connection: &Connection,
    args: &Logs,
    task: &str,
    attempt: u32,
    give_up: GiveUp,
) -> AttemptLog {
    let path = connection.log_path(task, &format!("attempt={attempt}&"));
    let mut selection = String::new();
    if let Some(tail) = args.tail {
        selection.push_str(&format!("&tailLines={tail}"));
    }
    if let Some(since) = args.since {
        selection.push_str(&format!("&sinceSeconds={}", since.get().as_secs()));
    }
    let question = Question { path, selection, follow: args.follow };
    AttemptLog::new(connection.client(), question, give_up)
}

type Hearing = BoxStream<'static, (Arc<Of>, Heard)>;

/// What a log says, with whose it is, up to its end.
fn heard(of: Arc<Of>, log: AttemptLog) -> Hearing {
    let heard = stream::unfold(Some(log), |log| async move {
        let mut log = log?;
        let heard = log.next().await;
        let is_last = |heard: &Heard| matches!(heard, Heard::End | Heard::Failed(_));
        let has_ended = heard.iter().flatten().any(is_last);
        Some((heard, (!has_ended).then_some(log)))
    });
    heard
        .flat_map(|heard| stream::iter(heard.into_iter().flatten()))
        .map(move |heard| (Arc::clone(&of), heard))
        .boxed()
}

/// Follows the logs of all attempts of all tasks, until what they belong to has ended.
async fn follow(
    connection: &Connection,
    args: &Logs,
    target: &Target,
    tasks: Query,
) -> Result<(), Failure> {
    let fields = format!("metadata.name={}", target.name);
    let owner = connection.query(target.kind, String::new(), fields);
    let mut owner = live::news(connection, owner);
    let mut news = live::news(connection, tasks.clone());
    let mut printer = Printer::new(args.timestamps, target.kind != KindId::Task);
    let mut logs = Logging::new(connection, args);
    let mut has_ended = false;
    while !has_ended || !logs.are_done() {
        tokio::select! {
            biased;
            Some(said) = owner.next(), if !has_ended => {
                has_ended = match said? {
                    News::Gone(_) => true,
                    News::There(object) => ends(target.kind, &object),
                };
                if has_ended {
                    logs.give_up.soon();
                    // Of the last tasks, too, whose news may still be on their way.
                    for task in connection.list::<Task>(&tasks).await?.0 {
                        logs.consider(&task, &mut printer)?;
                    }
                    // Nobody listens any more: that one of them is broken is not to hide what logs say.
                    (owner, news) = (stream::empty().boxed(), stream::empty().boxed());
                }
            }
            Some(said) = news.next(), if !has_ended => {
                if let News::There(object) = said?
                    && let Ok(task) = serde_json::from_value::<Task>(object)
                {
                    logs.consider(&task, &mut printer)?;
                }
            }
            () = connection.has_been_back_for(PATIENCE), if !logs.untold.is_empty() => {
                logs.tell_untold(&mut printer)?;
            }
            Some((of, heard)) = logs.open.next() => logs.hear(&of, heard, &mut printer)?,
            // Nothing else is there right now: what was heard is shown before waiting.
            () = std::future::ready(()), if printer.holds_any() => printer.flush()?,
            else => (),
        }
        logs.open_next();
    }
    printer.finish()
}

/// Whether nothing more will be printed: a task that may be tried again has not ended.
fn ends(kind: KindId, object: &Value) -> bool {
    matches!(goal::verdict(kind, Goal::Done, object), Verdict::Met)
}

/// Logs that are being followed.
struct Logging<'a> {
    connection: &'a Connection,
    args: &'a Logs,
    give_up: GiveUp,
    /// Attempts whose logs are or were open, or wait to be.
    seen: BTreeSet<(String, u32)>,
    queue: VecDeque<(String, u32)>,
    /// The attempt of each task whose log comes before those of later attempts: the newest that is open
    /// and not broken.
    current: BTreeMap<String, u32>,
    open: SelectAll<Hearing>,
    /// Logs of which it was told that they broke, and not yet that they are back.
    broken: BTreeSet<Of>,
    /// Logs that broke while the server was away, which was not told, and why.
    untold: BTreeMap<Of, String>,
}

impl<'a> Logging<'a> {
    fn new(connection: &'a Connection, args: &'a Logs) -> Self {
        Self {
            connection,
            args,
            give_up: GiveUp::default(),
            seen: BTreeSet::new(),
            queue: VecDeque::new(),
            current: BTreeMap::new(),
            open: SelectAll::new(),
            broken: BTreeSet::new(),
            untold: BTreeMap::new(),
        }
    }

    fn are_done(&self) -> bool {
        self.open.is_empty() && self.queue.is_empty()
    }

    /// Takes in what is known of a task: attempts that have started have logs, and why one could not
    /// start is told instead of its log.
    fn consider(&mut self, task: &Task, printer: &mut Printer) -> Result<(), Failure> {
        // Nobody hears how the log of a lost attempt ends: the next one's is not to wait for that.
        let lost = task.status.attempts.iter().filter(|past| past.phase == TaskPhase::Lost);
        for past in lost {
            if self.current.get(task.name()) == Some(&past.attempt) {
                self.current.remove(task.name());
            }
        }
        let run = self.args.run.unwrap_or(task.spec.run);
        let earlier = task.attempts_of_run(run);
        let mut attempts: Vec<(u32, bool)> =
            earlier.map(|past| (past.attempt, past.started_at.is_some())).collect();
        if task.report().is_some() && task.spec.run == run {
            attempts.push((task.spec.attempt, task.status.started_at.is_some()));
        }
        for (attempt, has_started) in attempts {
            let why = task.failed_start(attempt);
            let wanted = self.args.attempt.is_none_or(|wanted| wanted == attempt);
            let is_news = wanted && (has_started || why.is_some());
            if !is_news || !self.seen.insert((task.name().to_owned(), attempt)) {
                continue;
            }
            if let Some(why) = why {
                printer.did_not_start(&Of { task: task.name().to_owned(), attempt }, &why)?;
            } else {
                printer.make_room(task.name(), attempt);
                self.queue.push_back((task.name().to_owned(), attempt));
            }
        }
        Ok(())
    }

    /// Opens the logs that wait, as many as may be open at once.
    fn open_next(&mut self) {
        while self.open.len() < LOGS_AT_ONCE_MAX {
            let is_due = |(task, _): &(String, u32)| !self.current.contains_key(task);
            let Some(next) = self.queue.iter().position(is_due) else { return };
            let Some((task, attempt)) = self.queue.remove(next) else { return };
            self.current.insert(task.clone(), attempt);
            let log = open(self.connection, self.args, &task, attempt, self.give_up.clone());
            self.open.push(heard(Arc::new(Of { task, attempt }), log));
        }
    }

    fn hear(&mut self, of: &Of, heard: Heard, printer: &mut Printer) -> Result<(), Failure> {
        let holds_others_up = matches!(&heard, Heard::Line(_) | Heard::Gap(_) | Heard::Back);
        if !holds_others_up && self.current.get(&of.task) == Some(&of.attempt) {
            self.current.remove(&of.task);
        }
        let is_news = match &heard {
            // Where the whole server is away, that is told by the watches. Of each log it is told
            // where it is still broken after that.
            Heard::Broken(why) if self.connection.is_lost() => {
                self.untold.insert(of.clone(), why.clone());
                false
            }
            Heard::Broken(_) => self.broken.insert(of.clone()),
            Heard::Back => {
                self.untold.remove(of);
                self.broken.remove(of)
            }
            Heard::End | Heard::Failed(_) => {
                self.untold.remove(of);
                true
            }
            Heard::Line(_) | Heard::Gap(_) => true,
        };
        if !is_news {
            return Ok(());
        }
        let Heard::Failed(error) = heard else { return printer.heard(of, heard) };
        let failure = self.connection.failure(&error);
        if failure.code == Code::Forbidden {
            return Err(failure);
        }
        printer.failed(of, &failure)
    }

    /// The server is back, and these logs are not.
    fn tell_untold(&mut self, printer: &mut Printer) -> Result<(), Failure> {
        for (of, why) in std::mem::take(&mut self.untold) {
            self.hear(&of, Heard::Broken(why), printer)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command, Format};

    fn followed() -> Logs {
        let args = Args::try_parse_from(["hctl", "logs", "-f", "job/j"]).unwrap();
        let Command::Logs(logs) = args.command else { panic!("{:?}", args.command) };
        logs
    }

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
            chosen(&task(&serde_json::json!({ "attempts": attempts })), &logs)
                .map_err(|it| format!("{}; {}", it.message, it.hint.unwrap_or_default()))
        };
        let two_runs = || serde_json::json!([past(1, 1), past(2, 2)]);
        assert_eq!(chosen(two_runs(), "hctl logs job/a"), Ok(2));
        assert_eq!(chosen(two_runs(), "hctl logs job/a --run 1"), Ok(1));
        assert_eq!(chosen(two_runs(), "hctl logs job/a --previous"), Ok(1));
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

    /// Each attempt's log ends before the next one's begins, unless nobody hears how it ends.
    #[tokio::test]
    async fn attempts_follow_one_another() {
        let args = followed();
        let connection = Connection::new("http://127.0.0.1:1", "default", Format::Table).unwrap();
        let (mut logs, mut printer) = (Logging::new(&connection, &args), Printer::new(false, true));
        let past = |attempt: u32, phase: &str| {
            serde_json::json!({ "attempt": attempt, "run": 2, "phase": phase, "nodeName": "n",
                                "startedAt": "2026-01-01T00:00:00Z" })
        };
        let attempts = serde_json::json!({ "attempts": [past(1, "Failed"), past(2, "Failed")] });
        logs.consider(&task(&attempts), &mut printer).unwrap();
        logs.open_next();
        assert_eq!((logs.open.len(), logs.queue.len()), (1, 1));
        let of = |attempt| Of { task: "a-0".to_owned(), attempt };
        logs.hear(&of(1), Heard::End, &mut printer).unwrap();
        logs.open_next();
        assert_eq!(logs.queue.len(), 0, "the second is open");
        let more = [past(1, "Failed"), past(2, "Failed"), past(3, "Failed")];
        logs.consider(&task(&serde_json::json!({ "attempts": more })), &mut printer).unwrap();
        logs.open_next();
        assert_eq!(logs.queue.len(), 1);
        let more = [past(1, "Failed"), past(2, "Lost"), past(3, "Failed")];
        logs.consider(&task(&serde_json::json!({ "attempts": more })), &mut printer).unwrap();
        logs.open_next();
        assert_eq!(logs.queue.len(), 0, "nobody hears how a lost one ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_broke_while_the_server_was_away_is_told_of_where_it_stays_broken() {
        let args = followed();
        let connection = Connection::new("http://127.0.0.1:1", "default", Format::Table).unwrap();
        let (mut logs, mut printer) = (Logging::new(&connection, &args), Printer::new(false, true));
        let of = |task: &str| Of { task: task.to_owned(), attempt: 1 };
        let broken = || Heard::Broken("refused".to_owned());
        let mut link = connection.link();
        link.broken("refused");
        for task in ["back", "ended", "broken"] {
            logs.hear(&of(task), broken(), &mut printer).unwrap();
        }
        assert!(logs.broken.is_empty(), "the server is told of");
        logs.hear(&of("back"), Heard::Back, &mut printer).unwrap();
        logs.hear(&of("ended"), Heard::End, &mut printer).unwrap();
        link.back();
        connection.has_been_back_for(PATIENCE).await;
        logs.tell_untold(&mut printer).unwrap();
        assert_eq!(logs.broken.iter().collect::<Vec<_>>(), [&of("broken")]);
        assert!(logs.untold.is_empty());
        logs.hear(&of("broken"), Heard::Back, &mut printer).unwrap();
        assert!(logs.broken.is_empty(), "that it is back is told, too");
    }
}
