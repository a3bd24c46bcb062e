//! `hctl top`: the usage of nodes and tasks.

use std::collections::{BTreeMap, BTreeSet};

use api::amounts::Amounts;
use api::node::stats::{NodeStats, TaskStats};
use api::task::TaskPhase;
use api::{Kind as _, KindId, Node, ObjectKey, Task, TaskTemplate, Timestamp};
use client::object_path;
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;

use super::rows;
use crate::args::{Top, TopOrder};
use crate::connection::Connection;
use crate::failure::{Code, Failure};
use crate::format::Format;
use crate::output::{Columns, Paper};
use crate::target::{self, Target};
use crate::top::{self, Use, rows};
use crate::{document, not_running, terminal};

/// Most nodes that are asked at once.
const NODES_AT_ONCE_MAX: usize = 64;

pub(super) async fn top(connection: &Connection, args: Top) -> Result<(), Failure> {
    match args {
        Top::Nodes { nodes, sort } => top_nodes(connection, &nodes, sort).await,
        Top::Tasks { tasks, sort, selector, all_namespaces } => {
            let all = connection.within("");
            let connection = if all_namespaces { &all } else { connection };
            top_tasks(connection, &tasks, selector.unwrap_or_default(), sort).await
        }
    }
}

async fn top_nodes(
    connection: &Connection,
    names: &[String],
    order: Option<TopOrder>,
) -> Result<(), Failure> {
    let names = named(KindId::Node, names)?;
    let query = connection.query(KindId::Node, String::new(), String::new());
    let (mut nodes, _) = connection.list::<Node>(&query).await?;
    only(KindId::Node, &names, &mut nodes)?;
    let (heard, lost) = top::heard_and_lost(&nodes, connection.clock.now());
    lost.iter().for_each(|told| terminal::note(told));
    let stats = ask(connection, heard).await;
    if documents(connection, &stats)? {
        return Ok(());
    }
    let uses = nodes.iter().map(|node| top::of_node(node, stats.get(node.name())));
    print(&["NAME", "STATUS"], "OF", uses.collect(), order, "No nodes found.")
}

async fn top_tasks(
    connection: &Connection,
    names: &[String],
    selector: String,
    order: Option<TopOrder>,
) -> Result<(), Failure> {
    let names = named(KindId::Task, names)?;
    let query = connection.query(KindId::Task, selector, String::new());
    let (mut tasks, _) = connection.list::<Task>(&query).await?;
    only(KindId::Task, &names, &mut tasks)?;
    if !names.is_empty() {
        tell_of_idle(&tasks, connection.clock.now())?;
    }
    if names.is_empty() {
        let told = top::unknown(&tasks, connection.clock.now());
        told.iter().for_each(|told| terminal::note(told));
    }
    // Tasks on a lost node are Lost, and nobody can be asked about them.
    tasks.retain(|task| matches!(task.phase(), TaskPhase::Running | TaskPhase::Stopping));
    let nodes = tasks.iter().filter_map(|task| task.node().map(str::to_owned)).collect();
    let answers = ask(connection, nodes).await;
    let mine: BTreeSet<&str> = tasks.iter().map(Task::uid).collect();
    let mut stats: BTreeMap<(String, u32), TaskStats> = BTreeMap::new();
    for used in answers.into_values().flat_map(|node| node.tasks) {
        if mine.contains(&*used.uid) {
            stats.insert((used.uid.clone(), used.attempt), used);
        }
    }
    let name = |used: &TaskStats| match connection.namespace.is_empty() {
        true => format!("{}/{}", used.namespace, used.name),
        false => used.name.clone(),
    };
    let named = stats.values().map(|used| (name(used), used)).collect();
    if documents(connection, &named)? {
        return Ok(());
    }
    let everywhere = connection.namespace.is_empty();
    if tasks.is_empty() && !everywhere {
        let nothing = format!("No running tasks in namespace {}.", connection.namespace);
        rows::tell_nothing(connection, &[nothing]).await;
        return Ok(());
    }
    let requests = requests(connection, &tasks).await?;
    let uses = tasks.iter().map(|task| {
        let used = stats.get(&(task.uid().to_owned(), task.spec.attempt));
        let namespace = everywhere.then(|| task.namespace().to_owned());
        let node = task.node().unwrap_or_default().to_owned();
        Use {
            names: namespace.into_iter().chain([task.name().to_owned(), node]).collect(),
            cpu_millis: used.and_then(|used| used.cpu_millis),
            memory_bytes: used.map(|used| used.memory_bytes),
            of: requests.get(&task.key()).cloned().unwrap_or_default(),
        }
    });
    let headings = ["NAMESPACE", "NAME", "NODE"];
    let headings = &headings[usize::from(!everywhere)..];
    print(headings, "REQUEST", uses.collect(), order, "No running tasks.")
}

