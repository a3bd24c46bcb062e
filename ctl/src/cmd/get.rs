//! `hctl get`: objects as tables or documents, once or as they change.

use std::collections::BTreeMap;

use api::job::JobStatus;
use api::selector::FieldSelector;
use api::watch::WatchEventType;
use api::{Job, KindId};
use serde_json::Value;

use super::each::Failures;
use super::show;
use crate::args::{Format, Get};
use crate::connection::{Connection, Query};
use crate::failure::Failure;
use crate::following::{Following, Seen};
use crate::output::{Columns, grouped};
use crate::table::{self, Row, Shown, Table};
use crate::target::{self, Target};
use crate::{document, door, terminal};

pub(super) async fn get(connection: &Connection, args: Get) -> Result<(), Failure> {
    let what = wanted(&args.what)?;
    let shown = match &what {
        What::Kinds(kinds) => {
            let queries: Result<Vec<Query>, Failure> =
                kinds.iter().map(|kind| query(connection, *kind, &args)).collect();
            queries?
        }
        What::Objects(targets) => {
            let selects = args.selector.is_some() || args.field_selector.is_some();
            if args.all_namespaces || selects || args.phase.is_some() || args.job.is_some() {
                let message = "an object that is named is not selected by anything else";
                return Err(Failure::usage(message));
            }
            if !args.watch {
                return objects(connection, targets).await;
            }
            let named = |target: &Target| {
                let fields = format!("metadata.name={}", target.name);
                connection.query(target.kind, String::new(), fields)
            };
            targets.iter().map(named).collect()
        }
    };
    if args.watch {
        let [query] = shown.as_slice() else {
            return Err(Failure::usage("one kind, or one object, is watched at a time"));
        };
        return watch(connection, query.clone()).await;
    }
    match connection.format {
        Format::Table | Format::Wide => tables(connection, shown, args.job.as_deref()).await,
        Format::Yaml | Format::Json | Format::Name => documents(connection, &shown).await,
    }
}

/// What is wanted: all objects of kinds, or some by name.
enum What {
    Kinds(Vec<KindId>),
    Objects(Vec<Target>),
}

fn wanted(words: &[String]) -> Result<What, Failure> {
    match words {
        [kinds] if !kinds.contains('/') => {
            let kinds: Result<Vec<KindId>, Failure> = kinds.split(',').map(target::kind).collect();
            kinds.map(What::Kinds)
        }
        words => target::several(words).map(What::Objects),
    }
}

/// What the arguments select of a kind.
fn query(connection: &Connection, kind: KindId, args: &Get) -> Result<Query, Failure> {
    let mut labels: Vec<String> = args.selector.iter().cloned().collect();
    let mut fields: Vec<String> = args.field_selector.iter().cloned().collect();
    if let Some(job) = &args.job {
        if kind != KindId::Task {
            let message = format!("--job selects tasks, not {}", kind.info().plural);
            return Err(Failure::usage(message).hint("hctl get tasks --job JOB"));
        }
        labels.push(format!("{}={job}", api::labels::JOB));
    }
    if let Some(phase) = &args.phase {
        fields.push(format!("status.phase={}", door::phase(kind, phase)?));
    }
    let fields = fields.join(",");
    // Each flag is a selector by itself; the server says it, should they be none together.
    let selector: Option<FieldSelector> = fields.parse().ok();
    if let Some(problem) = selector.and_then(|selector| selector.unknown_field(kind)) {
        return Err(Failure::usage(problem));
    }
    let mut query = connection.query(kind, labels.join(","), fields);
    if args.all_namespaces {
        query.namespace.clear();
    }
    Ok(query)
}

/// Prints objects that are named.
async fn objects(connection: &Connection, targets: &[Target]) -> Result<(), Failure> {
    if matches!(connection.format, Format::Table | Format::Wide) {
        return named_rows(connection, targets).await;
    }
    let (mut found, mut failures) = (Vec::new(), Failures::default());
    for target in targets {
        match connection.get::<Value>(target).await {
            Ok(object) => found.push((target.clone(), object)),
            Err(failure) => failures.add(Err(failure))?,
        }
    }
    if !found.is_empty() {
        show::objects(connection.format, found, false)?;
    }
    failures.end()
}

/// Prints a row for each object that is named: a table for each run of the same kind.
async fn named_rows(connection: &Connection, targets: &[Target]) -> Result<(), Failure> {
    let mut failures = Failures::default();
    for (index, same) in targets.chunk_by(|a, b| a.kind == b.kind).enumerate() {
        let mut all = Table::default();
        for target in same {
            match connection.named_table(target).await {
                Ok(table) => {
                    all.column_definitions = table.column_definitions;
                    all.rows.extend(table.rows);
                }
                Err(failure) => failures.add(Err(failure))?,
            }
        }
        if !all.rows.is_empty() {
            if index > 0 {
                terminal::print("\n")?;
            }
            let is_wide = connection.format == Format::Wide;
            let shown = Shown::of(&all.column_definitions, is_wide, false);
            print_rows(&mut Columns::default(), &shown, &all.rows, true)?;
        }
    }
    failures.end()
}

/// Prints all that is selected as documents.
async fn documents(connection: &Connection, queries: &[Query]) -> Result<(), Failure> {
    let mut found = Vec::new();
    for query in queries {
        let (items, _) = connection.list::<Value>(query).await?;
        for mut object in items {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let target = Target::new(query.kind, name);
            // Within a list, too, each object says what it is.
            object["apiVersion"] = query.kind.api_version().into();
            object["kind"] = query.kind.info().kind.into();
            found.push((target, object));
        }
    }
    show::objects(connection.format, found, true)
}

