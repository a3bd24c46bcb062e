//! The scheduler and the agents go by one rule: a binding that the scheduler decides fits for the
//! agent, and a task that it has no node for would not fit either. Else a task would be bound and
//! given back for ever, or wait although there is room for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::node::NodeSpec;
use api::task::transition::{Applied, TaskChange, apply};
use api::task::{ReportState, TaskSpec};
use api::task_template::TaskTemplateSpec;
use api::{Kind as _, Node, Task, TaskTemplate, Timestamp};
use node_agent::Ledger;
use node_agent::attempt::{Attempt, Content};
use node_agent::engine::{ContainerState, Identity};
use node_agent::plan::{self, Assignment, View, Which, plan};
use node_agent::resolve::HostInfo;
use proptest::prelude::*;
use scheduler::{Change, Limits, Snapshot, place};
use serde_json::json;

const RANGE: (u16, u16) = (20_000, 20_003);
const NODES: [&str; 2] = ["n0", "n1"];

/// What happens.
#[derive(Debug, Clone)]
enum Happening {
    /// A task comes that runs this template.
    Come(usize),
    /// A task ends by itself.
    End(usize),
    /// A node's agent starts anew, having lost what only its process knew.
    Restart(usize),
    /// A task that runs is given up: its node has to stop it, and tells of it until then.
    GiveUp(usize),
    /// What is left over on a node has ended.
    Stopped(usize),
    /// The agents look, and what they say is heard.
    Look,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0..TEMPLATES.len()).prop_map(Happening::Come),
        3 => (0..20_usize).prop_map(Happening::End),
        1 => (0..2_usize).prop_map(Happening::Restart),
        2 => (0..20_usize).prop_map(Happening::GiveUp),
        1 => (0..2_usize).prop_map(Happening::Stopped),
        3 => Just(Happening::Look),
    ]
}

/// Ports and requests that touch each other in every way.
const TEMPLATES: [&str; 16] = [
    "[] cpu=300m",
    "[] cpu=1",
    "[] gpu=1",
    "[] memory=100Mi cpu=100m",
    r#"[{"name":"a"}] cpu=100m"#,
    r#"[{"name":"a"},{"name":"b","protocol":"UDP"}]"#,
    r#"[{"name":"a","hostPort":53}]"#,
    r#"[{"name":"a","hostPort":53,"protocol":"UDP"}]"#,
    r#"[{"name":"a","hostPort":53},{"name":"b","hostPort":53,"protocol":"UDP"}]"#,
    r#"[{"name":"a","hostPort":53,"hostIP":"127.0.0.1"}]"#,
    r#"[{"name":"a","hostPort":53,"hostIP":"127.0.0.2"}]"#,
    r#"[{"name":"a","hostPort":53,"hostIP":"0.0.0.0"}]"#,
    r#"[{"name":"a","hostPort":53,"hostIP":"::1"}]"#,
    r#"[{"name":"a","hostPort":20001,"protocol":"UDP"}]"#,
    r#"[{"name":"a","hostPort":20002},{"name":"b"}]"#,
    r#"[{"name":"a","hostPort":20003,"hostIP":"127.0.0.1"},{"name":"b"},{"name":"c"}]"#,
];

fn template(index: usize) -> TaskTemplate {
    let (ports, requests) = TEMPLATES[index].rsplit_once("]").unwrap();
    let requests = requests.split_whitespace().filter_map(|pair| pair.split_once('='));
    let requests: BTreeMap<&str, &str> = requests.collect();
    let spec: TaskTemplateSpec = serde_json::from_value(json!({
        "job": format!("job-{index}"),
        "template": {
            "image": "app",
            "ports": serde_json::from_str::<serde_json::Value>(&format!("{ports}]")).unwrap(),
            "resources": { "requests": requests },
        },
    }))
    .unwrap();
    TaskTemplate::new("default", &format!("template-{index}"), spec)
}

fn node(name: &str) -> Node {
    let mut node = Node::new("", name, NodeSpec::default());
    let offered = json!({ "cpu": "2", "memory": "1Gi", "gpu": 1 });
    node.status.allocatable = serde_json::from_value(offered).unwrap();
    node.status.port_range = Some(RANGE);
    node.status.ready_since = Some(Timestamp::UNIX_EPOCH);
    node
}

