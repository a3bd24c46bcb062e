//! The cluster as a whole: its identity, its confirmation after a restore, and its backup.

use std::sync::Arc;

use api::cluster::{AWAITS_CONFIRMATION, ClusterInfo, Confirmation};
use api::status::{Refusal, Why};
use api::{KindId, Node, NodeLease, Timestamp};
use axum::body::Body;
use futures_util::stream;
use http::StatusCode;
use store::Outcome;
use tracing::warn;

use super::extract::{Answer, Call, Json};
use super::{answer, read};
use crate::write::unavailable;
use crate::{Server, backup, keys};

/// Whether agents may work for the cluster.
pub(super) async fn is_confirmed(server: &Server) -> Result<bool, Refusal> {
    let confirmed = server.identity.is_confirmed(&*server.store).await;
    confirmed.map_err(|error| unavailable(&error))
}

pub(super) async fn info(call: Call) -> Answer {
    let server = &*call.server;
    read::current(server).await?;
    Ok(answer::json(StatusCode::OK, &of(server).await?))
}

async fn of(server: &Server) -> Result<ClusterInfo, Refusal> {
    let (identity, restored) = (&server.identity, server.identity.restored.as_ref());
    let nodes: Vec<Node> = objects(server, KindId::Node);
    let leases: Vec<NodeLease> = objects(server, KindId::NodeLease);
    let is_heard = |node: &&Node| leases.iter().any(|it| it.metadata.name == node.metadata.name);
    let waits = |node: &&Node| node.status.problem.as_deref() == Some(AWAITS_CONFIRMATION);
    Ok(ClusterInfo {
        cluster: identity.cluster.clone(),
        since: restored.map(|it| it.at).or_else(|| first_start(server)),
        backup_taken_at: restored.map(|it| it.backup_taken_at),
        confirmed: is_confirmed(server).await?,
        nodes: nodes.len(),
        waiting: nodes.iter().filter(is_heard).filter(waits).count(),
        heard: nodes.iter().filter(is_heard).count(),
    })
}

fn objects<K: serde::de::DeserializeOwned>(server: &Server, kind: KindId) -> Vec<K> {
    let cut = server.cache.cut(&[keys::prefix(kind, "")], |_| true);
    cut.entries.iter().filter_map(|entry| serde_json::from_slice(&entry.wire).ok()).collect()
}

/// When the first apiserver started, which created the objects that are always there.
fn first_start(server: &Server) -> Option<Timestamp> {
    let key = api::ObjectKey::new("", api::labels::SYSTEM_NAMESPACE);
    let entry = server.cache.get(&keys::object(KindId::Namespace, &key))?;
    let namespace: api::core::Namespace = serde_json::from_slice(&entry.wire).ok()?;
    namespace.metadata.creation_timestamp.map(|it| it.0)
}

pub(super) async fn confirm(
    call: Call,
    Json(Confirmation { cluster }): Json<Confirmation>,
) -> Answer {
    let server = &*call.server;
    let ours = &server.identity.cluster;
    if cluster != *ours {
        let message = format!("this is cluster {ours}, not {cluster}");
        return Err(Refusal::new(Why::Conflict, message).into());
    }
    if !is_confirmed(server).await? {
        match server.store.commit(vec![server.identity.confirmation()]).await.pop() {
            Some(Outcome::Done { .. }) => {
                warn!(%cluster, "cluster confirmed: its agents may start and stop tasks")
            }
            Some(Outcome::Full(why)) => {
                return Err(Refusal::new(Why::Full, why).into());
            }
            Some(Outcome::Refused { .. } | Outcome::Invalid(_) | Outcome::Unknown) | None => {
                let message =
                    "the store did not answer; the confirmation may have been written: try again";
                return Err(Refusal::new(Why::Unavailable, message).into());
            }
        }
    }
    info(call).await
}

/// Returns everything, including Secrets: whoever may do this may read everything.
pub(super) async fn backup(call: Call) -> Answer {
    let server = &*call.server;
    let lines = backup::backup(Arc::clone(&server.store), server.clock.now()).await;
    let lines = lines.map_err(|error| {
        let message = base::ErrorChain(&error).to_string();
        Refusal::new(Why::Unavailable, message)
    })?;
    let hold = server.holds.hold(lines.revision());
    let frames = stream::unfold((lines, hold), |(mut lines, hold)| async move {
        let frame = lines.next_or_why_not().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), (lines, hold)))
    });
    Ok(answer::raw(StatusCode::OK, Body::from_stream(frames)))
}
