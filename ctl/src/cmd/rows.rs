//! Tables on the terminal, and messages for empty ones. Shared by the commands that print tables.

use api::every_kind::columns_of;
use api::job::JobStatus;
use api::{Job, Kind as _, KindId};
use serde_json::Value;

use crate::args::Get;
use crate::connection::{Connection, Query};
use crate::failure::Failure;
use crate::format::Format;
use crate::output::{Columns, Paper, grouped};
use crate::table::{Look, Row, Shown, Table};
use crate::target::{self, Target};
use crate::terminal;

/// Prints a table whose rows are complete.
pub(super) fn whole_table(
    connection: &Connection,
    args: &Get,
    (kind, table): (KindId, &mut Table),
) -> Result<(), Failure> {
    sort_by(args, table)?;
    let look = look(connection, args);
    let mut columns = Columns::on(paper(kind, &look));
    let mut shown = Shown::of(&table.column_definitions, &look);
    fit(&mut shown, &columns, &table.rows);
    print_rows(&mut columns, &shown, &table.rows, (&look, true))
}

/// Sorts the table if the arguments say so.
pub(super) fn sort_by(args: &Get, table: &mut Table) -> Result<(), Failure> {
    let Some(order) = &args.sort_by else { return Ok(()) };
    order.sort(table).map_err(|headings| {
        Failure::usage("--sort-by: there is no such column")
            .hint(format!("the columns are {headings}"))
    })
}

/// How tables are to look according to the arguments.
pub(super) fn look(connection: &Connection, args: &Get) -> Look {
    Look {
        is_wide: connection.format == Format::Wide,
        with_labels: args.show_labels,
        without_headings: args.no_headers,
        ..Look::default()
    }
}

pub(super) fn shown(query: &Query, table: &Table, look: &Look) -> Shown {
    let with_namespace = query.kind.is_namespaced() && query.namespace.is_empty();
    Shown::of(&table.column_definitions, &Look { with_namespace, ..*look })
}

/// The width for the table of a kind. Long lines are cut only where that shortens the reason: not
/// if all columns or labels are requested, not for kinds without a reason, and not for events,
/// which consist of it.
pub(super) fn paper(kind: KindId, look: &Look) -> Paper {
    let is_asked_for = look.is_wide || look.with_labels;
    let gives_reasons = columns_of(kind).last().is_some_and(|last| last.name == "WHY");
    Paper { folds: is_asked_for || !gives_reasons, ..terminal::paper() }
}

/// Makes the columns fit the terminal, unless all are requested.
pub(super) fn fit(shown: &mut Shown, columns: &Columns, rows: &[Row]) {
    match columns.paper() {
        Paper { width: Some(width), folds: false, .. } => shown.fit(rows, width),
        Paper { width: Some(width), folds: true, .. } => {
            shown.leave_out_what_tells_nothing(rows, width);
        }
        Paper { width: None, .. } => (),
    }
}

pub(super) fn print_rows(
    columns: &mut Columns,
    shown: &Shown,
    rows: &[Row],
    (look, are_first): (&Look, bool),
) -> Result<(), Failure> {
    let mut cells: Vec<Vec<String>> = rows.iter().map(|row| shown.cells(row)).collect();
    // If a column becomes wider, the headings are printed again above the shifted columns.
    let are_due = are_first || cells.iter().any(|row| columns.widen_for(row));
    if are_due && !look.without_headings {
        cells.insert(0, shown.headings().to_vec());
    }
    terminal::print(&columns.lines(cells.iter().map(Vec::as_slice)))
}

/// `No tasks found in namespace default.`
pub(super) fn nothing(query: &Query) -> String {
    let plural = target::plural(query.kind);
    let selects = !query.options.labels.is_empty() || !query.options.fields.is_empty();
    if query.kind == KindId::Node && !selects {
        return "No node has joined. Start one with heliox agent --server URL".to_owned();
    }
    format!("No {plural} found{}.", place(&query.namespace))
}

/// Prints that nothing was found, or that the namespace does not exist, because a typing error in
/// its name looks the same. If that cannot be determined, it is no failure.
pub(super) async fn tell_nothing(connection: &Connection, notes: &[String]) {
    let namespace = &connection.namespace;
    let is_looked_into = notes.iter().any(|note| note.contains(&place(namespace)));
    let target = Target::new(KindId::Namespace, namespace);
    if is_looked_into && matches!(connection.find::<Value>(&target).await, Ok(None)) {
        terminal::note(&format!("There is no namespace {namespace}: see hctl get namespaces."));
        return;
    }
    notes.iter().for_each(|note| terminal::note(note));
}

/// ` in namespace default`; empty for all namespaces.
pub(super) fn place(namespace: &str) -> String {
    if namespace.is_empty() { String::new() } else { format!(" in namespace {namespace}") }
}

/// Mentions ended tasks of a job that are not among the `shown` ones, if there are any.
pub(super) fn say_what_is_hidden(connection: &Connection, job: &Job, shown: usize) {
    let status = &job.status;
    if hides_finished(status, shown) {
        terminal::note(&format!(
            "{}/{}: {} of {} tasks succeeded, {} failed; finished tasks are removed after a while (keepTasks)",
            connection.namespace,
            job.name(),
            grouped(status.succeeded),
            grouped(status.total),
            grouped(status.failed)
        ));
    }
}

/// Whether ended tasks of the job are not among the `shown` ones.
fn hides_finished(status: &JobStatus, shown: usize) -> bool {
    let finished = [status.succeeded, status.failed, status.cancelled];
    usize::try_from(status.total).unwrap_or(usize::MAX) > shown && finished != [0; 3]
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
