//! Says in node leases which agents' connections this apiserver holds, so that the other apiservers
//! know whom to ask.
//!
//! # Invariants
//!
//! * Level-triggered: when a connection comes or a node lease changes, the two are compared, however
//!   that came about. So it does not matter whether a lease is granted before or after its agent
//!   connects, by which apiserver, or how often.
//! * A later connection of the same start of an agent always wins; one of another start than the
//!   lease's waits for its lease.
//! * Every write expects the node lease as it was looked at, and keeps its key under its lease.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::node::NodeLeaseSpec;
use api::resource_version::ResourceVersion;
use api::{KindId, NodeLease};
use base::{Backoff, Retry};
use store::{Expectation, Group, LeaseId, Outcome, Revision};
use tracing::debug;

use crate::cache::{Cache, News};
use crate::connections::ConnectionId;
use crate::write::Current;
use crate::{Server, keys};

/// Events that are looked through at a time.
const EVENTS_MAX: usize = 1_000;
/// Node leases that are written at a time.
const WRITES_MAX: usize = 100;
/// How long the store is left alone that did not say what became of a write.
const PAUSE: Duration = Duration::from_secs(1);

/// What a connection means for its node's lease.
#[derive(Debug, PartialEq, Eq)]
enum Telling {
    /// The lease tells of it, or is not this agent's: there is nothing to do until it changes.
    Nothing,
    /// The lease is to tell of it.
    Write(NodeLeaseSpec),
    /// The agent has opened another connection since.
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

/// Tells of connections for ever.
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
        // Before all else: `seen` is past the news that this write came of, which nobody tells again.
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

/// The nodes whose leases changed.
#[derive(Debug)]
struct Changed {
    /// Nothing where that is not known: then it may be any.
    nodes: Option<BTreeSet<String>>,
    reached: ResourceVersion,
    /// Whether there are more changes by now.
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
        match cache.news_after(seen, EVENTS_MAX) {
            Ok(News { events, reached, is_all }) => {
                let now = events.iter().filter_map(|event| event.now.as_ref());
                let leases = now.filter(|entry| entry.kind == KindId::NodeLease);
                let nodes = leases.map(|entry| entry.key.name.clone()).collect();
                Self { nodes: Some(nodes), reached, more: !is_all }
            }
            Err(_too_old) => all(),
        }
    }

    fn concerns(&self, node: &str) -> bool {
        self.nodes.as_ref().is_none_or(|nodes| nodes.contains(node))
    }
}

/// Compares connections with their nodes' leases, and writes what is to be written. An error where
/// not all of it is settled: a write that was refused is, since news of what is there will come.
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
        // Added on the way out, and never stored.
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
