//! Taints of nodes and the tolerations of tasks, with the rule between them, which the scheduler and
//! the controllers share.
//!
//! The forms are those of Kubernetes. One rule differs: a toleration with `tolerationSeconds` lets a
//! task that runs on the node stay for so long, and lets no new task come. Otherwise a task whose
//! time is over would return at once, and be evicted again.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metadata::{label_key_problem, label_value_problem};
use crate::violation::Violation;

/// Most taints of a node, and most tolerations of a placement: each is compared with each.
const TAINTS_MAX: usize = 100;

/// Keeps tasks that do not tolerate it away from a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    /// Key of the taint, written like the key of a label. Required.
    pub key: String,
    /// Value of the taint, written like the value of a label. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// What happens to tasks that do not tolerate the taint. Required.
    pub effect: TaintEffect,
    /// When a taint with effect NoExecute was added. Set by the apiserver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_added: Option<Timestamp>,
}

/// What a taint does to tasks that do not tolerate it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum TaintEffect {
    /// No new tasks are bound to the node.
    NoSchedule,
    /// New tasks are bound to the node only if no other node is free.
    PreferNoSchedule,
    /// No new tasks are bound to the node, and those that run there are evicted, which does not
    /// count as a failure.
    NoExecute,
}

/// A taint that tasks tolerate: it does not keep them away from a node.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Key of the taint. Default: every taint, which requires operator Exists.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Whether the value counts. Default Equal.
    #[serde(default, skip_serializing_if = "Operator::is_equal")]
    pub operator: Operator,
    /// Value of the taint. Only with Equal; default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Effect of the taint. Default: every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// How long a task that runs on the node may stay after the taint was added. Only with effect
    /// NoExecute. A toleration with this lets no new task come. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<u32>,
}

/// How a toleration compares values.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum Operator {
    /// The taint has this value.
    #[default]
    Equal,
    /// The taint may have any value.
    Exists,
}

impl Operator {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
    fn is_equal(&self) -> bool {
        *self == Operator::Equal
    }
}

impl Taint {
    /// The key and the value: `dedicated=gpu`.
    pub fn pair(&self) -> String {
        if self.value.is_empty() {
            self.key.clone()
        } else {
            format!("{}={}", self.key, self.value)
        }
    }

    /// Whether it is the same taint, whenever it was added.
    pub fn is_same_as(&self, other: &Self) -> bool {
        (&self.key, &self.value, self.effect) == (&other.key, &other.value, other.effect)
    }
}

impl TaintEffect {
    /// The effect in a narrow column.
    pub fn short(self) -> &'static str {
        match self {
            TaintEffect::NoSchedule => "NoSch",
            TaintEffect::PreferNoSchedule => "PrefNoSch",
            TaintEffect::NoExecute => "NoExec",
        }
    }
}

impl fmt::Display for TaintEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.pair(), self.effect)
    }
}

impl FromStr for TaintEffect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::NoSchedule, Self::PreferNoSchedule, Self::NoExecute];
        let found = all.into_iter().find(|effect| effect.to_string() == text);
        found.ok_or_else(|| {
            format!("{text:?} is no effect; write NoSchedule, PreferNoSchedule or NoExecute")
        })
    }
}

impl FromStr for Taint {
    type Err = String;

    /// Reads `KEY=VALUE:EFFECT` and `KEY:EFFECT`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((pair, effect)) = text.rsplit_once(':') else {
            return Err("must be KEY=VALUE:EFFECT, for example dedicated=gpu:NoSchedule".to_owned());
        };
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let effect = effect.parse()?;
        let taint = Self { key: key.to_owned(), value: value.to_owned(), effect, time_added: None };
        taint.problem().map_or(Ok(taint.clone()), |(_, why)| Err(why))
    }
}

impl Taint {
    /// The field that is wrong, and why.
    fn problem(&self) -> Option<(&'static str, String)> {
        let key = label_key_problem(&self.key).map(|why| ("key", why));
        key.or_else(|| label_value_problem(&self.value).map(|why| ("value", why)))
    }
}

impl Toleration {
    fn tolerates(&self, taint: &Taint) -> bool {
        let has_key = self.key.is_empty() || self.key == taint.key;
        let has_effect = self.effect.is_none_or(|effect| effect == taint.effect);
        let has_value = match self.operator {
            Operator::Exists => true,
            Operator::Equal => self.value == taint.value,
        };
        has_key && has_effect && has_value
    }
}

/// The first taint that keeps new tasks with these tolerations away.
pub fn repelling<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    let admits =
        |it: &Toleration, taint: &Taint| it.tolerates(taint) && it.toleration_seconds.is_none();
    taints.iter().find(|taint| match taint.effect {
        TaintEffect::NoSchedule | TaintEffect::NoExecute => {
            !tolerations.iter().any(|it| admits(it, taint))
        }
        TaintEffect::PreferNoSchedule => false,
    })
}

