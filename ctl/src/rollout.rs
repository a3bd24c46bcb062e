//! How the rollout of a service stands, and its history, as functions of the service. Pure.

use api::conditions;
use api::service::{Origin, Revision, RolloutState, ServicePhase};
use api::table::{NOTHING, age, span};
use api::{Kind as _, Service, Timestamp};

use crate::failure::{Code, Failure};

/// How a rollout stands.
#[derive(Debug)]
pub enum Standing {
    /// All tasks run the revision and are available; what to print.
    Done(String),
    /// It will not get there unless somebody does something.
    Failed(Failure),
    /// It goes on, or waits; what to print.
    NotYet(String),
}

/// How the rollout of a service stands; if a revision is named, of that one.
pub fn standing(service: &Service, of_revision: Option<u32>, now: Timestamp) -> Standing {
    let (status, name) = (&service.status, format!("service/{}", service.name()));
    let refuse = |why: String| Failure::new(format!("{name} {why}")).code(Code::Failed);
    if service.is_deleting() {
        return Standing::Failed(refuse("is being deleted".to_owned()));
    }
    if service.spec.has_expired(now) {
        return Standing::Failed(refuse("has expired".to_owned()));
    }
    let number = status.update_revision;
    let is_seen = number > 0 && status.observed_generation >= service.generation();
    if !is_seen {
        if let Some(stalled) = conditions::stalled(&status.conditions).filter(|_| number > 0) {
            return Standing::Failed(refuse(format!("is stalled: {}", stalled.message)));
        }
        return Standing::NotYet("its latest change waits for the service controller".to_owned());
    }
    if let Some(wanted) = of_revision.filter(|wanted| *wanted != number) {
        let why = format!("rolls out revision {number}, not revision {wanted}");
        return Standing::Failed(refuse(why).hint(format!("see hctl rollout history {name}")));
    }
    if let Some(request) = &status.request {
        return Standing::NotYet(format!("{} was asked for and is next", request.verb.word()));
    }
    let message = status.message.clone().unwrap_or_default();
    let Some(rollout) = &status.rollout else { return Standing::NotYet(message) };
    match rollout.state {
        RolloutState::Failed => {
            let undo = format!("go back with hctl rollout undo {name}, or change it and apply it");
            Standing::Failed(refuse(message).hint(undo))
        }
        RolloutState::Complete if rollout.back_from.is_some() => Standing::Failed(refuse(message)),
        RolloutState::Complete if status.phase == ServicePhase::Running => {
            Standing::Done(format!("revision {number} is rolled out"))
        }
        // No task is wanted.
        RolloutState::Progressing if status.phase == ServicePhase::Running => {
            Standing::Done(format!("revision {number} is rolled out"))
        }
        RolloutState::Progressing | RolloutState::Suspended | RolloutState::Complete => {
            let phase = status.phase.to_string();
            let is_same = message.is_empty();
            Standing::NotYet(if is_same { phase } else { format!("{phase}: {message}") })
        }
    }
}

/// The headings of a history.
pub const HEADINGS: [&str; 8] = ["REV", "STATE", "IMAGE", "CAUSE", "BY", "AGE", "TOOK", "WHY"];

/// The history of a service, the newest revision last.
pub fn history(service: &Service, now: Timestamp) -> Vec<Vec<String>> {
    service.status.revisions.iter().map(|it| row(service, it, now)).collect()
}

fn row(service: &Service, revision: &Revision, now: Timestamp) -> Vec<String> {
    let or_nothing = |text: String| if text.is_empty() { NOTHING.to_owned() } else { text };
    let took = revision.finished_at.map(|end| span(revision.at, end)).unwrap_or_default();
    vec![
        revision.number.to_string(),
        state(service, revision).to_owned(),
        or_nothing(revision.image.clone()),
        cause(revision),
        or_nothing(revision.by.clone().unwrap_or_default()),
        age(Some(revision.at), now),
        or_nothing(took),
        revision.failure.clone().unwrap_or_default(),
    ]
}

/// How a revision stands, in a word.
pub fn state(service: &Service, revision: &Revision) -> &'static str {
    let status = &service.status;
    let is_last = revision.number == status.update_revision;
    let state = status.rollout.as_ref().map(|rollout| rollout.state).unwrap_or_default();
    match state {
        _ if revision.failure.is_some() => "failed",
        _ if revision.number == status.current_revision => "current",
        RolloutState::Suspended if is_last => "paused",
        RolloutState::Progressing | RolloutState::Complete | RolloutState::Failed if is_last => {
            "rolling-out"
        }
        RolloutState::Progressing
        | RolloutState::Suspended
        | RolloutState::Complete
        | RolloutState::Failed => {
            if revision.finished_at.is_some() {
                "earlier"
            } else {
                "superseded"
            }
        }
    }
}

