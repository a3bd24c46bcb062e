//! The parameters of each verb: each does what it says, or is refused with a sentence.

use std::fmt::Write as _;

use expect_test::expect;
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Answer, JOBS, TASKS, World, job, task_of};

/// Parameters with a value that is legal where they are taken.
const PARAMETERS: [(&str, &str); 26] = [
    ("labelSelector", "a=b"),
    ("fieldSelector", "metadata.name=a"),
    ("limit", "1"),
    ("continue", ""),
    ("resourceVersion", "0"),
    ("resourceVersionMatch", "NotOlderThan"),
    ("allowWatchBookmarks", "true"),
    ("sendInitialEvents", "true"),
    ("timeoutSeconds", "1"),
    ("includeObject", "Object"),
    ("dryRun", "All"),
    ("fieldManager", "me"),
    ("fieldValidation", "Warn"),
    ("force", "false"),
    ("gracePeriodSeconds", "1"),
    ("orphanDependents", "true"),
    ("propagationPolicy", "Orphan"),
    ("follow", "false"),
    ("tailLines", "1"),
    ("container", "c"),
    ("command", "sh"),
    ("kinds", "jobs"),
    ("bootId", "b"),
    ("pretty", "true"),
    ("timeout", "1s"),
    ("labelselector", "a=b"),
];

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "replace", "patch", "delete", "evict"];

/// Asks so of a job (or its task), with a parameter. The job is there before.
async fn asked(world: &World, verb: &str, parameter: &str) -> Answer {
    let one = format!("{JOBS}/a?{parameter}");
    match verb {
        "get" => world.get(&one).await,
        "list" => world.get(&format!("{JOBS}?{parameter}")).await,
        "watch" => world.get(&format!("{JOBS}?watch=1&timeoutSeconds=1&{parameter}")).await,
        "create" => world.post(&format!("{JOBS}?{parameter}"), &job("b")).await,
        "replace" => world.put(&one, &job("a")).await,
        "patch" => world.merge(&one, &json!({})).await,
        "delete" => world.delete(&one).await,
        "evict" => {
            let path = format!("{TASKS}/a-0/evict?{parameter}");
            world.post(&path, &json!({ "reason": "Evict" })).await
        }
        other => panic!("no such verb: {other}"),
    }
}

async fn with_a_task() -> World {
    let world = World::new().await;
    let job = world.job("a").await;
    world.batch(&[json!({ "create": { "object": task_of(&job, 0) } })]).await;
    world
}

