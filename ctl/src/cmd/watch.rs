//! What `--watch` prints: rows and documents as they change.

use std::collections::BTreeMap;

use api::watch::WatchEventType;
use serde_json::Value;

use super::get::{nothing, shown};
use crate::args::Format;
use crate::connection::{Connection, Query};
use crate::failure::Failure;
use crate::following::{Following, Seen};
use crate::output::Columns;
use crate::table::{self, Look, Row, Shown, Table};
use crate::target::Target;
use crate::{document, terminal};

/// Prints what is there, and then what changes, until the end of time.
pub(super) async fn watch(
    connection: &Connection,
    query: Query,
    look: Look,
) -> Result<(), Failure> {
    let (columns, known) = (Columns::default(), BTreeMap::new());
    let mut printer = Printer { look, columns, known, shown: None };
    let version = printer.all(connection, &query).await?;
    let is_table = printer.is_table(connection);
    let client = if is_table { connection.tables() } else { connection.client() };
    let mut following = Following::new(client, query.clone(), &version);
    let mut link = connection.link();
    loop {
        match following.next().await.map_err(|error| connection.failure(&error))? {
            Seen::Change(kind, object) if is_table => {
                let table: Table = serde_json::from_value(object).unwrap_or_default();
                printer.changed(&query, kind, &table)?;
            }
            Seen::Change(_, object) => document_changed(connection.format, &query, object)?,
            Seen::Broken(why) => link.broken(&why),
            Seen::Back => link.back(),
            Seen::Missed => {
                link.back();
                following.resume(&printer.all(connection, &query).await?);
            }
        }
    }
}

fn document_changed(format: Format, query: &Query, object: Value) -> Result<(), Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    match format {
        Format::Json => terminal::print_line(&document::without_noise(object).to_string()),
        Format::Yaml => {
            let text = document::yaml(&document::without_noise(object))?;
            terminal::print(&format!("---\n{text}"))
        }
        Format::Name | Format::Table | Format::Wide => {
            terminal::print_line(&Target::new(query.kind, name).to_string())
        }
    }
}

/// Prints rows that changed, and remembers what it printed.
struct Printer {
    look: Look,
    columns: Columns,
    known: BTreeMap<(String, String), Row>,
    /// Nothing before the headings are printed.
    shown: Option<Shown>,
}

impl Printer {
    fn is_table(&self, connection: &Connection) -> bool {
        matches!(connection.format, Format::Table | Format::Wide)
    }

    /// Prints what differs from what is known, and tells the point that it stands for.
    async fn all(&mut self, connection: &Connection, query: &Query) -> Result<String, Failure> {
        if !self.is_table(connection) {
            let (items, version) = connection.list::<Value>(query).await?;
            for object in items {
                document_changed(connection.format, query, object)?;
            }
            return Ok(version);
        }
        let (mut query, mut version) = (query.clone(), String::new());
        let mut all = Table::default();
        loop {
            let page = connection.table_page(&mut query).await?;
            if version.is_empty() {
                version = page.metadata.resource_version;
            }
            all.column_definitions = page.column_definitions;
            all.rows.extend(page.rows);
            if query.options.next.is_none() {
                break;
            }
        }
        let mut gone = std::mem::take(&mut self.known);
        for row in &all.rows {
            if let Some(before) = gone.remove(&row.key()) {
                self.known.insert(row.key(), before);
            }
        }
        table::sort(query.kind, &mut all.rows);
        let shown = shown(&query, &all, &self.look);
        let gone: Vec<Row> = gone.into_values().collect();
        self.print(&shown, &gone, true)?;
        if all.rows.is_empty() && self.shown.is_none() {
            terminal::note(&nothing(&query));
        }
        self.print(&shown, &all.rows, false)?;
        Ok(version)
    }

    fn changed(
        &mut self,
        query: &Query,
        kind: WatchEventType,
        table: &Table,
    ) -> Result<(), Failure> {
        let shown = shown(query, table, &self.look);
        self.print(&shown, &table.rows, kind == WatchEventType::Deleted)
    }

    /// Prints those of `rows` that say something new.
    fn print(&mut self, shown: &Shown, rows: &[Row], are_gone: bool) -> Result<(), Failure> {
        let mut cells = Vec::new();
        for row in rows {
            let before = if are_gone {
                self.known.remove(&row.key());
                None
            } else {
                self.known.insert(row.key(), row.clone())
            };
            let same = before.is_some_and(|it| shown.substance(&it) == shown.substance(row));
            if are_gone {
                cells.push(shown.cells_of_deleted(row));
            } else if !same {
                cells.push(shown.cells(row));
            }
        }
        if cells.is_empty() {
            return Ok(());
        }
        // Headings stand above what they are of: where columns move, they are said again, and where
        // a terminal of another size broke the lines before.
        let paper = terminal::paper();
        let is_new = self.shown.is_none() || paper != self.columns.paper();
        if is_new {
            self.columns = Columns::with_room(shown.headings(), paper);
        }
        let are_due = is_new || cells.iter().any(|row| self.columns.widen_for(row));
        if are_due && !self.look.without_headings {
            cells.insert(0, shown.headings().to_vec());
        }
        self.shown = Some(shown.clone());
        terminal::print(&self.columns.lines(cells.iter().map(Vec::as_slice)))
    }
}
