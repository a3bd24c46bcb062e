//! Random histories: whatever happens, the promises hold, and in the end the service is up.

use api::service::{OnFailure, RolloutOrder, RolloutState, ServicePhase};
use base::Rng;
use serde_json::json;

use super::*;

/// One thing that happens.
fn happens(world: &mut World, rng: &mut Rng, image: &mut u32) {
    let names: Vec<String> = world.tasks.keys().cloned().collect();
    let name = if names.is_empty() {
        String::new()
    } else {
        names[usize::try_from(rng.below(names.len() as u64)).unwrap()].clone()
    };
    match rng.below(23) {
        0 => {
            *image += 1;
            let image = format!("i{image}");
            world.edit(|service| service.spec.template.image = image);
        }
        1 => {
            let replicas = u32::try_from(rng.below(6)).unwrap();
            world.edit(|service| service.spec.replicas = Some(replicas));
        }
        2 => world.edit(|service| {
            let suspend = !service.spec.is_suspended();
            service.spec.suspend = Some(suspend);
        }),
        3 => drop(world.change(&name, &TaskChange::Lose)),
        4 => drop(world.change(&name, &TaskChange::Replaceable)),
        5 => drop(world.change(&name, &TaskChange::Recover)),
        6 => world.delete(&name),
        7 => drop(world.change(&name, &TaskChange::evict(StopReason::Evict))),
        8 => drop(world.report(&name, ReportState::Failed, false)),
        9 => drop(world.report(&name, ReportState::Running, false)),
        10 => drop(world.report(&name, ReportState::Cancelled, false)),
        11 => drop(start(world, &name, true)),
        12 => world.advance(i64::try_from(rng.below(90)).unwrap()),
        13 | 14 => world.work(),
        15 => drop(world.report(&name, ReportState::Succeeded, false)),
        16 => {
            let newest = u64::from(world.service.status.update_revision);
            let to = rng.chance(500).then(|| u32::try_from(rng.below(newest + 1)).unwrap());
            world.ask(RolloutVerb::Undo, to);
        }
        17 => drop(world.ask(RolloutVerb::Restart, None)),
        18 => drop(world.ask(RolloutVerb::Abort, None)),
        19 => drop(world.ask(RolloutVerb::Promote, None)),
        20 | 21 => {
            let open = world.jobs.values().find(|job| !job.status.phase.is_final());
            if let Some(name) = open.map(|job| job.name().to_owned()) {
                let fails = rng.chance(300);
                let end = if fails { JobPhase::Failed } else { JobPhase::Succeeded };
                world.end_job(&name, end);
            }
        }
        _ => world.edit(|service| {
            let mut rollout = service.spec.rollout();
            rollout.suspend = Some(!rollout.suspend.unwrap_or(false));
            service.spec.rollout = Some(rollout);
        }),
    }
}

#[test]
fn a_service_with_room_is_up_in_the_end_whatever_happened() {
    for seed in 0..600 {
        let mut rng = Rng::seeded(seed);
        let order =
            if rng.chance(300) { RolloutOrder::StartFirst } else { RolloutOrder::StopFirst };
        let parallelism = 1 + rng.below(3);
        let on_failure = match rng.below(3) {
            0 => OnFailure::Pause,
            1 => OnFailure::Rollback,
            _ => OnFailure::Continue,
        };
        let max_unavailable = rng.below(3);
        let max_unavailable = if order == RolloutOrder::StopFirst && max_unavailable == 0 {
            json!(null)
        } else {
            json!(max_unavailable)
        };
        let before = rng.chance(300).then(|| json!({ "template": { "args": ["migrate"] } }));
        let check = rng.chance(500).then(|| json!({ "template": { "args": ["check"] } }));
        let canary = rng
            .chance(300)
            .then(|| json!({ "count": 1 + rng.below(3), "promoteAfter": "10s", "check": check }));
        let mut world = service(json!({
            "template": { "image": "i0" }, "replicas": 3, "maxUnavailable": max_unavailable,
            "rollout": {
                "maxFailedTasks": rng.below(3), "before": before, "canary": canary,
                "order": order, "parallelism": parallelism, "timeout": "1m", "onFailure": on_failure,
                "batches": rng.chance(300), "minReadySeconds": rng.below(3) * 5,
            },
        }));
        let mut image = 0;
        for _ in 0..60 {
            happens(&mut world, &mut rng, &mut image);
            if rng.chance(600) {
                let plan = world.plan();
                world.act(&plan).unwrap_or_else(|why| panic!("seed {seed}: {why}\n{plan:#?}"));
            }
        }
        // From now on nothing happens but what should.
        world.edit(|service| {
            service.spec.suspend = None;
            service.spec.rollout.as_mut().unwrap().suspend = None;
            service.spec.template.image = "last".to_owned();
            service.spec.replicas = Some(3);
        });
        for name in world.tasks.keys().cloned().collect::<Vec<_>>() {
            if world.tasks[&name].loss().is_some() {
                world.change(&name, &TaskChange::Replaceable);
            }
            if world.tasks[&name].report() == Some(ReportState::Running) {
                world.report(&name, ReportState::Running, true);
            }
        }
        world.finish();
        let status = &world.service.status;
        let is_up = (status.phase, status.ready, status.updated);
        assert_eq!(is_up, (ServicePhase::Running, 3, 3), "seed {seed}: {status:#?}");
        assert_eq!(status.rollout.as_ref().unwrap().state, RolloutState::Complete);
        assert_eq!(world.tasks.len(), 3, "seed {seed}: {}", images(&world));
        assert!(world.tasks.values().all(|task| task.is_ready()), "seed {seed}");
    }
}
