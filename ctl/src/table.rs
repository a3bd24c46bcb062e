//! Tables from the server: cells, and the metadata of the rows' objects.

use api::duration::Duration;
use api::table::NOTHING;
use api::{KindId, ObjectMeta};
use serde::Deserialize;
use serde_json::Value;

use crate::output::{self, GAP};

/// A table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Table {
    /// resourceVersion and paging.
    pub metadata: TableMeta,
    /// The columns.
    pub column_definitions: Vec<ColumnDefinition>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// resourceVersion and paging of a list.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TableMeta {
    /// The resourceVersion.
    pub resource_version: String,
    /// The token of the next page.
    #[serde(rename = "continue")]
    pub next: Option<String>,
}

/// A column.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ColumnDefinition {
    /// Its heading.
    pub name: String,
    /// 0 if it is always shown.
    pub priority: i32,
}

/// A row.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Row {
    /// Its cells.
    pub cells: Vec<Value>,
    /// The object of the row.
    pub object: RowObject,
}

/// The object that a row is of.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RowObject {
    /// Its metadata.
    pub metadata: ObjectMeta,
}

impl Row {
    /// The object's namespace and name.
    pub fn key(&self) -> (String, String) {
        let metadata = &self.object.metadata;
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        (part(&metadata.namespace), part(&metadata.name))
    }
}

/// Options for the display of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that stands for itself")]
pub struct Look {
    /// Whether to show the columns of `-o wide`.
    pub is_wide: bool,
    /// Whether to show the namespace of each row.
    pub with_namespace: bool,
    /// Whether to show the labels of each row.
    pub with_labels: bool,
    /// Whether to leave out the headings.
    pub without_headings: bool,
    /// The kind's word to put before each name, if rows of several kinds are shown.
    pub kind: Option<&'static str>,
}

/// Columns that are left out first if a terminal is too narrow for all of them and a reason.
const SAY_LEAST: [&str; 16] = [
    "GPU", "MODE", "VERSION", "RUNTIME", "MODEL", "ZONE", "RESTARTS", "READY", "TOOK", "ATTEMPT",
    "PORTS", "STATES", "REPLICAS", "ACTIVE", "FAILED", "MEMORY",
];
/// Columns that contain a sentence with a reason. They are the last ones of their tables.
const REASONS: [&str; 2] = ["WHY", "MESSAGE"];
/// Least width of a reason, if other columns can be left out for it.
const WHY_ROOM: usize = 24;

/// The content of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Namespace,
    Labels,
    /// Its kind has no such column.
    Nothing,
    /// The cell with this index.
    Cell(usize),
}

/// Which columns of a table are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    kind: Option<&'static str>,
    columns: Vec<(String, Part)>,
    headings: Vec<String>,
}

impl Shown {
    /// Chooses from a table's columns.
    pub fn of(definitions: &[ColumnDefinition], look: &Look) -> Self {
        let chosen = definitions.iter().enumerate();
        let chosen = chosen.filter(|(_, column)| look.is_wide || column.priority == 0);
        let mut columns: Vec<(String, Part)> =
            chosen.map(|(index, column)| (column.name.clone(), Part::Cell(index))).collect();
        if look.with_labels {
            // The last column is a sentence.
            let end =
                columns.len() - usize::from(columns.last().is_some_and(|it| is_reason(&it.0)));
            columns.insert(end, ("LABELS".to_owned(), Part::Labels));
        }
        if look.with_namespace {
            columns.insert(0, ("NAMESPACE".to_owned(), Part::Namespace));
        }
        let headings = columns.iter().map(|(heading, _)| heading.clone()).collect();
        Self { kind: look.kind, columns, headings }
    }

    /// Chooses the columns that kinds have in common: where rows of several kinds follow one another.
    pub fn in_common(definitions: &[ColumnDefinition], look: &Look) -> Self {
        let mut columns: Vec<(String, Part)> = Vec::new();
        if look.with_namespace {
            columns.push(("NAMESPACE".to_owned(), Part::Namespace));
        }
        for heading in ["NAME", "STATUS", "AGE", "WHY"] {
            let index = definitions.iter().position(|column| column.name == heading);
            columns.push((heading.to_owned(), index.map_or(Part::Nothing, Part::Cell)));
        }
        if look.with_labels {
            columns.insert(columns.len() - 1, ("LABELS".to_owned(), Part::Labels));
        }
        let headings = columns.iter().map(|(heading, _)| heading.clone()).collect();
        Self { kind: look.kind, columns, headings }
    }

