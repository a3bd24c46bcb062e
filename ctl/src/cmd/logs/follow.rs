//! `hctl logs -f`: the logs of all attempts of all tasks, as they come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use api::task::TaskPhase;
use api::{Kind as _, KindId, Task};
use futures_util::StreamExt as _;
use futures_util::stream::{self, SelectAll};
use serde_json::Value;
use tokio::time::Instant;

use super::super::attempts::{is_past, run_of};
use super::super::silent::Nodes;
use super::waits::Waits;
use super::{Hearing, heard, of, open, why_no_tasks};
use crate::args::Logs;
use crate::connection::{Connection, Query};
use crate::failure::{Code, Failure};
use crate::goal::{self, Goal, Verdict};
use crate::live::{self, LiveEvent};
use crate::log::{GiveUp, LogUpdate};
use crate::log_printer::{Of, Printer};
use crate::silence;
use crate::target::Target;
use crate::terminal;

/// Most logs that are followed at once; others follow as these end.
const LOGS_AT_ONCE_MAX: usize = 64;
/// How long a log must be broken before that is reported.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// The same including broken logs. Broken ones do not delay others, because nobody knows when they
/// will continue: those of a lost node would delay the logs of the next attempts. But each is
/// requested again and again, so they need a bound, too.
const OPEN_MAX: usize = 4 * LOGS_AT_ONCE_MAX;
/// How long agents may take to connect again after the server is back, before their logs are
/// reported as broken.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows the logs of all attempts of all tasks until their owner has ended.
pub(super) async fn follow(
    connection: &Connection,
    args: &Logs,
    (target, tasks): (&Target, Query),
    told: Option<String>,
) -> Result<(), Failure> {
    let fields = format!("metadata.name={}", target.name);
    let owner = connection.query(target.kind, String::new(), fields);
    let mut owner = live::news(connection, owner);
    let mut news = live::news(connection, tasks.clone());
    let mut printer = Printer::new(args.timestamps, target.kind != KindId::Task);
    let mut logs = Logging::new(connection, args);
    let (mut has_ended, mut was_deleted, mut waits) = (false, false, Waits::new(told));
    while !has_ended || !logs.are_done() {
        tokio::select! {
            biased;
            Some(said) = owner.next(), if !has_ended => {
                has_ended = match said? {
                    LiveEvent::Gone(object) => {
                        was_deleted = !ends(target.kind, &object);
                        true
                    }
                    LiveEvent::There(object) => {
                        waits.see_owner(why_no_tasks(connection, target, &object));
                        logs.run = logs.run.max(run_of(target, &object));
                        ends(target.kind, &object) || is_past(args, target, &object)
                    }
                };
                if has_ended {
                    logs.give_up.soon();
                    // Includes the last tasks, whose events may not have arrived yet.
                    for task in connection.insist(|| connection.list::<Task>(&tasks)).await?.0 {
                        logs.consider(&task, &mut printer)?;
                    }
                    // The watches are not needed any more, and their failures must not hide the
                    // logs.
                    (owner, news) = (stream::empty().boxed(), stream::empty().boxed());
                }
            }
            Some(said) = news.next(), if !has_ended => {
                match said? {
                    LiveEvent::There(object) => {
                        if let Ok(task) = serde_json::from_value::<Task>(object) {
                            waits.see(&task);
                            logs.consider(&task, &mut printer)?;
                        }
                    }
                    // The log of another task with the same name must not wait for the rest of this
                    // one's.
                    LiveEvent::Gone(object) => {
                        let name = object["metadata"]["name"].as_str().unwrap_or_default();
                        waits.forget(name);
                        logs.current.remove(name);
                    }
                }
            }
            () = are_due(connection, logs.untold_since), if !logs.untold.is_empty() => {
                logs.tell_untold(&mut printer).await?;
            }
            () = are_told(waits.due_at()), if !has_ended && logs.are_done() => {
                let line = waits.tell(connection.clock.now());
                line.iter().for_each(|line| terminal::note(line));
            }
            // After everything that is known of the tasks so far, so that the number is right.
            () = std::future::ready(()), if logs.has_waiting_untold() => {
                logs.tell_waiting(&mut printer)?;
            }
            Some((of, heard)) = logs.open.next() => logs.hear(&of, heard, &mut printer)?,
            // Nothing else is available right now: print what was held back before waiting.
            () = std::future::ready(()), if printer.holds_any() => printer.flush()?,
            else => (),
        }
        logs.open_next();
    }
    printer.finish()?;
    missed(args, target, (was_deleted, logs.seen.is_empty()))
}

