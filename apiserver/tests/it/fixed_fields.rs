//! What of an object never changes is held by every form of write: each form times each such field.
//!
//! The forms come from where they are defined (kinds and their subresources, the content types of
//! patches, the operations of batches), so that a new one is walked here without being named.

use std::fmt::Write as _;

use api::batch::{Op, Propagation, Ranges};
use api::patch::PatchForm;
use api::task::transition::TaskChange;
use api::{KindId, ObjectKey, merge};
use expect_test::expect;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, OURS, World, task_of};

/// Where a kind's objects are.
fn path(kind: KindId) -> String {
    let info = kind.info();
    let group = if info.group.is_empty() {
        format!("/api/{}", info.version)
    } else {
        format!("/apis/{}/{}", info.group, info.version)
    };
    let place = if kind.is_namespaced() { "/namespaces/default" } else { "" };
    format!("{group}{place}/{}", info.plural)
}

/// An object of each kind that is served, by the name `a`; a task is made by its job's controller.
fn sample(kind: KindId) -> Option<Value> {
    let template = json!({ "image": "x" });
    let more = match kind {
        KindId::NodeLease | KindId::CompletionChunk | KindId::Task => return None,
        KindId::Namespace | KindId::Secret => json!({}),
        KindId::ConfigMap => json!({ "data": { "a": "b" } }),
        KindId::Event => json!({ "involvedObject": { "kind": "Job", "name": "a" } }),
        KindId::Lease => json!({ "spec": { "holderIdentity": "me" } }),
        KindId::Node => json!({ "spec": {} }),
        KindId::PartitionSet => json!({ "spec": {
            "partitions": 1, "stateModel": "LeaderStandby", "mode": "Manual",
        }}),
        KindId::Workflow => {
            json!({ "spec": { "jobs": [{ "name": "a", "count": 1, "template": template }] } })
        }
        KindId::WorkflowRun => json!({ "spec": { "workflow": "a" } }),
        KindId::Job => json!({ "spec": { "count": 1, "template": template } }),
        KindId::Service => json!({ "spec": { "replicas": 1, "template": template } }),
        KindId::TaskTemplate => {
            json!({ "spec": { "owner": { "kind": "Job", "name": "a" }, "template": template } })
        }
    };
    let mut object = json!({
        "apiVersion": kind.api_version(), "kind": kind.info().kind, "metadata": { "name": "a" },
    });
    for (field, value) in more.as_object().unwrap() {
        object[field] = value.clone();
    }
    Some(object)
}

/// A world with one object of each kind that is served.
async fn world() -> World {
    let world = World::new().await;
    for kind in KindId::ALL {
        let Some(object) = sample(kind) else { continue };
        let made = world.post(&path(kind), &object).await;
        assert_eq!(made.code, StatusCode::CREATED, "{kind}: {}", made.json);
    }
    let owner = world.get(&format!("{}/a", path(KindId::Job))).await.json;
    let create = json!({ "create": { "object": task_of(&owner, 0) } });
    assert_eq!(world.batch(&[create]).await[0]["outcome"], "Done");
    world
}

fn name(kind: KindId) -> &'static str {
    if kind == KindId::Task { "a-0" } else { "a" }
}

/// What is said of an object that is not so, as a pointer and a value; nothing leaves it out.
const LIES: [(&str, Option<&str>); 19] = [
    ("/apiVersion", Some("v2")),
    ("/apiVersion", None),
    ("/kind", Some("Other")),
    ("/kind", None),
    ("/metadata", None),
    ("/metadata/name", Some("b")),
    ("/metadata/name", None),
    ("/metadata/namespace", Some("elsewhere")),
    ("/metadata/namespace", None),
    ("/metadata/uid", Some("another")),
    ("/metadata/uid", None),
    ("/metadata/creationTimestamp", Some("2001-01-01T00:00:00Z")),
    ("/metadata/creationTimestamp", None),
    ("/metadata/deletionTimestamp", Some("2001-01-01T00:00:00Z")),
    ("/metadata/deletionGracePeriodSeconds", Some("7")),
    ("/metadata/generation", Some("7")),
    ("/metadata/selfLink", Some("/x")),
    ("/metadata/resourceVersion", Some("1")),
    ("/metadata/resourceVersion", None),
];

