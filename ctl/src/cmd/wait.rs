//! `hctl wait`: by watch, until an object is as it should be.

use api::KindId;
use api::watch::WatchEventType;
use serde_json::Value;
use tokio::time::Instant;

use crate::args::Wait;
use crate::connection::{Connection, deadline};
use crate::failure::{Code, Failure};
use crate::following::{Following, Seen};
use crate::goal::{self, Goal, Verdict};
use crate::target::{self, Target};
use crate::terminal;

pub(super) async fn wait(connection: &Connection, args: Wait) -> Result<(), Failure> {
    let until = deadline(Some(args.timeout));
    let mut failed = None;
    for target in target::several(&args.targets)? {
        let place = (&target, connection.namespace.as_str());
        match wait_for(connection, place, args.goal, until).await {
            Ok(()) => (),
            // The others' ends are of interest, too.
            Err(failure) if failure.code == Code::Failed => {
                terminal::note(&failure.message);
                failed = Some(failure);
            }
            Err(failure) => return Err(failure),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// One object that is waited for.
pub(super) struct Waited<'a> {
    connection: &'a Connection,
    target: &'a Target,
    goal: Goal,
    /// How it stood when it was last seen.
    last: String,
    /// Whether no node took its tasks then.
    is_unschedulable: bool,
}

/// Waits until an object is as `goal` says, and says so.
///
/// # Errors
/// It will not get there, is not there, or the time is up.
pub(super) async fn wait_for(
    connection: &Connection,
    (target, namespace): (&Target, &str),
    goal: Goal,
    until: Option<Instant>,
) -> Result<(), Failure> {
    let scoped = connection.within(namespace);
    let last = "it was not seen yet".to_owned();
    let mut waited = Waited { connection: &scoped, target, goal, last, is_unschedulable: false };
    let met = match until {
        None => waited.until_met().await,
        Some(until) => match tokio::time::timeout_at(until, waited.until_met()).await {
            Ok(met) => met,
            Err(_elapsed) => {
                let word = goal.word();
                let message = format!("{target} is not {word} in time: {}", waited.last);
                let hint =
                    format!("see why with hctl describe {target}, or give it a longer --timeout");
                let code =
                    if waited.is_unschedulable { Code::Unschedulable } else { Code::Timeout };
                Err(Failure::new(message).code(code).hint(hint))
            }
        },
    };
    met?;
    terminal::print_line(&format!("{target} {}", goal.word()))
}

impl Waited<'_> {
    /// Whether objects of a kind end at all.
    pub(super) fn ends(kind: KindId) -> bool {
        matches!(kind, KindId::Job | KindId::Workflow | KindId::WorkflowRun)
    }

    async fn until_met(&mut self) -> Result<(), Failure> {
        let fields = format!("metadata.name={}", self.target.name);
        let query = self.connection.query(self.target.kind, String::new(), fields);
        let (found, version) = self.connection.list::<Value>(&query).await?;
        if self.looks_met(found.first())? {
            return Ok(());
        }
        let mut following = Following::new(self.connection.client(), query.clone(), &version);
        loop {
            let seen = following.next().await.map_err(|error| self.connection.failure(&error))?;
            let met = match seen {
                Seen::Change(WatchEventType::Deleted, _) => self.looks_met(None)?,
                Seen::Change(_, object) => self.looks_met(Some(&object))?,
                Seen::Broken(why) => {
                    self.connection.tell_broken(&why);
                    false
                }
                Seen::Back => {
                    self.connection.tell_back();
                    false
                }
                Seen::Missed => {
                    let (found, version) = self.connection.list::<Value>(&query).await?;
                    following.resume(&version);
                    self.looks_met(found.first())?
                }
            };
            if met {
                return Ok(());
            }
        }
    }

    fn looks_met(&mut self, object: Option<&Value>) -> Result<bool, Failure> {
        let target = self.target;
        let Some(object) = object else {
            if self.goal == Goal::Deleted {
                return Ok(true);
            }
            let message = format!("{target} is not there");
            let plural = target.kind.info().plural;
            let hint = format!("see what is there with hctl get {plural} (-A: everywhere)");
            return Err(Failure::new(message).code(Code::NotFound).hint(hint));
        };
        match goal::verdict(target.kind, self.goal, object) {
            Verdict::Met => Ok(true),
            Verdict::NotYet(seen) => {
                self.last = seen;
                self.is_unschedulable = goal::is_unschedulable(target.kind, object);
                Ok(false)
            }
            Verdict::Never(why) => {
                let failure = Failure::new(format!("{target}: {why}")).code(Code::Failed);
                Err(failure.hint(format!("see why with hctl describe {target}")))
            }
        }
    }
}