/// What is missing after everything was printed: the end of something that was deleted, or attempts
/// that were asked for by number and do not exist.
fn missed(
    args: &Logs,
    target: &Target,
    (was_deleted, is_nothing): (bool, bool),
) -> Result<(), Failure> {
    if was_deleted {
        let message = format!("{target} was deleted before it had ended");
        return Err(Failure::new(message).code(Code::NotFound));
    }
    let number = args.run.map(|run| format!("run {run}"));
    let number = number.or_else(|| args.attempt.map(|attempt| format!("attempt {attempt}")));
    match number.filter(|_| is_nothing) {
        Some(number) => Err(Failure::new(format!("{target} has no log of {number}"))
            .code(Code::NotFound)
            .hint(format!("see what there is with hctl describe {target}"))),
        None => Ok(()),
    }
}

/// Resolves when logs that have been broken for a while are to be reported: not while the server is
/// lost, nor while its agents reconnect.
async fn are_due(connection: &Connection, since: Instant) {
    loop {
        connection.outage().is_over_for(PATIENCE).await;
        tokio::time::sleep_until(since + TOLD_AFTER).await;
        if !connection.outage().is_on() {
            return;
        }
    }
}

/// Resolves when it is time to print what is waited for; never if there is nothing to print.
async fn are_told(due_at: Option<Instant>) {
    match due_at {
        Some(due_at) => tokio::time::sleep_until(due_at).await,
        None => std::future::pending().await,
    }
}

/// Whether nothing more will be printed. A task that may be retried has not ended.
fn ends(kind: KindId, object: &Value) -> bool {
    matches!(goal::verdict(kind, Goal::Done, object), Verdict::Met)
}

/// The logs that are followed.
struct Logging<'a> {
    connection: &'a Connection,
    args: &'a Logs,
    give_up: GiveUp,
    /// The current run of the job whose logs are followed.
    run: Option<u32>,
    /// Attempts whose logs are or were open, or are queued.
    seen: BTreeSet<Of>,
    queue: VecDeque<Of>,
    /// For each task, the attempt whose log is being printed and not broken. Logs of later attempts
    /// wait for it.
    current: BTreeMap<String, Of>,
    open: SelectAll<Hearing>,
    /// Logs that were reported as broken and not yet as back.
    broken: BTreeSet<Of>,
    /// Broken logs that were not reported yet, with the reason; without one if all that is known is
    /// that their node is lost.
    untold: BTreeMap<Of, Option<String>>,
    /// When the first of them broke.
    untold_since: Instant,
    /// Attempts that were lost with their nodes, with the last known state of their tasks.
    lost: BTreeMap<Of, Task>,
    /// Those of them that were reported.
    told_lost: BTreeSet<Of>,
    /// Logs that were read to their end.
    ended: BTreeSet<Of>,
    /// Whether it was reported that logs wait for others to end.
    has_told_waiting: bool,
}

impl<'a> Logging<'a> {
    fn new(connection: &'a Connection, args: &'a Logs) -> Self {
        Self {
            connection,
            args,
            give_up: GiveUp::default(),
            run: None,
            seen: BTreeSet::new(),
            queue: VecDeque::new(),
            current: BTreeMap::new(),
            open: SelectAll::new(),
            broken: BTreeSet::new(),
            untold: BTreeMap::new(),
            untold_since: Instant::now(),
            lost: BTreeMap::new(),
            told_lost: BTreeSet::new(),
            ended: BTreeSet::new(),
            has_told_waiting: false,
        }
    }

    fn are_done(&self) -> bool {
        self.open.is_empty() && self.queue.is_empty()
    }

