//! Secrets and ConfigMaps: what every form of write makes of their type, texts and `immutable`.

use http::StatusCode;
use serde_json::{Value, json};
use store::{Expectation, Group, Store as _};

use crate::harness::{Answer, World};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn secret(fields: &Value) -> Value {
    object("Secret", fields)
}

fn object(kind: &str, fields: &Value) -> Value {
    let metadata = json!({ "name": "s", "namespace": "default" });
    let mut object = json!({ "apiVersion": "v1", "kind": kind, "metadata": metadata });
    for (field, value) in fields.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}

/// Sends `fields` of a Secret in every form in which one may be written: the answers, by form.
async fn written_in_every_form(world: &World, fields: &Value) -> Vec<(&'static str, Answer)> {
    let path = format!("{SECRETS}/s");
    let fresh = async || {
        world.delete(&path).await;
        let empty = secret(&json!({ "type": fields.get("type") }));
        assert_eq!(world.post(SECRETS, &empty).await.code, StatusCode::CREATED);
    };
    world.delete(&path).await;
    let mut answers = vec![("POST", world.post(SECRETS, &secret(fields)).await)];
    fresh().await;
    answers.push(("PUT", world.put(&path, &secret(fields)).await));
    fresh().await;
    answers.push(("merge patch", world.merge(&path, fields).await));
    fresh().await;
    let adds: Vec<Value> = fields
        .as_object()
        .unwrap()
        .iter()
        .map(|(field, value)| json!({ "op": "add", "path": format!("/{field}"), "value": value }))
        .collect();
    answers.push(("JSON patch", world.json_patch(&path, &json!(adds)).await));
    world.delete(&path).await;
    world.batch(&[json!({ "create": { "object": secret(fields) } })]).await;
    answers.push(("batch", world.get(&path).await));
    answers
}

