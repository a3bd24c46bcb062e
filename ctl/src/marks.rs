//! The changes of labels and taints that a command line names, and what they come to. Pure.
//!
//! # Invariants
//!
//! * As with kubectl, a value that is there is replaced only with `--overwrite`.
//! * A change that is there already is no error: the same command twice does no harm.

use api::metadata::{label_key_problem, label_value_problem};
use api::taint::{Taint, TaintEffect};
use serde_json::{Map, Value, json};

use crate::failure::{Code, Failure};

/// A change of one label: its key, and its value; without a value it is removed.
pub type LabelChange = (String, Option<String>);

/// A change of taints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaintChange {
    /// Adds one, or gives it another value.
    Set(Taint),
    /// Removes those with this key, and this effect if one is given.
    Remove(String, Option<TaintEffect>),
}

/// What a command comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The patch to send.
    Change(Value),
    /// Everything is as asked for.
    Already,
}

/// Parts the words of a command line into objects and changes.
pub fn parted(words: &[String]) -> (&[String], &[String]) {
    let is_change = |word: &String| word.contains(['=', ':']) || word.ends_with('-');
    words.split_at(words.iter().position(is_change).unwrap_or(words.len()))
}

/// Reads changes of labels.
///
/// # Errors
/// One is not KEY=VALUE or KEY-.
pub fn label_changes(words: &[String]) -> Result<Vec<LabelChange>, Failure> {
    none_is_missing(words, "KEY=VALUE or KEY-, for example hctl label node/node-1 role=batch")?;
    let change = |word: &String| {
        let wrong = |why: String| Failure::usage(format!("{word:?}: {why}"));
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word.strip_suffix('-').unwrap_or(word), None),
        };
        if value.is_none() && !word.ends_with('-') {
            return Err(wrong("write KEY=VALUE, or KEY- to remove a label".to_owned()));
        }
        let problem = label_key_problem(key).or_else(|| label_value_problem(value?));
        match problem {
            Some(why) => Err(wrong(why)),
            None => Ok((key.to_owned(), value.map(str::to_owned))),
        }
    };
    words.iter().map(change).collect()
}

/// Reads changes of taints.
///
/// # Errors
/// One is not KEY=VALUE:EFFECT, KEY:EFFECT- or KEY-.
pub fn taint_changes(words: &[String]) -> Result<Vec<TaintChange>, Failure> {
    let forms = "KEY=VALUE:EFFECT or KEY-, for example hctl taint node-1 dedicated=gpu:NoSchedule";
    none_is_missing(words, forms)?;
    let change = |word: &String| {
        let wrong = |why: String| Failure::usage(format!("{word:?}: {why}"));
        let Some(removed) = word.strip_suffix('-') else {
            return word.parse().map(TaintChange::Set).map_err(wrong);
        };
        let (pair, effect) = match removed.rsplit_once(':') {
            Some((pair, effect)) => (pair, Some(effect.parse().map_err(wrong)?)),
            None => (removed, None),
        };
        let key = pair.split_once('=').map_or(pair, |(key, _)| key);
        Ok(TaintChange::Remove(key.to_owned(), effect))
    };
    words.iter().map(change).collect()
}

fn none_is_missing(words: &[String], forms: &str) -> Result<(), Failure> {
    if words.is_empty() {
        return Err(Failure::usage("no change is named").hint(format!("write {forms}")));
    }
    Ok(())
}

/// What changes of labels come to for an object.
///
/// # Errors
/// A label has another value, and must not be overwritten.
pub fn label(object: &Value, changes: &[LabelChange], overwrite: bool) -> Result<Outcome, Failure> {
    let labels = &object["metadata"]["labels"];
    let mut patch = Map::new();
    for (key, value) in changes {
        let there = labels[key.as_str()].as_str();
        if there == value.as_deref() {
            continue;
        }
        if let (Some(there), Some(_), false) = (there, value, overwrite) {
            return Err(taken(&format!("label {key} is {there:?}")));
        }
        patch.insert(key.clone(), json!(value));
    }
    let patch = (!patch.is_empty()).then(|| json!({ "metadata": { "labels": patch } }));
    Ok(patch.map_or(Outcome::Already, Outcome::Change))
}

/// What changes of taints come to for a node.
///
/// # Errors
/// A taint has another value, and must not be overwritten.
pub fn taint(node: &Value, changes: &[TaintChange], overwrite: bool) -> Result<Outcome, Failure> {
    let before: Vec<Taint> =
        serde_json::from_value(node["spec"]["taints"].clone()).unwrap_or_default();
    let mut taints = before.clone();
    for change in changes {
        match change {
            TaintChange::Remove(key, effect) => taints.retain(|taint| {
                taint.key != *key || effect.is_some_and(|effect| effect != taint.effect)
            }),
            TaintChange::Set(wanted) => {
                let is_place =
                    |it: &&mut Taint| (&it.key, it.effect) == (&wanted.key, wanted.effect);
                match taints.iter_mut().find(is_place) {
                    Some(there) if there.is_same_as(wanted) => (),
                    Some(there) if !overwrite => {
                        return Err(taken(&format!("it has taint {there}")));
                    }
                    Some(there) => *there = wanted.clone(),
                    None => taints.push(wanted.clone()),
                }
            }
        }
    }
    if taints == before {
        return Ok(Outcome::Already);
    }
    Ok(Outcome::Change(json!({ "spec": { "taints": taints } })))
}

