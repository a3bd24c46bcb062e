//! `hctl apply`: creates and updates objects so that they are as their manifests say.

use api::job::change::{self, Consequence, run_again};
use api::job::{is_left_out, scaled_down, tasks_wanted};
use api::manifest::{Document, Problem};
use api::object::Kind as _;
use api::service::change::consequence as of_service;
use api::status::Refusal;
use api::task::StopReason;
use api::{Job, KindId, Service, Task, Violation, labels};
use client::Error;
use serde_json::Value;

use super::each::Failures;
use super::show;
use super::starting::Starting;
use super::wait::{goal_of, wait_for};
use crate::args::Apply;
use crate::connection::Connection;
use crate::failure::{Code, Failure, is_outrun};
use crate::goal::Goal;
use crate::target::Target;
use crate::waiting::Waited;
use crate::{hints, sources, terminal, three_way};

/// How many times an object is read again that somebody else changes at the same time.
const TRIES_MAX: usize = 5;

pub(super) async fn apply(connection: &Connection, args: Apply) -> Result<(), Failure> {
    let files = sources::files(&args.files, args.recursive)?;
    let documents = sources::read(&files, sources::DefaultNamespace::of(connection))?;
    let how = How { is_dry_run: args.dry_run, is_waiting: args.wait && !args.dry_run };
    self::documents(connection, documents, how).await
}

/// How documents are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct How {
    /// Whether nothing is changed.
    pub(super) is_dry_run: bool,
    /// Whether to wait for what is applied.
    pub(super) is_waiting: bool,
}

/// Applies documents, in their order.
pub(super) async fn documents(
    connection: &Connection,
    documents: Vec<Document>,
    How { is_dry_run, is_waiting }: How,
) -> Result<(), Failure> {
    let query = if is_dry_run { "?dryRun=All" } else { "" };
    documents.iter().for_each(warn);
    let (mut problems, mut failures) = (Vec::new(), Failures::default());
    let (mut ending, mut told, mut starting) = (Vec::new(), Ok(()), Starting::new());
    for document in documents {
        match apply_one(connection, &document, query).await {
            Ok(applied) => {
                let consequence = if connection.format.is_table() {
                    applied.consequence(connection, &mut starting, is_dry_run).await
                } else {
                    String::new()
                };
                let Applied { target, what, object, .. } = applied;
                if let Some(goal) = goal_of(target.kind).filter(|_| is_waiting) {
                    let namespace = namespace_of(&object);
                    let waited = Waited::new(target.clone(), namespace, goal);
                    ending.push(waited.started(object.clone()));
                    if connection.format.is_document() {
                        continue;
                    }
                }
                let dry_run = if is_dry_run { " (dry run)" } else { "" };
                let what = format!("{what}{consequence}{dry_run}");
                told = told.and(show::done(connection.format, &target, &what, object));
            }
            Err(Refused::Invalid(found)) => problems.extend(found),
            Err(Refused::Other(failure)) => {
                if let Err(failure) = failures.add(Err(failure)) {
                    print_started(connection, &ending);
                    return Err(Failure { problems, ..failure });
                }
            }
        }
    }
    if !problems.is_empty() {
        let many = if problems.len() == 1 { "problem" } else { "problems" };
        let message = format!("{} {many}; what the server refused was not applied", problems.len());
        failures.add(Err(Failure { problems, ..Failure::new(message) }))?;
    }
    if let Err(failure) = failures.end() {
        print_started(connection, &ending);
        return Err(failure);
    }
    let are_services = ending.iter().all(|waited| waited.target().kind == KindId::Service);
    let goal = if are_services { Goal::Ready } else { Goal::Succeeded };
    wait_for(connection, ending, goal).await.and(told)
}

/// Prints the documents that were due once their objects have ended, when waiting has been given
/// up.
fn print_started(connection: &Connection, ending: &[Waited]) {
    let started = ending.iter().filter(|_| connection.format.is_document());
    for waited in started {
        let document = waited.what_was_started().cloned().unwrap_or_default();
        // The earlier failure says more than that this cannot be printed.
        let _worse = show::done(connection.format, waited.target(), "", document);
    }
}

/// Warns of what is allowed and probably not meant.
fn warn(document: &Document) {
    if !matches!(document.kind, KindId::Job | KindId::Workflow) {
        return;
    }
    for found in api::substitute::near_misses(&document.value["spec"]) {
        terminal::note(&format!("warning: {}", document.problem(found)));
    }
}

/// An object that was applied.
struct Applied {
    target: Target,
    what: &'static str,
    /// The object before; nothing if it was created.
    before: Option<Value>,
    object: Value,
}

