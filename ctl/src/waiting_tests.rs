//! The outcomes of awaited objects in a series of states.

use api::KindId;
use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

/// `-` is nothing; otherwise `uid PHASE [deleting]`.
fn object(text: &str) -> Option<Value> {
    let mut words = text.split(' ');
    let uid = words.next().filter(|uid| *uid != "-")?;
    let phase = words.next().unwrap_or_default();
    let mut object = json!({
        "metadata": {"uid": uid, "generation": 1},
        "spec": {},
        "status": {"phase": phase, "observedGeneration": 1},
    });
    for word in words {
        match word {
            "deleting" => object["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into(),
            "suspended" => {
                object["spec"]["suspend"] = json!(true);
                let ready = json!({ "type": "Ready", "status": "False", "reason": "Suspended" });
                object["status"]["conditions"] = json!([ready]);
            }
            "unfit" => object["status"]["conditions"] = json!([{"reason": "Unschedulable"}]),
            other => panic!("{other}"),
        }
    }
    Some(object)
}

fn told(failure: &Failure) -> String {
    format!("{}: {}", failure.code.number(), failure.message)
}

fn check((kind, goal): (KindId, Goal), story: &str, expected: &Expect) {
    let mut waited = Waited::new(Target::new(kind, "a"), "default", goal);
    let mut lines = String::new();
    for text in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let answer = waited.see(object(text).as_ref());
        lines.push_str(&format!("{text} -> {}\n", answered(answer)));
    }
    lines.push_str(&format!("late -> {}\n", told(&waited.late(None))));
    expected.assert_eq(&lines);
}

