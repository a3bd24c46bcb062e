//! What holds of every decision, in worlds at random.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::filter::admits;
use super::score::{Candidate, HeadStart, best, head_start, score};
use super::wanted::Wanted;
use super::*;
use crate::world;

/// A small world at random: lines, in an order in which they may be shuffled.
fn worlds() -> impl Strategy<Value = Vec<String>> {
    let node = (0..5_u32, 1..4_u32, 0..4_u32, 0..8_u32).prop_map(|(name, cpu, zone, flag)| {
        let flag =
            ["", "", "", "", "cordoned", "lost", "images=app", "leftover=700m"][flag as usize];
        format!("node n{name} cpu={cpu} zone=z{zone} range=20000-20002 {flag}")
    });
    let template = (0..3_u32, 0..3_u32, 0..8_u32).prop_map(|(name, cpu, extra)| {
        let extra = [
            "",
            "constraint=zone_in_(z0,z1)",
            "ports=http:80",
            "ports=x,y",
            "max=1",
            "nearby=data image=app",
            "target=data:LEADER max=2",
            "prefer=50:zone_=_z2 near=data",
        ][extra as usize];
        format!("template t{name} cpu={cpu}00m {extra}")
    });
    let task = (0..14_u32, 0..3_u32, 0..3_u32, 0..9_u32).prop_map(|(name, of, job, extra)| {
        let extra = [
            "",
            "",
            "priority=1",
            "avoid=n1,n2",
            "on=n0",
            "on=n1 state=Running port=x:20001",
            "on=n2 state=Succeeded",
            "on=n3 lost=yes",
            "after=200",
        ][extra as usize];
        let partition = name % 2;
        format!("task k{name} of=t{of} job=j{job} created={job} partition=p{partition} {extra}")
    });
    let set = (0..5_u32, 0..5_u32)
        .prop_map(|(a, b)| format!("set data p0=n{a}:LEADER,n3:STANDBY p1=n{b}:LEADER"));
    (
        prop::collection::vec(node, 1..6),
        prop::collection::vec(template, 1..4),
        prop::collection::vec(task, 0..20),
        set,
    )
        .prop_map(|(nodes, templates, tasks, set)| {
            // The last line of an object with a name wins.
            let lines = nodes.into_iter().chain(templates).chain(tasks).chain([set]);
            let name = |line: &String| {
                line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
            };
            let by_name: BTreeMap<_, _> = lines.map(|line| (name(&line), line)).collect();
            by_name.into_values().collect()
        })
}

fn snapshot_of(lines: &[String]) -> Snapshot {
    let mut snapshot = Snapshot::new();
    for line in lines {
        snapshot.apply(world::change(line));
    }
    snapshot
}

fn limits(bindings_max: usize) -> Limits {
    Limits { now: Timestamp::from_second(100).unwrap(), bindings_max }
}

/// The node that an examination of all nodes finds to be the best.
fn best_by_looking(snapshot: &Snapshot, task: &Task) -> Option<Arc<str>> {
    let id = snapshot.class_of(task);
    let facts = &snapshot.classes.at(id.0).facts;
    let wanted = Wanted::new(facts, &snapshot.sets, &snapshot.jobs).ok()?;
    let right = snapshot.nodes.iter().filter(|(_, node)| admits(&wanted, node).is_ok());
    let (avoided, liked): (Vec<_>, Vec<_>) =
        right.partition(|(_, node)| task.spec.avoid.iter().any(|name| **name == *node.name));
    if liked.is_empty() {
        let mut by_place = task.spec.avoid.iter();
        let here = |name: &&String| avoided.iter().any(|(_, node)| *node.name == ***name);
        return by_place.find(here).map(|name| name.as_str().into());
    }
    let mut most_even = BTreeMap::<HeadStart, Candidate<'_>>::new();
    for (_, node) in liked {
        let head_start = head_start(&wanted, node);
        let score = score(&wanted.shape.requests, wanted.job, node);
        let entry = most_even.entry(head_start).or_insert(Candidate { head_start, score, node });
        if score > entry.score {
            *entry = Candidate { head_start, score, node };
        }
    }
    let candidates: Vec<Candidate<'_>> = most_even.into_values().collect();
    best(&wanted, &candidates).map(|best| Arc::clone(&best.node.name))
}

proptest! {
    #[test]
    fn each_decision_is_the_best_of_all_nodes(lines in worlds()) {
        let mut decided = snapshot_of(&lines);
        let mut looked = snapshot_of(&lines);
        for bind in place(&mut decided, &limits(100)).bindings {
            let best = best_by_looking(&looked, &bind.task);
            prop_assert_eq!(best.as_ref(), Some(&bind.node));
            // One decision at a time, so that both see the same promises.
            let one = place(&mut looked, &limits(1)).bindings;
            prop_assert_eq!(one, vec![bind]);
        }
        for task in decided.classes.iter().flat_map(|(id, _)| decided.waiting_tasks(ClassId(id))) {
            prop_assert_eq!(best_by_looking(&decided, task), None);
        }
    }

    /// What was computed for nodes before they changed must not be used.
    #[test]
    fn each_decision_is_the_best_after_changes(
        (before, after) in (worlds(), worlds().prop_shuffle()), gone in 0..14_u32,
    ) {
        let (mut decided, mut looked) = (snapshot_of(&before), snapshot_of(&before));
        let gone = [format!("gone task k{gone}"), format!("gone node n{}", gone % 5)];
        for lines in after.chunks(4).chain([&gone[..]]) {
            for bind in place(&mut decided, &limits(2)).bindings {
                prop_assert_eq!(best_by_looking(&looked, &bind.task), Some(Arc::clone(&bind.node)));
                prop_assert_eq!(place(&mut looked, &limits(1)).bindings, vec![bind]);
            }
            for line in lines {
                decided.apply(world::change(line));
                looked.apply(world::change(line));
            }
        }
    }

    #[test]
    fn the_order_in_which_objects_came_does_not_matter(
        (lines, shuffled) in worlds().prop_flat_map(|lines| {
            (Just(lines.clone()), Just(lines).prop_shuffle())
        })
    ) {
        let (mut one, mut other) = (snapshot_of(&lines), snapshot_of(&shuffled));
        let (plan, other_plan) = (place(&mut one, &limits(100)), place(&mut other, &limits(100)));
        prop_assert_eq!(plan.bindings, other_plan.bindings);
        prop_assert_eq!(plan.wake_at, other_plan.wake_at);
        prop_assert_eq!(one.dump(), other.dump());
    }

    #[test]
    fn nothing_is_given_away_twice(lines in worlds(), steps in prop::collection::vec(0..20_u32, 0..20)) {
        let mut snapshot = snapshot_of(&lines);
        for step in steps {
            place(&mut snapshot, &limits(3));
            snapshot.check_promises();
            snapshot.apply(world::change(&format!("gone task k{step}")));
            snapshot.apply(world::change(&format!("task k{step} of=t{} job=j1", step % 3)));
        }
    }
}
