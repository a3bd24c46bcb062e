//! A refusal says what to do next, whichever way the request came.

use std::time::Duration;

use api::status::{Mistake, Refusal, Why};
use http::Method;
use serde_json::{Value, json};
use store::Fault;

use crate::harness::{Answer, JOBS, OURS, World, job};

/// What a client reads out of an answer that is no success.
fn why(answer: &Answer) -> Why {
    let body = answer.json.to_string().into_bytes();
    Refusal::of_answer(answer.code.as_u16(), &body).expect("a refusal of ours").why
}

fn grant(node: &str) -> Value {
    json!({ "node": node, "agent": "a", "bootId": "b" })
}

/// A job that says where it belongs: a batch has no path that would.
fn placed(name: &str) -> Value {
    let mut job = job(name);
    job["metadata"]["namespace"] = json!("default");
    job
}

fn word(result: &Value) -> (&str, &str) {
    (result["outcome"].as_str().unwrap(), result["why"].as_str().unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn a_full_store_is_told_as_such_by_every_form_of_write() {
    let world = World::new().await;
    world.job("there").await;
    world.store.faults().fill(true);
    assert_eq!(why(&world.post(JOBS, &job("a")).await), Why::Full);
    let patch = json!({ "metadata": { "labels": { "a": "b" } } });
    assert_eq!(why(&world.merge(&format!("{JOBS}/there"), &patch).await), Why::Full);
    let results = world.batch(&[json!({ "create": { "object": placed("a") } })]).await;
    assert_eq!(word(&results[0]), ("Unknown", "StoreFull"), "what older agents say again");
    assert!(results[0]["message"].as_str().unwrap().contains("full"), "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_store_did_not_give_is_told_as_such_by_every_form_of_write() {
    let world = World::new().await;
    let lost = async |path: &str, body: &Value| {
        world.store.faults().next_groups(1, Fault::RequestLost);
        why(&world.json(Method::POST, path, body).await)
    };
    assert_eq!(lost(JOBS, &job("a")).await, Why::Unknown);
    // Whether another agent has the lease is another question.
    assert_eq!(lost(&format!("{OURS}/nodeleases"), &grant("n1")).await, Why::Unknown);
    world.store.faults().next_groups(1, Fault::Late(Duration::from_secs(1)));
    let results = world.batch(&[json!({ "create": { "object": placed("b") } })]).await;
    assert_eq!(word(&results[0]), ("Unknown", "Timeout"));
}

#[tokio::test(start_paused = true)]
async fn each_group_of_a_batch_has_its_own_reason() {
    let world = World::new().await;
    let mut there = world.job("there").await;
    let stale = there.clone();
    there["metadata"]["labels"] = json!({ "a": "b" });
    let replaced = world.batch(&[json!({ "replace": { "object": there } })]).await;
    assert_eq!(word(&replaced[0]), ("Done", ""));
    let mut invalid = placed("invalid");
    invalid["spec"]["template"] = json!({});
    let gone = json!({ "namespace": "default", "name": "gone" });
    let results = world
        .batch(&[
            json!({ "replace": { "object": stale } }),
            json!({ "create": { "object": placed("there") } }),
            json!({ "create": { "object": invalid } }),
            json!({ "delete": { "kind": "jobs", "key": gone, "uid": "u" } }),
            json!({ "delete": { "kind": "pigs", "key": gone, "uid": "u" } }),
        ])
        .await;
    let words: Vec<(&str, &str)> = results.iter().map(word).collect();
    assert_eq!(
        words,
        [
            ("Refused", "Conflict"),
            ("Refused", "AlreadyExists"),
            ("Invalid", "Invalid"),
            ("Refused", "NotFound"),
            ("Invalid", "BadRequest"),
        ]
    );
    let messages = results.iter().all(|result| !result["message"].as_str().unwrap().is_empty());
    assert!(messages, "{results:?}");
}

/// A component of a newer version then writes the same with other operations. For any other mistake it
/// must not: it would only send the same again.
#[tokio::test(start_paused = true)]
async fn a_batch_with_an_operation_of_a_newer_version_is_refused_as_such() {
    let world = World::new().await;
    let create = json!({ "create": { "object": {} } });
    for (groups, mistake) in [
        (json!([{ "ops": [create] }, { "ops": [create, { "peel": {} }] }]), Mistake::Operation),
        (json!([{ "ops": [{ "create": {} }] }]), Mistake::Request),
        (json!([{ "ops": [{ "create": { "object": {}, "peel": 1 } }] }]), Mistake::Request),
        (json!("all"), Mistake::Request),
    ] {
        let answer = world.post(&format!("{OURS}/batches"), &json!({ "groups": groups })).await;
        assert_eq!(why(&answer), Why::Mistaken(mistake), "{}", answer.json);
        let message = answer.json["message"].as_str().unwrap();
        assert!(message.starts_with("cannot parse the body: groups"), "{message}");
    }
}