/// Whether a taint asks that new tasks with these tolerations be put elsewhere if possible.
pub fn is_avoided(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    taints.iter().any(|taint| {
        taint.effect == TaintEffect::PreferNoSchedule
            && !tolerations.iter().any(|it| it.tolerates(taint))
    })
}

/// The end of a task's time on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave<'a> {
    /// When the task has to leave; nothing if at once.
    pub at: Option<Timestamp>,
    /// The taint that drives it away.
    pub taint: &'a Taint,
}

/// When a task with these tolerations has to leave a node with these taints; nothing if it may stay
/// for good. Of several taints the one that drives it away first counts.
pub fn leave<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<Leave<'a>> {
    let of = |taint: &'a Taint| {
        let matching = || tolerations.iter().filter(|it| it.tolerates(taint));
        if matching().any(|it| it.toleration_seconds.is_none()) {
            return None;
        }
        // As in Kubernetes, the shortest time counts.
        let seconds = matching().filter_map(|it| it.toleration_seconds).min();
        let at = seconds.map(|seconds| {
            let stay = SignedDuration::from_secs(i64::from(seconds));
            let added = taint.time_added.unwrap_or(Timestamp::UNIX_EPOCH);
            added.saturating_add(stay).unwrap_or(Timestamp::MAX)
        });
        Some(Leave { at, taint })
    };
    let driving = taints.iter().filter(|taint| taint.effect == TaintEffect::NoExecute);
    driving.filter_map(of).min_by_key(|leave| leave.at)
}

/// Completes taints that are to be stored: those with effect NoExecute tell when they were added.
/// `before` are those that were there already.
pub(crate) fn settle(taints: &mut [Taint], before: &[Taint], now: Timestamp) {
    let driving = taints.iter_mut().filter(|taint| taint.effect == TaintEffect::NoExecute);
    for taint in driving.filter(|taint| taint.time_added.is_none()) {
        let known = before.iter().find(|known| known.is_same_as(taint));
        taint.time_added = known.and_then(|known| known.time_added).or(Some(now));
    }
}

/// The violations of the taints of a node.
pub(crate) fn validate(taints: &[Taint], path: &str) -> Vec<Violation> {
    let mut found = too_many(taints.len(), path);
    let mut seen = BTreeSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let at = format!("{path}[{index}]");
        if let Some((field, why)) = taint.problem() {
            found.push(Violation::new(format!("{at}.{field}"), why));
        }
        if !seen.insert((&taint.key, taint.effect)) {
            let why = format!("there is another taint {} with effect {}", taint.key, taint.effect);
            found.push(Violation::new(at, why));
        }
    }
    found
}

/// The violations of the tolerations of a placement.
pub(crate) fn validate_tolerations(tolerations: &[Toleration], path: &str) -> Vec<Violation> {
    let mut found = too_many(tolerations.len(), path);
    for (index, it) in tolerations.iter().enumerate() {
        let at = |field: &str| format!("{path}[{index}].{field}");
        if it.key.is_empty() && it.operator == Operator::Equal {
            let violation = Violation::new(at("key"), "required with operator Equal");
            found.push(violation.hint("to tolerate every taint, write operator: Exists"));
        } else if let Some(why) = label_key_problem(&it.key).filter(|_| !it.key.is_empty()) {
            found.push(Violation::new(at("key"), why));
        }
        if it.operator == Operator::Exists && !it.value.is_empty() {
            let violation = Violation::new(at("value"), "not allowed with operator Exists");
            found.push(violation.hint("leave it out, or write operator: Equal"));
        } else if let Some(why) = label_value_problem(&it.value) {
            found.push(Violation::new(at("value"), why));
        }
        if it.toleration_seconds.is_some() && it.effect != Some(TaintEffect::NoExecute) {
            let why = "only allowed with effect NoExecute";
            found.push(Violation::new(at("tolerationSeconds"), why));
        }
    }
    found
}

