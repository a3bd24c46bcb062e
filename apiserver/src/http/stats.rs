//! The resource usage of nodes and tasks, from the agents.

use api::node::stats::NodeStats;
use api::status::{Refusal, Why};
use api::verb::Verb;
use api::{Kind as _, KindId};
use axum::body::Body;
use http::{Request, StatusCode};

use super::extract::{Answer, Call, ObjectPath};
use super::{agents, answer, log, read};
use crate::Server;
use crate::on_behalf::OnBehalf;

/// The maximum answer of an agent, which is enough for tens of thousands of tasks.
const STATS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The resource usage of a node or a task.
pub(super) async fn stats(call: Call, place: ObjectPath) -> Answer {
    let server = &*call.server;
    let on_behalf = call.on_behalf(Verb::Get, &place);
    if place.kind == KindId::Node {
        let entry = read::one(server, &place).await?;
        return Ok(answer::json(
            StatusCode::OK,
            &of_node(server, &on_behalf, &entry.key.name).await?,
        ));
    }
    let task = log::task(server, &place).await?;
    let node = log::node_of(&task, task.spec.attempt)?;
    let stats = of_node(server, &on_behalf, node).await?;
    let mut all = stats.tasks.into_iter();
    match all.find(|stats| stats.uid == task.uid() && stats.attempt == task.spec.attempt) {
        Some(stats) => Ok(answer::json(StatusCode::OK, &stats)),
        None => {
            let message = format!("task {:?} is not running on node {node:?}", task.name());
            Err(Refusal::new(Why::NotFound, message).into())
        }
    }
}

async fn of_node(server: &Server, on_behalf: &OnBehalf, node: &str) -> Result<NodeStats, Refusal> {
    let answer =
        agents::ask(server, on_behalf, node, Request::new(Body::empty()), "/stats").await?;
    let unreadable = |why: String| {
        let message = format!("cannot parse the answer of node {node:?}: {why}");
        Refusal::new(Why::Unavailable, message)
    };
    // A refusal of another apiserver is returned as it is.
    let code = answer.status();
    let bytes = axum::body::to_bytes(answer.into_body(), STATS_BYTES_MAX).await;
    let bytes = bytes.map_err(|error| unreadable(error.to_string()))?;
    if !code.is_success() {
        let refused = Refusal::of_answer(code.as_u16(), &bytes);
        return Err(refused.unwrap_or_else(|| unreadable(format!("it has the code {code}"))));
    }
    serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))
}
