//! What names come to, in both stages.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::names::{Name, OF_RUN, OF_TASK};
use super::{NodeNames, RunNames, for_node, job_in_run, params_of_run};
use crate::template::Template;
use crate::workflow::{WorkflowJob, WorkflowSpec};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn in_run(args: &[&str], params: &[(&str, &str)]) -> Vec<String> {
    let job: WorkflowJob = serde_json::from_value(json!({
        "name": "load", "template": {"image": "app:$(run.name)", "args": args},
    }))
    .unwrap();
    let params = map(params);
    let started: Timestamp = "2026-01-02T23:30:00Z".parse().unwrap();
    let names = RunNames { run: "data-7", started, params: &params };
    job_in_run(None, &job, &names).unwrap().template.args
}

fn on_node(args: &[String], env: &[(&str, &str)]) -> Vec<String> {
    let template: Template = serde_json::from_value(json!({
        "image": "app", "args": args,
        "env": env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>(),
    }))
    .unwrap();
    let (ports, ours) = (BTreeMap::from([("http".to_owned(), 31000)]), map(&[("HELIOX_RUN", "r")]));
    let item = json!({"path": "b.png", "size": 3});
    let names = NodeNames {
        task: "load-3",
        index: 3,
        count: 10,
        attempt: 2,
        partition: Some("mydb-0"),
        item: Some(&item),
        node: "n1",
        ports: &ports,
        env: &ours,
    };
    for_node(&template, &names).unwrap().args
}

#[test]
fn each_stage_substitutes_its_names_and_leaves_the_rest() {
    let args = [
        "$(params.version) $(run.name) $(run.date) $(task.index) $$(params.version)",
        "$(date +%s) $HOME ${X} $$ $( $(other.name) $(params) $",
        "$(params['version'])",
    ];
    let first = in_run(&args, &[("version", "1.10")]);
    let expected = [
        "1.10 data-7 2026-01-02 $(task.index) $$(params.version)",
        "$(date +%s) $HOME ${X} $$ $( $(other.name) $(params) $",
        "1.10",
    ];
    assert_eq!(first, expected);
    let second = on_node(&first, &[]);
    assert_eq!(second[0], "1.10 data-7 2026-01-02 3 $(params.version)");
    assert_eq!(second[1], expected[1]);
}

#[test]
fn every_name_that_is_documented_has_a_value() {
    let written = |it: &Name| {
        let name = it.name.replace("item.FIELD", "item.path").replace("ports.NAME", "ports.http");
        format!("$({})", name.replace("params.NAME", "params.version"))
    };
    let texts: Vec<String> = OF_RUN.iter().chain(&OF_TASK).map(written).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let values = on_node(&in_run(&texts, &[("version", "1.10")]), &[]);
    for (text, value) in texts.iter().zip(&values) {
        assert!(!value.contains("$("), "{text}: {value}");
    }
}

#[test]
fn a_node_knows_its_task_ports_and_the_variables_declared_before() {
    let args = [
        "$(task.name)/$(task.count)/$(task.attempt)/$(task.partition)@$(node.name)",
        "$(task.item.path):$(task.item.size)",
        "$(ports.http)",
        "$(A)$(B)$(HELIOX_RUN)$(C)",
    ]
    .map(str::to_owned);
    let env = [("A", "1"), ("B", "$(A)2$(C)"), ("D", "$(task.index)")];
    assert_eq!(on_node(&args, &env), ["load-3/10/2/mydb-0@n1", "b.png:3", "31000", "112$(C)r$(C)"]);
}

#[test]
fn a_value_is_never_looked_at_again() {
    let first = in_run(&["$(params.version)"], &[("version", "$(task.name)$(A)$$(x")]);
    assert_eq!(on_node(&first, &[("A", "1")]), ["$(task.name)$(A)$$(x"]);
}

#[test]
fn a_value_cannot_lead_a_mount_out_of_its_place() {
    let template: Template = serde_json::from_value(json!({
        "image": "app", "mounts": [{"path": "/data", "hostPath": "/srv/$(task.item)"}],
    }))
    .unwrap();
    let (item, ports, env) = (json!("../etc"), BTreeMap::new(), BTreeMap::new());
    let names = NodeNames {
        task: "a",
        index: 0,
        count: 1,
        attempt: 1,
        partition: None,
        item: Some(&item),
        node: "n",
        ports: &ports,
        env: &env,
    };
    let found = for_node(&template, &names).unwrap_err();
    assert_eq!(found[0].to_string(), "mounts[0].hostPath: '..' is not allowed in \"/srv/../etc\"");
}

#[test]
fn defaults_of_parameters_may_name_the_run() {
    let workflow: WorkflowSpec = serde_json::from_value(json!({
        "params": [{"name": "date", "default": "$(run.date)"}, {"name": "size", "enum": ["s", "l"]}],
        "jobs": [],
    }))
    .unwrap();
    let started: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let full = params_of_run(&workflow, &map(&[("size", "l")]), "r", started).unwrap();
    assert_eq!(full, map(&[("date", "2026-01-02"), ("size", "l")]));
    let found = params_of_run(&workflow, &map(&[("sise", "l")]), "r", started).unwrap_err();
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "spec.params.sise: the workflow has no parameter of this name (did you mean size?)",
            "spec.params.size: a value is required (it has no default)",
        ]
    );
}

/// What names are made of.
const PIECES: [&str; 9] =
    ["$", "(", ")", "a", "$(a)", "$$(", "$(task.name)", "$(params.version)", "(a)"];

proptest! {
    #[test]
    fn any_text_survives_as_a_parameter(
        picks in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..6)
    ) {
        let value = picks.concat();
        let text = "<$(params.version)$(params.empty)(a)>$(params.version)$(params.version)";
        let first = in_run(&[text], &[("version", &value), ("empty", "")]);
        let second = on_node(&first, &[("a", "wrong")]);
        prop_assert_eq!(&second[0], &format!("<{value}(a)>{value}{value}"));
    }
}
