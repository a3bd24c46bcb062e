//! Waits for a run whose logs are requested before its workflow has started it, for example right
//! after `apply`.

use std::time::Duration;

use api::{KindId, Workflow};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

use crate::connection::Connection;
use crate::failure::{Code, Failure};
use crate::live::{self, LiveEvent};
use crate::target::Target;
use crate::terminal;

/// How long to wait for a run to appear. With running controllers that takes a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// The object to follow. A run that its workflow may start next is waited for.
///
/// # Errors
/// The object does not exist, or there was no answer.
pub(super) async fn there(connection: &Connection, target: &Target) -> Result<Value, Failure> {
    let missing = match connection.get(target).await {
        Err(failure) if failure.code == Code::NotFound => failure,
        answer => return answer,
    };
    let Some((name, number)) = numbered(target) else { return Err(missing) };
    let workflow = Target::new(KindId::Workflow, name);
    let Some(found) = connection.find::<Workflow>(&workflow).await? else { return Err(missing) };
    if number <= found.status.last_run_number {
        return Err(missing);
    }
    let seconds = PATIENCE.as_secs();
    terminal::note(&format!("{workflow} has not started {target} yet; waiting {seconds}s for it"));
    timeout(PATIENCE, made(connection, target)).await.unwrap_or_else(|_elapsed| {
        let message =
            format!("{target} not found: {workflow} has not started it within {seconds}s");
        let hint = format!("start it with hctl run {workflow}, or see its runs with hctl get runs");
        Err(Failure::new(message).code(Code::NotFound).hint(hint))
    })
}

/// The workflow and the number in the name of a run.
fn numbered(target: &Target) -> Option<(&str, u32)> {
    let (name, number) = target.name.rsplit_once('-')?;
    let is_run = target.kind == KindId::WorkflowRun;
    number.parse().ok().filter(|_| is_run).map(|number| (name, number))
}

/// The object once it exists.
async fn made(connection: &Connection, target: &Target) -> Result<Value, Failure> {
    let named = format!("metadata.name={}", target.name);
    let mut news = live::news(connection, connection.query(target.kind, String::new(), named));
    loop {
        match news.next().await {
            Some(Ok(LiveEvent::There(object))) => return Ok(object),
            Some(Ok(LiveEvent::Gone(_))) => (),
            Some(Err(failure)) => return Err(failure),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_run_says_whose_it_is() {
        let of = |kind, name: &str| {
            let target = Target::new(kind, name);
            numbered(&target).map(|(workflow, number)| (workflow.to_owned(), number))
        };
        assert_eq!(of(KindId::WorkflowRun, "data-load-4"), Some(("data-load".to_owned(), 4)));
        assert_eq!(of(KindId::WorkflowRun, "nightly"), None);
        assert_eq!(of(KindId::WorkflowRun, "a-b"), None);
        assert_eq!(of(KindId::Job, "a-1"), None);
    }
}