    /// Leaves out columns that have only dashes and zeros in these rows, from the right, until the
    /// lines fit into `width` characters. Otherwise the reason at the end of the rows would be cut.
    ///
    /// If that is not enough, the least important columns are left out: in favour of the reason if
    /// there is one, otherwise in favour of the last column.
    pub fn fit(&mut self, rows: &[Row], width: usize) {
        let cells = self.leave_out_what_tells_nothing(rows, width);
        let reasons = cells.iter().skip(1).filter_map(|row| row.last());
        let longest = reasons.map(|why| why.chars().count()).max().unwrap_or_default();
        let widest = |index: usize| cells.iter().map(|row| row[index].chars().count()).max();
        if self.headings.last().is_none_or(|heading| !is_reason(heading)) || longest == 0 {
            let widths = (0..self.headings.len()).map(|index| widest(index).unwrap_or_default());
            // There is nothing to the right of the last column.
            return self.give_way(widths.collect(), width + GAP.len());
        }
        let widths = (0..self.headings.len() - 1).map(|index| widest(index).unwrap_or_default());
        let widths: Vec<usize> = widths.collect();
        self.give_way(widths, width.saturating_sub(longest.min(WHY_ROOM)));
    }

    /// Leaves out a column that is the same in all rows, if lines would exceed `width`.
    pub fn leave_out_what_is_known(&mut self, heading: &str, rows: &[Row], width: usize) {
        let mut cells: Vec<Vec<String>> = rows.iter().map(|row| self.cells(row)).collect();
        cells.insert(0, self.headings.clone());
        if longest_line(&cells) > width
            && let Some(index) = self.headings.iter().position(|other| other == heading)
        {
            self.leave_out(index);
        }
    }

    /// Only the first part of [`Shown::fit`], for rows that are folded if they are too long.
    /// Returns the remaining cells with the headings.
    pub fn leave_out_what_tells_nothing(&mut self, rows: &[Row], width: usize) -> Vec<Vec<String>> {
        let mut cells: Vec<Vec<String>> = rows.iter().map(|row| self.cells(row)).collect();
        cells.insert(0, self.headings.clone());
        let mut index = self.columns.len();
        while longest_line(&cells) > width && index > 0 {
            index -= 1;
            let heading = self.headings[index].as_str();
            let stays = matches!(heading, "NAME" | "STATUS");
            // A count of 1 is not worth a column.
            let usual = if heading == "COUNT" { "1" } else { "0" };
            let tells = |row: &Vec<String>| {
                let cell = row[index].as_str();
                !matches!(cell, "" | NOTHING) && cell != usual
            };
            if stays || cells.iter().skip(1).any(tells) {
                continue;
            }
            self.leave_out(index);
            for row in &mut cells {
                row.remove(index);
            }
        }
        cells
    }

    /// The same for rows that are still to come, of which only the headings are known.
    pub fn fit_what_comes(&mut self, width: usize) {
        if self.headings.last().is_some_and(|heading| is_reason(heading)) {
            let inner = &self.headings[..self.headings.len() - 1];
            let widths = inner.iter().map(|heading| output::room(heading)).collect();
            self.give_way(widths, width.saturating_sub(WHY_ROOM));
        }
    }

    /// Leaves out columns, the least important first, until the others fit before `width`.
    fn give_way(&mut self, mut widths: Vec<usize>, width: usize) {
        for heading in SAY_LEAST {
            let taken: usize = widths.iter().map(|width| width + GAP.len()).sum();
            if taken <= width {
                return;
            }
            if let Some(index) = self.headings.iter().position(|other| other == heading) {
                self.leave_out(index);
                widths.remove(index);
            }
        }
    }

    fn leave_out(&mut self, index: usize) {
        self.columns.remove(index);
        self.headings.remove(index);
    }

    /// The headings.
    pub fn headings(&self) -> &[String] {
        &self.headings
    }

    /// The cells of a row that are shown.
    pub fn cells(&self, row: &Row) -> Vec<String> {
        let cell = |(heading, part): &(String, Part)| match part {
            Part::Namespace => row.key().0,
            Part::Labels => labels(&row.object.metadata),
            // An absent reason is shown as an empty cell.
            Part::Nothing if heading == "WHY" => String::new(),
            Part::Nothing => NOTHING.to_owned(),
            Part::Cell(index) => {
                let cell = row.cells.get(*index).map(text).unwrap_or_default();
                match self.kind.filter(|_| heading == "NAME") {
                    Some(kind) => format!("{kind}/{cell}"),
                    None => cell,
                }
            }
        };
        self.columns.iter().map(cell).collect()
    }

