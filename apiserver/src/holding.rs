//! Records in the node leases which agents are connected to this apiserver, so that the other
//! apiservers can find them.
//!
//! # Invariants
//!
//! * Level-triggered: whenever a connection is opened or a node lease changes, the two are
//!   compared. So it does not matter whether the lease is granted before or after the agent
//!   connects, by which apiserver, or how often.
//! * A later connection of the same start of an agent always wins. A connection of a start other
//!   than the one that holds the lease waits until its start gets the lease.
//! * Every write requires that the node lease is unchanged since it was read, and keeps its key
//!   attached to its lease in the store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::node::NodeLeaseSpec;
use api::resource_version::ResourceVersion;
use api::{KindId, NodeLease};
use base::{Backoff, Retry};
use store::{Expectation, Group, LeaseId, Outcome, Revision};
use tracing::debug;

use crate::cache::{Cache, News, PastEvent};
use crate::connections::ConnectionId;
use crate::write::Current;
use crate::{Server, keys};

/// How many events are read at a time.
const EVENTS_MAX: usize = 1_000;
/// How many node leases are written at a time.
const WRITES_MAX: usize = 100;
/// How long to wait after a write with an unknown outcome.
const PAUSE: Duration = Duration::from_secs(1);

/// What has to be done about a connection.
#[derive(Debug, PartialEq, Eq)]
enum Telling {
    /// Nothing, until the node lease changes: it already names the connection, or another agent
    /// holds it.
    Nothing,
    /// Record the connection in the node lease.
    Write(NodeLeaseSpec),
    /// Drop it: the agent has opened another one since.
    Leave,
}

fn telling(lease: &NodeLeaseSpec, connection: &ConnectionId, url: &str) -> Telling {
    if lease.boot_id != connection.boot_id {
        return Telling::Nothing;
    }
    if lease.connection > connection.number {
        return Telling::Leave;
    }
    if lease.connection == connection.number && lease.apiserver == url {
        return Telling::Nothing;
    }
    let (apiserver, connection) = (url.to_owned(), connection.number);
    Telling::Write(NodeLeaseSpec { apiserver, connection, ..lease.clone() })
}

/// Records connections in node leases, for ever.
pub(crate) async fn tell(server: Arc<Server>, url: String) {
    let (mut progress, mut came) = (server.cache.progress(), server.connections.came());
    let mut seen = ResourceVersion::default();
    let backoff = Backoff::new(PAUSE, PAUSE, server.rng.fork("holding"));
    let what = "telling the other apiservers which agents are connected here";
    let mut retry = Retry::aside(what, backoff, &server.health);
    loop {
        let news = Changed::since(&server.cache, seen);
        seen = news.reached;
        let known = server.connections.ids();
        let concerned = known.into_iter().filter(|(node, _)| news.concerns(node));
        let written = write(&server, concerned.collect(), &url).await;
        // Nothing else may come first: the events that led to this write have been read, and will
        // not come again.
        if let Err(why) = written {
            tokio::time::sleep(retry.failed_because(&why)).await;
            seen = ResourceVersion::default();
            continue;
        }
        retry.worked();
        if news.more {
            continue;
        }
        tokio::select! {
            biased;
            _ = came.changed() => seen = ResourceVersion::default(),
            _ = progress.changed() => (),
        }
    }
}

/// The nodes whose leases have changed.
#[derive(Debug)]
struct Changed {
    /// `None` if this is not known: then any of them may have changed.
    nodes: Option<BTreeSet<String>>,
    reached: ResourceVersion,
    /// Whether there are more changes to read.
    more: bool,
}

impl Changed {
    fn since(cache: &Cache, seen: ResourceVersion) -> Self {
        let all = || {
            let reached = ResourceVersion::after(cache.revision().0);
            Self { nodes: None, reached, more: false }
        };
        if seen == ResourceVersion::default() {
            return all();
        }
        let lease = |past: PastEvent<'_>| {
            let lease = past.event.now().filter(|object| object.kind == KindId::NodeLease);
            lease.map(|lease| lease.key.name.clone())
        };
        match cache.news_after((seen, EVENTS_MAX), lease) {
            Ok(News { news, reached, is_all }) => {
                Self { nodes: Some(news.into_iter().collect()), reached, more: !is_all }
            }
            Err(_too_old) => all(),
        }
    }

    fn concerns(&self, node: &str) -> bool {
        self.nodes.as_ref().is_none_or(|nodes| nodes.contains(node))
    }
}

/// Compares connections with the leases of their nodes, and writes the differences. Returns an
/// error if the outcome of a write is unknown. A refused write is not an error: its lease has
/// changed, and the event of the change will follow.
async fn write(
    server: &Server,
    held: Vec<(String, ConnectionId)>,
    url: &str,
) -> Result<(), String> {
    let mut groups = Vec::new();
    for (node, connection) in held {
        let key = keys::node_lease(&node);
        let Some(entry) = server.cache.get(&key) else { continue };
        let Ok(mut lease) = serde_json::from_slice::<NodeLease>(&entry.wire) else { continue };
        // It is inserted when an object is read, and never stored.
        lease.metadata.resource_version = None;
        match telling(&lease.spec, &connection, url) {
            Telling::Nothing => (),
            Telling::Leave => server.connections.leave(&node, &connection),
            Telling::Write(spec) => {
                debug!(node, url, "this apiserver holds the agent's connection");
                let before = lease.clone();
                lease.spec = spec;
                let lives_under = LeaseId(lease.spec.lease);
                let expect = Expectation::Modified(Revision(entry.version.revision()));
                let value = Current::of_entry(&entry).changed(&before, &lease);
                groups.push(Group::default().put_under(lives_under, key, expect, value));
            }
        }
    }
    let mut settled = Ok(());
    for groups in groups.chunks(WRITES_MAX) {
        let outcomes = server.store.commit(groups.to_vec()).await;
        for outcome in outcomes {
            match outcome {
                Outcome::Unknown => settled = Err("the store did not answer".to_owned()),
                Outcome::Full(why) => settled = Err(why),
                Outcome::Done { .. } | Outcome::Refused { .. } | Outcome::Invalid(_) => (),
            }
        }
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(boot_id: &str, apiserver: &str, connection: u64) -> NodeLeaseSpec {
        let (boot_id, apiserver) = (boot_id.to_owned(), apiserver.to_owned());
        NodeLeaseSpec { lease: 7, boot_id, apiserver, connection, ..NodeLeaseSpec::default() }
    }

    fn told(lease: &NodeLeaseSpec, boot_id: &str, number: u64) -> Telling {
        telling(lease, &ConnectionId { boot_id: boot_id.to_owned(), number }, "here")
    }

    #[test]
    fn the_latest_connection_of_the_agent_that_has_the_lease_is_told() {
        let write = |number| Telling::Write(lease("b", "here", number));
        assert_eq!(told(&lease("b", "", 0), "b", 1), write(1), "a lease granted anew");
        assert_eq!(told(&lease("b", "there", 1), "b", 2), write(2), "it came from there");
        assert_eq!(told(&lease("b", "here", 1), "b", 1), Telling::Nothing, "a fixpoint");
        assert_eq!(told(&lease("b", "here", 1), "b", 2), write(2), "it came again");
        assert_eq!(told(&lease("b", "there", 3), "b", 2), Telling::Leave, "it went there");
        assert_eq!(told(&lease("b", "here", 3), "b", 2), Telling::Leave, "an older one of ours");
        assert_eq!(told(&lease("a", "there", 3), "b", 1), Telling::Nothing, "not its lease yet");
    }
}
