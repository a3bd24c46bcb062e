//! `hctl logs`: what tasks print.

use std::collections::{BTreeSet, VecDeque};

use api::task::TaskPhase;
use api::{Kind as _, KindId, Task};
use bytes::{Bytes, BytesMut};
use client::Body;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream, SelectAll};
use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::args::Logs;
use crate::connection::{Connection, Query};
use crate::failure::{Code, Failure};
use crate::goal::{self, Goal, Verdict};
use crate::live::{self, News};
use crate::target::{self, Target};
use crate::{output, terminal};

/// Logs that are followed at once; others follow as these end.
const LOGS_AT_ONCE_MAX: usize = 64;

pub(super) async fn logs(connection: &Connection, args: Logs) -> Result<(), Failure> {
    let target = target::one(&args.of, Some(KindId::Task))?;
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
        terminal::note(&format!("No tasks of {target} are there (any more)."));
    }
    let are_several = tasks.len() > 1;
    for task in &tasks {
        let opened = open(connection, &args, task.name(), args.attempt).await;
        match opened {
            Ok(mut log) => {
                while let Some(line) = log.next().await {
                    print(task.name(), are_several, &line)?;
                }
            }
            // The others' logs are wanted all the same.
            Err(failure) if are_several => {
                terminal::note(&format!("{}: {}", task.name(), failure.message));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
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

fn print(task: &str, with_name: bool, line: &[u8]) -> Result<(), Failure> {
    let mut whole = Vec::with_capacity(task.len() + line.len() + 4);
    if with_name {
        whole.extend_from_slice(task.as_bytes());
        whole.extend_from_slice(b" | ");
    }
    whole.extend_from_slice(line);
    whole.push(b'\n');
    terminal::print_bytes(&whole)
}

/// Opens the log of a task.
async fn open(
    connection: &Connection,
    args: &Logs,
    task: &str,
    attempt: Option<u32>,
) -> Result<LogLines, Failure> {
    let mut query = format!("follow={}&timestamps={}", args.follow, args.timestamps);
    if let Some(tail) = args.tail {
        query.push_str(&format!("&tailLines={tail}"));
    }
    if let Some(attempt) = attempt {
        query.push_str(&format!("&attempt={attempt}"));
    }
    let response = connection.client().stream(&connection.log_path(task, &query)).await;
    let response = response.map_err(|error| connection.failure(&error))?;
    Ok(LogLines { body: response.into_body(), buffer: BytesMut::new(), has_ended: false })
}

/// The lines of a log. Unlike a watch's, the last may lack its end.
struct LogLines {
    body: Body,
    buffer: BytesMut,
    has_ended: bool,
}

impl LogLines {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1).freeze();
                return Some(line.slice(..end));
            }
            if self.has_ended {
                let rest = self.buffer.split().freeze();
                return (!rest.is_empty()).then_some(rest);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    let why = base::ErrorChain(error.as_ref()).to_string();
                    terminal::note(&format!("the log broke off: {why}"));
                    self.has_ended = true;
                }
                None => self.has_ended = true,
            }
        }
    }
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
    let mut logs = Logging {
        connection,
        args,
        with_name: target.kind != KindId::Task,
        seen: BTreeSet::new(),
        queue: VecDeque::new(),
        open: SelectAll::new(),
    };
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
                    // Of the last tasks, too, whose news may still be on their way.
                    for task in connection.list::<Task>(&tasks).await?.0 {
                        logs.consider(&task);
                    }
                }
            }
            Some(said) = news.next(), if !has_ended => {
                if let News::There(object) = said?
                    && let Ok(task) = serde_json::from_value::<Task>(object)
                {
                    logs.consider(&task);
                }
            }
            Some((task, line)) = logs.open.next() => logs.heard(&task, line)?,
        }
        logs.open_next().await?;
    }
    Ok(())
}

/// Whether nothing more will be printed.
fn ends(kind: KindId, object: &Value) -> bool {
    matches!(goal::verdict(kind, Goal::Done, object), Verdict::Met)
        // A task that is tried again has another attempt, which is followed with its job.
        && (kind != KindId::Task || object["status"]["finishedAt"].is_string())
}

/// Logs that are being followed.
struct Logging<'a> {
    connection: &'a Connection,
    args: &'a Logs,
    with_name: bool,
    /// Attempts whose logs are or were open, or wait to be.
    seen: BTreeSet<(String, u32)>,
    queue: VecDeque<(String, u32)>,
    open: SelectAll<BoxStream<'static, (String, Option<Bytes>)>>,
}

impl Logging<'_> {
    fn are_done(&self) -> bool {
        self.open.is_empty() && self.queue.is_empty()
    }

    /// Takes in what is known of a task: attempts that have started have logs.
    fn consider(&mut self, task: &Task) {
        let earlier = task.status.attempts.iter().filter(|past| past.started_at.is_some());
        let mut attempts: Vec<u32> = earlier.map(|past| past.attempt).collect();
        if task.report().is_some() && task.status.started_at.is_some() {
            attempts.push(task.spec.attempt);
        }
        for attempt in attempts {
            let wanted = self.args.attempt.is_none_or(|wanted| wanted == attempt);
            if wanted && self.seen.insert((task.name().to_owned(), attempt)) {
                self.queue.push_back((task.name().to_owned(), attempt));
            }
        }
    }

    async fn open_next(&mut self) -> Result<(), Failure> {
        while self.open.len() < LOGS_AT_ONCE_MAX {
            let Some((task, attempt)) = self.queue.pop_front() else { return Ok(()) };
            match open(self.connection, self.args, &task, Some(attempt)).await {
                Ok(log) => self.open.push(lines(task, log)),
                Err(failure) if failure.code == Code::Forbidden => return Err(failure),
                Err(failure) => {
                    terminal::note(&format!("{task} attempt {attempt}: {}", failure.message));
                }
            }
        }
        Ok(())
    }

    fn heard(&mut self, task: &str, line: Option<Bytes>) -> Result<(), Failure> {
        line.map_or(Ok(()), |line| print(&output::printable(task), self.with_name, &line))
    }
}

/// A log's lines with the task's name; at the end comes nothing, once, so that the end is seen.
fn lines(task: String, log: LogLines) -> BoxStream<'static, (String, Option<Bytes>)> {
    stream::unfold(Some((task, log)), |state| async move {
        let (task, mut log) = state?;
        match log.next().await {
            Some(line) => Some(((task.clone(), Some(line)), Some((task, log)))),
            None => Some(((task, None), None)),
        }
    })
    .boxed()
}