    /// The cells whose change makes a row worth printing again: all except ages and the like.
    pub fn substance(&self, row: &Row) -> Vec<String> {
        let cells = self.headings.iter().zip(self.cells(row));
        let lasting = cells.filter(|(heading, _)| !matches!(heading.as_str(), "AGE" | "TOOK"));
        lasting.map(|(_, cell)| cell).collect()
    }

    /// The cells of a row whose object was deleted.
    pub fn cells_of_deleted(&self, row: &Row) -> Vec<String> {
        let mut cells = self.cells(row);
        match self.headings.iter().position(|heading| heading == "STATUS") {
            Some(status) => "Deleted".clone_into(&mut cells[status]),
            None => cells.push("Deleted".to_owned()),
        }
        cells
    }
}

fn is_reason(heading: &str) -> bool {
    REASONS.contains(&heading)
}

/// The length of the longest line of a table.
pub fn longest_line(rows: &[Vec<String>]) -> usize {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |index: usize| rows.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
    (0..columns).map(|index| width(index) + GAP.len()).sum::<usize>().saturating_sub(GAP.len())
}

/// Sorts rows as people expect: web-2 before web-10, and the newest runs and events last.
pub fn sort(kind: KindId, rows: &mut [Row]) {
    let by_age = matches!(kind, KindId::WorkflowRun | KindId::Event);
    rows.sort_by_cached_key(|row| {
        let (namespace, name) = row.key();
        let created = row.object.metadata.creation_timestamp.clone().filter(|_| by_age);
        (namespace, created, natural(&name))
    });
}

/// What rows are sorted by (`--sort-by`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The creation time, the newest last.
    Created,
    /// The column with this heading: numerically, or by duration, if its cells are such.
    Column(String),
}

impl std::str::FromStr for Order {
    type Err = std::convert::Infallible;

    /// Parses a heading, or a path as for kubectl, whose last word is the heading.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.trim_matches(['{', '}']);
        let word = path.rsplit('.').next().unwrap_or_default().to_ascii_uppercase();
        Ok(match word.as_str() {
            "AGE" | "CREATIONTIMESTAMP" | "CREATED" => Order::Created,
            "LASTTIMESTAMP" | "LAST SEEN" => Order::Column("SEEN".to_owned()),
            "PHASE" => Order::Column("STATUS".to_owned()),
            _ => Order::Column(word),
        })
    }
}

impl Order {
    /// Sorts the rows of a table.
    ///
    /// # Errors
    /// It has no such column; the error lists the headings.
    pub fn sort(&self, table: &mut Table) -> Result<(), String> {
        let definitions = &table.column_definitions;
        match self {
            Order::Created => table.rows.sort_by_cached_key(|row| {
                (row.object.metadata.creation_timestamp.clone(), natural(&row.key().1))
            }),
            Order::Column(heading) if heading == "NAMESPACE" => {
                table.rows.sort_by_cached_key(|row| (row.key().0, natural(&row.key().1)));
            }
            Order::Column(heading) => {
                let index = definitions.iter().position(|column| column.name == *heading);
                let Some(index) = index else {
                    let names = definitions.iter().map(|column| column.name.to_ascii_lowercase());
                    return Err(names.collect::<Vec<_>>().join(", "));
                };
                table.rows.sort_by_cached_key(|row| {
                    let cell = row.cells.get(index).map(text).unwrap_or_default();
                    (cell.parse::<Duration>().ok(), natural(&cell), natural(&row.key().1))
                });
            }
        }
        Ok(())
    }
}

/// `app=web,tier=front`, or a dash.
fn labels(metadata: &ObjectMeta) -> String {
    let pairs: Vec<String> =
        metadata.labels.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { NOTHING.to_owned() } else { pairs.join(",") }
}

/// A name split into text and numbers, for sorting.
pub fn natural(name: &str) -> Vec<(String, Option<u64>)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        // A name that continues with a number is sorted after the one that ends before it.
        let number = (!number.is_empty()).then(|| number.parse().unwrap_or(u64::MAX));
        parts.push((text.to_owned(), number));
        rest = tail;
    }
    parts
}