/// What made a revision: `change`, `undo:3`.
fn cause(revision: &Revision) -> String {
    let of = revision.same_as.map(|number| format!(":{number}")).unwrap_or_default();
    match revision.origin {
        Origin::Change => "change".to_owned(),
        Origin::Undo => format!("undo{of}"),
        Origin::Rollback => format!("rollback{of}"),
        Origin::Restart => format!("restart{of}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use api::service::ServiceSpec;
    use expect_test::expect;
    use serde_json::{Value, json};

    use super::*;

    fn service(status: Value) -> Service {
        let spec: ServiceSpec =
            serde_json::from_value(json!({ "template": { "image": "x" } })).unwrap();
        let mut service = Service::new("default", "web", spec);
        service.metadata.generation = Some(2);
        service.status = serde_json::from_value(status).unwrap();
        service
    }

    fn status(phase: &str, state: &str, more: Value) -> Value {
        let mut status = json!({
            "phase": phase, "observedGeneration": 2, "currentRevision": 1, "updateRevision": 2,
            "message": "because", "rollout": {
                "revision": 2, "state": state, "startedAt": "1970-01-01T00:00:00Z",
            },
        });
        for (field, value) in more.as_object().unwrap() {
            status[field] = value.clone();
        }
        status
    }

    #[test]
    fn a_rollout_is_over_when_its_outcome_is_certain() {
        let back = json!({ "rollout": {
            "revision": 2, "state": "Complete", "startedAt": "1970-01-01T00:00:00Z", "backFrom": 1,
        }});
        let stalled = json!({ "observedGeneration": 1, "conditions": [{
            "type": "Stalled", "status": "True", "reason": "NameTaken", "message": "a name is taken",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }]});
        let asked =
            json!({ "request": { "verb": "Undo", "by": "ann", "at": "1970-01-01T00:00:00Z" } });
        let all = [
            ("new", json!({})),
            ("changed just now", status("Running", "Complete", json!({ "observedGeneration": 1 }))),
            ("stalled", status("Running", "Complete", stalled)),
            ("asked for more", status("Running", "Complete", asked)),
            ("under way", status("RollingOut", "Progressing", json!({}))),
            ("paused", status("Paused", "Suspended", json!({}))),
            ("suspended", status("Suspended", "Progressing", json!({ "message": null }))),
            ("failed", status("Paused", "Failed", json!({}))),
            ("rolled back", status("Running", "Complete", back)),
            ("degraded", status("Degraded", "Complete", json!({}))),
            ("complete", status("Running", "Complete", json!({}))),
            ("nothing wanted", status("Running", "Progressing", json!({}))),
        ];
        let mut shown = String::new();
        for (name, status) in all {
            let service = service(status);
            let said = |of| match standing(&service, of, Timestamp::UNIX_EPOCH) {
                Standing::Done(what) => format!("done: {what}"),
                Standing::NotYet(what) => format!("not yet: {what}"),
                Standing::Failed(failure) => format!("{}: {failure}", failure.code.number()),
            };
            writeln!(shown, "{name}: {}", said(None)).unwrap();
            if name == "complete" {
                writeln!(shown, "{name}, of 1: {}", said(Some(1))).unwrap();
            }
        }
        expect![[r#"
            new: not yet: its latest change waits for the service controller
            changed just now: not yet: its latest change waits for the service controller
            stalled: 3: service/web is stalled: a name is taken
            asked for more: not yet: undo was asked for and is next
            under way: not yet: RollingOut: because
            paused: not yet: Paused: because
            suspended: not yet: Suspended
            failed: 3: service/web because
            rolled back: 3: service/web because
            degraded: not yet: Degraded: because
            complete: done: revision 2 is rolled out
            complete, of 1: 3: service/web rolls out revision 2, not revision 1
            nothing wanted: done: revision 2 is rolled out
        "#]]
        .assert_eq(&shown);
    }

    #[test]
    fn a_history_says_who_rolled_what_out_and_how_it_ended() {
        let at = "1970-01-01T00:00:00Z";
        let revision = |number: u32, more: Value| {
            let mut revision =
                json!({ "number": number, "template": "t", "image": "app:1", "at": at });
            for (field, value) in more.as_object().unwrap() {
                revision[field] = value.clone();
            }
            revision
        };
        let end = "1970-01-01T00:00:09Z";
        let service = service(json!({
            "observedGeneration": 2, "currentRevision": 3, "updateRevision": 5,
            "rollout": { "revision": 5, "startedAt": at },
            "revisions": [
                revision(1, json!({ "finishedAt": end })),
                revision(2, json!({ "finishedAt": end, "failure": "web-2-0: exit 3" })),
                revision(3, json!({ "finishedAt": end, "origin": "Rollback", "sameAs": 1 })),
                revision(4, json!({})),
                revision(5, json!({ "origin": "Undo", "sameAs": 1, "by": "ann" })),
            ],
        }));
        let rows = history(&service, end.parse().unwrap());
        let text: String = rows.iter().map(|row| format!("{}\n", row.join(" "))).collect();
        expect![[r#"
            1 earlier app:1 change - 9s 9s 
            2 failed app:1 change - 9s 9s web-2-0: exit 3
            3 current app:1 rollback:1 - 9s 9s 
            4 superseded app:1 change - 9s - 
            5 rolling-out app:1 undo:1 ann 9s - 
        "#]]
        .assert_eq(&text);
    }
}
