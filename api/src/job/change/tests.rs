//! Each cell of the table: what is refused, which run there is, and what people are told.

use expect_test::expect_file;
use serde_json::{Value, json};

use super::*;
use crate::job::{JobPhase, indexes};
use crate::resource::Resource as _;

/// A job whose controller has seen all of it, in its first run.
fn job(fields: &Value, phase: JobPhase) -> Job {
    let mut spec = json!({ "template": { "image": "one" } });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let mut job = Job::new("default", "j", serde_json::from_value(spec).unwrap());
    job.metadata.generation = Some(1);
    let status = &mut job.status;
    (status.run, status.observed_generation, status.phase) = (1, 1, phase);
    status.active = if phase.is_final() { 0 } else { 2 };
    status.ending = (phase == JobPhase::Failed).then_some(phase);
    status.revision = revision(&job.spec);
    status.tasks_from = tasks_from(&job.spec);
    let known = indexes::next(&job.spec, &JobStatus::default());
    (status.indexes, status.parts) = known.unwrap_or_default();
    job
}

/// What comes of a change, in a few words.
fn outcome(from: &Value, to: &Value, (on_change, phase): (&str, JobPhase)) -> String {
    let with = |fields: &Value| {
        let mut fields = fields.clone();
        fields["onChange"] = json!(on_change);
        fields
    };
    let old = job(&with(from), phase);
    let mut new = job(&with(to), phase);
    (new.status, new.metadata.generation) = (old.status.clone(), Some(2));
    if let Some(refused) = new.validate_update(&old).first() {
        return format!("refused: {}", refused.path);
    }
    let run = Run::of(&new);
    let told = consequence(&old, &new);
    assert_eq!(run.opens, matches!(told, Consequence::Opens(_)), "what is told is what is done");
    match told {
        Consequence::Opens(words) | Consequence::Ignored(words) | Consequence::TooLate(words) => {
            words
        }
        Consequence::RunAgain(names) => run_again(names.iter().map(String::as_str), 1),
        Consequence::InPlace => "in place".to_owned(),
    }
}

fn listed(tasks: &[(&str, &str)]) -> Value {
    let task = |(name, region): &(&str, &str)| match *region {
        "" => json!({ "name": name }),
        region => {
            let env = json!([{ "name": "REGION", "value": region }]);
            json!({ "name": name, "template": { "env": env } })
        }
    };
    json!({ "tasks": tasks.iter().map(task).collect::<Vec<_>>() })
}

/// Changes of each kind: what it is called, and its two sides.
fn changes() -> Vec<(&'static str, Value, Value)> {
    let count = |count: u32| json!({ "count": count });
    let items = |items: &[&str]| json!({ "items": items });
    let target =
        |set: &str, states: &[&str]| json!({ "target": { "partitionSet": set, "states": states } });
    let image = json!({ "count": 2, "template": { "image": "two" } });
    let both = listed(&[("eu", "eu"), ("us", "us")]);
    let mut placed = both.clone();
    placed["tasks"][0]["placement"] = json!({ "nodes": ["n"] });
    vec![
        ("template", count(2), image),
        ("states of the target", target("a", &[]), target("a", &["LEADER"])),
        ("set of the target", target("a", &[]), target("b", &[])),
        ("tasks for count", count(2), both.clone()),
        ("items for count", count(2), items(&["a", "b", "c"])),
        ("target for count", count(2), target("a", &[])),
        ("count for tasks", both.clone(), count(2)),
        ("items for tasks", both.clone(), items(&["eu"])),
        ("tasks for items", items(&["eu"]), both.clone()),
        ("count for target", target("a", &[]), count(2)),
        ("template of a task", both.clone(), listed(&[("eu", "eu"), ("us", "asia")])),
        ("first template of a task", listed(&[("eu", "eu"), ("us", "")]), both.clone()),
        ("placement of a task", both.clone(), placed),
        ("count, more", count(2), count(3)),
        ("count, less", count(3), count(2)),
        ("tasks, more", listed(&[("eu", "eu")]), both.clone()),
        ("tasks, less", both, listed(&[("us", "us")])),
        ("items, more", items(&["a"]), items(&["a", "b"])),
        ("items, less", items(&["a", "b"]), items(&["b"])),
        ("all else", count(2), json!({ "count": 2, "priority": 3 })),
    ]
}