/// Reports which of the named tasks have no usage because they are not running, and why.
///
/// # Errors
/// None of them is running.
fn tell_of_idle(tasks: &[Task], now: Timestamp) -> Result<(), Failure> {
    let state = |task: &Task| Some((task.name().to_owned(), not_running::state(task, now)?));
    let idle: Vec<(String, String)> = tasks.iter().filter_map(state).collect();
    // The usage of a lost task is not known.
    let said = |(name, state): &(String, String)| match state.starts_with("is Lost") {
        true => format!("task/{name} {state}; what it uses is not known"),
        false => format!("task/{name} {state}: it uses nothing"),
    };
    match idle.split_last() {
        Some((last, others)) if idle.len() == tasks.len() => {
            others.iter().for_each(|other| terminal::note(&said(other)));
            let hint = format!("check its status with hctl describe task/{}", last.0);
            Err(Failure::new(said(last)).code(Code::Conflict).hint(hint))
        }
        // The figures of the others are printed all the same.
        _ => {
            idle.iter().for_each(|task| terminal::note(&said(task)));
            Ok(())
        }
    }
}

/// The names in the arguments, with or without their kind.
fn named(kind: KindId, words: &[String]) -> Result<Vec<String>, Failure> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let targets = target::several_of(words, Some(kind))?;
    if let Some(other) = targets.iter().find(|target| target.kind != kind) {
        let message = format!("{other} is not a {}", kind.info().singular);
        return Err(Failure::usage(message).hint("hctl top nodes NODE..., hctl top tasks TASK..."));
    }
    Ok(targets.into_iter().map(|target| target.name).collect())
}

/// Keeps the named objects. All of them must exist.
fn only<K: api::Kind>(kind: KindId, names: &[String], objects: &mut Vec<K>) -> Result<(), Failure> {
    let missing = names.iter().find(|name| !objects.iter().any(|object| object.name() == **name));
    if let Some(name) = missing {
        return Err(Failure::not_found(&Target::new(kind, name)));
    }
    objects.retain(|object| names.is_empty() || names.iter().any(|name| object.name() == *name));
    Ok(())
}

/// The nodes' own figures. Nodes that do not answer are reported.
async fn ask(connection: &Connection, nodes: BTreeSet<String>) -> BTreeMap<String, NodeStats> {
    let answers = stream::iter(nodes).map(|node| async move {
        let path = format!("{}/stats", object_path(KindId::Node, "", &node));
        let answer = connection.read(&path).await;
        let stats = answer.and_then(|json| {
            serde_json::from_value::<NodeStats>(json)
                .map_err(|error| Failure::new(format!("its answer is not understood: {error}")))
        });
        (node, stats)
    });
    let answers: Vec<_> = answers.buffer_unordered(NODES_AT_ONCE_MAX).collect().await;
    let answers: BTreeMap<_, _> = answers.into_iter().collect();
    let heard = answers.into_iter().filter_map(|(node, stats)| match stats {
        Ok(stats) => Some((node, stats)),
        Err(failure) => {
            terminal::note(&format!("{node}: {}", failure.message));
            None
        }
    });
    heard.collect()
}

/// What tasks request.
async fn requests(
    connection: &Connection,
    tasks: &[Task],
) -> Result<BTreeMap<ObjectKey, Amounts>, Failure> {
    let query = connection.query(KindId::TaskTemplate, String::new(), String::new());
    let (templates, _) = connection.list::<TaskTemplate>(&query).await?;
    let templates: BTreeMap<ObjectKey, TaskTemplate> =
        templates.into_iter().map(|template| (template.key(), template)).collect();
    let of = |task: &Task| {
        let template = templates.get(&ObjectKey::new(task.namespace(), &*task.spec.template))?;
        Some((task.key(), template.spec.requests(&task.spec.overrides)))
    };
    Ok(tasks.iter().filter_map(of).collect())
}

/// Prints the answers as documents if that format is requested. Returns whether it is.
fn documents<T: serde::Serialize>(
    connection: &Connection,
    stats: &BTreeMap<String, T>,
) -> Result<bool, Failure> {
    let document = json!(stats);
    match connection.format {
        Format::Table | Format::Wide => return Ok(false),
        Format::Json => terminal::print_line(&format!("{document:#}"))?,
        Format::Yaml => terminal::print(&document::yaml(&document)?)?,
        Format::Name => stats.keys().try_for_each(|name| terminal::print_line(name))?,
    }
    Ok(true)
}

fn print(
    names: &[&str],
    of: &str,
    uses: Vec<Use>,
    order: Option<TopOrder>,
    nothing: &str,
) -> Result<(), Failure> {
    if uses.is_empty() {
        terminal::note(nothing);
        return Ok(());
    }
    let paper = Paper { folds: true, ..terminal::paper() };
    let mut rows = rows(names, of, uses, order);
    if let Some(width) = paper.width {
        top::fit(&mut rows, width);
    }
    terminal::print(&Columns::on(paper).lines(rows.iter().map(Vec::as_slice)))
}
