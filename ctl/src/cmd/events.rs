//! `hctl events`: what happened, oldest first.

use api::KindId;
use api::core::Event;
use api::resource::Resource as _;
use serde_json::Value;

use super::{get, show, watch};
use crate::args::{Events, Format};
use crate::connection::{Connection, Query};
use crate::describe::events::{about, last_seen};
use crate::failure::Failure;
use crate::output::Columns;
use crate::table::{ColumnDefinition, Look, Row, Shown};
use crate::target::{self, Target};
use crate::terminal;

pub(super) async fn events(connection: &Connection, args: Events) -> Result<(), Failure> {
    let words: Vec<String> = args.of.into_iter().chain(args.about).collect();
    let mut query = match words.is_empty() {
        false => of(connection, &target::only_one(&words, None)?),
        true => connection.query(KindId::Event, String::new(), String::new()),
    };
    if args.all_namespaces {
        query.namespace.clear();
    }
    if args.watch {
        return watch::watch(connection, vec![(query, Look::default())]).await;
    }
    if !matches!(connection.format, Format::Table | Format::Wide) {
        let (found, _) = connection.list::<Value>(&query).await?;
        let name =
            |event: &Value| event["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let named = found.into_iter().map(|it| (Target::new(KindId::Event, name(&it)), it));
        return show::objects(connection.format, named.collect(), true);
    }
    let (mut found, _) = connection.list::<Event>(&query).await?;
    found.sort_by_key(last_seen);
    if found.is_empty() {
        terminal::note(&get::nothing(&query));
        return Ok(());
    }
    table(connection, &query, &found)
}

/// The events of an object; those of a cluster's objects are in the default namespace.
pub(super) fn of(connection: &Connection, target: &Target) -> Query {
    let query = connection.query(KindId::Event, String::new(), about(target));
    if target.kind.is_namespaced() {
        return query;
    }
    Query { namespace: api::object::DEFAULT_NAMESPACE.to_owned(), ..query }
}

fn table(connection: &Connection, query: &Query, events: &[Event]) -> Result<(), Failure> {
    let columns: Vec<ColumnDefinition> = Event::columns()
        .iter()
        .map(|it| ColumnDefinition { name: it.name.to_owned(), priority: i32::from(it.wide) })
        .collect();
    let is_wide = connection.format == Format::Wide;
    let look = Look { is_wide, with_namespace: query.namespace.is_empty(), ..Look::default() };
    let shown = Shown::of(&columns, &look);
    let now = connection.clock.now();
    let row = |event: &Event| {
        let mut row = Row::default();
        row.cells = event.row(now).into_iter().map(Value::from).collect();
        row.object.metadata = event.metadata.clone();
        shown.cells(&row)
    };
    let rows: Vec<Vec<String>> =
        std::iter::once(shown.headings().to_vec()).chain(events.iter().map(row)).collect();
    terminal::print(&Columns::on(terminal::paper()).lines(rows.iter().map(Vec::as_slice)))
}