/// A lie's value as JSON: numbers are numbers.
fn value(pointer: &str, text: &str) -> Value {
    let is_number = pointer.ends_with("generation") || pointer.ends_with("Seconds");
    if is_number { json!(text.parse::<i64>().unwrap()) } else { json!(text) }
}

/// The object as it is read, with the lie in it.
fn lying(object: &Value, (pointer, lie): (&str, Option<&str>)) -> Value {
    let mut object = object.clone();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let fields = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match lie {
        Some(lie) => drop(fields.insert(field.to_owned(), value(pointer, lie))),
        None => drop(fields.shift_remove(field)),
    }
    object
}

/// The same as a merge patch, and as a JSON patch.
fn patch(form: PatchForm, object: &Value, (pointer, lie): (&str, Option<&str>)) -> Value {
    let lie = lie.map(|lie| value(pointer, lie));
    match form {
        PatchForm::Merge => {
            let fields = pointer.split('/').skip(1).collect::<Vec<_>>().into_iter().rev();
            fields.fold(lie.unwrap_or_default(), |inner, field| json!({ field: inner }))
        }
        PatchForm::Json => match lie {
            Some(lie) => json!([{ "op": "add", "path": pointer, "value": lie }]),
            None if object.pointer(pointer).is_none() => json!([]),
            None => json!([{ "op": "remove", "path": pointer }]),
        },
    }
}

/// What of the object is not to change.
fn fixed(object: &Value) -> Value {
    let mut fixed = object.clone();
    let fields = fixed.as_object_mut().unwrap();
    fields.retain(|field, _| ["apiVersion", "kind", "metadata"].contains(&field.as_str()));
    let metadata = fixed["metadata"].as_object_mut().unwrap();
    metadata.remove("resourceVersion");
    fixed
}

/// Every form of write that sends a document of an object: what it is called, and how it is sent.
async fn ask(world: &World, form: &Form, kind: KindId, lie: (&str, Option<&str>)) -> Answer {
    let place = format!("{}/{}", path(kind), name(kind));
    let object = world.get(&place).await.json;
    match form {
        Form::Put(subresource) => {
            world.put(&format!("{place}{subresource}"), &lying(&object, lie)).await
        }
        Form::Patch(form, subresource) => {
            let body = patch(*form, &object, lie).to_string().into_bytes();
            let place = format!("{place}{subresource}");
            world.ask(Method::PATCH, &place, form.content_type(), body).await
        }
        Form::Batch(word) => {
            let op = if *word == "patch" {
                // It says what was read, and then lies.
                let read = ["uid", "resourceVersion"];
                let read = read.map(|field| (field.to_owned(), object["metadata"][field].clone()));
                let body = json!({ "metadata": serde_json::Map::from_iter(read) });
                let body = merge::merge(&body, &patch(PatchForm::Merge, &object, lie));
                let mut key = json!({ "name": name(kind) });
                if let Some(namespace) = object["metadata"].get("namespace") {
                    key["namespace"] = namespace.clone();
                }
                json!({ "patch": { "kind": kind.info().plural, "key": key, "patch": body } })
            } else {
                json!({ *word: { "object": lying(&object, lie) } })
            };
            let answer =
                world.post(&format!("{OURS}/batches"), &json!({"groups": [{"ops": [op]}]})).await;
            let code = match answer.json["results"][0]["outcome"].as_str() {
                Some("Done") => StatusCode::OK,
                Some("Refused") => StatusCode::CONFLICT,
                Some("Invalid") => StatusCode::BAD_REQUEST,
                other => panic!("{other:?}: {}", answer.json),
            };
            Answer { code, json: answer.json }
        }
    }
}

#[derive(Debug)]
enum Form {
    Put(String),
    Patch(PatchForm, String),
    Batch(&'static str),
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Form::Put(part) => write!(f, "PUT {part}"),
            Form::Patch(form, part) => write!(f, "PATCH {part} {form:?}"),
            Form::Batch(word) => write!(f, "batch {word}"),
        }
    }
}