impl Applied {
    fn new(target: Target, what: &'static str, object: Value) -> Self {
        Self { target, what, before: None, object }
    }

    /// What the change does to runs, as text to append to the message; empty if nothing.
    async fn consequence(
        &self,
        connection: &Connection,
        starting: &mut Starting,
        is_dry_run: bool,
    ) -> String {
        let (before, after) = (self.before.as_ref(), &self.object);
        if self.target.kind == KindId::Workflow && !is_dry_run {
            return starting.told(connection, after).await;
        }
        if self.target.kind == KindId::Service {
            let read = |service: &Value| serde_json::from_value::<Service>(service.clone()).ok();
            let told = before.and_then(|before| of_service(&read(before)?, &read(after)?));
            return told.map(|told| format!(": {told}")).unwrap_or_default();
        }
        match before.filter(|_| self.target.kind == KindId::Job) {
            Some(before) => consequence(connection, before, after).await.unwrap_or_default(),
            None => String::new(),
        }
    }
}

/// Why a document was not applied.
enum Refused {
    /// The server found problems in it.
    Invalid(Vec<Problem>),
    Other(Failure),
}

fn namespace_of(object: &Value) -> String {
    object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned()
}

async fn apply_one(
    connection: &Connection,
    document: &Document,
    query: &str,
) -> Result<Applied, Refused> {
    let mut wish = three_way::wish(document.value.clone());
    let namespace = namespace_of(&wish);
    let name = wish["metadata"]["name"].as_str().unwrap_or_default();
    let target = Target::new(document.kind, name);
    let made = |object: Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        Applied::new(Target::new(document.kind, name), "created", object)
    };
    if name.is_empty() {
        // It has a generateName, so each apply creates another object.
        disown(&target, &mut wish, None);
        let noted = three_way::with_note(&wish);
        let created = connection.create((document.kind, &namespace), &noted, query).await;
        return created.map(made).map_err(|error| refused(connection, document, &error));
    }
    for try_number in 1..=TRIES_MAX {
        let last = try_number == TRIES_MAX;
        let found = connection.within(&namespace).find::<Value>(&target).await;
        let found = found.map_err(Refused::Other)?;
        disown(&target, &mut wish, found.as_ref());
        let noted = three_way::with_note(&wish);
        let Some(live) = found else {
            match connection.create((document.kind, &namespace), &noted, query).await {
                Ok(object) => return Ok(made(object)),
                Err(error) if is_outrun(&error) && !last => continue,
                Err(error) => return Err(refused(connection, document, &error)),
            }
        };
        if live["metadata"]["deletionTimestamp"].is_string() {
            let failure = Failure::new(format!("{target} is being deleted")).code(Code::Conflict);
            let place = hints::place(&namespace, &connection.namespace);
            let wait = format!("hctl wait{place} {target} --for deleted");
            let hint = format!("wait with {wait}, then apply it again");
            return Err(Refused::Other(failure.hint(hint)));
        }
        let before = Some(live.clone());
        match change(connection, (&target, &namespace), (&noted, live), query).await {
            Ok((what, object)) => return Ok(Applied { target, what, before, object }),
            Err(error) if is_outrun(&error) && !last => (),
            Err(error) => return Err(refused(connection, document, &error)),
        }
    }
    Err(Refused::Other(Failure::new(format!("{target} keeps changing")).hint("try again")))
}

/// Removes controller references that a manifest has copied from another object, with a warning.
fn disown(target: &Target, wish: &mut Value, live: Option<&Value>) {
    if three_way::without_controllers(wish, live) {
        terminal::note(&format!(
            "warning: {target}: metadata.ownerReferences and heliox.dev labels are left out: they \
             are of the object that the manifest was copied from"
        ));
    }
}

/// What a change of a job does to its run. Its tasks may have to be read for that.
async fn consequence(connection: &Connection, before: &Value, after: &Value) -> Option<String> {
    let read = |job: &Value| serde_json::from_value::<Job>(job.clone()).ok();
    let (before, after) = (read(before)?, read(after)?);
    let (from, to) = (before.status.total, tasks_wanted(&after.spec));
    let scaled = to.filter(|to| *to < from && !before.status.phase.is_final());
    let again = match (change::consequence(&before, &after), scaled) {
        (
            Consequence::Opens(words) | Consequence::Ignored(words) | Consequence::TooLate(words),
            _,
        ) => return Some(format!(": {words}")),
        (Consequence::InPlace, None) => return None,
        (Consequence::InPlace, Some(_)) => Vec::new(),
        (Consequence::RunAgain(names), _) => names,
    };
    let connection = connection.within(after.namespace());
    let labels = labels::selector(labels::JOB, after.name());
    let query = connection.query(KindId::Task, labels, String::new());
    // The change has been made. If the tasks cannot be counted, that is no failure.
    let (tasks, _) = connection.list::<Task>(&query).await.ok()?;
    if let Some(to) = scaled {
        let running = tasks.iter().filter(|task| is_stopped_by(task, &before, &after)).count();
        return Some(format!(": {}", scaled_down(from, to, running)));
    }
    let runs_again = |task: &&Task| {
        task.spec.overrides.name.as_ref().is_some_and(|name| again.contains(name))
            && is_of_run(task, &before)
            && task.node().is_some()
            && (!task.has_ended() || has_stopped(task, StopReason::Revision))
    };
    let running = tasks.iter().filter(runs_again).count();
    Some(format!(": {}", run_again(again.iter().map(String::as_str), running)))
}

