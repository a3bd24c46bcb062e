//! `hctl delete`.

use std::collections::BTreeMap;

use api::{KindId, Node, Task};
use client::object_path;
use serde_json::Value;

use super::each::Failures;
use super::wait::wait_for;
use super::{show, silent};
use crate::args::{Cascade, Delete, Format};
use crate::connection::Connection;
use crate::failure::{Code, Failure};
use crate::goal::Goal;
use crate::made_again::{self, Placed};
use crate::silence;
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
    let mut deleted = Vec::new();
    let places = places(connection, &args).await?;
    // Before anything is deleted: what is gone cannot be asked what it ran.
    let left = left(connection, &places).await;
    for place in places {
        let target = &place.target;
        match delete_one(connection, &args, &place).await {
            Ok(object) => {
                let namespace = place.namespace.as_str();
                let waited = Waited::new(target.clone(), namespace, Goal::Deleted).of(&object);
                leaving.push(waited);
                deleted.push(((place.namespace.clone(), target.clone()), object.clone()));
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
    if connection.format != Format::Json {
        left.tell(&deleted, args.cascade);
        tell_of_returns(connection, &deleted).await;
    }
    if args.wait {
        failures.add(wait_for(connection, leaving, Goal::Deleted).await)?;
    }
    failures.end()
}

/// What may go on of what is to be deleted.
#[derive(Default)]
struct Left {
    /// The nodes that are not heard.
    nodes: Vec<Node>,
    /// Tasks of which something may run there, by namespace. A node has tasks of all namespaces.
    tasks: Vec<(String, Vec<Task>)>,
}

async fn left(connection: &Connection, places: &[Place]) -> Left {
    let mut by_namespace: BTreeMap<String, Vec<Target>> = BTreeMap::new();
    for Place { target, namespace, .. } in places {
        let namespace = if target.kind == KindId::Namespace {
            target.name.clone()
        } else if target.kind == KindId::Node {
            String::new()
        } else if target.task_selectors().is_some() {
            namespace.clone()
        } else {
            continue;
        };
        by_namespace.entry(namespace).or_default().push(target.clone());
    }
    if by_namespace.is_empty() {
        return Left::default();
    }
    let (nodes, mut tasks) = (silent::nodes(connection).await, Vec::new());
    for (namespace, targets) in by_namespace {
        let there = connection.within(&namespace);
        let left = silent::left_on(&there, &targets, &nodes).await;
        tasks.push((namespace, left));
    }
    Left { nodes, tasks }
}

impl Left {
    /// Tells what may go on of what was deleted. The tasks of objects that are deleted without them are
    /// stopped by nobody.
    fn tell(&self, deleted: &[Deleted], cascade: Option<Cascade>) {
        let mut gone: BTreeMap<&str, Vec<Target>> = BTreeMap::new();
        for ((namespace, target), _) in deleted {
            let is_whole = matches!(target.kind, KindId::Node | KindId::Namespace | KindId::Task);
            if cascade == Some(Cascade::Orphan) && !is_whole {
                continue;
            }
            let namespace = if target.kind == KindId::Node {
                ""
            } else if target.kind == KindId::Namespace {
                &target.name
            } else {
                namespace
            };
            gone.entry(namespace).or_default().push(target.clone());
        }
        for (namespace, tasks) in &self.tasks {
            let Some(targets) = gone.get(namespace.as_str()) else { continue };
            let tasks = tasks.iter().filter(|task| silence::belongs_to(task, targets));
            let stragglers = silence::stragglers(tasks, &self.nodes);
            let told = if namespace.is_empty() {
                let nodes = targets.iter();
                nodes.filter_map(|it| silence::told_of_deleted(&it.name, &stragglers)).collect()
            } else {
                silence::told_of(&stragglers)
            };
            told.iter().for_each(|told| terminal::note(told));
        }
    }
}

/// An object that was deleted, as it was then.
type Deleted = (Placed, Value);

/// Tells what of it is made again, since what it belongs to goes on.
async fn tell_of_returns(connection: &Connection, deleted: &[Deleted]) {
    for (owner, targets) in made_again::by_owner(deleted) {
        let there = connection.within(&owner.0);
        // One that is gone makes nothing again, and of one that cannot be asked nothing is known.
        let Ok(Some(object)) = there.find::<Value>(&owner.1).await else { continue };
        if let Some(told) = made_again::told(&owner, &object, &targets, &connection.namespace) {
            terminal::note(&told);
        }
    }
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
    let files = sources::files(&args.files, args.recursive)?;
    let documents = sources::read(&files, sources::Place::of(connection))?;
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
        terminal::note(&super::rows::nothing(&query));
    }
    let place = |object: &Value| {
        let part = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let target = Target::new(kind, part("name"));
        Place { target, namespace: query.namespace.clone(), uid: Some(part("uid")) }
    };
    Ok(found.iter().map(place).collect())
}
