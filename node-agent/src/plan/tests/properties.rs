//! What holds in every world, whatever happens to it.

use proptest::prelude::*;

use super::*;

/// What happens to a world.
#[derive(Debug, Clone)]
enum Happening {
    Bind(u32),
    Evict(u32),
    Exit(u32),
    Vanish(u32),
    Removed(u32),
    Hear,
    Restart,
    Wait(i64),
    /// Actions succeed, or fail.
    Act(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0..4_u32).prop_map(Happening::Bind),
        1 => (0..4_u32).prop_map(Happening::Evict),
        2 => (0..4_u32).prop_map(Happening::Exit),
        1 => (0..4_u32).prop_map(Happening::Vanish),
        1 => (0..4_u32).prop_map(Happening::Removed),
        3 => Just(Happening::Hear),
        1 => Just(Happening::Restart),
        2 => (0..70_000_i64).prop_map(Happening::Wait),
        6 => any::<bool>().prop_map(Happening::Act),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_attempt_runs_twice_and_no_port_is_given_twice(
        happenings in proptest::collection::vec(happening(), 1..60),
    ) {
        let mut world = world();
        let mut ever_ran = BTreeSet::new();
        let mut bound = BTreeSet::new();
        for happening in happenings {
            happen(&mut world, &mut bound, &mut ever_ran, &happening);
            let held: Vec<u16> = world.ledger.attempts().values().filter(|it| it.holds())
                .flat_map(|it| it.ports.values().copied()).collect();
            let distinct: BTreeSet<u16> = held.iter().copied().collect();
            prop_assert_eq!(held.len(), distinct.len(), "ports are disjoint");
            let cpu: u64 = world.ledger.attempts().values().filter(|it| it.holds())
                .filter_map(|it| it.requests.get("cpu")).sum();
            prop_assert!(cpu <= 1_000, "over-committed: {cpu}");
        }
    }
}

fn happen(
    world: &mut World,
    bound: &mut BTreeSet<u32>,
    ever_ran: &mut BTreeSet<Identity>,
    happening: &Happening,
) {
    match happening {
        Happening::Bind(index) => {
            if bound.insert(*index) {
                world.bind(*index);
            }
        }
        Happening::Evict(index) => {
            if world.tasks.get(&id(*index)).is_some_and(|task| !task.has_ended()) {
                world.change(*index, &TaskChange::evict(StopReason::Cancel));
            }
        }
        Happening::Exit(index) => {
            if matches!(world.containers.get(&id(*index)), Some(ContainerState::Running { .. })) {
                world.exits(*index, 0, None);
            }
        }
        Happening::Vanish(index) => drop(world.containers.remove(&id(*index))),
        Happening::Removed(index) => drop(world.tasks.remove(&id(*index))),
        Happening::Hear => drop(world.hear()),
        Happening::Restart => world.restart(),
        Happening::Wait(millis) => world.now += millis,
        Happening::Act(works) => {
            let plan = world.write_down();
            for action in plan.actions.into_iter().filter(|_| *works) {
                do_step(world, ever_ran, &action);
            }
        }
    }
}

fn do_step(world: &mut World, ever_ran: &mut BTreeSet<Identity>, action: &Action) {
    let identity = action.identity().clone();
    let since = at(world.now);
    match action {
        Action::Start(_) => {
            let is_new = !world.containers.contains_key(&identity);
            // A container may only be created again if it vanished before it was ever observed.
            assert!(
                !is_new
                    || !matches!(
                        world.ledger.get(&identity).map(|it| &it.progress),
                        Some(Progress::Ended | Progress::Running { .. })
                    )
            );
            ever_ran.insert(identity.clone());
            world.containers.insert(identity, ContainerState::Running { since });
        }
        Action::Signal(..) => world.answer_signal(&identity),
        Action::Kill(_) => {
            let exited = ContainerState::Exited {
                started: None,
                at: since,
                code: 137,
                signal: Some(9),
                oom_killed: false,
                is_unseen: false,
                message: None,
            };
            world.containers.insert(identity, exited);
        }
        Action::Remove(_) => drop(world.containers.remove(&identity)),
    }
}

/// Plans as the agent does: only for attempts that have changed or are due.
#[derive(Default)]
struct Follower {
    changed: BTreeSet<Identity>,
    wakes: BTreeMap<Identity, Timestamp>,
    leftovers: BTreeMap<Identity, Leftover>,
    /// Actions in progress.
    acting: BTreeMap<Identity, Action>,
}

