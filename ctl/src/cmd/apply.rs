//! `hctl apply`: makes objects as their manifests say.

use api::manifest::{Document, Problem};
use api::{KindId, Violation};
use client::Error;
use serde_json::Value;

use super::each::Failures;
use super::show;
use super::wait::{ends, wait_for};
use crate::args::Apply;
use crate::connection::{Connection, deadline};
use crate::failure::{Code, Failure};
use crate::goal::Goal;
use crate::target::Target;
use crate::waiting::Waited;
use crate::{sources, terminal, three_way};

/// How often an object that changes under our hands is read again.
const TRIES_MAX: usize = 5;

pub(super) async fn apply(connection: &Connection, args: Apply) -> Result<(), Failure> {
    let documents = sources::read(&args.files, &connection.namespace)?;
    let query = if args.dry_run { "?dryRun=All" } else { "" };
    documents.iter().for_each(warn);
    let (mut problems, mut failures) = (Vec::new(), Failures::default());
    let mut ending = Vec::new();
    for document in documents {
        match apply_one(connection, &document, query).await {
            Ok((target, what, object)) => {
                if ends(target.kind) {
                    let namespace = namespace_of(&object);
                    let waited = Waited::new(target.clone(), namespace, Goal::Succeeded);
                    ending.push(waited.of(&object));
                }
                let what = if args.dry_run { format!("{what} (dry run)") } else { what.to_owned() };
                show::done(connection.format, &target, &what, object)?;
            }
            Err(Refused::Invalid(found)) => problems.extend(found),
            Err(Refused::Other(failure)) => {
                if let Err(failure) = failures.add(Err(failure)) {
                    return Err(Failure { problems, ..failure });
                }
            }
        }
    }
    if !problems.is_empty() {
        let many = if problems.len() == 1 { "problem" } else { "problems" };
        let message = format!("the server refused: {} {many}", problems.len());
        failures.add(Err(Failure { problems, ..Failure::new(message) }))?;
    }
    failures.end()?;
    if !args.wait || args.dry_run {
        return Ok(());
    }
    wait_for(connection, ending, Goal::Succeeded, deadline(args.timeout)).await
}

/// Points out what is allowed and probably not meant.
fn warn(document: &Document) {
    if !matches!(document.kind, KindId::Job | KindId::Workflow) {
        return;
    }
    for found in api::substitute::near_misses(&document.value["spec"]) {
        terminal::note(&format!("warning: {}", document.problem(found)));
    }
}

/// Why one document was not applied.
enum Refused {
    /// The server found what is wrong in it.
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
) -> Result<(Target, &'static str, Value), Refused> {
    let wish = three_way::wish(document.value.clone());
    let namespace = namespace_of(&wish);
    let name = wish["metadata"]["name"].as_str().unwrap_or_default();
    let target = Target::new(document.kind, name);
    let noted = three_way::with_note(&wish);
    let made = |object: Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        (Target::new(document.kind, name), "created", object)
    };
    if name.is_empty() {
        // It has a generateName: each time another object.
        let created = connection.create((document.kind, &namespace), &noted, query).await;
        return created.map(made).map_err(|error| refused(connection, document, &error));
    }
    for try_number in 1..=TRIES_MAX {
        let last = try_number == TRIES_MAX;
        let found = connection.within(&namespace).find::<Value>(&target).await;
        let Some(live) = found.map_err(Refused::Other)? else {
            match connection.create((document.kind, &namespace), &noted, query).await {
                Ok(object) => return Ok(made(object)),
                Err(error) if error.code() == Some(409) && !last => continue,
                Err(error) => return Err(refused(connection, document, &error)),
            }
        };
        if live["metadata"]["deletionTimestamp"].is_string() {
            let failure = Failure::new(format!("{target} is being deleted")).code(Code::Conflict);
            return Err(Refused::Other(failure.hint("apply it again once it is gone")));
        }
        match change(connection, (&target, &namespace), (&noted, live), query).await {
            Ok((what, object)) => return Ok((target, what, object)),
            Err(error) if error.is_conflict() && !last => (),
            Err(error) => return Err(refused(connection, document, &error)),
        }
    }
    Err(Refused::Other(Failure::new(format!("{target} keeps changing")).hint("try again")))
}

/// Makes a live object as wished.
async fn change(
    connection: &Connection,
    place: (&Target, &str),
    (noted, live): (&Value, Value),
    query: &str,
) -> Result<(&'static str, Value), Error> {
    let last = three_way::last_applied(&live);
    let version = live["metadata"]["resourceVersion"].clone();
    // The note is no field that may go away with what was applied last.
    let last = last.as_ref().map(three_way::with_note);
    let Some(mut patch) = three_way::patch(last.as_ref(), noted, &live) else {
        return Ok(("unchanged", live));
    };
    patch["metadata"]["resourceVersion"] = version;
    let object = connection.patch(place, &patch, query).await?;
    // Other words for the same run nothing anew, and neither does a note of what was applied.
    let is_same = three_way::means_the_same(place.0.kind, &live, &object);
    Ok((if is_same { "unchanged" } else { "configured" }, object))
}

fn refused(connection: &Connection, document: &Document, error: &Error) -> Refused {
    let causes = error.status().and_then(|status| status.details.as_ref()?.causes.as_ref());
    let causes = causes.filter(|causes| !causes.is_empty());
    let Some(causes) = causes else {
        return Refused::Other(connection.failure(error));
    };
    let problem = |cause: &k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause| {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        document.problem(Violation::new(part(&cause.field), part(&cause.message)))
    };
    Refused::Invalid(causes.iter().map(problem).collect())
}