fn forms(kind: KindId) -> Vec<Form> {
    let subresources = kind.info().subresources.iter().map(|it| format!("/{}", it.word()));
    let mut forms = Vec::new();
    for part in std::iter::once(String::new()).chain(subresources) {
        forms.push(Form::Put(part.clone()));
        forms.extend(PatchForm::ALL.map(|form| Form::Patch(form, part.clone())));
    }
    forms.extend(documents().into_iter().map(Form::Batch));
    forms
}

/// The operations of a batch that send a document of an object. A new operation must say here which it is.
fn documents() -> Vec<&'static str> {
    let (object, key) = (json!({}), ObjectKey::new("default", "a"));
    let uid = String::new;
    let all = [
        Op::Create { object: object.clone() },
        Op::CreateWithStatus { object: object.clone() },
        Op::CreateTasks { task: object.clone(), indexes: Ranges::default() },
        Op::Replace { object: object.clone() },
        Op::Status { object },
        Op::Delete {
            kind: "jobs".to_owned(),
            key: key.clone(),
            uid: uid(),
            propagation: Propagation::Background,
            version: None,
        },
        Op::Patch { kind: "jobs".to_owned(), key: key.clone(), patch: json!({}) },
        Op::Emptied { key: key.clone(), uid: uid() },
        Op::Remove { key: key.clone(), uid: uid() },
        Op::Task { key: key.clone(), uid: uid(), attempt: 1, change: TaskChange::Record },
        Op::Record { job: key, uid: uid(), run: 1, ends: Vec::new() },
    ];
    let sends = |op: Op| match op {
        Op::Replace { .. } => Some("replace"),
        Op::Status { .. } => Some("status"),
        Op::Patch { .. } => Some("patch"),
        // What is there already is answered as it is, or refused.
        Op::Create { .. } | Op::CreateWithStatus { .. } | Op::CreateTasks { .. } => None,
        // These name an object, and send nothing of its metadata.
        Op::Delete { .. }
        | Op::Emptied { .. }
        | Op::Remove { .. }
        | Op::Task { .. }
        | Op::Record { .. } => None,
    };
    all.into_iter().filter_map(sends).collect()
}