#[tokio::test(start_paused = true)]
async fn a_secret_has_a_type_and_no_text_however_it_is_written() {
    let world = World::new().await;
    let fields = json!({ "data": { "a": "eA==" }, "stringData": { "b": "y" } });
    for (form, answer) in written_in_every_form(&world, &fields).await {
        assert!(answer.code.is_success(), "{form}: {}", answer.json);
        assert_eq!(answer.json["type"], "Opaque", "{form}");
        assert_eq!(answer.json["data"], json!({ "a": "eA==", "b": "eQ==" }), "{form}");
        assert_eq!(answer.json.get("stringData"), None, "{form}");
    }
    let fields = json!({ "type": "my/own", "stringData": { "b": "y" } });
    for (form, answer) in written_in_every_form(&world, &fields).await {
        assert_eq!(answer.json["type"], "my/own", "{form}: {}", answer.json);
    }
    let selected = async |selector: &str| {
        let list = world.get(&format!("{SECRETS}?fieldSelector={selector}")).await.json;
        list["items"].as_array().unwrap().len()
    };
    assert_eq!((selected("type=my/own").await, selected("type=Opaque").await), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_type_of_a_secret_never_changes() {
    let world = World::new().await;
    let path = format!("{SECRETS}/s");
    assert_eq!(world.post(SECRETS, &secret(&json!({}))).await.code, StatusCode::CREATED);
    // What says nothing of it, takes it away or says the default leaves it as it is.
    for same in [json!({}), json!({ "type": "Opaque" }), json!({ "type": "" })] {
        let answer = world.put(&path, &secret(&same)).await;
        assert_eq!(answer.code, StatusCode::OK, "{same}: {}", answer.json);
        assert_eq!(answer.json["type"], "Opaque", "{same}");
    }
    assert_eq!(world.merge(&path, &json!({ "type": null })).await.json["type"], "Opaque");
    let other = world.merge(&path, &json!({ "type": "other" })).await;
    assert_eq!(other.code, StatusCode::UNPROCESSABLE_ENTITY);
    let cause = &other.json["details"]["causes"][0];
    assert_eq!(cause["field"], "type", "{}", other.json);
}

/// A version before this one stored secrets without a type.
#[tokio::test(start_paused = true)]
async fn a_secret_that_was_stored_without_a_type_is_read_with_one() {
    let world = World::new().await;
    let mut old = secret(&json!({ "data": { "a": "eA==" } }));
    old["metadata"]["uid"] = "u-1".into();
    let stored = [vec![1], old.to_string().into_bytes()].concat();
    let group = Group::default().put("/heliox/v1/secrets/default/s", Expectation::Absent, stored);
    assert!(world.store.commit(vec![group]).await[0].is_done());
    let path = format!("{SECRETS}/s");
    let read = world.get(&path).await.json;
    assert_eq!((&read["type"], &read["data"]["a"]), (&json!("Opaque"), &json!("eA==")));
    assert_eq!(world.put(&path, &read).await.code, StatusCode::OK);
    let answer = world.merge(&path, &json!({ "type": "other" })).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.json);
}

/// As Kubernetes asks of its own types: programs read these keys without looking.
#[tokio::test(start_paused = true)]
async fn a_type_of_kubernetes_has_the_keys_that_it_promises() {
    let world = World::new().await;
    let missing = async |fields: &Value| {
        let answer = world.post(SECRETS, &secret(fields)).await;
        world.delete(&format!("{SECRETS}/s")).await;
        let causes = answer.json["details"]["causes"].as_array().cloned().unwrap_or_default();
        causes.iter().map(|cause| cause["field"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let tls = json!({ "type": "kubernetes.io/tls", "data": { "tls.crt": "eA==" } });
    assert_eq!(missing(&tls).await, ["data[\"tls.key\"]"]);
    let text =
        json!({ "type": "kubernetes.io/tls", "stringData": { "tls.crt": "", "tls.key": "" } });
    assert_eq!(missing(&text).await, [""; 0]);
    let login = json!({ "type": "kubernetes.io/basic-auth", "stringData": { "password": "x" } });
    assert_eq!(missing(&login).await, [""; 0], "either key is enough");
    let login = json!({ "type": "kubernetes.io/basic-auth" });
    assert_eq!(missing(&login).await, ["data[\"username\"]"]);
    assert_eq!(missing(&json!({ "type": "kubernetes.io/dockerconfigjson" })).await.len(), 1);
    assert_eq!(missing(&json!({ "type": "mine/tls" })).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_immutable_stays_as_it_is() {
    let world = World::new().await;
    let binary = json!({ "binaryData": { "b": "/w==" } });
    for (path, kind, more) in
        [(SECRETS, "Secret", json!({})), (CONFIG_MAPS, "ConfigMap", binary.clone())]
    {
        let mut fields = json!({ "data": { "a": "eA==" }, "immutable": true });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = world.post(path, &object(kind, &fields)).await;
        assert_eq!(made.code, StatusCode::CREATED, "{}", made.json);
        assert_eq!(made.json["immutable"], true);
        let one = format!("{path}/s");
        let read = world.get(&one).await.json;
        assert_eq!(read.get("binaryData"), more.get("binaryData"));
        assert_eq!(world.put(&one, &read).await.code, StatusCode::OK, "as it was read");
        let labels = json!({ "metadata": { "labels": { "x": "y" } } });
        assert_eq!(world.merge(&one, &labels).await.code, StatusCode::OK, "only the data is fixed");
        let mut changes = vec![
            ("data", json!({ "data": { "a": "eQ==" } })),
            ("data", json!({ "data": { "c": "eQ==" } })),
            ("data", json!({ "data": null })),
            ("immutable", json!({ "immutable": false })),
            ("immutable", json!({ "immutable": null })),
        ];
        if kind == "ConfigMap" {
            changes.push(("data", json!({ "binaryData": { "b": "eA==" } })));
        } else {
            changes.push(("data", json!({ "stringData": { "a": "other" } })));
        }
        for (field, change) in changes {
            let answer = world.merge(&one, &change).await;
            assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{kind}: {change}");
            assert_eq!(answer.json["details"]["causes"][0]["field"], field, "{kind}: {change}");
        }
    }
}

/// Clients leave an empty map out, or send one.
#[tokio::test(start_paused = true)]
async fn no_data_is_the_same_as_empty_data() {
    let world = World::new().await;
    let fields = json!({ "data": {}, "immutable": true });
    assert_eq!(world.post(SECRETS, &secret(&fields)).await.code, StatusCode::CREATED);
    let path = format!("{SECRETS}/s");
    let answer = world.put(&path, &secret(&json!({ "immutable": true }))).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.json);
}