impl Follower {
    /// Plans for what has changed, and checks that a plan for everything would be the same.
    fn plan(&mut self, world: &mut World) {
        let now = at(world.now);
        let due = self.wakes.iter().filter(|(_, wake)| **wake <= now);
        self.changed.extend(due.map(|(identity, _)| identity.clone()));
        let these = std::mem::take(&mut self.changed);
        let plan = world.plan_for(Which::These(&these));
        let all = world.plan();
        assert_eq!(shown(&plan), shown(&all));
        assert_eq!(one_by_one(world, &these), shown(&all), "one by one");
        for identity in &these {
            self.wakes.remove(identity);
            self.leftovers.remove(identity);
        }
        self.wakes.extend(plan.wakes.clone());
        self.leftovers.extend(plan.leftovers.clone());
        // Containers with an action in progress are planned when it is done, whatever their time.
        let mut wakes = self.wakes.clone();
        wakes.retain(|it, _| !world.busy.contains(it) || all.wakes.contains_key(it));
        assert_eq!((&wakes, &self.leftovers), (&all.wakes, &all.leftovers));
        world.take_over(&plan);
        for action in plan.actions {
            world.busy.insert(action.identity().clone());
            self.acting.insert(action.identity().clone(), action);
        }
    }

    /// The action on one container is done.
    fn finish(&mut self, world: &mut World, identity: &Identity, works: bool) {
        let Some(action) = self.acting.remove(identity) else { return };
        if works {
            do_step(world, &mut BTreeSet::new(), &action);
        }
        world.busy.remove(identity);
        self.changed.insert(identity.clone());
    }

    fn happen(&mut self, world: &mut World, happening: &Happening) {
        match happening {
            Happening::Bind(index) => {
                let task = world.tasks.get(&id(*index));
                if task.is_none_or(|task| task.state() == TaskState::Pending) {
                    world.bind(*index);
                }
            }
            Happening::Hear => self.changed.extend(world.hear()),
            Happening::Restart => {
                // Actions in progress are done or were never begun. Everything is observed again.
                world.restart();
                *self = Self { changed: (0..4).map(id).collect(), ..Self::default() };
            }
            Happening::Act(works) => {
                if let Some(identity) = self.acting.keys().next().cloned() {
                    self.finish(world, &identity, *works);
                }
            }
            Happening::Evict(_)
            | Happening::Exit(_)
            | Happening::Vanish(_)
            | Happening::Removed(_)
            | Happening::Wait(_) => {
                happen(world, &mut BTreeSet::new(), &mut BTreeSet::new(), happening);
            }
        }
        match happening {
            Happening::Bind(index)
            | Happening::Evict(index)
            | Happening::Exit(index)
            | Happening::Vanish(index)
            | Happening::Removed(index) => drop(self.changed.insert(id(*index))),
            Happening::Hear | Happening::Restart | Happening::Wait(_) | Happening::Act(_) => (),
        }
    }
}

/// The decisions about each attempt alone, in the order of a plan for all.
fn one_by_one(world: &World, these: &BTreeSet<Identity>) -> String {
    let mut world = world.clone();
    let is_fresh = |identity: &&Identity| {
        let task = world.tasks.get(identity).filter(|task| !task.has_ended());
        let binding = task.and_then(|task| task.binding());
        let known = world.ledger.get(identity).filter(|it| match it.progress {
            Progress::Refused => binding.is_none_or(|binding| binding.number <= it.binding),
            Progress::Starting { .. }
            | Progress::BackOff { .. }
            | Progress::Running { .. }
            | Progress::Stopping { .. }
            | Progress::Ended => true,
        });
        binding.filter(|_| known.is_none()).map(|binding| binding.at)
    };
    let mut order: Vec<_> = these.iter().map(|identity| (is_fresh(&identity), identity)).collect();
    order.sort_unstable();
    let order: Vec<Identity> = order.into_iter().map(|(_, identity)| identity.clone()).collect();
    let mut sum = Plan::default();
    for identity in order {
        let plan = world.plan_for(Which::These(&BTreeSet::from([identity])));
        world.take_over(&plan);
        sum.changes.extend(plan.changes);
        sum.actions.extend(plan.actions);
    }
    shown(&sum)
}

/// The whole plan, including what only this process knows.
fn shown(plan: &Plan) -> String {
    format!("{:#?}\n{:#?}", plan.changes, plan.actions)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_plan_for_what_changed_is_the_plan_for_all(
        happenings in proptest::collection::vec(happening(), 1..60),
    ) {
        let (mut world, mut follower) = (world(), Follower::default());
        for happening in happenings {
            follower.happen(&mut world, &happening);
            follower.plan(&mut world);
        }
    }
}
