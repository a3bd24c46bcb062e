//! Worlds as text, for tests: a line for each object, `place` to decide.
//!
//! ```text
//! node a cpu=2 memory=4Gi zone=x range=20000-20003 images=app leftover=500m leftport=80 cordoned lost new broken broken=DiskPressure
//!   taint=gpu=a100:NoSchedule
//! set mydb mydb-0=a:LEADER,b:STANDBY
//! template t cpu=500m memory=1Gi ports=http:80,dns:53/UDP@127.0.0.1,admin nodes=a,b selector=disk:ssd image=app
//!   constraint=zone_in_(a) prefer=50:gen_>=_3 near=mydb:LEADER nearby=mydb nearjob=split
//!   target=mydb:LEADER max=1 run=r1 tolerate=gpu:a100 tolerate=gpu:*
//! task web-0 of=t job=web partition=mydb-0 priority=5 created=10 after=200 avoid=a
//!   refused=a@99,b@98 on=a state=Running attempt=2 stop=Cancel lost=replaceable port=http:20001 over=cpu:2
//! gone node a | gone task web-0 | gone template t | gone set mydb
//! refuse web-0
//! place [now=100] [max=10]
//! explain web-0
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use api::amounts::{Quantity, amounts};
use api::job::{JobSpec, Target};
use api::node::{Leftover, NodeSpec};
use api::object::ObjectKey;
use api::partition_set::PartitionSetSpec;
use api::placement::{Near, Placement, Preference};
use api::room::HostPort;
use api::taint::{Operator, Toleration};
use api::task::{Binding, Loss, Refusal, Refusals, ReportState, Stop, StopReason, TaskSpec};
use api::task_template::TaskTemplateSpec;
use api::template::{Port, Resources, Template};
use api::{Job, Kind as _, Node, PartitionSet, Task, TaskTemplate, Time, Timestamp};
use serde_json::json;

use crate::plan::{Limits, Plan, explain, place};
use crate::snapshot::{Change, Snapshot};

/// The words of a line: flags, and values by key. A key may occur more than once.
struct Words<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Words<'a> {
    fn new(words: &[&'a str]) -> Self {
        Self(words.iter().map(|word| word.split_once('=').unwrap_or((word, ""))).collect())
    }

    fn all(&self, key: &str) -> Vec<&'a str> {
        self.0.iter().filter(|(known, _)| *known == key).map(|(_, value)| *value).collect()
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.all(key).first().copied()
    }

    fn has(&self, flag: &str) -> bool {
        self.get(flag).is_some()
    }

    fn number(&self, key: &str) -> Option<u32> {
        self.get(key).map(|text| text.parse().unwrap())
    }

    fn list(&self, key: &str) -> Vec<String> {
        self.get(key).into_iter().flat_map(|text| text.split(',')).map(str::to_owned).collect()
    }

    fn quantities(&self) -> BTreeMap<String, Quantity> {
        let known = ["cpu", "memory", "gpu"];
        let given = self.0.iter().filter(|(key, _)| known.contains(key));
        given.map(|(key, value)| ((*key).to_owned(), value.parse().unwrap())).collect()
    }
}

fn pair(text: &str) -> (String, String) {
    let (left, right) = text.split_once(':').unwrap_or((text, ""));
    (left.to_owned(), right.to_owned())
}

fn at(seconds: u32) -> Timestamp {
    Timestamp::from_second(i64::from(seconds)).unwrap()
}

