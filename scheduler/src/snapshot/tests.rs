//! The snapshot is a function of its objects and promises.

use std::fmt::Write as _;

use api::room::HostPort;
use proptest::prelude::*;

use super::node::NodeId;
use super::*;
use crate::plan::{Limits, place};
use crate::world;

impl Snapshot {
    /// The class of a known task.
    pub(crate) fn class_of(&self, task: &Task) -> ClassId {
        let id = self.task_ids[&task.key()];
        self.tasks.at(id.0).class.unwrap()
    }

    /// Everything that decisions depend on, by name.
    pub(crate) fn dump(&self) -> String {
        let mut text = String::new();
        let named = |id: &u32| self.nodes.at(NodeId(*id)).name.clone();
        let mut nodes: Vec<u32> = self.nodes.all().map(|id| id.0).collect();
        nodes.sort_by_key(named);
        for id in nodes {
            let node = self.nodes.at(NodeId(id));
            let amounts = |row: &crate::resources::Row| -> Vec<u64> {
                let known = ["cpu", "memory"].map(|name| self.resources.find(name));
                known.into_iter().map(|id| id.map_or(0, |id| row.get(id))).collect()
            };
            let (offered, taken) = (amounts(&node.allocatable), amounts(&node.taken));
            let known = node.object.is_some();
            let ports = node.ports_taken();
            writeln!(text, "node {} known={known} {offered:?} {taken:?} {ports}", node.name)
                .unwrap();
            let jobs = self.jobs.iter().map(|(id, name, _)| (name, node.tasks_of(id)));
            let jobs: BTreeMap<_, _> = jobs.filter(|(_, tasks)| *tasks > 0).collect();
            writeln!(text, "  {} tasks {jobs:?}", node.tasks).unwrap();
        }
        let succeeded = self.jobs.iter().map(|(_, name, job)| (name, &job.succeeded));
        let succeeded: BTreeMap<_, _> = succeeded.collect();
        writeln!(text, "succeeded {succeeded:?}").unwrap();
        for (key, id) in &self.task_ids {
            let entry = self.tasks.at(id.0);
            let class = self.classes.at(entry.class.unwrap().0);
            let promised = entry.promised_node();
            let queued = class.queue.iter().any(|queued| queued.task == *id);
            let task_use = match &entry.task_use {
                TaskUse::Idle => "idle".to_owned(),
                TaskUse::Queued(_) => "waits".to_owned(),
                TaskUse::Delayed(until) => format!("until {until}"),
                TaskUse::Taking { node, .. } => format!("on {}", self.nodes.at(*node).name),
                TaskUse::Succeeded { node } => format!("was on {node}"),
            };
            let blocked = &class.facts.blocked;
            writeln!(text, "task {key} {task_use} {queued} {promised:?} {blocked:?}").unwrap();
        }
        writeln!(text, "pending {}", self.pending()).unwrap();
        let classes: Vec<_> = self.class_ids.keys().collect();
        writeln!(text, "classes {classes:?} of {} shapes", self.shapes.len()).unwrap();
        text
    }

    /// Checks that no node has more promised than it offers, beyond what the objects themselves
    /// say.
    pub(crate) fn check_promises(&self) {
        let promised: BTreeSet<&str> =
            self.tasks.iter().filter_map(|(_, entry)| entry.promised_node()).collect();
        for name in promised {
            let node = self.nodes.at(self.nodes.find(name).unwrap());
            let fixed = self.fixed_ports_on(name);
            let twice = |(n, port): (usize, &HostPort)| {
                fixed[..n].iter().any(|before| before.conflicts_with(port))
            };
            assert!(!fixed.iter().enumerate().any(twice), "a port twice on {name}: {fixed:?}");
            let over = node.taken.iter().any(|(id, taken)| taken > node.allocatable.get(id));
            let promised_here = self.promised_on(name);
            // The objects may already exceed the node's capacity. Then nothing may be promised in
            // addition.
            let before = self.taken_without_promises(name);
            assert!(!over || promised_here == 0 || before, "{name} is over-committed");
            for (job, job_name, _) in self.jobs.iter() {
                let max = self.max_per_node(job);
                let tasks = node.tasks_of(job);
                assert!(max.is_none_or(|max| tasks <= max), "{job_name} on {name}: {tasks}");
            }
        }
    }

    fn entries_on<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a TaskEntry> {
        let on = move |task_use: &TaskUse| matches!(task_use, TaskUse::Taking { node, .. } if *self.nodes.at(*node).name == *name);
        self.tasks.iter().map(|(_, entry)| entry).filter(move |entry| on(&entry.task_use))
    }

    fn shape(&self, entry: &TaskEntry) -> Option<&Shape> {
        self.classes.at(entry.class?.0).facts.shape.as_deref()
    }

