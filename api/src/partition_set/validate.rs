//! Rules of a partition set.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    BUILT_IN_MODELS, BuiltInModel, Mode, NOT_SERVING, PARTITIONS_MAX, PartitionSet, REPLICAS_MAX,
};
use crate::kind::KindId;
use crate::object::Kind as _;
use crate::violation::{Violation, duplicates, nearest};
use crate::{metadata, names, path};

/// What is wrong with a partition set.
pub(super) fn validate(set: &PartitionSet) -> Vec<Violation> {
    let mut found = metadata::validate(KindId::PartitionSet, &set.metadata);
    partitions(set, &mut found);
    match set.spec.replicas {
        Some(0) => found.push(Violation::new("spec.replicas", "must be at least 1")),
        Some(count) if count > REPLICAS_MAX => {
            let why = format!("{count} replicas; at most {REPLICAS_MAX} are allowed");
            found.push(Violation::new("spec.replicas", why));
        }
        _ => (),
    }
    if set.spec.mode != Some(Mode::Manual) {
        let mode = set.spec.mode.unwrap_or_default();
        let default = if set.spec.mode.is_none() { ", the default," } else { "" };
        let violation =
            Violation::new("spec.mode", format!("{mode:?}{default} is not supported yet"));
        found.push(violation.hint("write mode: Manual and an assignment"));
    }
    let model = model(&set.spec.state_model, &mut found);
    if found.is_empty()
        && let Some(model) = model
    {
        assignment(set, model, &mut found);
    }
    found
}

fn partitions(set: &PartitionSet, found: &mut Vec<Violation>) {
    let names = &set.spec.partition_names;
    match (set.spec.partitions, names.is_empty()) {
        (Some(_), false) => {
            let why = "only one of partitions and partitionNames is allowed";
            found.push(Violation::new("spec", why));
        }
        (None, true) => {
            let why = "one of partitions and partitionNames is required";
            found.push(Violation::new("spec", why));
        }
        (Some(0), true) => {
            found.push(Violation::new("spec.partitions", "at least one partition is required"));
        }
        (Some(_), true) | (None, false) => (),
    }
    let listed = u32::try_from(names.len()).unwrap_or(u32::MAX);
    let (count, field) = match set.spec.partitions {
        Some(count) => (count, "partitions"),
        None => (listed, "partitionNames"),
    };
    if count > PARTITIONS_MAX {
        let why = format!("{count} partitions; at most {PARTITIONS_MAX} are allowed");
        found.push(Violation::new(format!("spec.{field}"), why));
    }
    for (index, name) in names.iter().enumerate() {
        if let Some(problem) = names::problem(name) {
            found.push(Violation::new(format!("spec.partitionNames[{index}]"), problem));
        }
    }
    duplicates(names, "spec.partitionNames", "", found);
}

fn model(name: &str, found: &mut Vec<Violation>) -> Option<&'static BuiltInModel> {
    let model = BUILT_IN_MODELS.iter().find(|model| model.name == name);
    if model.is_none() {
        let names = || BUILT_IN_MODELS.iter().map(|model| model.name);
        let violation = Violation::new(
            "spec.stateModel",
            format!(
                "{name:?} is not a built-in state model, and custom ones are not supported yet"
            ),
        );
        found.push(match nearest(name, names()) {
            Some(meant) => violation.hint(format!("did you mean {meant}?")),
            None => {
                violation.hint(format!("write one of {}", names().collect::<Vec<_>>().join(", ")))
            }
        });
    }
    model
}

fn assignment(set: &PartitionSet, model: &BuiltInModel, found: &mut Vec<Violation>) {
    let names = set.partition_names();
    let known: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let replicas_max = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(usize::MAX);
    for (partition, replicas) in &set.spec.assignment {
        let at = format!("spec.assignment{}", path::field_step(partition, false));
        if !known.contains(partition.as_str()) {
            let violation =
                Violation::new(at, format!("{partition:?} is not a partition of this set"));
            found.push(match nearest(partition, known.iter().copied()) {
                Some(meant) => violation.hint(format!("did you mean {meant}?")),
                None => violation,
            });
            continue;
        }
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for (node, state) in replicas {
            let at = format!("{at}{}", path::field_step(node, false));
            if let Some(problem) = names::problem(node) {
                found.push(Violation::new(at.clone(), problem));
            }
            match model.states.iter().find(|(name, _)| name == state) {
                Some((name, _)) => *counts.entry(*name).or_default() += 1,
                None => found.push(unknown_state(state, &[*model], at)),
            }
        }
        for (state, max) in model.states {
            let count = counts.get(state).copied().unwrap_or_default();
            if max.is_some_and(|max| count > max) {
                let why = format!(
                    "{count} replicas are {state}; {} allows {}",
                    model.name,
                    max.unwrap_or_default()
                );
                found.push(Violation::new(at.clone(), why));
            }
        }
        let dropped = counts.get("DROPPED").copied().unwrap_or_default();
        let kept = replicas.len().saturating_sub(usize::try_from(dropped).unwrap_or(usize::MAX));
        if kept > replicas_max {
            let why = format!("{kept} replicas; spec.replicas is {replicas_max}");
            found.push(Violation::new(at, why).hint(format!("set spec.replicas to {kept}")));
        }
    }
}

/// The violation of a state that no built-in model has.
pub(crate) fn state_problem(state: &str, at: String) -> Option<Violation> {
    let known = |model: &BuiltInModel| model.states.iter().any(|(name, _)| *name == state);
    (!BUILT_IN_MODELS.iter().any(known)).then(|| unknown_state(state, &BUILT_IN_MODELS, at))
}

fn unknown_state(state: &str, models: &[BuiltInModel], at: String) -> Violation {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in models.iter().flat_map(|model| model.states) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let why = match models {
        [model] => format!("{state:?} is not a state of {}", model.name),
        _ => format!("{state:?} is not a state of any model"),
    };
    let hint = match nearest(&state.to_ascii_uppercase(), names.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("the states are {}", names.join(", ")),
    };
    Violation::new(at, why).hint(hint)
}

impl PartitionSet {
    /// The first partition without a serving replica, and the state that one of its replicas should
    /// be in.
    pub(super) fn first_unserved(&self) -> Option<(String, &'static str)> {
        let model = BUILT_IN_MODELS.iter().find(|model| model.name == self.spec.state_model)?;
        let (first, _) = model.states.first()?;
        let unserved = |partition: &String| !self.replicas(partition).any(|(_, it)| it == *first);
        self.partition_names().into_iter().find(unserved).map(|partition| (partition, *first))
    }

    /// Number of replicas in each serving state, in order of priority.
    pub(super) fn replicas_by_state(&self) -> Vec<(&'static str, usize)> {
        let model = BUILT_IN_MODELS.iter().find(|model| model.name == self.spec.state_model);
        let states = model.into_iter().flat_map(|model| model.states).map(|(state, _)| *state);
        let all = || self.spec.assignment.values().flat_map(BTreeMap::values);
        states
            .map(|state| (state, all().filter(|it| *it == state).count()))
            .filter(|(state, count)| *count > 0 || !NOT_SERVING.contains(state))
            .collect()
    }
}

/// What is wrong with changing `old` into `new`.
pub(super) fn validate_update(new: &PartitionSet, old: &PartitionSet) -> Vec<Violation> {
    let mut found = Vec::new();
    if new.spec.state_model != old.spec.state_model {
        let violation = Violation::new("spec.stateModel", "cannot be changed");
        found.push(violation.hint("the states of its replicas would mean something else"));
    }
    debug_assert_eq!(new.name(), old.name(), "an update is of one object");
    found
}
