//! `hctl delete`.

use std::collections::BTreeMap;

use api::{KindId, Node, Task};
use client::object_path;
use serde_json::Value;

use super::each::Failures;
use super::wait::wait_for;
use super::{show, silent};
use crate::args::{Cascade, Delete};
use crate::connection::Connection;
use crate::failure::{Code, Failure};
use crate::format::Format;
use crate::goal::Goal;
use crate::made_again::{self, Placed};
use crate::silence;
use crate::target::{self, Target};
use crate::waiting::Waited;
use crate::{sources, terminal};

impl Cascade {
    /// The server's name for it.
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
    let deletions = deletions(connection, &args).await?;
    // Before anything is deleted, because afterwards nobody can tell which tasks it had.
    let left = left(connection, &deletions).await;
    for deletion in deletions {
        let target = &deletion.target;
        match delete_one(connection, &args, &deletion).await {
            Ok(object) => {
                let namespace = deletion.namespace.as_str();
                let waited = Waited::new(target.clone(), namespace, Goal::Deleted).of(&object);
                leaving.push(waited);
                deleted.push(((deletion.namespace.clone(), target.clone()), object.clone()));
                let is_leaving = object["metadata"]["deletionTimestamp"].is_string();
                let what = if is_leaving { "is being deleted" } else { "deleted" };
                // With --wait it is printed once the object is gone.
                if !args.wait {
                    failures.add(show::done(connection.format, target, what, object))?;
                }
            }
            // With manifests, an object that does not exist is as the user wants it.
            Err(failure) if failure.code == Code::NotFound && !args.files.is_empty() => {
                terminal::note(&failure.message);
            }
            // It was deleted meanwhile, maybe with its owner; another object may have its name by
            // now.
            Err(failure) if went(connection, &deletion, &failure).await => {}
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

/// What may still be running of deleted objects.
#[derive(Default)]
struct Left {
    /// The silent nodes.
    nodes: Vec<Node>,
    /// The tasks of which something may be running there, by namespace.
    tasks: Vec<(String, Vec<Task>)>,
}

async fn left(connection: &Connection, deletions: &[Deletion]) -> Left {
    let mut by_namespace: BTreeMap<String, Vec<Target>> = BTreeMap::new();
    for Deletion { target, namespace, .. } in deletions {
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
    /// Reports what may still be running of the deleted objects. With `--cascade orphan` nobody
    /// stops their tasks.
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

/// A deleted object and its last state.
type Deleted = (Placed, Value);

/// Reports which deleted objects are created again by their owners.
async fn tell_of_returns(connection: &Connection, deleted: &[Deleted]) {
    for (owner, targets) in made_again::by_owner(deleted) {
        let there = connection.within(&owner.0);
        // An owner that is gone, or cannot be read, is skipped.
        let Ok(Some(object)) = there.find::<Value>(&owner.1).await else { continue };
        if let Some(told) = made_again::told(&owner, &object, &targets, &connection.namespace) {
            terminal::note(&told);
        }
    }
}

/// Whether a selected object was not deleted because it is gone already.
async fn went(connection: &Connection, deletion: &Deletion, failure: &Failure) -> bool {
    let Some(uid) = &deletion.uid else { return false };
    if failure.code != Code::Conflict {
        return failure.code == Code::NotFound;
    }
    let there = connection.within(&deletion.namespace).find::<Value>(&deletion.target).await;
    there.is_ok_and(|there| {
        there.is_none_or(|object| object["metadata"]["uid"].as_str() != Some(uid))
    })
}

/// An object to delete.
struct Deletion {
    target: Target,
    namespace: String,
    /// The uid, if the object was selected: another object of the name must not be deleted.
    uid: Option<String>,
}

async fn delete_one(
    connection: &Connection,
    args: &Delete,
    deletion: &Deletion,
) -> Result<Value, Failure> {
    let path = object_path(deletion.target.kind, &deletion.namespace, &deletion.target.name);
    // With --wait the user wants to know when nothing is running any more, and with foreground
    // deletion the object is gone only after everything it owns.
    let usual = if args.wait { Cascade::Foreground } else { Cascade::Background };
    let propagation = args.cascade.unwrap_or(usual).propagation();
    connection.delete(&path, propagation, deletion.uid.as_deref()).await
}

/// The objects to delete. Objects that need others are deleted before them.
async fn deletions(connection: &Connection, args: &Delete) -> Result<Vec<Deletion>, Failure> {
    if args.all || args.selector.is_some() {
        return selected(connection, args).await;
    }
    if args.files.is_empty() {
        let targets = target::several(&args.targets)?.into_iter();
        let namespace = &connection.namespace;
        let deletion = |target| Deletion { target, namespace: namespace.clone(), uid: None };
        return Ok(targets.map(deletion).collect());
    }
    let files = sources::files(&args.files, args.recursive)?;
    let documents = sources::read(&files, sources::DefaultNamespace::of(connection))?;
    let deletion = |document: &api::manifest::Document| {
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
        Ok(Deletion { target, namespace: part("namespace"), uid: None })
    };
    documents.iter().rev().map(deletion).collect()
}

/// All objects of one kind, or those that match the label selector.
async fn selected(connection: &Connection, args: &Delete) -> Result<Vec<Deletion>, Failure> {
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
    let deletion = |object: &Value| {
        let part = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let target = Target::new(kind, part("name"));
        Deletion { target, namespace: query.namespace.clone(), uid: Some(part("uid")) }
    };
    Ok(found.iter().map(deletion).collect())
}