#[test]
fn each_change_comes_to_what_the_table_says() {
    let mut table = String::new();
    for (what, from, to) in changes() {
        table.push_str(&format!("{what}\n"));
        for on_change in ["Rerun", "Ignore", "Reject"] {
            let phases = [JobPhase::Running, JobPhase::Succeeded, JobPhase::Failed];
            let mut said: Vec<(String, String)> = Vec::new();
            for phase in phases {
                let found = outcome(&from, &to, (on_change, phase));
                match said.iter_mut().find(|(_, before)| *before == found) {
                    Some((phases, _)) => phases.push_str(&format!(", {phase}")),
                    None => said.push((phase.to_string(), found)),
                }
            }
            let everywhere = said.len() == 1;
            for (phases, found) in said {
                let phases = if everywhere { String::new() } else { format!(" ({phases})") };
                table.push_str(&format!("  {on_change}{phases}: {found}\n"));
            }
        }
    }
    expect_file!["table.txt"].assert_eq(&table);
}

#[test]
fn a_job_without_a_run_takes_any_change_but_a_rejected_one() {
    let change = |on_change: &str| {
        let mut old = job(&json!({ "count": 2, "onChange": on_change }), JobPhase::Pending);
        old.status = JobStatus::default();
        let mut new = job(&json!({ "items": ["a"], "onChange": on_change }), JobPhase::Pending);
        (new.status, new.metadata.generation) = (JobStatus::default(), Some(2));
        assert_eq!(consequence(&old, &new), Consequence::InPlace, "{on_change}");
        (new.validate_update(&old).len(), Run::of(&new).number)
    };
    assert_eq!((change("Rerun"), change("Ignore"), change("Reject")), ((0, 1), (0, 1), (1, 1)));
}

/// The list was changed while another run was to follow, and then that was taken back: tasks of one
/// list are never those of another.
#[test]
fn a_list_that_was_accepted_before_on_change_was_set_opens_its_run() {
    let old = job(&json!({ "count": 2 }), JobPhase::Running);
    for on_change in ["Ignore", "Reject"] {
        let mut new = job(&json!({ "items": ["a"], "onChange": on_change }), JobPhase::Running);
        (new.status, new.metadata.generation) = (old.status.clone(), Some(3));
        assert!(Run::of(&new).opens, "{on_change}");
    }
}

#[test]
fn other_words_for_a_tasks_template_and_an_upgrade_run_nothing() {
    let with = |value: Value| {
        let template = json!({ "resources": { "limits": { "cpu": value } } });
        json!({ "tasks": [{ "name": "a", "template": template }] })
    };
    let old = job(&with(json!("1")), JobPhase::Succeeded);
    let same = job(&with(json!("1000m")), JobPhase::Succeeded);
    assert_eq!(changed_tasks(&same.spec, &old.status), BTreeSet::new());
    let other = job(&with(json!("2")), JobPhase::Succeeded);
    assert_eq!(changed_tasks(&other.spec, &old.status), BTreeSet::from(["a"]));
    // A version before did not say what its tasks were.
    let mut before = old.status.clone();
    before.parts.clear();
    assert_eq!(changed_tasks(&other.spec, &before), BTreeSet::new());
}

/// A rerun that is asked for by hand of a job that takes none is refused rather than forgotten.
#[test]
fn what_does_not_run_again_is_not_asked_to() {
    for (on_change, refused) in [("Rerun", 0), ("Ignore", 1), ("Reject", 1)] {
        let old = job(&json!({ "onChange": on_change }), JobPhase::Succeeded);
        let mut new = old.clone();
        new.spec.reruns = 1;
        assert_eq!(new.validate_update(&old).len(), refused, "{on_change}");
    }
}

#[test]
fn a_changed_task_that_opens_another_run_takes_the_cancel_back() {
    let of = |region: &str| {
        let mut fields = listed(&[("us", region)]);
        fields["cancel"] = json!(true);
        job(&fields, JobPhase::Failed)
    };
    assert!(opens_run(&of("asia"), &of("us")));
    assert!(!opens_run(&of("us"), &of("us")));
}
