//! `--watch`: prints rows or documents as they change.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use api::watch::WatchEventType;
use futures_util::future::try_join_all;
use serde_json::Value;

use super::rows::{nothing, paper, shown};
use crate::connection::{Connection, Query};
use crate::failure::Failure;
use crate::following::{Following, Seen};
use crate::format::Format;
use crate::output::{Columns, Paper};
use crate::table::{self, Look, Row, Shown, Table};
use crate::target::{self, Target};
use crate::{document, terminal};

/// Prints the existing objects of each query and then their changes, without end. Objects of
/// several kinds are rows of one table, with the columns that all kinds have.
pub(super) async fn watch(
    connection: &Connection,
    queries: Vec<(Query, Look)>,
) -> Result<(), Failure> {
    let are_mixed = queries.windows(2).any(|two| two[0].0.kind != two[1].0.kind);
    let is_everywhere = |query: &Query| query.kind.is_namespaced() && query.namespace.is_empty();
    let with_namespace = queries.iter().any(|(query, _)| is_everywhere(query));
    let printer = Printer { are_mixed, with_namespace, ..Printer::default() };
    // Never borrowed across an await: one row is printed at a time.
    let printer = RefCell::new(printer);
    let watches = queries.into_iter().enumerate().map(|(number, (query, mut look))| {
        look.kind = are_mixed.then(|| target::word(query.kind));
        Watch { number, query, look, printer: &printer }
    });
    try_join_all(watches.map(|watch| watch.follow(connection))).await.map(drop)
}

/// A query that is watched.
struct Watch<'a> {
    /// Distinguishes it from the others.
    number: usize,
    query: Query,
    look: Look,
    printer: &'a RefCell<Printer>,
}

impl Watch<'_> {
    async fn follow(self, connection: &Connection) -> Result<(), Failure> {
        let version = self.all(connection).await?;
        let is_table = connection.format.is_table();
        let client = if is_table { connection.tables() } else { connection.client() };
        let mut following = Following::new(client, self.query.clone(), &version);
        let mut link = connection.link();
        loop {
            match following.next().await.map_err(|error| connection.failure(&error))? {
                Seen::Change(kind, object) if is_table => {
                    let table: Table = serde_json::from_value(object).unwrap_or_default();
                    let is_gone = kind == WatchEventType::Deleted;
                    self.printer.borrow_mut().changed(&self, &table, is_gone)?;
                }
                Seen::Change(_, object) => {
                    document_changed(connection.format, &self.query, object)?;
                }
                Seen::Broken(why) => link.broken(&why),
                Seen::Back => link.back(),
                Seen::Missed => {
                    link.back();
                    following.resume(&self.all(connection).await?);
                }
            }
        }
    }

    /// Prints what has changed since the last look. Returns the resourceVersion.
    async fn all(&self, connection: &Connection) -> Result<String, Failure> {
        if !connection.format.is_table() {
            let list = || connection.list::<Value>(&self.query);
            let (items, version) = connection.insist(list).await?;
            for object in items {
                document_changed(connection.format, &self.query, object)?;
            }
            return Ok(version);
        }
        let (mut query, mut version) = (self.query.clone(), String::new());
        let mut all = Table::default();
        loop {
            let read = async |mut query: Query| {
                let page = connection.table_page(&mut query).await?;
                Ok((page, query))
            };
            let page;
            (page, query) = connection.insist(|| read(query.clone())).await?;
            if version.is_empty() {
                version = page.metadata.resource_version;
            }
            all.column_definitions = page.column_definitions;
            all.rows.extend(page.rows);
            if query.options.next.is_none() {
                break;
            }
        }
        self.printer.borrow_mut().all(self, all)?;
        Ok(version)
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

/// Prints changed rows, and remembers what it has printed.
#[derive(Default)]
struct Printer {
    /// Whether there are several kinds.
    are_mixed: bool,
    /// Whether rows of several kinds show their namespaces.
    with_namespace: bool,
    columns: Columns,
    /// The printed rows, by watch, namespace and name.
    known: BTreeMap<(usize, (String, String)), Row>,
    have_headings: bool,
}

impl Printer {
    fn shown(&self, watch: &Watch<'_>, table: &Table) -> Shown {
        if self.are_mixed {
            let look = Look { with_namespace: self.with_namespace, ..watch.look };
            return Shown::in_common(&table.column_definitions, &look);
        }
        let mut shown = shown(&watch.query, table, &watch.look);
        if let Paper { width: Some(width), folds: false, .. } = paper(watch.query.kind, &watch.look)
        {
            shown.fit_what_comes(width);
        }
        shown
    }

    /// Takes in a complete list.
    fn all(&mut self, watch: &Watch<'_>, mut all: Table) -> Result<(), Failure> {
        let there: BTreeSet<(String, String)> = all.rows.iter().map(Row::key).collect();
        let known = self.known.iter();
        let gone = known.filter(|((of, key), _)| *of == watch.number && !there.contains(key));
        let gone: Vec<Row> = gone.map(|(_, row)| row.clone()).collect();
        table::sort(watch.query.kind, &mut all.rows);
        let shown = self.shown(watch, &all);
        self.print((watch, &shown), &gone, true)?;
        if all.rows.is_empty() && !self.have_headings && !self.are_mixed {
            terminal::note(&nothing(&watch.query));
        }
        self.print((watch, &shown), &all.rows, false)
    }

    /// Takes in a change.
    fn changed(&mut self, watch: &Watch<'_>, table: &Table, is_gone: bool) -> Result<(), Failure> {
        let shown = self.shown(watch, table);
        self.print((watch, &shown), &table.rows, is_gone)
    }

    /// Prints those of `rows` that have changed.
    fn print(
        &mut self,
        (watch, shown): (&Watch<'_>, &Shown),
        rows: &[Row],
        are_gone: bool,
    ) -> Result<(), Failure> {
        let mut cells = Vec::new();
        for row in rows {
            let key = (watch.number, row.key());
            let before = if are_gone {
                self.known.remove(&key);
                None
            } else {
                self.known.insert(key, row.clone())
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
        // If a column becomes wider, or the terminal has another size, the headings are printed
        // again above the shifted columns.
        let paper = paper(watch.query.kind, &watch.look);
        let is_new = !self.have_headings || paper != self.columns.paper();
        if is_new {
            self.columns = Columns::with_room(shown.headings(), paper);
        }
        let are_due = is_new || cells.iter().any(|row| self.columns.widen_for(row));
        if are_due && !watch.look.without_headings {
            cells.insert(0, shown.headings().to_vec());
        }
        self.have_headings = true;
        terminal::print(&self.columns.lines(cells.iter().map(Vec::as_slice)))
    }
}
