//! `hctl delete`.

use client::object_path;
use serde_json::Value;

use super::each::Failures;
use super::show;
use super::wait::wait_for;
use crate::args::{Cascade, Delete};
use crate::connection::{Connection, deadline};
use crate::failure::{Code, Failure};
use crate::goal::Goal;
use crate::target::{self, Target};
use crate::waiting::Waited;
use crate::{sources, terminal};

impl Cascade {
    /// As the server calls it.
    fn propagation(self) -> &'static str {
        match self {
            Cascade::Background => "Background",
            Cascade::Foreground => "Foreground",
            Cascade::Orphan => "Orphan",
        }
    }
}

pub(super) async fn delete(connection: &Connection, args: Delete) -> Result<(), Failure> {
    let (mut failures, mut leaving) = (Failures::default(), Vec::new());
    for place in places(connection, &args).await? {
        let target = &place.target;
        match delete_one(connection, &args, &place).await {
            Ok(object) => {
                let namespace = place.namespace.as_str();
                let waited = Waited::new(target.clone(), namespace, Goal::Deleted).of(&object);
                leaving.push(waited);
                let is_leaving = object["metadata"]["deletionTimestamp"].is_string();
                let what = if is_leaving { "is being deleted" } else { "deleted" };
                // Who waits is told when it is gone.
                if !args.wait {
                    failures.add(show::done(connection.format, target, what, object))?;
                }
            }
            // What is gone already is as deleting the manifests is to leave it.
            Err(failure) if failure.code == Code::NotFound && !args.files.is_empty() => {
                terminal::note(&failure.message);
            }
            // It went meanwhile, with its owner maybe, and another may have its name by now.
            Err(failure) if went(connection, &place, &failure).await => {}
            Err(failure) => failures.add(Err(failure))?,
        }
    }
    if args.wait {
        let until = deadline(Some(args.timeout));
        failures.add(wait_for(connection, leaving, Goal::Deleted, until).await)?;
    }
    failures.end()
}

/// Whether an object that was selected is gone, which is why it was not deleted.
async fn went(connection: &Connection, place: &Place, failure: &Failure) -> bool {
    let Some(uid) = &place.uid else { return false };
    if failure.code != Code::Conflict {
        return failure.code == Code::NotFound;
    }
    let there = connection.within(&place.namespace).find::<Value>(&place.target).await;
    there.is_ok_and(|there| {
        there.is_none_or(|object| object["metadata"]["uid"].as_str() != Some(uid))
    })
}

/// An object that is to go.
struct Place {
    target: Target,
    namespace: String,
    /// This very object: known where it was selected.
    uid: Option<String>,
}

async fn delete_one(
    connection: &Connection,
    args: &Delete,
    place: &Place,
) -> Result<Value, Failure> {
    let path = object_path(place.target.kind, &place.namespace, &place.target.name);
    // Who waits wants to know when nothing of it runs any more, and an object that is deleted in the
    // foreground goes after what it owns.
    let usual = if args.wait { Cascade::Foreground } else { Cascade::Background };
    let propagation = args.cascade.unwrap_or(usual).propagation();
    connection.delete(&path, propagation, place.uid.as_deref()).await
}

/// What is to go, and where it is. What needed others goes before them.
async fn places(connection: &Connection, args: &Delete) -> Result<Vec<Place>, Failure> {
    if args.all || args.selector.is_some() {
        return selected(connection, args).await;
    }
    if args.files.is_empty() {
        let targets = target::several(&args.targets)?.into_iter();
        let namespace = &connection.namespace;
        let place = |target| Place { target, namespace: namespace.clone(), uid: None };
        return Ok(targets.map(place).collect());
    }
    let documents = sources::read(&args.files, sources::Place::of(connection))?;
    let place = |document: &api::manifest::Document| {
        let metadata: &Value = &document.value["metadata"];
        let part = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let name = part("name");
        if name.is_empty() {
            let (kind, source) = (document.kind, &document.source);
            let message = format!("{source}: a {kind} without a name: which one is to be deleted?");
            return Err(Failure::usage(message)
                .hint("it has a generateName: delete what was made of it by its name"));
        }
        let target = Target::new(document.kind, name);
        Ok(Place { target, namespace: part("namespace"), uid: None })
    };
    documents.iter().rev().map(place).collect()
}

/// All objects of one kind, or those with the labels that are asked for.
async fn selected(connection: &Connection, args: &Delete) -> Result<Vec<Place>, Failure> {
    let [word] = args.targets.as_slice() else {
        let flag = if args.all { "--all" } else { "--selector" };
        return Err(Failure::usage(format!("{flag} takes one kind and no names"))
            .hint(format!("hctl delete KIND {flag}")));
    };
    let kind = target::kind(word)?;
    let labels = args.selector.clone().unwrap_or_default();
    let query = connection.query(kind, labels, String::new());
    let (found, _) = connection.list::<Value>(&query).await?;
    if found.is_empty() {
        terminal::note(&super::get::nothing(&query));
    }
    let place = |object: &Value| {
        let part = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let target = Target::new(kind, part("name"));
        Place { target, namespace: query.namespace.clone(), uid: Some(part("uid")) }
    };
    Ok(found.iter().map(place).collect())
}
