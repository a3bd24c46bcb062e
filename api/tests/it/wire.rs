//! Every kind's wire form: one JSON file each. They change only on purpose.
//!
//! A file is read strictly, typed, and written again: the same document comes out. What is not in
//! the file is not written.

use std::fs;
use std::path::PathBuf;

use api::every_kind::WithType;
use api::resource::Resource;
use api::{Job, KindId, Node, PartitionSet, Task, Timestamp, Workflow, WorkflowRun, schema};
use serde_json::Value;

fn golden(kind: KindId) -> Value {
    let name = format!("{}.json", kind.info().kind);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/wire").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn check<K: Resource>() {
    let document = golden(K::ID);
    assert_eq!(schema::check(K::ID, &document), [], "{}", K::ID);
    if let Some(status) = document.get("status") {
        assert_eq!(schema::check_status(K::ID, status), [], "{}", K::ID);
    }
    let object: K = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(object.validate(), [], "{}", K::ID);
    assert_eq!(object.validate_update(&object), [], "{}", K::ID);
    let written = serde_json::to_value(&object).unwrap();
    assert_eq!(
        serde_json::to_string_pretty(&written).unwrap(),
        serde_json::to_string_pretty(&document).unwrap(),
        "{}",
        K::ID
    );
    let told: Vec<&str> = object.fields().into_iter().map(|(field, _)| field).collect();
    assert_eq!(told, K::ID.info().fields, "{}: a field that selectors may name has a value", K::ID);
    let row = object.row("2026-01-02T00:00:00Z".parse::<Timestamp>().unwrap());
    assert_eq!(row.len(), K::columns().len(), "{}", K::ID);
    for (column, cell) in K::columns().iter().zip(&row) {
        let is_a_sentence = ["NOW", "SCHEDULED", "WHY", "MESSAGE"].contains(&column.name);
        let splits = cell.contains(char::is_whitespace);
        assert!(is_a_sentence || !splits, "{} {}: scripts split {cell:?}", K::ID, column.name);
    }
}

#[test]
fn every_kind_is_written_as_it_is_read() {
    for kind in KindId::ALL {
        kind.with_type(Check);
    }
}

/// [`check`], of the type of a kind.
struct Check;

impl WithType for Check {
    type Output = ();

    fn of<K: Resource>(self) {
        check::<K>();
    }
}

#[test]
fn rows_say_names_first_and_why_last() {
    let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
    fn line<K: Resource>(now: Timestamp) -> String {
        let object: K = serde_json::from_value(golden(K::ID)).unwrap();
        object.row(now).join("  ") + "\n"
    }
    let lines =
        [line::<Node>, line::<PartitionSet>, line::<WorkflowRun>, line::<Job>, line::<Task>];
    let rows: String = lines.into_iter().map(|line| line(now)).collect();
    expect_test::expect![[r#"
        n1  Cordoned  a  7.5  31Gi  -  -  -  10.0.0.1  linux/amd64  6.1  1  docker/27.3.1  0.1.0/d27.3  12h  marked unschedulable
        mydb  Degraded  LeaderStandby  Manual  2  2  LEADER=1,STANDBY=2,OFFLINE=1  12h  mydb-1 has no LEADER
        data-load-7  Failed  0/1  1/3  2  0  0  -  1h00m  12h  abcdef0123  a Failed: 2 tasks were given up, more than 0
        load  Running  2/10  2  1  5  0  3  1  12h  12h  busybox:1.36  exit 3 x1
        load-3  Stopping  no  3  1  n1  http=31000  mydb-0  2  137  12h  load-abcdef0123  12h  stopping for 60s: its node is being drained: limit 64Mi
    "#]].assert_eq(&rows);
}

/// What is stored bears these. If one changes, the first start of this version would run every job and
/// workflow of a cluster once more: a change must keep the hash of what means the same as before, as
/// [`api::job::is_revision`] does for the hashes of older versions.
#[test]
fn revisions_are_those_that_clusters_have_stored() {
    let mut job: Job = serde_json::from_value(golden(KindId::Job)).unwrap();
    let mut found = vec![format!("job {}", api::job::revision(&job.spec))];
    job.spec.reruns = 2;
    found.push(format!("rerun {}", api::job::revision(&job.spec)));
    let smallest = serde_json::json!({ "template": { "image": "busybox" } });
    let smallest = serde_json::from_value(smallest).unwrap();
    found.push(format!("smallest job {}", api::job::revision(&smallest)));
    let workflow: Workflow = serde_json::from_value(golden(KindId::Workflow)).unwrap();
    found.push(format!("workflow {}", api::workflow::revision(&workflow.spec)));
    let template = serde_json::json!({ "name": "a", "template": { "image": "busybox" } });
    let smallest = serde_json::from_value(serde_json::json!({ "jobs": [template] })).unwrap();
    found.push(format!("smallest workflow {}", api::workflow::revision(&smallest)));
    expect_test::expect![[r#"
        job 604e17fd8c
        rerun 7b36b12f0c
        smallest job 3c209ec016
        workflow daa23d90e7
        smallest workflow 884d5f51ca"#]]
    .assert_eq(&found.join("\n"));
}
