//! What an agent says before it does anything, and how it begins with its engine.

use std::time::Duration;

use tokio::time::{sleep, sleep_until, timeout};

use super::*;
use crate::attempt::{Attempt, Progress};
use crate::engine::sim::SimMachine;
use crate::engine::{ContainerState, Identity};

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

fn config(journal: Journal, name: &str) -> Config {
    Config {
        name: name.to_owned(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        host: Host::default(),
        view_socket: None,
        capacity: Amounts::new(),
        port_range: (1, 2),
        address: "127.0.0.1".to_owned(),
        journal,
        dial: None,
        accept_cluster: false,
        added: Added::default(),
    }
}

fn outside(clock: Clock, open_engine: OpenEngine) -> Outside {
    // Nothing listens there, so an agent that keeps working asks for its node lease again and
    // again.
    let servers = client::Servers::parse("http://127.0.0.1:1", 0).unwrap();
    Outside {
        client: Client::new(client::http_transport(&servers)),
        open_engine,
        clock,
        rng: Rng::seeded(1),
        health: Health::default(),
    }
}

/// How an agent with this name ends on a given record; nothing if it keeps working.
async fn run_on(journal: Journal, name: &str) -> Option<AgentError> {
    let open_engine: OpenEngine =
        Arc::new(|_| Box::pin(async { Err(EngineError::unavailable("none")) }));
    let outside = outside(Clock::simulated(Timestamp::UNIX_EPOCH), open_engine);
    let tasks = Tasks::new("test");
    let registry = Registry::new();
    let ended = run(config(journal, name), outside, &registry, tasks.stop_signal());
    timeout(Duration::from_secs(5), ended).await.ok().map(Result::unwrap_err)
}

/// An agent that knows its cluster, on a simulated machine. It sends no requests until it takes a
/// turn.
async fn agent_on(machine: &SimMachine, journal: Journal, tasks: &Tasks) -> Agent {
    let cluster = Cluster { id: "c".to_owned(), epoch: 1, restore: String::new() };
    let mut record = journal.load().unwrap();
    record.owner.cluster = Some(cluster);
    journal.begin(&record.owner, &record.attempts).await.unwrap();
    let engines = machine.clone();
    let open_engine: OpenEngine = Arc::new(move |scope| {
        let engine: Arc<dyn Engine> = Arc::new(engines.engine(scope));
        Box::pin(async { Ok(engine) })
    });
    let outside = outside(Clock::simulated(Timestamp::UNIX_EPOCH), open_engine);
    let (events, _) = mpsc::channel(EVENTS_MAX);
    let metrics = Metrics::new(&Registry::new()).unwrap();
    Agent::start(config(journal, "n1"), outside, metrics, tasks, events).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_engine_is_listened_to_once_however_often_it_is_opened() {
    let machine = SimMachine::new(Clock::system(), 1, 1 << 30);
    let tasks = Tasks::new("test");
    let mut agent = agent_on(&machine, Journal::in_memory(), &tasks).await;
    machine.break_listing(true);
    for _ in 0..10 {
        agent.look().await;
        sleep_until(agent.engine_view.ask_at.expect("it is asked again")).await;
    }
    assert_eq!(machine.listeners(), 0, "nobody listens to an engine that could not be opened");
    machine.break_listing(false);
    agent.look().await;
    assert!(agent.engine_view.is_clear());
    assert_eq!(machine.listeners(), 1);
    // As for a change of the cluster.
    agent.engine_view.close();
    agent.look().await;
    let alone = async {
        while machine.listeners() != 1 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(1), alone).await.expect("nobody listens to the one before");
}

/// The task name of a damaged container is known to the agent and the apiserver only.
#[tokio::test(start_paused = true)]
async fn a_container_that_is_damaged_is_found_by_its_uid_and_attempt() {
    let machine = SimMachine::new(Clock::system(), 1, 1 << 30);
    let tasks = Tasks::new("test");
    let mut agent = agent_on(&machine, record_of("n1", 2).await, &tasks).await;
    let damaged = || Some(ContainerState::Unreadable { why: "damaged".to_owned() });
    let seen = |agent: &Agent| {
        let seen = agent.engine_view.seen_of(|| agent.ledger.attempts().keys());
        seen.keys().map(|it| format!("{}/{}", it.task(), it.attempt())).collect::<Vec<_>>()
    };
    agent.engine_view.take_in(Identity::nameless("0a", 2).unwrap(), damaged());
    agent.engine_view.take_in(Identity::nameless("0b", 1).unwrap(), damaged());
    assert_eq!(seen(&agent), ["t/2"]);
    let problem = agent.engine_view.problem().unwrap();
    assert_eq!(problem, "damaged (and the records of 1 other attempts are damaged)");
    let named = Identity::new("default", "t", "0a", 2).unwrap();
    let since = Timestamp::UNIX_EPOCH;
    agent.engine_view.take_in(named, Some(ContainerState::Running { since }));
    assert_eq!(seen(&agent), ["t/2"]);
    agent.engine_view.take_in(Identity::nameless("0b", 1).unwrap(), None);
    assert_eq!(agent.engine_view.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn the_state_directory_of_another_node_is_refused_where_anything_is_in_it() {
    let refused = run_on(record_of("n1", 2).await, "n2").await.unwrap().to_string();
    for part in ["belongs to node n1", "holds 2 of its attempts", "--state-dir", "drain it first"] {
        assert!(refused.contains(part), "{refused}");
    }
    for (journal, name) in [
        (record_of("n1", 2).await, "n1"),
        (record_of("n1", 0).await, "n2"),
        // An earlier version did not store the node's name.
        (record_of("", 2).await, "n2"),
        (Journal::in_memory(), "n2"),
    ] {
        assert!(run_on(journal, name).await.is_none(), "{name}");
    }
}