    /// Updates a task: attempts that have started have logs; for one that could not start, the
    /// reason is printed instead.
    fn consider(&mut self, task: &Task, printer: &mut Printer) -> Result<(), Failure> {
        // The end of a lost attempt's log may never come. The next attempt's log must not wait for
        // it.
        let lost = task.status.attempts.iter().filter(|past| past.phase == TaskPhase::Lost);
        for past in lost {
            if self.current.get(task.name()) == Some(&of(task, past.attempt)) {
                self.current.remove(task.name());
            }
        }
        // An event of a task may arrive before the corresponding one of its job.
        self.run = self.run.map(|run| run.max(task.spec.run));
        let run = self.args.run.or(self.run).unwrap_or(task.spec.run);
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
            let of = of(task, attempt);
            if !is_news || !self.seen.insert(of.clone()) {
                continue;
            }
            if let Some(why) = why {
                printer.did_not_start(&of, &why)?;
            } else {
                printer.make_room(&of);
                self.queue.push_back(of);
            }
        }
        self.note_lost(task);
        Ok(())
    }

    /// Notes which attempts of a task were lost with their nodes: that explains why their logs
    /// break or are silent.
    fn note_lost(&mut self, task: &Task) {
        let past = task.status.attempts.iter().map(|past| past.attempt);
        for attempt in past.chain([task.spec.attempt]) {
            let of = of(task, attempt);
            let is_open = self.seen.contains(&of) && !self.ended.contains(&of);
            if !is_open || !silence::is_lost(task, attempt) {
                continue;
            }
            if self.lost.insert(of.clone(), task.clone()).is_none() {
                self.is_untold(of, None);
            }
        }
    }

    fn is_untold(&mut self, of: Of, why: Option<String>) {
        if self.untold.is_empty() {
            self.untold_since = Instant::now();
        }
        let known = self.untold.entry(of).or_default();
        *known = why.or_else(|| known.take());
    }

    /// Opens queued logs, up to the bound.
    fn open_next(&mut self) {
        while self.has_place() {
            let Some(next) = self.queue.iter().position(|of| self.is_due(of)) else { return };
            let Some(of) = self.queue.remove(next) else { return };
            self.current.insert(of.task.clone(), of.clone());
            let log = open(self.connection, self.args, &of, self.give_up.clone());
            self.open.push(heard(Arc::new(of), log));
        }
    }

    fn has_place(&self) -> bool {
        let open = self.open.len();
        open < OPEN_MAX && open.saturating_sub(self.broken.len()) < LOGS_AT_ONCE_MAX
    }

    /// Whether a log only waits for a free slot, and not for the log of the task's previous
    /// attempt.
    fn is_due(&self, of: &Of) -> bool {
        !self.current.contains_key(&of.task)
    }

    fn has_waiting_untold(&self) -> bool {
        !self.has_told_waiting && !self.has_place() && self.queue.iter().any(|of| self.is_due(of))
    }

    /// Reports once that logs wait for others to end, which may take long.
    fn tell_waiting(&mut self, printer: &mut Printer) -> Result<(), Failure> {
        self.has_told_waiting = true;
        let mut waiting = self.queue.iter().filter(|of| self.is_due(of));
        let Some(first) = waiting.next() else { return Ok(()) };
        printer.wait(first, waiting.count(), LOGS_AT_ONCE_MAX)
    }

    fn hear(&mut self, of: &Of, heard: LogUpdate, printer: &mut Printer) -> Result<(), Failure> {
        let holds_others_up =
            matches!(&heard, LogUpdate::Line(_) | LogUpdate::Gap(_) | LogUpdate::Back);
        if !holds_others_up && self.current.get(&of.task) == Some(of) {
            self.current.remove(&of.task);
        }
        let is_news = match &heard {
            // It may be back in a moment; and if the whole server is away, that is reported
            // instead.
            LogUpdate::Broken(why) => {
                self.is_untold(of.clone(), Some(why.clone()));
                false
            }
            LogUpdate::Back => {
                self.untold.remove(of);
                let was_lost = self.told_lost.remove(of);
                self.broken.remove(of) || was_lost
            }
            LogUpdate::End | LogUpdate::Failed(_) => {
                self.untold.remove(of);
                self.broken.remove(of);
                self.ended.insert(of.clone());
                true
            }
            LogUpdate::Line(_) | LogUpdate::Gap(_) => true,
        };
        if !is_news {
            return Ok(());
        }
        let LogUpdate::Failed(error) = heard else { return printer.heard(of, heard) };
        let failure = self.connection.failure(&error);
        if failure.code == Code::Forbidden {
            return Err(failure);
        }
        if self.told_lost.contains(of) {
            let why = "the rest of its log was not read: its node has not come back";
            return printer.failed(of, &Failure::new(why));
        }
        printer.failed(of, &failure)
    }

    /// The server is there, but these logs are not: report them.
    async fn tell_untold(&mut self, printer: &mut Printer) -> Result<(), Failure> {
        let mut nodes = Nodes::new(self.connection);
        for (of, why) in std::mem::take(&mut self.untold) {
            let lost = match self.lost.get(&of).filter(|_| !self.told_lost.contains(&of)) {
                Some(task) => nodes.no_log(task, of.attempt).await,
                None => None,
            };
            if let Some(lost) = lost {
                printer.lost(&of, &lost)?;
                self.told_lost.insert(of.clone());
                self.broken.insert(of);
            } else if let Some(why) = why
                && self.broken.insert(of.clone())
            {
                printer.heard(&of, LogUpdate::Broken(why))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};
    use crate::format::Format;

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

    /// If a user deletes a task, another task with the same name may run the index.
    #[tokio::test]
    async fn another_task_of_the_same_name_has_a_log_of_its_own() {
        let args = followed();
        let connection = Connection::new("http://127.0.0.1:1", "default", Format::Table).unwrap();
        let (mut logs, mut printer) = (Logging::new(&connection, &args), Printer::new(false, true));
        let past = serde_json::json!([{ "attempt": 1, "run": 2, "phase": "Failed", "nodeName": "n",
                                        "startedAt": "2026-01-01T00:00:00Z" }]);
        for uid in ["one", "two"] {
            let mut task = task(&serde_json::json!({ "attempts": past }));
            task.metadata.uid = Some(uid.to_owned());
            logs.consider(&task, &mut printer).unwrap();
        }
        let uids: Vec<&str> = logs.queue.iter().map(|of| of.uid.as_str()).collect();
        assert_eq!(uids, ["one", "two"]);
    }

    /// The log of each attempt ends before that of the next begins, unless its end may never come.
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
        let of = |attempt| Of { task: "a-0".to_owned(), uid: String::new(), attempt };
        logs.hear(&of(1), LogUpdate::End, &mut printer).unwrap();
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

    /// This many tasks, each with a log of attempt 1.
    fn many_tasks(count: usize) -> impl Iterator<Item = Task> {
        let past = serde_json::json!([{ "attempt": 1, "run": 2, "phase": "Failed", "nodeName": "n",
                                        "startedAt": "2026-01-01T00:00:00Z" }]);
        (0..count).map(move |index| {
            let mut task = task(&serde_json::json!({ "attempts": past }));
            task.metadata.name = Some(format!("a-{index}"));
            task
        })
    }

    #[tokio::test]
    async fn logs_that_broke_take_no_place_from_others_though_not_without_bound() {
        let args = followed();
        let connection = Connection::new("http://127.0.0.1:1", "default", Format::Table).unwrap();
        let (mut logs, mut printer) = (Logging::new(&connection, &args), Printer::new(false, true));
        for task in many_tasks(10 * OPEN_MAX) {
            logs.consider(&task, &mut printer).unwrap();
        }
        let of = |index: usize| Of { task: format!("a-{index}"), uid: String::new(), attempt: 1 };
        logs.open_next();
        assert_eq!(logs.open.len(), LOGS_AT_ONCE_MAX);
        // They are opened in order.
        for index in 0..OPEN_MAX {
            logs.broken.insert(of(index));
            logs.open_next();
            assert_eq!(logs.open.len(), (LOGS_AT_ONCE_MAX + index + 1).min(OPEN_MAX));
        }
        logs.hear(&of(0), LogUpdate::End, &mut printer).unwrap();
        assert!(!logs.broken.contains(&of(0)), "it does not count any more");
    }

    #[tokio::test]
    async fn that_logs_wait_for_others_to_end_is_told_once() {
        let args = followed();
        let connection = Connection::new("http://127.0.0.1:1", "default", Format::Table).unwrap();
        let (mut logs, mut printer) = (Logging::new(&connection, &args), Printer::new(false, true));
        for (index, task) in many_tasks(LOGS_AT_ONCE_MAX + 2).enumerate() {
            logs.consider(&task, &mut printer).unwrap();
            logs.open_next();
            assert_eq!(logs.has_waiting_untold(), index >= LOGS_AT_ONCE_MAX);
        }
        logs.tell_waiting(&mut printer).unwrap();
        assert!(!logs.has_waiting_untold());
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_broke_while_the_server_was_away_is_told_of_where_it_stays_broken() {
        let args = followed();
        let connection = Connection::new("http://127.0.0.1:1", "default", Format::Table).unwrap();
        let (mut logs, mut printer) = (Logging::new(&connection, &args), Printer::new(false, true));
        let of = |task: &str| Of { task: task.to_owned(), uid: String::new(), attempt: 1 };
        let broken = || LogUpdate::Broken("refused".to_owned());
        let mut link = connection.link();
        link.broken("refused");
        for task in ["back", "ended", "broken"] {
            logs.hear(&of(task), broken(), &mut printer).unwrap();
        }
        assert!(logs.broken.is_empty(), "the server is said to be lost");
        logs.hear(&of("back"), LogUpdate::Back, &mut printer).unwrap();
        logs.hear(&of("ended"), LogUpdate::End, &mut printer).unwrap();
        link.back();
        are_due(&connection, logs.untold_since).await;
        logs.tell_untold(&mut printer).await.unwrap();
        assert_eq!(logs.broken.iter().collect::<Vec<_>>(), [&of("broken")]);
        assert!(logs.untold.is_empty());
        logs.hear(&of("broken"), LogUpdate::Back, &mut printer).unwrap();
        assert!(logs.broken.is_empty(), "that it is back is told, too");
    }
}
