//! `hctl events`: what happened, oldest first.

use std::collections::BTreeSet;

use api::core::Event;
use api::resource::Resource as _;
use api::{Kind as _, KindId};
use serde_json::Value;

use super::{rows, show, watch};
use crate::args::Events;
use crate::connection::{Connection, Query};
use crate::describe::events::{about, last_seen, retain_of};
use crate::failure::Failure;
use crate::format::Format;
use crate::output::Columns;
use crate::table::{ColumnDefinition, Look, Row, Shown};
use crate::target::{self, Target};
use crate::terminal;

pub(super) async fn events(connection: &Connection, args: Events) -> Result<(), Failure> {
    let words: Vec<String> = args.of.into_iter().chain(args.about).collect();
    let target = match words.is_empty() {
        false => Some(target::only_one(&words, None)?),
        true => None,
    };
    let mut query = match &target {
        Some(target) => of(connection, target),
        None => connection.query(KindId::Event, String::new(), String::new()),
    };
    if args.all_namespaces {
        query.namespace.clear();
    }
    if args.watch {
        // By name: an object that is created again under the name is included.
        return watch::watch(connection, vec![(query, Look::default())]).await;
    }
    let (found, _) = connection.list::<Value>(&query).await?;
    let mut events = Vec::new();
    for object in &found {
        events.push(connection.typed::<Event>(object.clone())?);
    }
    // In all namespaces many objects may have the name.
    if let Some(target) = target.as_ref().filter(|_| !args.all_namespaces) {
        only_of(connection, target, &mut events).await?;
    }
    if !connection.format.is_table() {
        let kept: BTreeSet<&str> = events.iter().map(Event::name).collect();
        let name =
            |event: &Value| event["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let named = found.into_iter().map(|it| (Target::new(KindId::Event, name(&it)), it));
        let named = named.filter(|(target, _)| kept.contains(target.name.as_str()));
        return show::objects(connection.format, named.collect(), true);
    }
    events.sort_by_key(last_seen);
    if events.is_empty() {
        let note = match &target {
            Some(target) => no_events(target),
            None => rows::nothing(&query),
        };
        rows::tell_nothing(connection, &[note]).await;
        return Ok(());
    }
    table(connection, &query, (&events, target.is_some()))
}

/// Keeps the events of the current object and mentions those of earlier objects of its name. If
/// there is no current object, all are kept.
///
/// # Errors
/// The object does not exist and has no events.
async fn only_of(
    connection: &Connection,
    target: &Target,
    events: &mut Vec<Event>,
) -> Result<(), Failure> {
    if events.is_empty() {
        // It may not exist, or merely have no events.
        return connection.get::<Value>(target).await.map(drop);
    }
    let Some(object) = connection.find::<Value>(target).await? else { return Ok(()) };
    match retain_of(object["metadata"]["uid"].as_str(), events) {
        0 => (),
        1 => terminal::note(&format!("1 event of an earlier {target} is not shown.")),
        more => terminal::note(&format!("{more} events of an earlier {target} are not shown.")),
    }
    Ok(())
}

/// The message that an object has no events, with where else to look.
fn no_events(target: &Target) -> String {
    let is_task = target.kind == KindId::Task;
    let elsewhere = if is_task { "; what happens to tasks is told of their jobs" } else { "" };
    format!("No events of {target}{elsewhere}.")
}

/// The events of an object. Those of cluster objects are in the default namespace.
pub(super) fn of(connection: &Connection, target: &Target) -> Query {
    let query = connection.query(KindId::Event, String::new(), about(target));
    if target.kind.is_namespaced() {
        return query;
    }
    Query { namespace: api::object::DEFAULT_NAMESPACE.to_owned(), ..query }
}

fn table(
    connection: &Connection,
    query: &Query,
    (events, are_of_one): (&[Event], bool),
) -> Result<(), Failure> {
    let columns: Vec<ColumnDefinition> = Event::columns()
        .iter()
        .map(|it| ColumnDefinition { name: it.name.to_owned(), priority: i32::from(it.wide) })
        .collect();
    let is_wide = connection.format == Format::Wide;
    let look = Look { is_wide, with_namespace: query.namespace.is_empty(), ..Look::default() };
    let now = connection.clock.now();
    let row = |event: &Event| {
        let mut row = Row::default();
        row.cells = event.row(now).into_iter().map(Value::from).collect();
        row.object.metadata = event.metadata.clone();
        row
    };
    let rows: Vec<Row> = events.iter().map(row).collect();
    let mut shown = Shown::of(&columns, &look);
    let mut columns = Columns::on(rows::paper(KindId::Event, &look));
    rows::fit(&mut shown, &columns, &rows);
    if let Some(width) = columns.paper().width.filter(|_| are_of_one) {
        shown.leave_out_what_is_known("OBJECT", &rows, width);
    }
    rows::print_rows(&mut columns, &shown, &rows, (&look, true))
}
