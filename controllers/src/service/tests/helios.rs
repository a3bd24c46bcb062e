//! Rollouts take the steps that Helios's planner took, in its order.
//!
//! Source: `RollingUpdatePlanner` of spotify/helios. It cuts the hosts, in the natural order of
//! their names, into chunks of `parallelism`. For each chunk it undeploys the old job and deploys
//! the new one on each host, then waits until the new ones run; with `overlap` it deploys, waits,
//! and then undeploys. Ours is compared with `batches: true`, since Helios's parallelism is a batch
//! with a barrier.
//!
//! One thing differs on purpose: Helios deploys without waiting for the old container to end; we
//! wait, because it still has its ports. Within a chunk, only the order of one host's steps counts.

use super::*;

/// A step of a rollout on one host.
type Took = (&'static str, String);

/// What Helios's planner asks for.
fn helios(hosts: &[&str], parallelism: usize, overlap: bool) -> Vec<Vec<Took>> {
    let steps =
        if overlap { ["deploy", "await", "undeploy"] } else { ["undeploy", "deploy", "await"] };
    let chunk = |hosts: &[&str]| -> Vec<Took> {
        hosts.iter().flat_map(|host| steps.map(|step| (step, (*host).to_owned()))).collect()
    };
    hosts.chunks(parallelism).map(chunk).collect()
}

/// What the plans of one rollout do, and what scheduler and agents do meanwhile, in order. Agents
/// are slow: a task starts only when nothing else happens, one at a time.
fn ours(world: &mut World) -> Vec<Took> {
    let host = |name: &str| name.rsplit('-').next().unwrap().to_owned();
    let mut took = Vec::new();
    for _ in 0..1_000 {
        let plan = world.plan();
        for action in plan.groups.iter().flat_map(|group| &group.actions) {
            match action {
                Action::CreateTasks(tasks) => {
                    took.extend(tasks.each.iter().map(|task| ("deploy", host(&task.name))));
                }
                Action::Task { task, change: TaskChange::Evict { .. }, .. } => {
                    took.push(("undeploy", host(&task.key.name)));
                }
                Action::Create(_)
                | Action::Patch(_)
                | Action::Status(_)
                | Action::Task { .. }
                | Action::Record { .. }
                | Action::Remove { .. }
                | Action::Delete { .. }
                | Action::Emptied { .. } => (),
            }
        }
        if !plan.groups.is_empty() || plan.status.is_some() {
            world.act(&plan).unwrap();
            continue;
        }
        let before = world.tasks.clone();
        world.work_on_stops();
        if world.tasks != before {
            continue;
        }
        let mut waiting: Vec<String> = world
            .tasks
            .values()
            .filter(|task| !task.is_ready() && !task.has_ended())
            .map(|task| task.name().to_owned())
            .collect();
        waiting.sort_by_key(|name| host(name).trim_start_matches('h').parse::<u32>().unwrap());
        let Some(name) = waiting.first() else { return took };
        assert!(start(world, name, true), "{name} starts");
        took.push(("await", host(name)));
    }
    panic!("the rollout never ends: {took:?}");
}

/// The steps in chunks of so many, within which only the order of one host's steps is kept.
fn in_chunks(took: Vec<Took>, size: usize) -> Vec<Vec<Took>> {
    let chunk = |chunk: &[Took]| {
        let mut chunk = chunk.to_vec();
        chunk.sort_by_key(|(_, host)| host.trim_start_matches('h').parse::<u32>().unwrap());
        chunk
    };
    took.chunks(size).map(chunk).collect()
}

#[test]
fn hosts_are_taken_in_chunks_as_helios_takes_them() {
    for count in [1, 2, 3, 5, 11] {
        for parallelism in [1, 2, 3, 4, 20] {
            let names: Vec<String> = (1..=count).map(|number| format!("h{number}")).collect();
            let hosts: Vec<&str> = names.iter().map(String::as_str).collect();
            let rollout =
                json!({ "minReadySeconds": 0, "parallelism": parallelism, "batches": true });
            let mut world = service(
                json!({ "template": { "image": "one" }, "perNode": true, "rollout": rollout }),
            );
            hosts.iter().for_each(|host| set_node(&mut world, host, true));
            world.finish();
            set_fields(&mut world, &["template.image=\"two\""]);
            let took = ours(&mut world);
            let expected = helios(&hosts, parallelism, false);
            assert_eq!(
                in_chunks(took, 3 * parallelism),
                expected,
                "{count} hosts, {parallelism} at a time"
            );
        }
    }
}

#[test]
fn with_one_at_a_time_each_single_step_is_that_of_helios() {
    let mut world = service(json!({
        "template": { "image": "one" }, "perNode": true, "rollout": { "minReadySeconds": 0 },
    }));
    // Helios sorts by the numbers in names, too.
    ["h10", "h2", "h1"].iter().for_each(|host| set_node(&mut world, host, true));
    world.finish();
    set_fields(&mut world, &["template.image=\"two\""]);
    assert_eq!(ours(&mut world), helios(&["h1", "h2", "h10"], 1, false).concat());
}

/// Ours counts replicas here, since two tasks of a service with `perNode` never share a node: what
/// is compared is how many steps of which sort follow each other.
#[test]
fn with_overlap_new_ones_run_before_old_ones_stop_as_in_helios() {
    let sorts = |took: &[Took]| took.iter().map(|(step, _)| *step).collect::<Vec<_>>();
    for (count, parallelism) in [(1, 1), (3, 1), (4, 2), (5, 2), (5, 5)] {
        let rollout = json!({
            "minReadySeconds": 0, "parallelism": parallelism, "batches": true,
            "order": "StartFirst",
        });
        let mut world = service(
            json!({ "template": { "image": "one" }, "replicas": count, "rollout": rollout }),
        );
        world.finish();
        set_fields(&mut world, &["template.image=\"two\""]);
        let took = ours(&mut world);
        // By sort within each chunk, because ours stops an old one as soon as a new one is ready.
        let by_sort = |took: &[Took]| {
            let mut sorts = sorts(took);
            sorts.sort_unstable();
            sorts
        };
        let names: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        let hosts: Vec<&str> = names.iter().map(String::as_str).collect();
        let expected: Vec<Vec<&str>> =
            helios(&hosts, parallelism, true).iter().map(|chunk| by_sort(chunk)).collect();
        let shown: Vec<Vec<&str>> = took.chunks(3 * parallelism).map(by_sort).collect();
        assert_eq!(shown, expected, "{count} replicas, {parallelism} at a time: {took:?}");
        let mut balance = 0_i64;
        for step in sorts(&took) {
            balance += i64::from(step == "await") - i64::from(step == "undeploy");
            assert!(balance >= 0, "an old one is stopped before a new one runs: {took:?}");
        }
    }
}

#[test]
fn what_left_the_group_goes_first() {
    let mut world = service(json!({
        "template": { "image": "one" }, "perNode": true, "rollout": { "minReadySeconds": 0 },
    }));
    ["h1", "h2", "h3"].iter().for_each(|host| set_node(&mut world, host, true));
    world.finish();
    set_fields(&mut world, &["template.image=\"two\""]);
    world.nodes.remove("h3");
    let took = ours(&mut world);
    let left = helios(&["h1", "h2"], 1, false).concat();
    assert_eq!(took, [vec![("undeploy", "h3".to_owned())], left].concat());
}