/// What one agent knows.
#[derive(Default)]
struct Agent {
    ledger: Ledger,
    containers: BTreeMap<Identity, ContainerState>,
    assignments: BTreeMap<Identity, Assignment>,
}

struct World {
    snapshot: Snapshot,
    tasks: BTreeMap<Identity, Task>,
    templates: Vec<TaskTemplate>,
    nodes: Vec<Node>,
    agents: Vec<Agent>,
}

fn identity(task: &Task) -> Identity {
    Identity::new("default", task.name(), task.uid(), task.spec.attempt).unwrap()
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            snapshot: Snapshot::new(),
            tasks: BTreeMap::new(),
            templates: (0..TEMPLATES.len()).map(template).collect(),
            nodes: NODES.map(node).into(),
            agents: vec![Agent::default(), Agent::default()],
        };
        for node in &world.nodes {
            world.snapshot.apply(Change::Node(Arc::new(node.clone())));
        }
        for template in &world.templates {
            world.snapshot.apply(Change::TaskTemplate(Arc::new(template.clone())));
        }
        world
    }

    fn agent_of(&self, node: &str) -> usize {
        NODES.iter().position(|name| *name == node).unwrap()
    }

    fn come(&mut self, template: usize) {
        let number = self.tasks.len();
        let spec = TaskSpec {
            template: format!("template-{template}"),
            run: 1,
            attempt: 1,
            ..TaskSpec::default()
        };
        let mut task = Task::new("default", &format!("t-{number}"), spec);
        task.metadata.uid = Some(format!("{number:x}"));
        self.tasks.insert(identity(&task), task.clone());
        self.snapshot.apply(Change::Task(Arc::new(task)));
    }

    fn change(&mut self, identity: &Identity, change: &TaskChange) {
        let Some(task) = self.tasks.get_mut(identity) else { return };
        if let Ok(Applied::Changed(next)) = apply(task, 1, change, Timestamp::UNIX_EPOCH) {
            *task = *next;
            self.snapshot.apply(Change::Task(Arc::new(task.clone())));
        }
    }

    fn assignment(&self, task: &Task) -> Assignment {
        let named = |template: &&TaskTemplate| template.name() == task.spec.template;
        let template = self.templates.iter().find(named).unwrap();
        let template = plan::Template::Known(Arc::new(template.spec.clone()));
        Assignment { task: Arc::new(task.clone()), template: Some(template) }
    }

    /// What an agent decides, were this bound to it as well.
    fn decide(&self, agent: usize, more: Option<&Task>) -> plan::Plan {
        let mut assignments = self.agents[agent].assignments.clone();
        assignments.extend(more.map(|task| (identity(task), self.assignment(task))));
        let capacity = self.nodes[agent].allocatable();
        plan(&View {
            assignments: Some(&assignments),
            containers: &self.agents[agent].containers,
            ledger: &self.agents[agent].ledger,
            which: Which::All,
            busy: &BTreeSet::new(),
            node: plan::Node {
                host: HostInfo { node: NODES[agent], address: "127.0.0.1", own_network: true },
                boot_id: "boot",
                capacity: &capacity,
                port_range: RANGE,
                shortage: None,
            },
            now: Timestamp::UNIX_EPOCH,
            wall: Timestamp::UNIX_EPOCH,
        })
    }

    /// An agent looks and acts, and what it says is heard.
    fn look(&mut self, agent: usize) {
        let tasks = self.tasks.values();
        let here = tasks.filter(|task| task.node() == Some(NODES[agent]) && !task.has_ended());
        let assignments = here.map(|task| (identity(task), self.assignment(task))).collect();
        self.agents[agent].assignments = assignments;
        let decided = self.decide(agent, None);
        let Agent { ledger, containers, .. } = &mut self.agents[agent];
        for (identity, change) in decided.changes {
            match change {
                Some(attempt) => ledger.put(attempt),
                None => ledger.remove(&identity),
            }
        }
        for action in &decided.actions {
            match action {
                plan::Action::Start(spec) => {
                    let since = Timestamp::UNIX_EPOCH;
                    containers.insert(spec.identity.clone(), ContainerState::Running { since });
                }
                plan::Action::Remove(identity) => drop(containers.remove(identity)),
                // What has to be stopped takes its time.
                plan::Action::Signal(..) | plan::Action::Kill(_) => (),
            }
        }
        let leftovers = decided.leftovers.into_values().collect();
        if self.nodes[agent].status.leftovers != leftovers {
            self.nodes[agent].status.leftovers = leftovers;
            self.snapshot.apply(Change::Node(Arc::new(self.nodes[agent].clone())));
        }
        let said: Vec<(Attempt, u64, Content)> = self.agents[agent]
            .ledger
            .to_say()
            .map(|(attempt, message)| (attempt.clone(), message.number, message.says.clone()))
            .collect();
        for (attempt, number, says) in said {
            self.agents[agent].ledger.heard(&attempt.identity, number);
            match says {
                Content::Report(report) => {
                    self.change(&attempt.identity, &TaskChange::Report(report))
                }
                Content::Refuse(why) => panic!("{} is given back: {why}", attempt.identity.task()),
            }
        }
    }

    fn look_all(&mut self) {
        // Started, seen running, and heard.
        for _ in 0..3 {
            (0..NODES.len()).for_each(|agent| self.look(agent));
        }
    }

    fn nth_running(&self, n: usize) -> Option<Identity> {
        let runs = |task: &&Task| task.report() == Some(ReportState::Running);
        self.tasks.values().filter(runs).map(identity).nth(n)
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Come(template) => self.come(*template),
            Happening::End(n) => {
                let Some(identity) = self.nth_running(*n) else { return };
                let agent = self.agent_of(self.tasks[&identity].node().unwrap());
                let at = Timestamp::UNIX_EPOCH;
                let exited = ContainerState::Exited {
                    started: None,
                    at,
                    code: 0,
                    signal: None,
                    oom_killed: false,
                    is_unseen: false,
                    message: None,
                };
                self.agents[agent].containers.insert(identity, exited);
            }
            Happening::Restart(agent) => {
                let ledger = &mut self.agents[*agent].ledger;
                let attempts: Vec<&Attempt> = ledger.attempts().values().collect();
                let stored = serde_json::to_string(&attempts).unwrap();
                *ledger = Ledger::of(serde_json::from_str::<Vec<Attempt>>(&stored).unwrap());
            }
            Happening::GiveUp(n) => {
                let Some(identity) = self.nth_running(*n) else { return };
                for change in [TaskChange::Lose, TaskChange::Replaceable, TaskChange::Record] {
                    self.change(&identity, &change);
                }
                // The scheduler hears of leftovers before it may count on what they take.
                self.look_all();
            }
            Happening::Stopped(agent) => {
                let uids: BTreeSet<String> =
                    self.nodes[*agent].status.leftovers.iter().map(|it| it.uid.clone()).collect();
                self.agents[*agent].containers.retain(|it, _| !uids.contains(it.uid()));
            }
            Happening::Look => self.look_all(),
        }
    }

    fn bind(&mut self) {
        let limits = Limits { now: Timestamp::UNIX_EPOCH, bindings_max: 100 };
        for bind in place(&mut self.snapshot, &limits).bindings {
            let node = bind.node.to_string();
            self.change(&identity(&bind.task), &TaskChange::Bind { node });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn scheduler_and_agents_agree_on_what_fits(
        happenings in proptest::collection::vec(happening(), 1..60),
    ) {
        let mut world = World::new();
        for happening in happenings {
            world.happen(&happening);
            world.bind();
            // Nothing that was bound is given back ...
            world.look_all();
            world.bind();
            world.look_all();
            // ... and what waits would be.
            for task in world.tasks.values().filter(|task| task.node().is_none()) {
                for (agent, node) in NODES.into_iter().enumerate() {
                    let bind = TaskChange::Bind { node: node.to_owned() };
                    let Ok(Applied::Changed(bound)) = apply(task, 1, &bind, Timestamp::UNIX_EPOCH)
                    else { continue };
                    let plan = world.decide(agent, Some(&bound));
                    let attempt = plan.changes[&identity(task)].as_ref().unwrap();
                    let says = attempt.unsent.as_ref().map(|message| &message.says);
                    let is_given_back = matches!(says, Some(Content::Refuse(_)));
                    prop_assert!(is_given_back, "{node} has room for {}", task.name());
                }
            }
        }
    }
}
