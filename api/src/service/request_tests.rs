//! Which commands about a rollout fit which services.

use std::fmt::Write as _;

use expect_test::expect;
use serde_json::{Value, json};

use super::*;
use crate::service::ServiceSpec;

fn service(spec: Value, status: Value) -> Service {
    let spec: ServiceSpec = serde_json::from_value(spec).unwrap();
    let mut service = Service::new("default", "web", spec);
    service.metadata.generation = Some(2);
    service.status = serde_json::from_value(status).unwrap();
    service
}

fn revisions(templates: &[(&str, bool)]) -> Value {
    let each = templates.iter().zip(1..).map(|((template, failed), number)| {
        json!({
            "number": number, "template": template, "at": "2026-01-02T00:00:00Z",
            "failure": failed.then_some("no"),
        })
    });
    each.collect()
}

fn status(state: &str, current: u32, templates: &[(&str, bool)]) -> Value {
    json!({
        "observedGeneration": 2, "currentRevision": current, "updateRevision": templates.len(),
        "revisions": revisions(templates),
        "rollout": {
            "revision": templates.len(), "state": state, "startedAt": "2026-01-02T00:00:00Z",
        },
    })
}

fn said(service: &Service, verb: RolloutVerb, to_revision: Option<u32>) -> String {
    let command = RolloutCommand { verb, to_revision, revision: None };
    match ask(service, command, "ann", Timestamp::UNIX_EPOCH) {
        Ok(None) => "is so already".to_owned(),
        Ok(Some(next)) => {
            let request = next.request.unwrap();
            let to = request.to_revision.map(|to| format!(" to {to}")).unwrap_or_default();
            assert!(next.conditions.iter().any(|it| it.kind == "Ready" && it.status == "False"));
            format!("{}{to} by {}", request.verb.word(), request.by)
        }
        Err(Unfit::Now(why)) => format!("not now: {why}"),
        Err(Unfit::Field(violation)) => violation.to_string(),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn what_can_be_asked_depends_on_how_the_service_is() {
    let image = json!({ "template": { "image": "x" } });
    let suspended = json!({ "template": { "image": "x" }, "suspend": true });
    let mut pending = status("Complete", 2, &[("a", false), ("b", false)]);
    pending["request"] = json!({ "verb": "Restart", "by": "bob", "at": "2026-01-02T00:00:00Z" });
    let mut unseen = status("Complete", 2, &[("a", false), ("b", false)]);
    unseen["observedGeneration"] = 1.into();
    let all = [
        ("new", &image, json!({})),
        ("one revision", &image, status("Complete", 1, &[("a", false)])),
        ("complete", &image, status("Complete", 2, &[("a", false), ("b", false)])),
        ("under way", &image, status("Progressing", 1, &[("a", false), ("b", false)])),
        ("failed", &image, status("Failed", 1, &[("a", false), ("b", true)])),
        (
            "after a failure",
            &image,
            status("Complete", 3, &[("a", false), ("b", true), ("c", false)]),
        ),
        ("restarted", &image, status("Complete", 3, &[("a", false), ("b", false), ("b", false)])),
        ("suspended", &suspended, status("Progressing", 1, &[("a", false), ("b", false)])),
        ("asked already", &image, pending),
        ("changed just now", &image, unseen),
    ];
    let mut shown = String::new();
    for (name, spec, status) in all {
        let service = service(spec.clone(), status);
        writeln!(shown, "{name}:").unwrap();
        for (verb, to) in [
            (RolloutVerb::Undo, None),
            (RolloutVerb::Undo, Some(1)),
            (RolloutVerb::Undo, Some(9)),
            (RolloutVerb::Restart, None),
            (RolloutVerb::Abort, None),
        ] {
            let asked = to.map(|to| format!(" to {to}")).unwrap_or_default();
            writeln!(shown, "  {}{asked}: {}", verb.word(), said(&service, verb, to)).unwrap();
        }
    }
    expect![[r#"
        new:
          undo: not now: its latest change waits for the service controller; try again in a moment
          undo to 1: not now: its latest change waits for the service controller; try again in a moment
          undo to 9: not now: its latest change waits for the service controller; try again in a moment
          restart: not now: its latest change waits for the service controller; try again in a moment
          abort: not now: its latest change waits for the service controller; try again in a moment
        one revision:
          undo: not now: there is no earlier revision to go back to
          undo to 1: is so already
          undo to 9: toRevision: revision 9 is not in the history (the revisions are 1)
          restart: restart by ann
          abort: not now: the rollout of revision 1 is complete
        complete:
          undo: undo to 1 by ann
          undo to 1: undo to 1 by ann
          undo to 9: toRevision: revision 9 is not in the history (the revisions are 1, 2)
          restart: restart by ann
          abort: not now: the rollout of revision 2 is complete
        under way:
          undo: undo to 1 by ann
          undo to 1: undo to 1 by ann
          undo to 9: toRevision: revision 9 is not in the history (the revisions are 1, 2)
          restart: restart by ann
          abort: abort by ann
        failed:
          undo: undo to 1 by ann
          undo to 1: undo to 1 by ann
          undo to 9: toRevision: revision 9 is not in the history (the revisions are 1, 2)
          restart: restart by ann
          abort: is so already
        after a failure:
          undo: undo to 1 by ann
          undo to 1: undo to 1 by ann
          undo to 9: toRevision: revision 9 is not in the history (the revisions are 1, 2, 3)
          restart: restart by ann
          abort: not now: the rollout of revision 3 is complete
        restarted:
          undo: undo to 1 by ann
          undo to 1: undo to 1 by ann
          undo to 9: toRevision: revision 9 is not in the history (the revisions are 1, 2, 3)
          restart: restart by ann
          abort: not now: the rollout of revision 3 is complete
        suspended:
          undo: undo to 1 by ann
          undo to 1: undo to 1 by ann
          undo to 9: toRevision: revision 9 is not in the history (the revisions are 1, 2)
          restart: not now: it is suspended: its tasks start anew when it is resumed
          abort: abort by ann
        asked already:
          undo: not now: bob has asked for restart, which is not carried out yet
          undo to 1: not now: bob has asked for restart, which is not carried out yet
          undo to 9: toRevision: revision 9 is not in the history (the revisions are 1, 2)
          restart: is so already
          abort: not now: the rollout of revision 2 is complete
        changed just now:
          undo: not now: its latest change waits for the service controller; try again in a moment
          undo to 1: not now: its latest change waits for the service controller; try again in a moment
          undo to 9: not now: its latest change waits for the service controller; try again in a moment
          restart: restart by ann
          abort: not now: its latest change waits for the service controller; try again in a moment
    "#]].assert_eq(&shown);
}

#[test]
fn a_command_for_another_revision_is_refused() {
    let image = json!({ "template": { "image": "x" } });
    let service = service(image, status("Progressing", 1, &[("a", false), ("b", false)]));
    let command = RolloutCommand { verb: RolloutVerb::Abort, to_revision: None, revision: Some(1) };
    let refused = ask(&service, command, "ann", Timestamp::UNIX_EPOCH).unwrap_err();
    let why = "the command is for revision 1, and revision 2 is rolled out now";
    assert_eq!(refused, Unfit::Now(why.to_owned()));
}