#[test]
fn what_is_deleted_will_not_return() {
    check(
        (KindId::Job, Goal::Succeeded),
        "
        1 Running
        1 Running deleting
        -
        2 Succeeded
        ",
        &expect![[r#"
            1 Running -> not yet
            1 Running deleting -> 3: job/a did not succeed: Running, and it is being deleted
            - -> 3: job/a did not succeed: it was deleted; before: Running
            2 Succeeded -> 3: job/a did not succeed: it was deleted; before: Running
            late -> 4: timed out waiting for job/a to succeed: Running
        "#]],
    );
}

#[test]
fn what_was_never_there_is_not_found() {
    check(
        (KindId::Job, Goal::Done),
        "-",
        &expect![[r#"
            - -> 6: job/a not found
            late -> 4: timed out waiting for job/a to finish: it was not seen yet
        "#]],
    );
}

#[test]
fn a_deleted_object_is_gone_when_another_has_its_name() {
    check(
        (KindId::Job, Goal::Deleted),
        "
        1 Running
        1 Succeeded deleting
        2 Running
        ",
        &expect![[r#"
            1 Running -> not yet
            1 Succeeded deleting -> not yet
            2 Running -> met
            late -> 4: timed out waiting for job/a to be deleted: Succeeded
        "#]],
    );
}

#[test]
fn a_suspended_workflow_without_a_run_is_not_waited_for() {
    let object = object("1  suspended").unwrap();
    let mut waited = Waited::new(Target::new(KindId::Workflow, "a"), "default", Goal::Done);
    let Some(Answer::NoRun(failure)) = waited.see(Some(&object)) else { panic!() };
    let said = "workflow/a did not finish: it is suspended, and has no run";
    assert_eq!(failure.message, said);
    assert_eq!(waited.standing(), "no run yet: it is suspended");
}

/// A workflow in the answer to an apply, with a run w-2 to come.
fn applied() -> (Waited, Value) {
    let workflow = json!({
        "metadata": {"name": "w", "uid": "1", "generation": 2},
        "spec": {"jobs": [{"name": "a"}]},
        "status": {"revision": "before", "lastRunNumber": 1, "observedGeneration": 1},
    });
    let target = Target::new(KindId::Workflow, "w");
    let waited = Waited::new(target, "default", Goal::Succeeded).started(workflow.clone());
    (waited, workflow)
}

/// The same after its controller has started the run, in this phase.
fn handled(workflow: &Value, phase: &str) -> Value {
    let mut workflow = workflow.clone();
    workflow["status"] = json!({
        "revision": "now", "lastRunNumber": 2, "observedGeneration": 2, "lastRun": "w-2",
        "phase": phase,
    });
    workflow
}

fn own_run(phase: &str) -> Value {
    json!({
        "metadata": {
            "name": "w-2", "uid": "2", "generation": 1,
            "labels": {"heliox.dev/revision": "now", "heliox.dev/run-number": "2"},
            "ownerReferences": [{
                "apiVersion": "heliox.dev/v1", "kind": "Workflow", "name": "w", "uid": "1",
                "controller": true,
            }],
        },
        "spec": {"workflow": "w"},
        "status": {"phase": phase, "revision": "now", "observedGeneration": 1},
    })
}

fn answered(answer: Option<Answer>) -> String {
    match answer {
        None => "not yet".to_owned(),
        Some(Answer::Met) => "met".to_owned(),
        Some(Answer::Never(failure) | Answer::NoRun(failure)) => told(&failure),
        Some(Answer::Nothing(why)) => why,
    }
}

#[test]
fn the_run_of_what_was_applied_decides_once_it_is_known() {
    let running: WorkflowRun = serde_json::from_value(own_run("Running")).unwrap();
    let started = || {
        let (mut waited, workflow) = applied();
        let see = waited.see_applied(Some(&workflow), &[]);
        assert_eq!(answered(see), "not yet", "it is not handled yet");
        let workflow = handled(&workflow, "Running");
        assert!(waited.needs_runs(&workflow));
        let see = waited.see_applied(Some(&workflow), std::slice::from_ref(&running));
        assert_eq!((answered(see), waited.needs_runs(&workflow)), ("not yet".to_owned(), false));
        (waited, workflow)
    };
    // Another change and its run do not count, and how a run ended stays true.
    let (mut waited, workflow) = started();
    let mut theirs = handled(&workflow, "Succeeded");
    theirs["metadata"]["generation"] = 3.into();
    theirs["status"]["observedGeneration"] = 3.into();
    theirs["status"]["lastRun"] = "w-3".into();
    assert_eq!(answered(waited.see_applied(Some(&theirs), &[])), "not yet");
    assert_eq!(answered(waited.see_run(Some(&own_run("Succeeded")))), "met");
    assert_eq!(answered(waited.see_run(None)), "met");
    assert_eq!(answered(waited.see_applied(None, &[])), "met");

    let (mut waited, _) = started();
    let why = "3: run/w-2 did not succeed: it was deleted; before: Running";
    assert_eq!(answered(waited.see_run(None)), why);

    let (mut waited, _) = started();
    let mut other = own_run("Succeeded");
    other["metadata"]["uid"] = "3".into();
    assert_eq!(answered(waited.see_run(Some(&other))), why, "another run has its name");

    let (mut waited, _) = started();
    let why = "3: workflow/w did not succeed: it was deleted; before: Running";
    assert_eq!(answered(waited.see_applied(None, &[])), why);
}

#[test]
fn what_was_applied_fails_where_its_run_never_comes() {
    let (mut waited, workflow) = applied();
    let gone = waited.see_applied(Some(&handled(&workflow, "Failed")), &[]);
    let why = "3: workflow/w did not succeed: its run was deleted before it was seen";
    assert_eq!(answered(gone), why);

    let (mut waited, mut workflow) = applied();
    workflow["metadata"]["generation"] = 3.into();
    workflow["spec"]["timeout"] = "1h".into();
    assert!(waited.needs_runs(&workflow), "there may be one that was started before the change");
    let why = "3: workflow/w did not succeed: another change replaced what was applied before \
               that had a run";
    assert_eq!(answered(waited.see_applied(Some(&workflow), &[])), why);

    let (mut waited, mut workflow) = applied();
    workflow["status"]["observedGeneration"] = 2.into();
    let why = "workflow/w has no run that it started for this revision";
    assert_eq!(answered(waited.see_applied(Some(&workflow), &[])), why);
}

#[test]
fn a_workflow_is_behind_its_run_until_it_shows_how_that_ended() {
    let (mut waited, workflow) = applied();
    let ended: WorkflowRun = serde_json::from_value(own_run("Failed")).unwrap();
    let ended = std::slice::from_ref(&ended);
    let mut is_behind = |workflow: Option<&Value>| {
        let _failed = waited.see_applied(workflow, ended);
        waited.is_behind_its_run()
    };
    assert!(is_behind(Some(&handled(&workflow, "Running"))));
    assert!(!is_behind(Some(&handled(&workflow, "Failed"))));
    let mut leaves = handled(&workflow, "Running");
    leaves["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into();
    assert!(!is_behind(Some(&leaves)), "its controller leaves it alone");
    let mut shows_another = handled(&workflow, "Running");
    shows_another["status"]["lastRun"] = "w-3".into();
    assert!(!is_behind(Some(&shows_another)));
    assert!(is_behind(Some(&handled(&workflow, "Running"))));
    assert!(!is_behind(None), "it will never say so");
}

#[test]
fn what_no_node_takes_is_told_from_what_takes_long() {
    check(
        (KindId::Job, Goal::Done),
        "1 Pending unfit",
        &expect![[r#"
            1 Pending unfit -> not yet
            late -> 2: timed out waiting for job/a to finish: Pending
        "#]],
    );
}

#[test]
fn a_hint_finds_what_is_in_another_namespace() {
    let hint = |seen_from: &str| {
        let waited = Waited::new(Target::new(KindId::Job, "a"), "team", Goal::Done);
        waited.seen_from(seen_from).late(None).hint.unwrap()
    };
    assert!(hint("default").starts_with("see why with hctl describe -n team job/a, or"));
    assert!(hint("team").starts_with("see why with hctl describe job/a, or"));
    let object = object("1  suspended");
    let mut waited =
        Waited::new(Target::new(KindId::Workflow, "a"), "team", Goal::Done).seen_from("default");
    let Some(Answer::NoRun(failure)) = waited.see(object.as_ref()) else { panic!() };
    assert_eq!(failure.hint.unwrap(), "start one with hctl resume -n team workflow/a");
}

#[test]
fn a_server_that_is_lost_is_why_it_is_late() {
    let mut waited = Waited::new(Target::new(KindId::Job, "a"), "default", Goal::Done);
    let _not_yet = waited.see(object("1 Pending unfit").as_ref());
    let lost = Lost { server: "http://h:1".to_owned(), for_secs: 20, why: "refused".to_owned() };
    assert_eq!(
        told(&waited.late(Some(&lost))),
        "4: timed out waiting for job/a to finish: http://h:1 has been lost for 20s (refused); \
         before: Pending"
    );
}

#[test]
fn the_code_that_says_most_is_that_of_several() {
    let failures =
        |codes: &[Code]| codes.iter().map(|code| Failure::new("x").code(*code)).collect::<Vec<_>>();
    let told = |all, codes: &[Code]| {
        outcome(all, Goal::Done, failures(codes)).map_err(|failure| told(&failure))
    };
    assert_eq!(told(2, &[]), Ok(()));
    assert_eq!(told(1, &[Code::Timeout]), Err("4: x".to_owned()));
    let of_three = |codes: &[Code], number: u8| {
        let message = format!("{number}: {} of 3 objects did not finish", codes.len());
        assert_eq!(told(3, codes), Err(message));
    };
    of_three(&[Code::Timeout, Code::Failed, Code::NotFound], 3);
    of_three(&[Code::Timeout, Code::NotFound], 6);
    of_three(&[Code::Timeout, Code::Unschedulable], 2);
    of_three(&[Code::Timeout], 4);
}
