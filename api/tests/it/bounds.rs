//! What a small manifest may make of itself: every expansion has a bound that is looked at before
//! the work.

use std::collections::BTreeMap;

use api::manifest;
use api::substitute::{NodeNames, RunNames, TEXT_BYTES_MAX, for_node, job_in_run};
use api::template::{EnvVar, Template};
use api::workflow::WorkflowJob;
use api::{KindId, Timestamp, schema};
use expect_test::expect;
use serde_json::{Value, json};

use crate::bad_manifests::{check, job, workflow};

/// Thirty-five variables of which each holds the one before twice: 64 GiB, were they put in.
fn doubling(first: &str) -> Vec<Value> {
    let variable = |n: usize| match n {
        0 => json!({ "name": "V0", "value": first }),
        n => json!({ "name": format!("V{n}"), "value": format!("$(V{0})$(V{0})", n - 1) }),
    };
    (0..35).map(variable).collect()
}

fn violations(kind: KindId, spec: Value) -> String {
    let document = json!({
        "apiVersion": "heliox.dev/v1", "kind": kind.to_string(),
        "metadata": { "name": "a" }, "spec": spec,
    });
    let found = schema::check_document(kind, &document);
    found.iter().map(|it| format!("{it}\n")).collect()
}

#[test]
fn variables_that_double_are_refused_when_they_are_applied() {
    let env: Vec<String> = doubling("xx").iter().map(Value::to_string).collect();
    check(
        &job(&format!("    env:\n    - {}\n", env.join("\n    - "))),
        expect![[r#"
            a.yaml:24:21: spec.template.env[16].value: 131072 bytes after substitution; a program can be passed at most 131067
              hint: use a file
        "#]],
    );
    // Laid over a template by a listed task they are, too.
    let spec = json!({
        "template": { "image": "x" },
        "tasks": [{ "name": "a", "template": { "env": doubling("xx") } }],
    });
    assert!(violations(KindId::Job, spec).contains("spec.tasks[0].template.env[16].value: 131072"));
}

/// What only the node knows the length of (here an item) fails the attempt with a sentence.
#[test]
fn variables_that_double_are_not_put_in_by_the_agent() {
    let env: Vec<EnvVar> = doubling("$(task.item)")
        .into_iter()
        .map(|it| serde_json::from_value(it).unwrap())
        .collect();
    let template = Template { image: "x".to_owned(), env, ..Template::default() };
    let item = json!("x".repeat(100));
    let (ports, variables) = (BTreeMap::new(), BTreeMap::new());
    let names = |item| NodeNames {
        task: "a-0",
        index: 0,
        count: 1,
        attempt: 1,
        partition: None,
        item: Some(item),
        node: "n1",
        ports: &ports,
        env: &variables,
    };
    let found = for_node(&template, &names(&item)).unwrap_err();
    expect!["env[11].value: after substitution it takes more than 131067 bytes (a program cannot be passed more; use a file)"]
        .assert_eq(&found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    // Many that are each within the bound are not within it together.
    let args = vec!["$(task.item)".to_owned(); 1_000];
    let template = Template { image: "x".to_owned(), args, ..Template::default() };
    let item = json!("x".repeat(TEXT_BYTES_MAX));
    let found = for_node(&template, &names(&item)).unwrap_err();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].path.starts_with("args["), "{found:?}");
    let item = json!("short");
    assert_eq!(for_node(&template, &names(&item)).unwrap().args[999], "short");
}

#[test]
fn parameters_are_counted_before_they_are_put_in() {
    let args: Vec<&str> = vec!["$(params.x)"; 900];
    let template = json!({ "image": "x", "args": args });
    let wanted = json!({ "name": "a", "template": template });
    let wanted: WorkflowJob = serde_json::from_value(wanted).unwrap();
    let params = BTreeMap::from([("x".to_owned(), "y".repeat(60_000))]);
    let names = RunNames { run: "r", started: Timestamp::UNIX_EPOCH, params: &params };
    let found = job_in_run(None, &wanted, &names).unwrap_err();
    expect!["spec: with its parameters substituted it takes more than 1047552 bytes (make the values shorter)"]
        .assert_eq(&found[0].to_string());
    let spec = json!({
        "params": [{ "name": "x", "default": "y".repeat(60_000) }],
        "jobs": [{ "name": "a", "template": template }],
    });
    expect![[r#"
        spec.jobs[0]: with its parameters substituted it takes more than 1047552 bytes (make the values shorter)
    "#]]
    .assert_eq(&violations(KindId::Workflow, spec));
}

#[test]
fn products_of_a_manifest_have_a_bound() {
    let args: Vec<String> = vec!["x".repeat(100_000); 5];
    let jobs: Vec<Value> = (0..1_000).map(|n| json!({ "name": format!("j{n}") })).collect();
    let spec = json!({ "defaults": { "template": { "image": "x", "args": args } }, "jobs": jobs });
    expect![[r#"
        spec.defaults: 500050 bytes of defaults in each of 1000 jobs: together 500065891 bytes; at most 67108864 are allowed
    "#]]
    .assert_eq(&violations(KindId::Workflow, spec));
    let tasks: Vec<Value> = (0..1_000)
        .map(|n| json!({ "name": format!("t{n}"), "template": { "args": [] } }))
        .collect();
    let spec = json!({ "template": { "image": "x", "args": args }, "tasks": tasks });
    expect![[r#"
        spec.tasks: merged with the job's template they take 500037000 bytes; at most 67108864 are allowed (make the template smaller or list fewer tasks)
    "#]]
    .assert_eq(&violations(KindId::Job, spec));
}

/// Every job waits for all before it, and every text names a field of ten thousand items: looked at
/// pair by pair, either would take minutes.
#[test]
fn dense_graphs_and_long_lists_are_read() {
    let jobs: Vec<Value> = (0..400)
        .map(|n| {
            let before: Vec<Value> = (0..n).map(|n| json!({ "job": format!("j{n}") })).collect();
            json!({ "name": format!("j{n}"), "template": { "image": "x" }, "dependsOn": before })
        })
        .collect();
    let text = violations(KindId::Workflow, json!({ "jobs": jobs }));
    assert!(text.contains("more than the 1047552 that can be stored"), "{text}");
    let items: Vec<Value> = (0..10_000).map(|_| json!({ "a": 1 })).collect();
    let text = "$(task.item.a)".repeat(9_000);
    let args = vec![text; 5];
    let spec = json!({ "template": { "image": "x", "args": args }, "items": items });
    assert_eq!(violations(KindId::Job, spec), "");
}

#[test]
fn what_leaves_no_room_is_refused_with_its_size() {
    let jobs: Vec<Value> = (0..900)
        .map(|n| json!({ "name": format!("j{n}"), "template": { "args": ["x".repeat(800)] } }))
        .collect();
    let spec = json!({ "defaults": { "template": { "image": "x" } }, "jobs": jobs });
    expect![[r#"
        spec: a run keeps a copy of the workflow and the state of each job, which take up to 1124112 bytes as JSON, 76560 more than the 1047552 that can be stored
    "#]]
    .assert_eq(&violations(KindId::Workflow, spec));
    let spec = json!({ "data": { "a": "x".repeat(1_048_000) } });
    let document = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": spec["data"],
    });
    let found = schema::check_document(KindId::ConfigMap, &document);
    assert!(found[0].message.contains("more than the 1047552 that can be stored"), "{found:?}");
    // Fifty large jobs under one script are fine: they are written one after the other.
    let jobs: Vec<Value> = (0..50).map(|n| json!({ "name": format!("j{n}") })).collect();
    let defaults = json!({ "template": { "image": "x", "args": ["x".repeat(30_000)] } });
    assert_eq!(violations(KindId::Workflow, json!({ "defaults": defaults, "jobs": jobs })), "");
}

/// The message of a value that is not allowed does not repeat all that is.
#[test]
fn messages_are_short() {
    let allowed: Vec<String> = (0..5_000).map(|n| format!("value-{n}")).collect();
    let param = json!({ "name": "x", "enum": allowed, "default": "y".repeat(10_000) });
    let spec =
        json!({ "params": [param], "jobs": [{ "name": "a", "template": { "image": "x" } }] });
    let text = violations(KindId::Workflow, spec);
    assert!(text.len() < 500, "{} bytes", text.len());
    assert!(text.contains("and 4990 more"), "{text}");
    let read = manifest::read("a.yaml", workflow("  jobs: []\n").as_bytes());
    assert_eq!(read.unwrap_err().len(), 1);
}