#[tokio::test(start_paused = true)]
async fn no_form_of_write_changes_what_never_changes() {
    let world = world().await;
    let mut of_jobs: Vec<(String, Vec<u16>)> = Vec::new();
    for kind in KindId::ALL.into_iter().filter(|kind| !kind.info().internal) {
        let place = format!("{}/{}", path(kind), name(kind));
        let before = fixed(&world.get(&place).await.json);
        for form in forms(kind) {
            let mut codes = Vec::new();
            for lie in LIES {
                let answer = ask(&world, &form, kind, lie).await;
                codes.push(answer.code.as_u16());
                let why = format!("{kind} {form:?} {lie:?}: {} {}", answer.code, answer.json);
                assert!(answer.code.as_u16() < 500, "{why}");
                let after = world.get(&place).await;
                assert_eq!(after.code, StatusCode::OK, "it is gone: {why}");
                assert_eq!(fixed(&after.json), before, "{why}");
                let list = world.get(&path(kind)).await.json;
                let items = list["items"].as_array().unwrap().iter();
                let same = items.filter(|it| it["metadata"]["uid"] == before["metadata"]["uid"]);
                let names: Vec<&Value> = same.map(|it| &it["metadata"]["name"]).collect();
                assert_eq!(names, [name(kind)], "{why}");
            }
            let is_served = codes.iter().any(|code| !matches!(code, 404 | 405));
            if kind == KindId::Job && is_served {
                of_jobs.push((form.to_string(), codes));
            }
        }
    }
    // What is answered for a job, as Kubernetes answers it; other kinds have the same code behind.
    let mut table = String::new();
    for (column, (form, _)) in of_jobs.iter().enumerate() {
        writeln!(table, "{column}: {form}").unwrap();
    }
    for (row, (pointer, lie)) in LIES.iter().enumerate() {
        let codes: Vec<String> = of_jobs.iter().map(|(_, codes)| codes[row].to_string()).collect();
        let lie = lie.unwrap_or("(left out)");
        writeln!(table, "{} {pointer} {lie}", codes.join(" ")).unwrap();
    }
    expect![[r#"
        0: PUT 
        1: PATCH  Merge
        2: PATCH  Json
        3: PUT /status
        4: PATCH /status Merge
        5: PATCH /status Json
        6: PUT /scale
        7: PATCH /scale Merge
        8: PATCH /scale Json
        9: batch replace
        10: batch status
        11: batch patch
        400 400 400 400 400 400 400 400 400 400 400 400 /apiVersion v2
        200 200 200 200 200 200 400 200 200 400 400 200 /apiVersion (left out)
        400 400 400 400 400 400 400 400 400 400 400 400 /kind Other
        200 200 200 200 200 200 400 200 200 400 400 200 /kind (left out)
        400 400 400 400 400 400 400 200 200 400 400 400 /metadata (left out)
        400 400 400 400 400 400 400 400 400 409 409 400 /metadata/name b
        400 400 400 400 400 400 400 200 200 400 400 400 /metadata/name (left out)
        400 400 400 400 400 400 400 400 400 409 409 400 /metadata/namespace elsewhere
        200 200 200 200 200 200 400 200 200 400 400 200 /metadata/namespace (left out)
        409 409 409 409 409 409 400 409 409 409 409 409 /metadata/uid another
        200 200 200 200 200 200 400 200 200 400 400 400 /metadata/uid (left out)
        200 200 200 200 200 200 400 200 200 200 200 200 /metadata/creationTimestamp 2001-01-01T00:00:00Z
        200 200 200 200 200 200 400 200 200 200 200 200 /metadata/creationTimestamp (left out)
        200 200 200 200 200 200 400 200 200 200 200 200 /metadata/deletionTimestamp 2001-01-01T00:00:00Z
        200 200 200 200 200 200 400 200 200 200 200 200 /metadata/deletionGracePeriodSeconds 7
        200 200 200 200 200 200 400 200 200 200 200 200 /metadata/generation 7
        200 200 200 200 200 200 400 200 200 200 200 200 /metadata/selfLink /x
        409 409 409 409 409 409 400 409 409 409 409 409 /metadata/resourceVersion 1
        200 200 200 200 200 200 400 200 200 400 400 400 /metadata/resourceVersion (left out)
    "#]]
    .assert_eq(&table);
}

/// Controllers find by these labels what they made. Whoever edited them would decide what belongs to what.
#[tokio::test]
async fn labels_by_which_controllers_find_what_they_made_stay() {
    let world = World::new().await;
    let mut job = crate::harness::job("a");
    job["metadata"]["labels"] = json!({ "heliox.dev/run": "load-1", "own": "x" });
    let path = "/apis/heliox.dev/v1/namespaces/default/jobs";
    let answer = world.post(path, &job).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "people make up none of them");
    job["metadata"]["namespace"] = json!("default");
    let made = world.batch(&[json!({ "create": { "object": job } })]).await;
    assert_eq!(made[0]["outcome"], "Done", "controllers set them");
    let path = format!("{path}/a");
    let labels = |labels: Value| json!({ "metadata": { "labels": labels } });
    for lie in [json!({ "heliox.dev/run": "load-2" }), json!({ "heliox.dev/revision": "abc" })] {
        let answer = world.merge(&path, &labels(lie.clone())).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{lie}");
        let why = answer.json["message"].as_str().unwrap();
        assert!(why.contains("Heliox finds by it what it made"), "{why}");
    }
    // Who leaves them out says nothing of them.
    let mut job = world.get(&path).await.json;
    job["metadata"].as_object_mut().unwrap().shift_remove("labels");
    assert_eq!(world.put(&path, &job).await.code, StatusCode::OK);
    let kept = json!({ "heliox.dev/run": "load-1" });
    assert_eq!(world.get(&path).await.json["metadata"]["labels"], kept);
    let answer = world.merge(&path, &labels(json!({ "heliox.dev/run": null, "own": "y" }))).await;
    assert_eq!(
        answer.json["metadata"]["labels"],
        json!({ "own": "y", "heliox.dev/run": "load-1" })
    );
}