fn too_many(count: usize, path: &str) -> Vec<Violation> {
    let why = format!("{count} entries; at most {TAINTS_MAX} are allowed");
    (count > TAINTS_MAX).then(|| Violation::new(path, why)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn taints(texts: &[&str]) -> Vec<Taint> {
        let mut taints: Vec<Taint> = texts.iter().map(|text| text.parse().unwrap()).collect();
        settle(&mut taints, &[], at(100));
        taints
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn tolerations(json: Value) -> Vec<Toleration> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_taint_keeps_tasks_away_unless_they_tolerate_it() {
        let gpu = json!([{ "key": "dedicated", "value": "gpu" }]);
        for (taint, tolerated, kept_away) in [
            ("dedicated=gpu:NoSchedule", json!([]), true),
            ("dedicated=gpu:NoSchedule", gpu.clone(), false),
            ("dedicated=gpu:NoExecute", gpu.clone(), false),
            ("dedicated=cpu:NoSchedule", gpu, true),
            ("dedicated=gpu:PreferNoSchedule", json!([]), false),
            ("a:NoSchedule", json!([{ "operator": "Exists" }]), false),
            ("a=b:NoSchedule", json!([{ "key": "a", "operator": "Exists" }]), false),
            ("a=b:NoSchedule", json!([{ "key": "a" }]), true),
            ("a:NoSchedule", json!([{ "key": "a" }]), false),
            ("a:NoSchedule", json!([{ "key": "a", "effect": "NoExecute" }]), true),
            ("a:NoExecute", json!([{ "key": "a", "effect": "NoExecute" }]), false),
            // Such a task may stay for a while and none may come.
            (
                "a:NoExecute",
                json!([{ "key": "a", "effect": "NoExecute", "tolerationSeconds": 9 }]),
                true,
            ),
        ] {
            let (taints, shown) = (taints(&[taint]), tolerated.to_string());
            let found = repelling(&taints, &tolerations(tolerated));
            assert_eq!(found.is_some(), kept_away, "{taint} {shown}");
        }
        assert!(is_avoided(&taints(&["a:PreferNoSchedule"]), &[]));
        let all = tolerations(json!([{ "operator": "Exists" }]));
        assert!(!is_avoided(&taints(&["a:PreferNoSchedule"]), &all));
        assert!(!is_avoided(&taints(&["a:NoSchedule"]), &[]));
    }

    #[test]
    fn what_runs_leaves_by_the_taint_that_drives_it_away_first() {
        let for_9 = json!([{ "key": "a", "effect": "NoExecute", "tolerationSeconds": 9 }]);
        let twice = json!([
            { "key": "a", "effect": "NoExecute", "tolerationSeconds": 9 },
            { "key": "a", "effect": "NoExecute", "tolerationSeconds": 5 },
        ]);
        let for_good = json!([
            { "key": "a", "effect": "NoExecute", "tolerationSeconds": 9 },
            { "key": "a", "operator": "Exists" },
        ]);
        let said = |texts: &[&str], tolerated: &Value| {
            let taints = taints(texts);
            leave(&taints, &tolerations(tolerated.clone())).map(|leave| {
                let at = leave.at.map_or("at once".to_owned(), |at| at.as_second().to_string());
                format!("{at}: {}", leave.taint)
            })
        };
        for (texts, tolerated, expected) in [
            (&["a:NoExecute"][..], &json!([]), Some("at once: a:NoExecute")),
            (&["a:NoExecute"], &for_9, Some("109: a:NoExecute")),
            (&["a:NoExecute"], &twice, Some("105: a:NoExecute")),
            (&["a:NoExecute"], &for_good, None),
            (&["a:NoExecute", "b:NoExecute"], &for_9, Some("at once: b:NoExecute")),
            (&["a:NoSchedule", "a:PreferNoSchedule"], &json!([]), None),
        ] {
            assert_eq!(said(texts, tolerated).as_deref(), expected, "{texts:?} {tolerated}");
        }
    }

    #[test]
    fn a_taint_tells_when_it_was_added_and_goes_on_to_when_it_is_written_again() {
        let mut first = taints(&["a=1:NoExecute", "b:NoSchedule"]);
        assert_eq!(first[0].time_added, Some(at(100)));
        assert_eq!(first[1].time_added, None, "nobody asks");
        let before = first.clone();
        first.iter_mut().for_each(|taint| taint.time_added = None);
        settle(&mut first, &before, at(200));
        assert_eq!(first[0].time_added, Some(at(100)));
        first[0] = "a=2:NoExecute".parse().unwrap();
        settle(&mut first, &before, at(200));
        assert_eq!(first[0].time_added, Some(at(200)), "it is another one");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in ["a", "a=b", "a:Never", ":NoSchedule", "a b:NoSchedule", "a=b c:NoSchedule"] {
            assert!(bad.parse::<Taint>().is_err(), "{bad}");
        }
        let said = |found: Vec<Violation>| {
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let twice = taints(&["a=1:NoSchedule", "a=2:NoSchedule", "a=1:NoExecute"]);
        assert_eq!(
            said(validate(&twice, "spec.taints")),
            "spec.taints[1]: there is another taint a with effect NoSchedule"
        );
        let wrong = tolerations(json!([
            { "value": "x" },
            { "operator": "Exists", "value": "x" },
            { "key": "a", "tolerationSeconds": 5 },
            { "key": "a", "tolerationSeconds": 5, "effect": "NoExecute" },
        ]));
        expect_test::expect![[r#"
            t[0].key: required with operator Equal (to tolerate every taint, write operator: Exists)
            t[1].value: not allowed with operator Exists (leave it out, or write operator: Equal)
            t[2].tolerationSeconds: only allowed with effect NoExecute"#]]
        .assert_eq(&said(validate_tolerations(&wrong, "t")));
        let many = vec![Toleration { operator: Operator::Exists, ..Toleration::default() }; 101];
        assert_eq!(
            said(validate_tolerations(&many, "t")),
            "t: 101 entries; at most 100 are allowed"
        );
    }
}