/// Whether a task was just stopped for this reason.
fn has_stopped(task: &Task, reason: StopReason) -> bool {
    task.stop().is_some_and(|stop| stop.reason == reason)
}

/// Whether a task belongs to the job's previous run.
fn is_of_run(task: &Task, job: &Job) -> bool {
    task.spec.run == job.status.run && task.controller().is_some_and(|owner| owner.uid == job.uid())
}

/// Whether a task on a node is, or was just, stopped because the job does not have it any more.
fn is_stopped_by(task: &Task, before: &Job, after: &Job) -> bool {
    let was_stopped = has_stopped(task, StopReason::ScaleDown);
    is_of_run(task, before)
        && task.node().is_some()
        && (was_stopped || !task.has_ended())
        && is_left_out(&before.spec, &after.spec, task)
}

/// Changes a live object to what the manifest says.
async fn change(
    connection: &Connection,
    place: (&Target, &str),
    (noted, live): (&Value, Value),
    query: &str,
) -> Result<(&'static str, Value), Error> {
    let last = three_way::last_applied(&live);
    let version = live["metadata"]["resourceVersion"].clone();
    // The annotation itself is not one of the fields that were applied last.
    let last = last.as_ref().map(three_way::with_note);
    let Some(mut patch) = three_way::patch(last.as_ref(), noted, &live) else {
        return Ok(("unchanged", live));
    };
    patch["metadata"]["resourceVersion"] = version;
    let object = connection.patch(place, &patch, query).await?;
    // A change that means the same, or only updates the annotation, counts as unchanged.
    let is_same = three_way::means_the_same(place.0.kind, &live, &object);
    Ok((if is_same { "unchanged" } else { "configured" }, object))
}

fn refused(connection: &Connection, document: &Document, error: &Error) -> Refused {
    let causes = error.refusal().map(Refusal::causes).filter(|causes| !causes.is_empty());
    let Some(causes) = causes else {
        return Refused::Other(connection.failure(error));
    };
    let problem = |cause: &k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause| {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        document.problem(Violation::new(part(&cause.field), part(&cause.message)))
    };
    Refused::Invalid(causes.iter().map(problem).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(image: &str, on_change: &str, phase: &str) -> Job {
        serde_json::from_value(json!({
            "metadata": { "name": "a", "uid": "u", "generation": 1 },
            "spec": { "count": 3, "onChange": on_change, "template": { "image": image } },
            "status": { "run": 3, "phase": phase, "active": 2 },
        }))
        .unwrap()
    }

    #[test]
    fn only_tasks_that_a_change_stops_are_counted() {
        let (before, mut after) = (job("one", "Rerun", "Running"), job("one", "Rerun", "Running"));
        after.spec.count = Some(1);
        let stopped = |index: u32, run: u32, owner: &str, spec: Value| {
            let mut task = json!({
                "metadata": { "name": "a-1", "ownerReferences": [{
                    "apiVersion": "heliox.dev/v1", "kind": "Job", "name": "a", "uid": owner,
                    "controller": true,
                }] },
                "spec": { "template": "a", "run": run, "index": index },
            });
            task["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            is_stopped_by(&serde_json::from_value(task).unwrap(), &before, &after)
        };
        let at = "2026-01-01T00:00:00Z";
        let bound = json!({ "binding": { "node": "n", "attempt": 1, "number": 1, "at": at } });
        assert!(stopped(1, 3, "u", bound.clone()));
        assert!(!stopped(0, 3, "u", bound.clone()), "it stays");
        assert!(!stopped(1, 2, "u", bound.clone()), "of another run");
        assert!(!stopped(1, 3, "other", bound), "of another job");
        assert!(!stopped(1, 3, "u", json!({})), "it waits for a node");
    }
}
