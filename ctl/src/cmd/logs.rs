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
        let mut attempt = args.attempt.unwrap_or_else(|| task.newest_attempt_with_a_node());
        if args.previous {
            let Some(before) = attempt_before(task, attempt) else {
                let why = format!("{} has no attempt before attempt {attempt}", task.name());
                // Of many tasks only some were tried more than once.
                if tasks.len() > 1 {
                    terminal::note(&why);
                    continue;
                }
                return Err(Failure::new(why).code(Code::NotFound));
            };
            attempt = before;
        }
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
        let earlier = task.status.attempts.iter();
        let mut attempts: Vec<(u32, bool)> =
            earlier.map(|past| (past.attempt, past.started_at.is_some())).collect();
        if task.report().is_some() {
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

    fn open_next(&mut self) {
        while self.open.len() < LOGS_AT_ONCE_MAX {
            let Some((task, attempt)) = self.queue.pop_front() else { return };
            let log = open(self.connection, self.args, &task, attempt, self.give_up.clone());
            self.open.push(heard(Arc::new(Of { task, attempt }), log));
        }
    }

    fn hear(&mut self, of: &Of, heard: Heard, printer: &mut Printer) -> Result<(), Failure> {
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
