//! The log of a task's attempt, from the agent that runs or ran it.

use std::sync::Arc;

use api::status::{Reason, failure};
use api::{Kind as _, Task};
use axum::body::Body;
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use super::query::Query;
use super::{Answer, Place, agents, read};
use crate::Server;

/// The log of a task's attempt.
pub(super) async fn log(server: &Arc<Server>, place: &Place, query: &Query) -> Answer {
    let task = task(server, place).await?;
    let attempt = query.attempt.unwrap_or_else(|| last_started(&task));
    let node = node_of(&task, attempt)?;
    let tail = query.tail_lines.map(|lines| format!("&tailLines={lines}")).unwrap_or_default();
    let path = format!(
        "/logs/{}/{attempt}?follow={}&timestamps={}{tail}",
        task.uid(),
        query.follow,
        query.timestamps,
    );
    agents::ask(server, node, Request::new(Body::empty()), &path).await
}

/// The task at a place, as of now.
pub(super) async fn task(server: &Server, place: &Place) -> Result<Task, Box<Status>> {
    let entry = read::one(server, place).await?;
    serde_json::from_slice(&entry.wire)
        .map_err(|error| Box::new(failure(Reason::InternalError, error.to_string())))
}

/// The newest attempt that was bound to a node.
fn last_started(task: &Task) -> u32 {
    if task.node().is_some() {
        task.spec.attempt
    } else {
        task.status.attempts.last().map_or(task.spec.attempt, |past| past.attempt)
    }
}

/// The node on which an attempt runs or ran.
pub(super) fn node_of(task: &Task, attempt: u32) -> Result<&str, Box<Status>> {
    let node = if attempt == task.spec.attempt {
        task.node()
    } else {
        let past = task.status.attempts.iter().find(|past| past.attempt == attempt);
        past.and_then(|past| past.node_name.as_deref())
    };
    node.ok_or_else(|| {
        let message = format!("attempt {attempt} of task {:?} has not started", task.name());
        Box::new(failure(Reason::NotFound, message))
    })
}
