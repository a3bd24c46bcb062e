//! What one turn of an agent costs by how many tasks run on its node, when one of them has ended:
//! to decide, to keep the ledger and to write the journal, here in memory. The last column is what
//! the turn costs that looks at everything. Prints a table.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::amounts::Amounts;
use api::task::TaskSpec;
use api::task::transition::{Applied, TaskChange, apply};
use api::{Task, Timestamp};
use node_agent::attempt::{Attempt, Progress};
use node_agent::engine::{ContainerState, Identity};
use node_agent::journal::Owner;
use node_agent::plan::{Assignment, Node, Template, View, Which, plan};
use node_agent::resolve::HostInfo;
use node_agent::{Journal, Ledger, Log};
use tokio::time::Instant;

/// Turns of each kind.
const TURNS: u32 = 50;

struct World {
    assignments: BTreeMap<Identity, Assignment>,
    containers: BTreeMap<Identity, ContainerState>,
    ledger: Ledger,
    log: Log,
}

async fn world(tasks: u32) -> World {
    let template = serde_json::json!({ "template": { "image": "x" }, "owner": { "kind": "Job", "name": "j" } });
    let template = serde_json::from_value(template).expect("the template is valid");
    let template = Template::Known(Arc::new(template));
    let mut assignments = BTreeMap::new();
    let mut containers = BTreeMap::new();
    let since = Timestamp::UNIX_EPOCH;
    for index in 0..tasks {
        let (name, uid) = (format!("j-{index}"), format!("{index:x}"));
        let spec = TaskSpec { template: "j-x".to_owned(), attempt: 1, ..TaskSpec::default() };
        let mut task = Task::new("default", &name, spec);
        task.metadata.uid = Some(uid.clone());
        let bind = TaskChange::Bind { node: "n1".to_owned() };
        if let Ok(Applied::Changed(bound)) = apply(&task, 1, &bind, since) {
            task = *bound;
        }
        let identity = Identity::new("default", &name, &uid, 1).expect("the names are valid");
        let assignment = Assignment { task: Arc::new(task), template: Some(template.clone()) };
        assignments.insert(identity.clone(), assignment);
        containers.insert(identity, ContainerState::Running { since });
    }
    let running = Progress::Running { started: since, seen: since };
    let attempts = assignments.keys().map(|it| Attempt::found(it.clone(), running.clone()));
    let ledger = Ledger::of(attempts);
    let log = Journal::in_memory().begin(&Owner::default(), ledger.attempts()).await;
    World { assignments, containers, ledger, log: log.expect("memory takes everything") }
}

impl World {
    async fn turn(&mut self, which: Which<'_>) {
        let plan = plan(&View {
            assignments: Some(&self.assignments),
            containers: &self.containers,
            ledger: &self.ledger,
            which,
            busy: &BTreeSet::new(),
            node: Node {
                host: HostInfo { node: "n1", address: "127.0.0.1", own_network: true },
                boot_id: "boot",
                capacity: &Amounts::new(),
                port_range: (20_000, 29_999),
                shortage: None,
            },
            now: Timestamp::UNIX_EPOCH,
            wall: Timestamp::UNIX_EPOCH,
        });
        for (identity, change) in plan.changes {
            match change {
                Some(attempt) => self.ledger.put(attempt),
                None => self.ledger.remove(&identity),
            }
        }
        let changes = self.ledger.take_unwritten();
        self.log.append(&changes).await.expect("memory takes everything");
    }

    /// What a turn takes after another container has ended, for that one or for all.
    async fn measure(&mut self, is_for_all: bool) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..TURNS {
            let runs = |state: &ContainerState| matches!(state, ContainerState::Running { .. });
            let next = self.containers.iter_mut().find(|(_, state)| runs(state));
            let (identity, state) = next.expect("there are more tasks than turns");
            *state = ContainerState::Exited {
                started: None,
                at: Timestamp::UNIX_EPOCH,
                code: 0,
                signal: None,
                oom_killed: false,
                is_unseen: false,
                message: None,
            };
            let these = BTreeSet::from([identity.clone()]);
            let began = Instant::now();
            self.turn(if is_for_all { Which::All } else { Which::These(&these) }).await;
            took += began.elapsed();
        }
        took / TURNS
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("{:>8}  {:>12}  {:>12}", "tasks", "turn us", "of all us");
    for tasks in [200, 2_000, 20_000] {
        let mut world = world(tasks).await;
        let one = world.measure(false).await.as_micros();
        let all = world.measure(true).await.as_micros();
        println!("{tasks:>8}  {one:>12}  {all:>12}");
    }
}