/// Prints all that is selected as tables.
async fn tables(
    connection: &Connection,
    queries: Vec<Query>,
    job: Option<&str>,
) -> Result<(), Failure> {
    let mut is_first = true;
    for mut query in queries {
        let mut columns = Columns::default();
        let mut rows = 0_usize;
        loop {
            let is_page_one = query.options.next.is_none();
            let mut table = connection.table_page(&mut query).await?;
            let is_last = query.options.next.is_none();
            if is_page_one && is_last {
                table::sort(&mut table.rows);
            }
            rows += table.rows.len();
            if !table.rows.is_empty() {
                if is_page_one && !is_first {
                    terminal::print("\n")?;
                }
                let shown = shown(connection, &query, &table);
                print_rows(&mut columns, &shown, &table.rows, is_page_one)?;
                is_first = false;
            }
            if is_last {
                break;
            }
        }
        if rows == 0 {
            terminal::note(&nothing(&query));
        }
        if let Some(job) = job.filter(|_| query.kind == KindId::Task) {
            tell_of_finished(connection, job, rows).await?;
        }
    }
    Ok(())
}

fn shown(connection: &Connection, query: &Query, table: &Table) -> Shown {
    let everywhere = query.kind.is_namespaced() && query.namespace.is_empty();
    let is_wide = connection.format == Format::Wide;
    Shown::of(&table.column_definitions, is_wide, everywhere)
}

fn print_rows(
    columns: &mut Columns,
    shown: &Shown,
    rows: &[Row],
    with_headings: bool,
) -> Result<(), Failure> {
    let mut cells: Vec<Vec<String>> = rows.iter().map(|row| shown.cells(row)).collect();
    // Headings stand above what they are of: where columns move, they are said again.
    if with_headings || cells.iter().any(|row| columns.widen_for(row)) {
        cells.insert(0, shown.headings().to_vec());
    }
    terminal::print(&columns.lines(cells.iter().map(Vec::as_slice)))
}

/// `No tasks found in namespace default.`
fn nothing(query: &Query) -> String {
    let plural = query.kind.info().plural;
    if query.namespace.is_empty() {
        format!("No {plural} found.")
    } else {
        format!("No {plural} found in namespace {}.", query.namespace)
    }
}

/// Objects of finished tasks go after a while: says so where it matters.
async fn tell_of_finished(connection: &Connection, job: &str, shown: usize) -> Result<(), Failure> {
    let Some(found) = connection.find::<Job>(&Target::new(KindId::Job, job)).await? else {
        terminal::note(&format!("There is no job {job} in namespace {}.", connection.namespace));
        return Ok(());
    };
    let status = &found.status;
    if hides_finished(status, shown) {
        terminal::note(&format!(
            "{}/{job}: {} of {} tasks succeeded, {} failed; not all are objects (any more)",
            connection.namespace,
            grouped(status.succeeded),
            grouped(status.total),
            grouped(status.failed)
        ));
    }
    Ok(())
}

/// Whether tasks of the job have ended that are not among the `shown` ones.
fn hides_finished(status: &JobStatus, shown: usize) -> bool {
    let finished = [status.succeeded, status.failed, status.cancelled];
    usize::try_from(status.total).unwrap_or(usize::MAX) > shown && finished != [0; 3]
}

/// Prints what is there, and then what changes, until the end of time.
pub(super) async fn watch(connection: &Connection, query: Query) -> Result<(), Failure> {
    let mut printer = Printer { columns: Columns::default(), known: BTreeMap::new(), shown: None };
    let version = printer.all(connection, &query).await?;
    let is_table = printer.is_table(connection);
    let client = if is_table { connection.tables() } else { connection.client() };
    let mut following = Following::new(client, query.clone(), &version);
    let mut link = connection.link();
    loop {
        match following.next().await.map_err(|error| connection.failure(&error))? {
            Seen::Change(kind, object) if is_table => {
                let table: Table = serde_json::from_value(object).unwrap_or_default();
                printer.changed(connection, &query, kind, &table)?;
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
        table::sort(&mut all.rows);
        let mut gone = std::mem::take(&mut self.known);
        for row in &all.rows {
            if let Some(before) = gone.remove(&row.key()) {
                self.known.insert(row.key(), before);
            }
        }
        let shown = shown(connection, &query, &all);
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
        connection: &Connection,
        query: &Query,
        kind: WatchEventType,
        table: &Table,
    ) -> Result<(), Failure> {
        let shown = shown(connection, query, table);
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
        if self.shown.is_none() {
            self.columns = Columns::with_room(shown.headings());
        }
        // Headings stand above what they are of: where columns move, they are said again.
        if self.shown.is_none() || cells.iter().any(|row| self.columns.widen_for(row)) {
            cells.insert(0, shown.headings().to_vec());
        }
        self.shown = Some(shown.clone());
        terminal::print(&self.columns.lines(cells.iter().map(Vec::as_slice)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_is_told_where_tasks_have_ended_whatever_the_counts() {
        let status = |total, succeeded, failed| JobStatus {
            total,
            succeeded,
            failed,
            ..JobStatus::default()
        };
        assert!(hides_finished(&status(10, 1, 0), 9));
        assert!(hides_finished(&status(10, 0, 1), 9));
        assert!(!hides_finished(&status(10, 1, 0), 10), "all are shown");
        assert!(!hides_finished(&status(10, 0, 0), 9), "they are not made yet");
        assert!(hides_finished(&status(u32::MAX, u32::MAX, u32::MAX), 9));
    }
}
