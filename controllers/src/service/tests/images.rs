//! Which image the tasks of a revision run.

use super::*;

fn digest(digit: char) -> String {
    format!("sha256:{}", String::from(digit).repeat(64))
}

/// The agent reports that a task runs, and which image.
fn runs(world: &mut World, name: &str, digit: char) {
    assert!(start(world, name, true));
    let task = &world.tasks[name];
    let report = serde_json::from_value(json!({
        "binding": task.binding().unwrap().number, "bootId": "boot", "state": "Running",
        "ready": true, "startedAt": world.now, "imageDigest": digest(digit),
    }));
    assert!(world.change(name, &TaskChange::Report(Box::new(report.unwrap()))));
}

fn wanted(world: &World, name: &str) -> Option<String> {
    world.tasks[name].spec.image_digest.as_deref().map(str::to_owned)
}

fn of_revisions(world: &World) -> Vec<Option<String>> {
    world.service.status.revisions.iter().map(|it| it.digest.clone()).collect()
}

fn with_image(image: &str, policy: &str) -> World {
    let template = json!({ "image": image, "imagePullPolicy": policy });
    let mut world = service(json!({ "replicas": 1, "template": template }));
    world.settle();
    runs(&mut world, "web-1-0", 'a');
    world.settle();
    world
}

fn roll_out(world: &mut World, image: &str) {
    world.edit(|service| service.spec.template.image = image.to_owned());
    world.finish();
}

#[test]
fn later_tasks_and_attempts_run_the_image_that_the_first_task_ran() {
    let mut world = with_image("one", "IfNotPresent");
    assert_eq!(of_revisions(&world), [Some(digest('a'))]);
    assert_eq!(wanted(&world, "web-1-0"), None, "it ran what its tag meant");
    world.edit(|service| service.spec.replicas = Some(2));
    world.settle();
    assert_eq!(wanted(&world, "web-1-1"), Some(digest('a')));
    // Another node may find another image under the tag; the first one stays.
    runs(&mut world, "web-1-1", 'b');
    assert!(world.report("web-1-0", ReportState::Failed, false));
    world.settle();
    assert_eq!(of_revisions(&world), [Some(digest('a'))]);
    assert_eq!(world.tasks["web-1-0"].spec.attempt, 2);
    assert_eq!(wanted(&world, "web-1-0"), Some(digest('a')));
}

#[test]
fn a_rollout_looks_a_tag_up_again_only_where_it_is_to_be_pulled_always() {
    for (policy, expected) in [("IfNotPresent", Some(digest('a'))), ("Always", None)] {
        let mut world = with_image("one", policy);
        roll_out(&mut world, "two");
        assert_eq!(of_revisions(&world), [Some(digest('a')), None], "{policy}");
        roll_out(&mut world, "one");
        assert_eq!(of_revisions(&world).pop().unwrap(), expected, "{policy}");
    }
}