    fn fixed_ports_on(&self, name: &str) -> Vec<HostPort> {
        // Tasks that were bound by somebody else may conflict; promises may not.
        let promised = self.entries_on(name).filter(|entry| entry.promised_node().is_some());
        let shapes = promised.filter_map(|entry| self.shape(entry));
        shapes.flat_map(|shape| &shape.ports.fixed).copied().collect()
    }

    fn promised_on(&self, name: &str) -> usize {
        self.entries_on(name).filter(|entry| entry.promised_node().is_some()).count()
    }

    fn taken_without_promises(&self, name: &str) -> bool {
        let node = self.nodes.at(self.nodes.find(name).unwrap());
        let mut taken = node.taken.clone();
        for entry in self.entries_on(name).filter(|entry| entry.promised_node().is_some()) {
            for (_, id, amount) in self.shape(entry).iter().flat_map(|shape| &shape.requests) {
                taken.subtract(*id, *amount);
            }
        }
        taken.iter().any(|(id, taken)| taken > node.allocatable.get(id))
    }

    /// The limit of a job whose tasks all have the same one.
    fn max_per_node(&self, job: crate::class::JobId) -> Option<u32> {
        let classes = self.classes.iter().filter(|(_, class)| class.facts.job == job);
        let limits: Vec<_> = classes
            .map(|(_, class)| class.facts.shape.as_ref().and_then(|shape| shape.max_per_node))
            .collect();
        let bound_elsewhere = self.tasks.iter().any(|(_, entry)| {
            entry.class.is_some_and(|class| self.classes.at(class.0).facts.job == job)
                && entry.object.node().is_some()
        });
        let largest = limits.iter().copied().max().flatten();
        largest.filter(|_| !bound_elsewhere && limits.iter().all(Option::is_some))
    }
}

fn lines() -> impl Strategy<Value = Vec<String>> {
    let node = (0..4_u32, 0..4_u32, 0..3_u32).prop_map(|(name, cpu, extra)| {
        let extra = ["", "leftover=300m", "lost"][extra as usize];
        format!("node n{name} cpu={cpu} range=20000-20003 {extra}")
    });
    let template = (0..3_u32, 0..4_u32, 0..5_u32).prop_map(|(name, cpu, extra)| {
        let extra =
            ["", "ports=http:80", "ports=x near=data", "target=data", "nearjob=j1"][extra as usize];
        format!("template t{name} cpu={cpu}00m {extra}")
    });
    let task = (0..8_u32, 0..3_u32, 0..4_u32, 0..10_u32).prop_map(|(name, of, node, state)| {
        let state = [
            "".to_owned(),
            "priority=2".to_owned(),
            "after=50".to_owned(),
            format!("on=n{node}"),
            format!("on=n{node} state=Running port=x:20001"),
            format!("on=n{node} state=Succeeded"),
            format!("on=n{node} state=Failed"),
            format!("on=n{node} lost=replaceable"),
            format!("on=n{node} stop"),
            "attempt=2 over=cpu:2".to_owned(),
        ][state as usize]
            .clone();
        format!("task k{name} of=t{of} job=j{} partition=p0 {state}", name % 3)
    });
    let set = (0..4_u32).prop_map(|node| format!("set data p0=n{node}:ONLINE"));
    let gone = (0..8_u32, 0..3_u32).prop_map(|(name, kind)| {
        ["gone node n", "gone task k", "gone set data"][kind as usize].to_owned()
            + &(if kind == 2 { String::new() } else { name.to_string() })
    });
    let place = Just("place".to_owned());
    let line = prop_oneof![
        3 => node, 2 => template, 8 => task, 1 => set, 2 => gone, 2 => place
    ];
    prop::collection::vec(line, 1..60)
}

proptest! {
    #[test]
    fn a_snapshot_kept_by_changes_equals_one_built_anew(lines in lines()) {
        let mut kept = Snapshot::new();
        let mut objects = BTreeMap::<String, Change>::new();
        for line in &lines {
            if line == "place" {
                place(&mut kept, &Limits { now: Timestamp::UNIX_EPOCH, bindings_max: 3 });
                continue;
            }
            let change = world::change(line);
            kept.apply(change.clone());
            let words: Vec<_> = line.split_whitespace().collect();
            match words.as_slice() {
                ["gone", kind, name] => drop(objects.remove(&format!("{kind} {name}"))),
                [kind, name, ..] => drop(objects.insert(format!("{kind} {name}"), change)),
                _ => unreachable!("a line has a kind and a name"),
            }
        }
        let mut anew = Snapshot::new();
        for change in objects.into_values() {
            anew.apply(change);
        }
        for (_, entry) in kept.tasks.iter() {
            if let Some(node) = entry.promised_node() {
                anew.promise(&entry.key, node.into());
            }
        }
        prop_assert_eq!(kept.dump(), anew.dump());
    }
}

impl Snapshot {
    fn promise(&mut self, key: &ObjectKey, node: Arc<str>) {
        let id = self.task_ids[key];
        self.tasks.at_mut(id.0).promise(node);
        self.settle(id);
    }
}