fn texts(text: &str) -> Vec<String> {
    text.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

fn node(name: &str, words: &Words<'_>) -> Node {
    let mut node = Node::new(
        "",
        name,
        NodeSpec {
            unschedulable: words.has("cordoned"),
            taints: words.all("taint").into_iter().map(|it| it.parse().unwrap()).collect(),
            ..NodeSpec::default()
        },
    );
    let labels = ["zone", "disk", "gen", "spot"];
    let given = words.0.iter().filter(|(key, _)| labels.contains(key));
    node = node.with_labels(given.map(|(key, value)| (*key, *value)));
    node.status.allocatable = words.quantities();
    node.status.images = words.list("images");
    node.status.lost = words.has("lost").then(|| at(1));
    node.status.ready_since = (!words.has("new")).then(|| at(1));
    node.status.problem = words.has("broken").then(|| "no engine".to_owned());
    let trouble = words.get("broken").filter(|text| !text.is_empty());
    node.status.trouble = trouble.map(|text| serde_json::from_value(json!(text)).unwrap());
    node.status.port_range = words.get("range").map(|range| {
        let (first, last) = range.split_once('-').unwrap();
        (first.parse().unwrap(), last.parse().unwrap())
    });
    node.status.leftovers = words
        .all("leftover")
        .into_iter()
        .map(|cpu| {
            let requests = amounts(&[("cpu".to_owned(), cpu.parse().unwrap())].into());
            let ports = words.list("leftport");
            let ports = ports.iter().map(|port| HostPort::whole(port.parse().unwrap())).collect();
            Leftover { uid: "u".to_owned(), attempt: 1, requests, ports }
        })
        .collect();
    node
}

fn set(name: &str, words: &Words<'_>) -> PartitionSet {
    let replicas = |text: &str| text.split(',').map(pair).collect();
    let assignment =
        words.0.iter().map(|(partition, text)| ((*partition).to_owned(), replicas(text)));
    let spec = PartitionSetSpec { assignment: assignment.collect(), ..Default::default() };
    PartitionSet::new("default", name, spec)
}

fn near(words: &Words<'_>) -> Vec<Near> {
    let set = |text: &str, required| {
        let (set, states) = pair(text);
        Near { partition_set: Some(set), states: texts(&states), required, job: None }
    };
    let job = |job: &str| Near { job: Some(job.to_owned()), required: true, ..Near::default() };
    let required = words.all("near").into_iter().map(|text| set(text, true));
    let wished = words.all("nearby").into_iter().map(|text| set(text, false));
    required.chain(wished).chain(words.all("nearjob").into_iter().map(job)).collect()
}

fn toleration(text: &str) -> Toleration {
    let (key, value) = pair(text);
    let operator = if value == "*" { Operator::Exists } else { Operator::Equal };
    let value = if value == "*" { String::new() } else { value };
    Toleration { key, value, operator, ..Toleration::default() }
}

fn template(name: &str, words: &Words<'_>) -> TaskTemplate {
    let port = |text: &String| {
        let (rest, ip) = text.split_once('@').unwrap_or((text, ""));
        let (name, number) = pair(rest);
        let (number, protocol) = number.split_once('/').unwrap_or((&number, "TCP"));
        Port {
            name,
            host_port: number.parse().ok(),
            host_ip: (!ip.is_empty()).then(|| ip.to_owned()),
            protocol: serde_json::from_value(json!(protocol)).unwrap(),
            ..Port::default()
        }
    };
    let sentence = |text: &str| text.replace('_', " ");
    let prefer = |text: &str| {
        let (weight, constraint) = pair(text);
        Preference { weight: weight.parse().unwrap(), constraint: sentence(&constraint) }
    };
    let placement = Placement {
        nodes: words.list("nodes"),
        node_selector: words.all("selector").into_iter().map(pair).collect(),
        constraints: words.all("constraint").into_iter().map(sentence).collect(),
        preferences: words.all("prefer").into_iter().map(prefer).collect(),
        near: near(words),
        tolerations: words.all("tolerate").into_iter().map(toleration).collect(),
        on_node_loss: None,
    };
    let template = Template {
        image: words.get("image").unwrap_or_default().to_owned(),
        resources: Resources { requests: words.quantities(), ..Resources::default() },
        ports: words.list("ports").iter().map(port).collect(),
        ..Template::default()
    };
    let target = words.get("target").map(|text| {
        let (partition_set, states) = pair(text);
        Target { partition_set, states: texts(&states), ..Target::default() }
    });
    let max_per_node = words.number("max");
    let run = words.get("run").unwrap_or_default().to_owned();
    let spec =
        TaskTemplateSpec { template, placement, target, max_per_node, run, ..Default::default() };
    TaskTemplate::new("default", name, spec)
}

fn task(name: &str, words: &Words<'_>) -> Task {
    let attempt = words.number("attempt").unwrap_or(1);
    let mut spec = TaskSpec {
        template: words.get("of").unwrap_or("t").to_owned(),
        run: 1,
        attempt,
        priority: words.get("priority").map_or(0, |text| text.parse().unwrap()),
        not_before: words.number("after").map(at),
        avoid: words.list("avoid"),
        ..TaskSpec::default()
    };
    spec.overrides.partition = words.get("partition").map(str::to_owned);
    if let Some((resource, amount)) = words.get("over").map(pair) {
        let over = json!({ "resources": { "requests": { resource: amount } } });
        spec.overrides.template = over.as_object().cloned().map(Box::new);
    }
    let given_back = words.list("refused");
    let by = given_back.iter().filter_map(|text| text.split_once('@'));
    let by = by.map(|(node, second)| Refusal {
        node: node.to_owned(),
        count: 1,
        at: at(second.parse().unwrap()),
        message: "no room".to_owned(),
    });
    let by: Vec<Refusal> = by.collect();
    if let Ok(count @ 1..) = u32::try_from(by.len()) {
        spec.refusals = Some(Box::new(Refusals { attempt, count, by }));
    }
    let binding = |node: &str| Binding {
        node: (node != "-").then(|| node.to_owned()),
        attempt,
        number: words.number("number").unwrap_or(1),
        at: at(1),
    };
    spec.binding = words.get("on").map(binding);
    let stop = Stop { attempt, reason: StopReason::Evict, message: None, at: at(2) };
    spec.stop = words.has("stop").then(|| stop.into());
    let mut task = Task::new("default", name, spec);
    let job = words.get("job").unwrap_or("job");
    task = task.with_controller(Job::new("default", job, JobSpec::default()).as_controller());
    task.metadata.uid = Some(format!("uid-{name}"));
    task.metadata.creation_timestamp = Some(Time(at(words.number("created").unwrap_or(0))));
    if let Some(state) = words.get("state") {
        let state = serde_json::from_value::<ReportState>(json!(state)).unwrap();
        task.status.state = Some(state);
        (task.status.attempt, task.status.binding) = (attempt, 1);
    }
    let loss =
        |lost| Loss { attempt, since: at(1), replaceable: lost == "replaceable", waits: false };
    task.status.loss = words.get("lost").map(|lost| loss(lost).into());
    task.status.ports = words
        .get("port")
        .map(pair)
        .map(|(name, port)| (name, port.parse().unwrap()))
        .into_iter()
        .collect();
    task
}

/// The change that a line describes.
pub(crate) fn change(line: &str) -> Change {
    let words: Vec<&str> = line.split_whitespace().collect();
    let key = |name: &str| ObjectKey::new("default", name);
    match words.as_slice() {
        ["node", name, rest @ ..] => Change::Node(Arc::new(node(name, &Words::new(rest)))),
        ["set", name, rest @ ..] => Change::PartitionSet(Arc::new(set(name, &Words::new(rest)))),
        ["template", name, rest @ ..] => {
            Change::TaskTemplate(Arc::new(template(name, &Words::new(rest))))
        }
        ["task", name, rest @ ..] => Change::Task(Arc::new(task(name, &Words::new(rest)))),
        ["gone", "node", name] => Change::NodeGone((*name).to_owned()),
        ["gone", "set", name] => Change::PartitionSetGone(key(name)),
        ["gone", "template", name] => Change::TaskTemplateGone(key(name)),
        ["gone", "task", name] => Change::TaskGone(key(name)),
        _ => panic!("not a line of a world: {line}"),
    }
}

/// The result of one decision as text.
pub(crate) fn show(snapshot: &Snapshot, plan: &Plan) -> String {
    let mut text = String::new();
    for bind in &plan.bindings {
        text.push_str(&format!("{} -> {}\n", bind.task.name(), bind.node));
    }
    for class in &plan.waiting {
        let names: Vec<_> = snapshot.waiting_tasks(*class).map(|task| task.name()).collect();
        let why = explain(snapshot, *class).unwrap();
        text.push_str(&format!("{}: {why}\n", names.join(" ")));
    }
    if let Some(wake_at) = plan.wake_at {
        text.push_str(&format!("wake at {}\n", wake_at.as_second()));
    }
    if plan.more {
        text.push_str("more\n");
    }
    if text.is_empty() {
        text.push_str("nothing\n");
    }
    text
}

/// Runs the lines of a world and returns the result of each decision.
pub(crate) fn run(world: &str) -> (Snapshot, String) {
    let mut snapshot = Snapshot::new();
    let mut text = String::new();
    let lines: Vec<&str> = world.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["place", rest @ ..] => {
                let words = Words::new(rest);
                let now = at(words.number("now").unwrap_or(100));
                let bindings_max = words.number("max").map_or(1000, |max| max as usize);
                let plan = place(&mut snapshot, &Limits { now, bindings_max });
                if !text.is_empty() {
                    text.push_str("--\n");
                }
                text.push_str(&show(&snapshot, &plan));
            }
            ["refuse", name] => {
                snapshot.put_back(&ObjectKey::new("default", *name), 1, at(0));
            }
            _ => snapshot.apply(change(line)),
        }
    }
    (snapshot, text)
}
