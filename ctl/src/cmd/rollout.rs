//! `hctl rollout` and `hctl history`: how revisions of services are rolled out, and what is asked of that.

use api::service::{RolloutCommand, RolloutVerb};
use api::{KindId, Service, TaskTemplate};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::change::change;
use super::show;
use crate::connection::Connection;
use crate::failure::{Code, Failure};
use crate::format::Format;
use crate::live::{self, LiveEvent};
use crate::output::{self, Columns, Paper};
use crate::rollout::{self, Standing};
use crate::rollout_args::{History, OfService, Rollout, RolloutStatus};
use crate::target::{self, Target};
use crate::verb::Verb;
use crate::{document, terminal};

pub(super) async fn rollout(connection: &Connection, what: Rollout) -> Result<(), Failure> {
    match what {
        Rollout::Status(args) => status(connection, args).await,
        Rollout::History(args) => history(connection, args).await,
        Rollout::Undo(args) => {
            let target = service(&args.of)?;
            ask(connection, &target, RolloutVerb::Undo, args.to_revision).await
        }
        Rollout::Pause(of) => change(connection, Verb::Pause, &[of_service(&of)?]).await,
        Rollout::Resume(of) => change(connection, Verb::Unpause, &[of_service(&of)?]).await,
        Rollout::Restart(of) => ask(connection, &service(&of)?, RolloutVerb::Restart, None).await,
        Rollout::Promote(of) => ask(connection, &service(&of)?, RolloutVerb::Promote, None).await,
        Rollout::Abort(of) => ask(connection, &service(&of)?, RolloutVerb::Abort, None).await,
    }
}

fn service(of: &OfService) -> Result<Target, Failure> {
    let target = target::only_one(&of.service, Some(KindId::Service))?;
    if target.kind == KindId::Service {
        return Ok(target);
    }
    let failure = Failure::usage(format!("{target} has no rollouts"));
    Err(failure.hint("services have rollouts; hctl get services lists them"))
}

fn of_service(of: &OfService) -> Result<String, Failure> {
    service(of).map(|target| target.to_string())
}

/// Waits for the controller to have seen the newest change, so that what is asked for is meant for that,
/// and asks.
async fn ask(
    connection: &Connection,
    target: &Target,
    verb: RolloutVerb,
    to_revision: Option<u32>,
) -> Result<(), Failure> {
    let before: Service = seen(connection, target).await?;
    // All but an undo to a named revision, and a restart, are meant for the rollout that was read.
    let is_of_this = match verb {
        RolloutVerb::Abort | RolloutVerb::Promote => true,
        RolloutVerb::Undo => to_revision.is_none(),
        RolloutVerb::Restart => false,
    };
    let revision = is_of_this.then_some(before.status.update_revision);
    let body = json!(RolloutCommand { verb, to_revision, revision });
    let object = connection.post_to(target, "rollout", &body).await?;
    let what = match (verb, object["status"]["request"]["toRevision"].as_u64()) {
        (RolloutVerb::Undo, Some(to)) => format!("goes back to revision {to}"),
        (RolloutVerb::Undo, None) => "runs that already".to_owned(),
        (RolloutVerb::Restart, _) => "is being restarted".to_owned(),
        (RolloutVerb::Promote, _) => "is promoted".to_owned(),
        (RolloutVerb::Abort, _) if object["status"]["request"].is_null() => {
            "has failed to roll out already".to_owned()
        }
        (RolloutVerb::Abort, _) => "rolls out no further".to_owned(),
    };
    show::done(connection.format, target, &what, object)
}

/// How many times a service is looked at whose newest change its controller has not seen.
const LOOKS_MAX: usize = 50;

/// The service once its controller has seen its newest change, or as it is after a while.
async fn seen(connection: &Connection, target: &Target) -> Result<Service, Failure> {
    let mut found: Service = connection.get(target).await?;
    let is_seen = |service: &Service| {
        let status = &service.status;
        status.update_revision > 0
            && status.observed_generation >= api::Kind::meta(service).generation.unwrap_or_default()
    };
    if is_seen(&found) {
        return Ok(found);
    }
    let mut news = live::news(connection, query(connection, target));
    let look = async {
        for _ in 0..LOOKS_MAX {
            let Some(Ok(LiveEvent::There(object))) = news.next().await else { return };
            let Ok(next) = connection.typed::<Service>(object) else { return };
            found = next;
            if is_seen(&found) {
                return;
            }
        }
    };
    // The server says why it refuses, if it does.
    let _late = tokio::time::timeout(std::time::Duration::from_secs(5), look).await;
    Ok(found)
}