fn taken(what: &str) -> Failure {
    Failure::new(what).code(Code::Conflict).hint("to change it, add --overwrite")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn said(outcome: Result<Outcome, Failure>) -> String {
        match outcome {
            Ok(Outcome::Already) => "already".to_owned(),
            Ok(Outcome::Change(patch)) => patch.to_string(),
            Err(failure) => {
                let hint = failure.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                format!("{}: {}{hint}", failure.code.number(), failure.message)
            }
        }
    }

    #[test]
    fn objects_come_before_changes() {
        for (line, objects, changes) in [
            ("node n1 a=b", "node n1", "a=b"),
            ("node/n1 node/n2 a- b=c", "node/n1 node/n2", "a- b=c"),
            ("n1 a:NoSchedule", "n1", "a:NoSchedule"),
            ("n1", "n1", ""),
        ] {
            let line = words(line);
            let (left, right) = parted(&line);
            assert_eq!((left.join(" "), right.join(" ")), (objects.to_owned(), changes.to_owned()));
        }
    }

    #[test]
    fn labels_are_set_and_removed() {
        let node = json!({ "metadata": { "labels": { "zone": "a", "gpu": "" } } });
        let of = |line: &str, overwrite| {
            said(label_changes(&words(line)).and_then(|changes| label(&node, &changes, overwrite)))
        };
        let lines =
            ["role=batch", "zone=a", "zone=b", "zone-", "role-", "gpu= zone=a", "role", "a b=c=d"];
        let shown: String =
            lines.iter().map(|line| format!("{line}: {}\n", of(line, false))).collect();
        expect![[r#"
            role=batch: {"metadata":{"labels":{"role":"batch"}}}
            zone=a: already
            zone=b: 5: label zone is "a"; to change it, add --overwrite
            zone-: {"metadata":{"labels":{"zone":null}}}
            role-: already
            gpu= zone=a: already
            role: 1: "role": write KEY=VALUE, or KEY- to remove a label
            a b=c=d: 1: "a": write KEY=VALUE, or KEY- to remove a label
        "#]]
        .assert_eq(&shown);
        assert_eq!(of("zone=b", true), r#"{"metadata":{"labels":{"zone":"b"}}}"#);
        assert!(of("zone=a!", true).contains("is not allowed"));
        assert!(of("", false).starts_with("1: no change is named; write KEY=VALUE"));
    }

    #[test]
    fn taints_are_set_and_removed_as_kubectl_does() {
        let node = json!({ "spec": { "taints": [
            { "key": "gpu", "value": "a", "effect": "NoSchedule" },
            { "key": "gpu", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z" },
        ] } });
        let of = |line: &str, overwrite| {
            said(taint_changes(&words(line)).and_then(|changes| taint(&node, &changes, overwrite)))
        };
        let lines = [
            "gpu=a:NoSchedule",
            "gpu=b:NoSchedule",
            "gpu:NoSchedule-",
            "gpu=a:NoSchedule-",
            "gpu-",
            "other-",
            "spot:PreferNoSchedule",
            "gpu",
            "gpu=a",
            "gpu:Never",
        ];
        let shown: String =
            lines.iter().map(|line| format!("{line}: {}\n", of(line, false))).collect();
        expect![[r#"
            gpu=a:NoSchedule: already
            gpu=b:NoSchedule: 5: it has taint gpu=a:NoSchedule; to change it, add --overwrite
            gpu:NoSchedule-: {"spec":{"taints":[{"key":"gpu","effect":"NoExecute","timeAdded":"2026-01-01T00:00:00Z"}]}}
            gpu=a:NoSchedule-: {"spec":{"taints":[{"key":"gpu","effect":"NoExecute","timeAdded":"2026-01-01T00:00:00Z"}]}}
            gpu-: {"spec":{"taints":[]}}
            other-: already
            spot:PreferNoSchedule: {"spec":{"taints":[{"key":"gpu","value":"a","effect":"NoSchedule"},{"key":"gpu","effect":"NoExecute","timeAdded":"2026-01-01T00:00:00Z"},{"key":"spot","effect":"PreferNoSchedule"}]}}
            gpu: 1: "gpu": must be KEY=VALUE:EFFECT, for example dedicated=gpu:NoSchedule
            gpu=a: 1: "gpu=a": must be KEY=VALUE:EFFECT, for example dedicated=gpu:NoSchedule
            gpu:Never: 1: "gpu:Never": "Never" is no effect; write NoSchedule, PreferNoSchedule or NoExecute
        "#]]
        .assert_eq(&shown);
        assert!(of("gpu=b:NoSchedule", true).contains(r#""value":"b""#));
    }
}