fn message(answer: &Answer) -> &str {
    answer.json["message"].as_str().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn every_parameter_is_taken_or_refused_by_name() {
    let mut table = String::new();
    for (name, value) in PARAMETERS {
        let mut taken = Vec::new();
        for verb in VERBS {
            // One that is given by the verb already cannot be given again.
            let given = verb == "watch" && name == "timeoutSeconds";
            let parameter = if given { String::new() } else { format!("{name}={value}") };
            let answer = asked(&with_a_task().await, verb, &parameter).await;
            if answer.code.is_success() {
                taken.push(verb);
                continue;
            }
            assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{verb} {name}: {}", answer.json);
            assert!(message(&answer).contains(name), "{verb}: {}", message(&answer));
        }
        let line = format!("{name:<21}{}", taken.join(" "));
        writeln!(table, "{}", line.trim_end()).unwrap();
    }
    expect![[r#"
        labelSelector        list watch
        fieldSelector        list watch
        limit                list
        continue             list watch
        resourceVersion      get list watch
        resourceVersionMatch list watch
        allowWatchBookmarks  list watch
        sendInitialEvents    watch
        timeoutSeconds       list watch
        includeObject        get list watch
        dryRun               create replace patch delete evict
        fieldManager         create replace patch evict
        fieldValidation      create replace patch evict
        force                patch
        gracePeriodSeconds   delete
        orphanDependents     delete
        propagationPolicy    delete
        follow
        tailLines
        container
        command
        kinds
        bootId
        pretty               get list watch create replace patch delete evict
        timeout              get list watch create replace patch delete evict
        labelselector
    "#]]
    .assert_eq(&table);
}

#[tokio::test(start_paused = true)]
async fn what_a_parameter_cannot_mean_is_refused() {
    let long = format!("fieldManager={}", "x".repeat(129));
    let cases = [
        ("list", "watch=maybe", "watch: must be true or false, not \"maybe\""),
        ("list", "timeoutSeconds=-1", "timeoutSeconds"),
        ("list", "limit=-1", "limit"),
        ("list", "resourceVersionMatch=Exact", "only NotOlderThan is supported"),
        ("watch", "resourceVersionMatch=Exact", "only NotOlderThan is supported"),
        ("watch", "limit=5", "apply to lists only, not to a watch"),
        ("list", "sendInitialEvents=true", "add watch=true"),
        ("list", "resourceVersion=x", "resourceVersion: must be a number"),
        ("get", "resourceVersion=x", "resourceVersion: must be a number"),
        ("create", "dryRun=Yes", "dryRun: must be All, not \"Yes\""),
        ("create", "fieldValidation=No", "must be Ignore, Warn or Strict"),
        ("create", &long, "at most 128 printable characters"),
        ("create", "fieldManager=a%0Ab", "at most 128 printable characters"),
        ("patch", "force=true", "force applies to server-side apply only"),
        ("delete", "orphanDependents=perhaps", "must be true or false"),
        ("delete", "propagationPolicy=All", "must be Background, Foreground or Orphan"),
    ];
    for (verb, parameter, why) in cases {
        let world = with_a_task().await;
        let answer = asked(&world, verb, parameter).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{verb} {parameter}: {}", answer.json);
        assert!(message(&answer).contains(why), "{verb} {parameter}: {}", message(&answer));
        let job = world.get(&format!("{JOBS}/a")).await.json;
        assert_eq!(job["metadata"]["deletionTimestamp"], Value::Null, "{verb} {parameter}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_only_tried_changes_nothing() {
    let world = with_a_task().await;
    let revision = async || store::Store::revision(&world.store).await.unwrap();
    let before = revision().await;
    for verb in ["create", "patch", "delete", "evict"] {
        let answer = asked(&world, verb, "dryRun=All").await;
        assert!(answer.code.is_success(), "{verb}: {}", answer.json);
    }
    let mut changed = job("a");
    changed["spec"]["count"] = 7.into();
    let tried = world.put(&format!("{JOBS}/a?dryRun=All"), &changed).await;
    assert_eq!(tried.json["spec"]["count"], 7, "it is answered as it would be");
    assert_eq!(revision().await, before);
}

/// Whatever a client asks for, an unknown field is never dropped without a word.
#[tokio::test(start_paused = true)]
async fn an_unknown_field_is_refused_whatever_validation_is_asked_for() {
    let world = World::new().await;
    let mut odd = job("a");
    odd["spec"]["paralelism"] = 3.into();
    for word in ["", "Ignore", "Warn", "Strict"] {
        let answer = world.post(&format!("{JOBS}?fieldValidation={word}"), &odd).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{word}");
        assert!(message(&answer).contains("paralelism"), "{}", message(&answer));
    }
}

/// A point that this store has not come to is of another history: it is not answered with what is older.
#[tokio::test(start_paused = true)]
async fn a_read_is_not_older_than_the_point_it_names() {
    let world = with_a_task().await;
    let job = world.get(&format!("{JOBS}/a")).await.json;
    let version = job["metadata"]["resourceVersion"].as_str().unwrap();
    for known in ["", "0", version] {
        let answer = world.get(&format!("{JOBS}/a?resourceVersion={known}")).await;
        assert_eq!(answer.code, StatusCode::OK, "{known}");
    }
    let ahead = world.get(&format!("{JOBS}/a?resourceVersion=99999999")).await;
    assert_eq!(ahead.json["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    let list = world.get(&format!("{JOBS}?timeoutSeconds=0")).await;
    assert_eq!(list.code, StatusCode::OK, "no seconds are as many as there may be");
}