fn text(cell: &Value) -> String {
    match cell {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => cell.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Table {
        let row = |name: &str, status: &str, age: &str| {
            json!({"cells": [name, status, 3, age],
                   "object": {"metadata": {"name": name, "namespace": "ns"}}})
        };
        let json = json!({
            "columnDefinitions": [
                {"name": "NAME", "priority": 0}, {"name": "STATUS", "priority": 0},
                {"name": "RUN", "priority": 1}, {"name": "AGE", "priority": 0},
            ],
            "rows": [row("web-10", "Running", "2s"), row("web-2", "Failed", "3s"), row("web", "x", "-")],
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn wide_columns_and_namespaces_are_shown_when_asked_for() {
        let table = table();
        let cells = |is_wide, with_namespace| {
            let look = Look { is_wide, with_namespace, ..Look::default() };
            Shown::of(&table.column_definitions, &look).cells(&table.rows[0])
        };
        assert_eq!(cells(false, false), ["web-10", "Running", "2s"]);
        assert_eq!(cells(true, true), ["ns", "web-10", "Running", "3", "2s"]);
    }

    #[test]
    fn growing_older_is_no_news() {
        let table = table();
        let shown = Shown::of(&table.column_definitions, &Look::default());
        let mut older = table.rows[0].clone();
        older.cells[3] = "9s".into();
        assert_eq!(shown.substance(&older), shown.substance(&table.rows[0]));
        older.cells[1] = "Failed".into();
        assert_ne!(shown.substance(&older), shown.substance(&table.rows[0]));
        assert_eq!(shown.cells_of_deleted(&older), ["web-10", "Deleted", "9s"]);
    }

    #[test]
    fn labels_stand_before_the_reason_and_kinds_before_names() {
        let definition = |name: &str| ColumnDefinition { name: name.to_owned(), priority: 0 };
        let look = Look { with_labels: true, kind: Some("job"), ..Look::default() };
        let shown = Shown::of(&[definition("NAME"), definition("WHY")], &look);
        assert_eq!(shown.headings(), ["NAME", "LABELS", "WHY"]);
        let mut row = Row { cells: vec!["a".into(), "why".into()], ..Row::default() };
        assert_eq!(shown.cells(&row), ["job/a", "-", "why"]);
        let labels = [("app", "web"), ("tier", "front")];
        let labels = labels.map(|(a, b)| (a.to_owned(), b.to_owned()));
        row.object.metadata.labels = Some(labels.into());
        assert_eq!(shown.cells(&row), ["job/a", "app=web,tier=front", "why"]);
    }

    #[test]
    fn rows_are_sorted_by_what_a_column_means() {
        let definitions = json!([{"name": "NAME"}, {"name": "TOOK"}, {"name": "TASKS"}]);
        let row = |name: &str, took: &str, tasks: &str, created: &str| {
            json!({"cells": [name, took, tasks],
                   "object": {"metadata": {"name": name, "creationTimestamp": created}}})
        };
        let rows = json!([
            row("a", "2m", "10/20", "2026-01-03T00:00:00Z"),
            row("b", "1h02m", "9/20", "2026-01-01T00:00:00Z"),
            row("c", "59s", "1/20", "2026-01-02T00:00:00Z"),
        ]);
        let table: Table =
            serde_json::from_value(json!({"columnDefinitions": definitions, "rows": rows}))
                .unwrap();
        let by = |order: &str| {
            let mut table = table.clone();
            let order: Order = order.parse().unwrap();
            order
                .sort(&mut table)
                .map(|()| table.rows.iter().map(|row| row.key().1).collect::<Vec<_>>().join(""))
        };
        assert_eq!(by("took").unwrap(), "cab");
        assert_eq!(by("TASKS").unwrap(), "cba");
        assert_eq!(by("age").unwrap(), "bca");
        assert_eq!(by("{.metadata.creationTimestamp}").unwrap(), "bca");
        assert_eq!(by(".metadata.name").unwrap(), "abc");
        assert_eq!(by("size").unwrap_err(), "name, took, tasks");
    }

    #[test]
    fn where_lines_are_too_long_columns_that_tell_nothing_give_way() {
        let names = ["NAME", "STATUS", "FAILED", "PORTS", "NODE", "AGE", "WHY"];
        let column = |name: &&str| ColumnDefinition { name: (*name).to_owned(), priority: 0 };
        let definitions: Vec<ColumnDefinition> = names.iter().map(column).collect();
        let row = |failed: u32, why: &str| -> Row {
            let cells = json!(["a-0", "Failed", failed, "-", "n1", "3s", why]);
            serde_json::from_value(json!({"cells": cells})).unwrap()
        };
        let headings = |rows: &[Row], width: usize| {
            let mut shown = Shown::of(&definitions, &Look::default());
            shown.fit(rows, width);
            assert_eq!(shown.cells(&rows[0]).len(), shown.headings().len());
            shown.headings().join(" ")
        };
        let all = "NAME STATUS FAILED PORTS NODE AGE WHY";
        let rows = [row(0, "exit 3"), row(0, "exit 4")];
        assert_eq!(headings(&rows, 46), all, "the longest line has 46 characters");
        assert_eq!(headings(&rows, 45), "NAME STATUS FAILED NODE AGE WHY");
        assert_eq!(headings(&rows, 10), "NAME STATUS NODE AGE WHY", "the rest is cut");
        let rows = [row(0, ""), row(2, "")];
        assert_eq!(headings(&rows, 31), "NAME STATUS FAILED NODE AGE", "it has 31 characters");
        assert_eq!(headings(&rows, 30), "NAME STATUS NODE AGE", "the age is not cut off");
    }

    #[test]
    fn what_events_say_gains_the_room_of_columns_that_tell_nothing() {
        let names = ["SEEN", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"];
        let column = |name: &&str| ColumnDefinition { name: (*name).to_owned(), priority: 0 };
        let definitions: Vec<ColumnDefinition> = names.iter().map(column).collect();
        let row = |count: u32| -> Row {
            let cells = json!(["3s", "Normal", "Bound", "job/a", count, "it was bound to node-1"]);
            serde_json::from_value(json!({"cells": cells})).unwrap()
        };
        let headings = |rows: &[Row], width: usize| {
            let mut shown = Shown::of(&definitions, &Look::default());
            shown.leave_out_what_tells_nothing(rows, width);
            shown.leave_out_what_is_known("OBJECT", rows, width);
            shown.headings().join(" ")
        };
        assert_eq!(headings(&[row(1)], 80), names.join(" "));
        assert_eq!(headings(&[row(1), row(2)], 58), "SEEN TYPE REASON COUNT MESSAGE");
        assert_eq!(headings(&[row(1)], 58), "SEEN TYPE REASON OBJECT MESSAGE");
        assert_eq!(headings(&[row(1)], 50), "SEEN TYPE REASON MESSAGE");
    }

    #[test]
    fn rows_to_come_leave_room_for_reasons() {
        let names = ["NAME", "STATUS", "READY", "ATTEMPT", "NODE", "PORTS", "AGE", "WHY"];
        let column = |name: &str| ColumnDefinition { name: name.to_owned(), priority: 0 };
        let headings = |names: &[&str], width: usize| {
            let definitions: Vec<ColumnDefinition> = names.iter().map(|it| column(it)).collect();
            let mut shown = Shown::of(&definitions, &Look::default());
            shown.fit_what_comes(width);
            shown.headings().join(" ")
        };
        assert_eq!(headings(&names, 94), names.join(" "), "the reason has 24 characters then");
        assert_eq!(headings(&names, 93), "NAME STATUS ATTEMPT NODE PORTS AGE WHY");
        assert_eq!(headings(&names, 80), "NAME STATUS NODE PORTS AGE WHY");
        assert_eq!(headings(&names, 10), "NAME STATUS NODE AGE WHY", "the rest is cut");
        assert_eq!(headings(&names[..7], 10), names[..7].join(" "), "there is no reason");
    }

    #[test]
    fn kinds_have_some_columns_in_common() {
        let definitions = [ColumnDefinition { name: "NAME".to_owned(), priority: 0 }];
        let look = Look { with_namespace: true, kind: Some("secret"), ..Look::default() };
        let shown = Shown::in_common(&definitions, &look);
        let row: Row = serde_json::from_value(json!({
            "cells": ["s"], "object": {"metadata": {"namespace": "ns"}},
        }))
        .unwrap();
        assert_eq!(shown.headings(), ["NAMESPACE", "NAME", "STATUS", "AGE", "WHY"]);
        assert_eq!(shown.cells(&row), ["ns", "secret/s", "-", "-", ""]);
    }

    #[test]
    fn numbers_in_names_count() {
        let mut table = table();
        sort(KindId::Job, &mut table.rows);
        let names: Vec<String> = table.rows.iter().map(|row| row.key().1).collect();
        assert_eq!(names, ["web", "web-2", "web-10"]);
        let mut jobs = ["a2", "a-1", "a10", "a", "a1", "ab"];
        jobs.sort_by_key(|name| natural(name));
        assert_eq!(jobs, ["a", "a1", "a2", "a10", "a-1", "ab"]);
    }
}