fn query(connection: &Connection, target: &Target) -> crate::connection::Query {
    connection.query(target.kind, String::new(), format!("metadata.name={}", target.name))
}

async fn status(connection: &Connection, args: RolloutStatus) -> Result<(), Failure> {
    let target = service(&args.of)?;
    if !args.watch {
        let found: Service = connection.get(&target).await?;
        let standing = rollout::standing(&found, args.revision, connection.clock.now());
        return match standing {
            Standing::Failed(failure) if failure.code != Code::Failed => Err(failure),
            Standing::Failed(failure) => terminal::print_line(&failure.message),
            Standing::Done(what) | Standing::NotYet(what) => {
                terminal::print_line(&output::printable(&format!("{target} {what}")))
            }
        };
    }
    let waiting = wait(connection, &target, args.revision);
    match connection.until() {
        None => waiting.await,
        Some(until) => tokio::time::timeout_at(until, waiting).await.unwrap_or_else(|_elapsed| {
            let message = format!("timed out waiting for the rollout of {target}");
            let hint = format!("see why with hctl describe {target}");
            Err(Failure::new(message).code(Code::Timeout).hint(hint))
        }),
    }
}

/// Prints how the rollout goes, each time that it says something else, until its outcome is certain.
async fn wait(
    connection: &Connection,
    target: &Target,
    revision: Option<u32>,
) -> Result<(), Failure> {
    // Also says that it does not exist.
    let _exists: Value = connection.get(target).await?;
    let mut news = live::news(&connection.without_limit(), query(connection, target));
    let mut told = String::new();
    loop {
        let object = match news.next().await {
            Some(Ok(LiveEvent::There(object))) => object,
            Some(Ok(LiveEvent::Gone(_))) => {
                let message = format!("{target} was deleted");
                return Err(Failure::new(message).code(Code::Failed));
            }
            Some(Err(failure)) => return Err(failure),
            None => std::future::pending().await,
        };
        let found: Service = connection.typed(object)?;
        match rollout::standing(&found, revision, connection.clock.now()) {
            Standing::Done(what) => return terminal::print_line(&format!("{target} {what}")),
            Standing::Failed(failure) => return Err(failure),
            Standing::NotYet(what) if what != told => {
                let line = output::printable(&format!("{target}: {what}"));
                if terminal::is_looked_at() {
                    terminal::progress(&line);
                } else {
                    terminal::note(&line);
                }
                told = what;
            }
            Standing::NotYet(_) => (),
        }
    }
}

pub(super) async fn history(connection: &Connection, args: History) -> Result<(), Failure> {
    let target = service(&args.of)?;
    let found: Service = connection.get(&target).await?;
    if let Some(number) = args.revision {
        return revision(connection, &target, &found, number).await;
    }
    match connection.format {
        Format::Json => terminal::print(&document::json_text(&json!(found.status.revisions))?),
        Format::Yaml => terminal::print(&document::yaml(&json!(found.status.revisions))?),
        Format::Name => terminal::print_line(&target.to_string()),
        Format::Table | Format::Wide => {
            let rows = rollout::history(&found, connection.clock.now());
            if rows.is_empty() {
                terminal::note(&format!("{target} has no revision yet."));
                return Ok(());
            }
            let headings = rollout::HEADINGS.map(str::to_owned).to_vec();
            let all: Vec<Vec<String>> = std::iter::once(headings).chain(rows).collect();
            let paper = Paper { folds: true, ..terminal::paper() };
            terminal::print(&Columns::on(paper).lines(all.iter().map(Vec::as_slice)))
        }
    }
}

/// Prints what a revision runs.
async fn revision(
    connection: &Connection,
    target: &Target,
    found: &Service,
    number: u32,
) -> Result<(), Failure> {
    let Some(revision) = found.status.revision(number) else {
        let message = format!("{target} has no revision {number}");
        let hint = format!("see hctl rollout history {target}");
        return Err(Failure::new(message).code(Code::NotFound).hint(hint));
    };
    let template = Target::new(KindId::TaskTemplate, &revision.template);
    let template: TaskTemplate = connection.get(&template).await?;
    let spec = &template.spec;
    let mut shown = json!({ "template": spec.template });
    if spec.placement != api::placement::Placement::default() {
        shown["placement"] = json!(spec.placement);
    }
    if let Some(restart) = spec.restart.filter(|it| *it != api::restart::Restart::default()) {
        shown["restart"] = json!(restart);
    }
    match connection.format {
        Format::Json => terminal::print(&document::json_text(&shown)?),
        Format::Yaml | Format::Table | Format::Wide | Format::Name => {
            terminal::print(&document::yaml(&shown)?)
        }
    }
}
