//! Golden texts of `describe`.

use expect_test::{Expect, expect};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use api::Job;

use super::*;
use crate::target::Target;

fn now() -> Timestamp {
    "2026-01-02T12:00:00Z".parse().unwrap()
}

fn object<K: DeserializeOwned>(json: Value) -> K {
    serde_json::from_value(json).unwrap()
}

fn check(sheet: &Sheet, expected: &Expect) {
    expected.assert_eq(&sheet.on(None));
}

fn task(name: &str, more: &Value) -> Task {
    let mut json = json!({
        "metadata": {"name": name, "namespace": "media", "creationTimestamp": "2026-01-02T11:00:00Z"},
        "spec": {"template": "thumb-1", "index": 1, "count": 3, "attempt": 2, "failures": 1},
    });
    json_patch::merge(&mut json, more);
    object(json)
}

fn running() -> Task {
    task(
        "thumb-1",
        &json!({
            "spec": {
                "binding": {"node": "n1", "attempt": 2, "number": 2, "at": "2026-01-02T11:50:00Z"},
                "overrides": {"partition": "mydb-0"},
            },
            "status": {
                "attempt": 2, "binding": 2, "state": "Running", "startedAt": "2026-01-02T11:50:01Z",
                "ports": {"http": 31120},
                "attempts": [{
                    "attempt": 1, "phase": "Failed", "nodeName": "n2", "exitCode": 3,
                    "startedAt": "2026-01-02T11:40:00Z", "finishedAt": "2026-01-02T11:45:00Z",
                }],
            },
        }),
    )
}

fn waiting() -> Task {
    let why = "0 of 3 nodes: 2 have cpu < 500m, 1 cordoned";
    task("thumb-2", &json!({"spec": {"unschedulable": {"attempt": 2, "message": why}}}))
}

