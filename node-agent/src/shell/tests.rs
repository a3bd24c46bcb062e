//! What an agent says before it does anything.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::attempt::{Attempt, Progress};
use crate::engine::Identity;

/// A record of `node`, with so many attempts.
async fn record_of(node: &str, attempts: u32) -> Journal {
    let journal = Journal::in_memory();
    let owner = Owner { agent: "a".to_owned(), node: node.to_owned(), cluster: None };
    let attempt = |number: u32| {
        let identity = Identity::new("default", "t", "0a", number).unwrap();
        let starting = Progress::Starting { since: Timestamp::UNIX_EPOCH };
        (identity.clone(), Attempt::found(identity, starting))
    };
    journal.begin(&owner, &(1..=attempts).map(attempt).collect()).await.unwrap();
    journal
}

/// How an agent of that name ends on a record; nothing where it works on.
async fn run_on(journal: Journal, name: &str) -> Option<AgentError> {
    let config = Config {
        name: name.to_owned(),
        labels: BTreeMap::new(),
        capacity: Amounts::new(),
        port_range: (1, 2),
        address: "127.0.0.1".to_owned(),
        journal,
        dial: None,
        accept_cluster: false,
    };
    // Nothing listens there: an agent that works on asks for its node lease again and again.
    let servers = client::Servers::parse("http://127.0.0.1:1", 0).unwrap();
    let outside = Outside {
        client: Client::new(client::http_transport(&servers)),
        open_engine: Arc::new(|_| Box::pin(async { Err(EngineError::unavailable("none")) })),
        clock: Clock::simulated(Timestamp::UNIX_EPOCH),
        rng: Rng::seeded(1),
        health: Health::default(),
    };
    let tasks = Tasks::new("test");
    let registry = Registry::new();
    let ended = run(config, outside, &registry, tasks.stop_signal());
    timeout(Duration::from_secs(5), ended).await.ok().map(Result::unwrap_err)
}

#[tokio::test(start_paused = true)]
async fn the_state_directory_of_another_node_is_refused_where_anything_is_in_it() {
    let refused = run_on(record_of("n1", 2).await, "n2").await.unwrap().to_string();
    for part in ["node n1's", "has 2 attempts", "--state-dir", "drain it first"] {
        assert!(refused.contains(part), "{refused}");
    }
    for (journal, name) in [
        (record_of("n1", 2).await, "n1"),
        (record_of("n1", 0).await, "n2"),
        // An older version did not say whose it is.
        (record_of("", 2).await, "n2"),
        (Journal::in_memory(), "n2"),
    ] {
        assert!(run_on(journal, name).await.is_none(), "{name}");
    }
}