#[test]
fn a_job_tells_its_counts_failures_and_what_its_tasks_wait_for() {
    let job = object(json!({
        "metadata": {"name": "thumb", "namespace": "media", "labels": {"team": "a"}},
        "spec": {
            "count": 10, "parallelism": 4, "maxFailedTasks": "20%", "attemptTimeout": "10m",
            "template": {"image": "thumb:7", "resources": {"requests": {"cpu": "500m"}}},
            "target": {"partitionSet": "mydb", "states": ["LEADER"]},
        },
        "status": {
            "phase": "Running", "run": 2, "revision": "abc", "total": 10, "pending": 1, "active": 2,
            "succeeded": 6, "failed": 1, "retries": 2, "startedAt": "2026-01-02T08:48:00Z",
            "retryReasons": [{"reason": "exit 3", "count": 1}],
            "failures": [{"reason": "exit 3", "count": 1}],
            "waiting": [
                {"reason": "Unschedulable", "count": 1, "task": "thumb-2",
                 "message": "0 of 3 nodes: 2 have cpu < 500m, 1 cordoned"},
            ],
            "conditions": [{
                "type": "Ready", "status": "False", "reason": "TasksRunning",
                "lastTransitionTime": "2026-01-02T08:48:00Z",
            }],
        },
    }));
    check(
        &job::text(&job, &[running(), waiting()], now()),
        &expect![[r#"
            Job media/thumb: Running for 3h12m, run 2, revision abc
            Tasks:    10 = 6 succeeded + 1 failed + 2 active + 1 pending + 0 cancelled    60%
            Fails:    1 of at most 2: exit 3 x1        hctl logs job/thumb --failed
            Retries:  2: 1 exit 3
            Why:      1 task waits: 0 of 3 nodes: 2 have cpu < 500m, 1 cordoned
            Spec:     image thumb:7, cpu 500m a task, parallelism 4, maxAttempts 3, attemptTimeout 10m
            Target:   each partition of partitionset/mydb, beside its LEADER
            Labels:   team=a
            Ready=False (TasksRunning)
            Now:
              TASK           STATUS   ATTEMPT  SINCE  WHY
              media/thumb-1  Running  2        9m     attempt 1 on n2: exit 3
        "#]],
    );
}

#[test]
fn a_job_whose_task_waits_for_its_retry_says_so_once() {
    let job: Job = object(json!({
        "metadata": {"name": "thumb", "namespace": "media"},
        "spec": {"template": {"image": "thumb:7"}},
        "status": {
            "phase": "Running", "total": 1,
            "message": "retrying task thumb-1: attempt 1 on n2: exit 3",
            "waiting": [{
                "reason": "Retrying", "count": 1, "task": "thumb-1",
                "message": "attempt 1 on n2: exit 3", "until": "2026-01-02T12:04:00Z",
            }],
        },
    }));
    let whys = |job: &Job| {
        let text = job::text(job, &[], now()).on(None);
        text.lines().filter(|line| line.starts_with("Why:")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(whys(&job), "Why:      1 task waits: retries in 4m: attempt 1 on n2: exit 3");
    // A controller of an earlier version counts nothing.
    let mut job = job;
    job.status.waiting.clear();
    assert_eq!(whys(&job), "Why:      retrying task thumb-1: attempt 1 on n2: exit 3");
}

/// The job's status says it as well while other tasks run.
#[test]
fn why_a_task_fits_nowhere_is_said_once() {
    let job = object(json!({
        "metadata": {"name": "thumb", "namespace": "media"},
        "spec": {"template": {"image": "thumb:7"}},
        "status": {
            "phase": "Running", "total": 2, "message": "0 of 1 node: 1 without gpu",
            "waiting": [
                {"reason": "Unschedulable", "count": 1, "message": "0 of 1 node: 1 without gpu"},
            ],
        },
    }));
    let text = job::text(&job, &[], now()).on(None);
    let whys: Vec<&str> = text.lines().filter(|line| line.starts_with("Why:")).collect();
    assert_eq!(whys, ["Why:      1 task waits: 0 of 1 node: 1 without gpu"], "{text}");
}

#[test]
fn reasons_and_rows_that_are_not_shown_are_counted() {
    let job = object(json!({
        "metadata": {"name": "thumb", "namespace": "media"},
        "spec": {"template": {"image": "thumb:7"}},
        "status": {"phase": "Running", "waiting": [{"reason": "Other", "count": 2}]},
    }));
    let text = job::text(&job, &[], now()).on(None);
    let more =
        "Why:      2 more tasks wait for other reasons: hctl get tasks --job thumb --phase Pending";
    assert!(text.contains(more), "{text}");
    let tasks: Vec<Task> = (0..42).map(|_| running()).collect();
    let text = job::text(&job, &tasks, now()).on(None);
    assert!(text.contains("  and 2 more: hctl get tasks --job thumb\n"), "{text}");
}

#[test]
fn a_run_tells_how_each_job_stands() {
    let run = object(json!({
        "metadata": {"name": "load-1", "namespace": "data"},
        "spec": {"workflow": "load"},
        "status": {
            "phase": "Failed", "revision": "abc", "params": {"date": "2026-01-02"},
            "startedAt": "2026-01-02T11:00:00Z", "finishedAt": "2026-01-02T11:30:00Z",
            "total": 4, "succeeded": 3, "failed": 1,
            "workflow": {"jobs": [
                {"name": "collect"}, {"name": "load", "dependsOn": [{"job": "collect"}]},
            ]},
            "jobs": [
                {"name": "collect", "job": "load-1-collect", "phase": "Succeeded", "total": 3,
                 "succeeded": 3, "startedAt": "2026-01-02T11:00:00Z",
                 "finishedAt": "2026-01-02T11:10:00Z"},
                {"name": "load", "job": "load-1-load", "phase": "Failed", "total": 1, "failed": 1,
                 "startedAt": "2026-01-02T11:10:00Z", "finishedAt": "2026-01-02T11:30:00Z",
                 "message": "1 task failed, at most 0 may: exit 3"},
            ],
        },
    }));
    check(
        &run::text(&run, now()),
        &expect![[r#"
            Run data/load-1: Failed after 30m, 30m ago, workflow load revision abc
            Params:   date=2026-01-02
            Tasks:    4 = 3 succeeded + 1 failed + 0 active + 0 pending + 0 cancelled
            Jobs:
              NAME     STATUS     TASKS  ACTIVE  FAILED  TOOK  AFTER    WHY
              collect  Succeeded  3/3    0       0       10m   -
              load     Failed     0/1    0       1       20m   collect  1 task failed, at most 0 may: exit 3
            Logs:     hctl logs job/load-1-load --failed
        "#]],
    );
}

#[test]
fn a_job_that_could_not_be_made_has_no_logs() {
    let run = object(json!({
        "metadata": {"name": "load-1"},
        "spec": {"workflow": "load"},
        "status": {"phase": "Failed", "jobs": [
            {"name": "collect", "phase": "Failed", "message": "a job with this name is there"},
        ]},
    }));
    check(
        &run::text(&run, now()),
        &expect![[r#"
        Run load-1: Failed, workflow load
        Tasks:    0 = 0 succeeded + 0 failed + 0 active + 0 pending + 0 cancelled
        Jobs:
          NAME     STATUS  TASKS  ACTIVE  FAILED  TOOK  AFTER  WHY
          collect  Failed  -      0       0       -     -      a job with this name is there
    "#]],
    );
}

/// The suggested commands print what they promise.
#[test]
fn a_task_tells_which_logs_there_are() {
    let logs = |attempt: u32, past: &[(u32, u32)]| {
        let past = past.iter().map(|(attempt, run)| {
            json!({ "attempt": attempt, "run": run, "phase": "Failed", "nodeName": "n1" })
        });
        let past: Vec<_> = past.collect();
        let spec = json!({ "run": 2, "attempt": attempt });
        let task = task("a-0", &json!({ "spec": spec, "status": { "attempts": past } }));
        let text = task::text(&task, now()).on(None);
        let line = text.lines().find_map(|line| line.strip_prefix("Logs:"));
        line.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(logs(1, &[]), "");
    assert_eq!(logs(2, &[(1, 2)]), "hctl logs a-0 (attempt 1)", "the retry waits");
    let before = "hctl logs a-0 (attempt 2)    before that: hctl logs a-0 --previous";
    assert_eq!(logs(3, &[(1, 2), (2, 2)]), before);
    assert_eq!(logs(2, &[(1, 1)]), "hctl logs a-0 --run 1", "it has not started in run 2");
}

#[test]
fn a_task_tells_its_parts_and_attempts() {
    check(
        &task::text(&running(), now()),
        &expect![[r#"
            Task media/thumb-1: Running on n1 for 9m, attempt 2
            Why:      attempt 1 on n2: exit 3
            Index:    1 of 3, run 1, partition mydb-0
            Bound:    10m ago
            Ports:    http=31120
            Runs:     tasktemplate/thumb-1
            Attempts:
              ATTEMPT  RUN  STATUS  NODE  EXIT  REASON  TOOK  ENDED
              1        -    Failed  n2    3     -       5m    15m ago
            Logs:     hctl logs thumb-1    before that: hctl logs thumb-1 --previous
        "#]],
    );
}

#[test]
fn a_task_that_waits_tells_what_for() {
    check(
        &task::text(&waiting(), now()),
        &expect![[r#"
            Task media/thumb-2: Pending, attempt 2
            Why:      0 of 3 nodes: 2 have cpu < 500m, 1 cordoned
            Index:    1 of 3, run 1
            Runs:     tasktemplate/thumb-1
        "#]],
    );
}

#[test]
fn a_node_tells_what_is_taken_and_by_whom() {
    let node = object(json!({
        "metadata": {"name": "n1", "creationTimestamp": "2025-12-31T12:00:00Z"},
        "spec": {"unschedulable": true},
        "status": {
            "allocatable": {"cpu": "4", "memory": "8Gi"}, "readySince": "2025-12-31T12:00:00Z",
            "info": {"os": "linux", "arch": "amd64", "runtime": "docker 27.3.1"},
        },
    }));
    let template = object(json!({
        "metadata": {"name": "thumb-1", "namespace": "media"},
        "spec": {
            "job": "thumb", "run": "", "placement": {},
            "template": {"image": "i", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}},
        },
    }));
    let text = node::text(&node, &[running(), waiting()], &[template], now());
    check(
        &text,
        &expect![[r#"
            Node n1: Cordoned, 2d old
            Why:      marked unschedulable
            Machine:  linux amd64
            Runtime:  docker 27.3.1
            Capacity:
              RESOURCE  REQUESTED  ALLOCATABLE  SHARE
              cpu       0.5        4            12%
              memory    1Gi        8Gi          12%
            Tasks:
              TASK           STATUS   ATTEMPT  SINCE  WHY
              media/thumb-1  Running  2        9m     attempt 1 on n2: exit 3
        "#]],
    );
}

#[test]
fn a_node_that_is_drained_tells_what_it_waits_for() {
    let request = json!({"by": "ops"});
    let node = object(json!({
        "metadata": {"name": "n1", "creationTimestamp": "2025-12-31T12:00:00Z"},
        "spec": {
            "unschedulable": true, "drain": request,
            "taints": [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}],
        },
        "status": {
            "readySince": "2025-12-31T12:00:00Z",
            "drain": {
                "request": request, "state": "Progressing", "startedAt": "2026-01-02T11:00:00Z",
                "total": 3, "remaining": 2, "waitsFor": "2 tasks of service shop/web",
            },
        },
    }));
    check(
        &node::text(&node, &[], &[], now()),
        &expect![[r#"
            Node n1: Draining, 2d old
            Why:      1 of 3 moved; by ops
            Waiting:  2 tasks of service shop/web
            Taints:   dedicated=gpu:NoSchedule
        "#]],
    );
}

#[test]
fn a_partition_set_tells_where_its_replicas_are_and_the_tasks_beside_them() {
    let set = object(json!({
        "metadata": {"name": "mydb", "namespace": "media"},
        "spec": {
            "partitions": 2, "replicas": 2, "stateModel": "LeaderStandby", "mode": "Manual",
            "assignment": {"mydb-0": {"n1": "LEADER", "n2": "STANDBY"}},
        },
    }));
    check(
        &partition_set::text(&set, &[running(), waiting()], now()),
        &expect![[r#"
            PartitionSet media/mydb: Degraded
            Why:      mydb-1 has no LEADER
            Model:    LeaderStandby, mode Manual, 2 partitions of 2 replicas
            Partitions:
              NAME    REPLICAS               TASKS
              mydb-0  n1 LEADER, n2 STANDBY  thumb-1 Running on n1
              mydb-1  -                      -
        "#]],
    );
}

#[test]
fn a_workflow_tells_its_jobs_and_newest_runs() {
    let workflow = object(json!({
        "metadata": {"name": "load", "namespace": "data"},
        "spec": {
            "params": [{"name": "date"}, {"name": "mode", "default": "fast"}],
            "defaults": {"template": {"image": "alpine"}},
            "jobs": [
                {"name": "collect", "count": 3, "template": {"image": "busybox"}},
                {"name": "load", "dependsOn": [{"job": "collect"}], "target": {"partitionSet": "mydb"}},
            ],
        },
        "status": {"phase": "Running", "lastRun": "load-2", "revision": "abc"},
    }));
    let run = |name: &str, at: &str| {
        object(json!({
            "metadata": {"name": name, "namespace": "data", "creationTimestamp": at},
            "spec": {"workflow": "load"},
        }))
    };
    let runs = [run("load-1", "2026-01-01T12:00:00Z"), run("load-2", "2026-01-02T11:00:00Z")];
    check(
        &workflow::text(&workflow, &runs, now()),
        &expect![[r#"
            Workflow data/load: Running (run/load-2)
            Revision: abc
            Params:   date (required), mode=fast
            Starts:   once for each revision, and by hctl run
            Jobs:
              NAME     TASKS                  AFTER    IMAGE
              collect  3                      -        busybox
              load     per partition of mydb  collect  alpine
            Runs:
              NAME    STATUS   JOBS  TASKS  TOOK  AGE    WHY
              load-2  Pending  -     -      -     1h00m  waiting for the workflow controller
              load-1  Pending  -     -      -     24h    waiting for the workflow controller
        "#]],
    );
}

#[test]
fn events_are_told_newest_first() {
    let event = |reason: &str, at: &str, count: i32| {
        object(json!({
            "metadata": {"name": reason}, "involvedObject": {}, "reason": reason,
            "message": format!("it was {reason}"), "lastTimestamp": at, "count": count,
        }))
    };
    let happened =
        vec![event("Bound", "2026-01-02T11:00:00Z", 1), event("Retry", "2026-01-02T11:58:00Z", 3)];
    check(
        &events::section(&Target::new(api::KindId::Job, "a"), happened, now()),
        &expect![[r#"
        Events:
          SEEN   WHAT   WHY
          2m     Retry  it was Retry (x3)
          1h00m  Bound  it was Bound
    "#]],
    );
}

#[test]
fn events_that_are_not_shown_are_counted_and_those_of_another_object_are_left_out() {
    let event = |number: usize, uid: Option<&str>| -> api::core::Event {
        object(json!({
            "metadata": {"name": format!("e{number}")}, "involvedObject": {"uid": uid},
            "reason": "Retry", "message": "m", "lastTimestamp": "2026-01-02T11:00:00Z",
        }))
    };
    let mut happened: Vec<_> = (0..23).map(|number| event(number, Some("this"))).collect();
    happened.extend([event(23, None), event(24, Some("earlier"))]);
    assert_eq!(events::retain_of(Some("this"), &mut happened), 1);
    let target = Target::new(api::KindId::Job, "a");
    let mut sheet = events::section(&target, happened, now());
    let text = sheet.on(None);
    assert!(text.ends_with("m\n  and 4 more: hctl events job/a\n"), "{text}");
    sheet.name_namespace(Some("data"));
    assert!(sheet.on(None).ends_with("  and 4 more: hctl -n data events job/a\n"));
    assert_eq!(text.lines().count(), 23);
}

#[test]
fn a_secret_tells_what_it_has_and_not_what_it_is() {
    let secret = object(json!({
        "metadata": {"name": "s", "namespace": "media", "creationTimestamp": "2026-01-02T11:00:00Z"},
        "data": {"password": "Y29ycmVjdC1ob3JzZQ=="},
        "stringData": {"older": "correct-horse"},
        "immutable": true,
    }));
    let sheet = secret::text(&secret, now());
    let text = sheet.on(None);
    assert!(!text.contains("horse") && !text.contains("Y29y"), "{text}");
    check(
        &sheet,
        &expect![[r#"
        Secret media/s: Opaque, immutable, 1h00m old
        Data:
          KEY       BYTES
          password  13
          older     13
    "#]],
    );
}

#[test]
fn a_workflow_tells_what_its_jobs_run_wherever_that_is_written() {
    let jobs = |defaults: Value, jobs: Value| {
        let workflow = object(json!({
            "metadata": {"name": "w", "namespace": "data"},
            "spec": {"defaults": defaults, "jobs": jobs},
        }));
        let text = workflow::text(&workflow, &[], now()).on(None);
        text[text.find("Jobs:").unwrap()..].to_owned()
    };
    let of_tasks = json!([
        {"name": "x", "template": {"image": "b:1"}}, {"name": "y"},
        {"name": "z", "template": {"image": "b:1"}},
    ]);
    let text = jobs(
        json!({"template": {"image": "a:1"}}),
        json!([
            {"name": "default"}, {"name": "own", "template": {"image": "c:1"}},
            {"name": "listed", "tasks": of_tasks},
        ]),
    );
    expect![[r#"
        Jobs:
          NAME     TASKS  AFTER  IMAGE
          default  1      -      a:1
          own      1      -      c:1
          listed   3      -      b:1, a:1
    "#]]
    .assert_eq(&text);
    let text = jobs(json!({"template": {"command": ["true"]}}), json!([{"name": "a"}]));
    expect![[r#"
        Jobs:
          NAME  TASKS  AFTER
          a     1      -
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_task_that_was_restarted_in_place_says_how_its_last_container_ended() {
    let mut restarted = running();
    restarted.status.restarts = 3;
    restarted.status.last_exit = serde_json::from_value(json!({
        "exitCode": 137, "reason": "OOMKilled", "message": "exceeded its memory limit",
        "at": "2026-01-02T11:50:00Z",
    }))
    .unwrap();
    check(
        &task::text(&restarted, now()),
        &expect![[r#"
            Task media/thumb-1: Running on n1 for 9m, attempt 2
            Why:      restarted 9m ago: OOMKilled (exit 137): exceeded its memory limit
            Index:    1 of 3, run 1, partition mydb-0
            Bound:    10m ago
            Restarts: 3, the last container ended 10m ago: OOMKilled (exit 137): exceeded its memory limit
            Ports:    http=31120
            Runs:     tasktemplate/thumb-1
            Attempts:
              ATTEMPT  RUN  STATUS  NODE  EXIT  REASON  TOOK  ENDED
              1        -    Failed  n2    3     -       5m    15m ago
            Logs:     hctl logs thumb-1    before that: hctl logs thumb-1 --previous
        "#]],
    );
}

#[test]
fn at_a_terminal_long_lines_hang_below_what_they_say() {
    let mut failed = running();
    failed.status.message = Some("the program is there but cannot be run on this node".to_owned());
    let mut sheet = task::text(&failed, now());
    sheet.append(Sheet::verbatim(
        "a: line of YAML is a line of YAML, however long that line may be",
    ));
    let rows = vec![vec!["a".to_owned(), "one two three four five six seven eight".to_owned()]];
    sheet.table("Now", &["TASK", "WHY"], rows);
    expect![[r#"
        Task media/thumb-1: Running on n1 for
          9m, attempt 2
        Why:      the program is there but
                  cannot be run on this node
        Index:    1 of 3, run 1, partition
                  mydb-0
        Bound:    10m ago
        Ports:    http=31120
        Runs:     tasktemplate/thumb-1
        Attempts:
          ATTEMPT  RUN  STATUS  NODE  EXIT  REASON  TOOK  ENDED
          1        -    Failed  n2    3     -       5m
                           15m ago
        Logs:     hctl logs thumb-1    before
                  that: hctl logs thumb-1
                  --previous
        a: line of YAML is a line of YAML, however long that line may be
        Now:
          TASK  WHY
          a     one two three four five six
                seven eight
    "#]]
    .assert_eq(&sheet.on(Some(38)));
}
