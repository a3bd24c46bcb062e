//! Tables as the server sends them: cells, and the metadata of the objects they are of.

use api::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

/// What is there of a kind, for people.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Table {
    /// Where the list stands.
    pub metadata: TableMeta,
    /// The columns.
    pub column_definitions: Vec<ColumnDefinition>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// Where a list stands.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TableMeta {
    /// The point in history that it shows.
    pub resource_version: String,
    /// Where the next page begins.
    #[serde(rename = "continue")]
    pub next: Option<String>,
}

/// A column.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ColumnDefinition {
    /// Its heading.
    pub name: String,
    /// 0 where it is always shown.
    pub priority: i32,
}

/// A row.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Row {
    /// Its cells.
    pub cells: Vec<Value>,
    /// The object that it is of.
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

/// Which columns of a table are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    with_namespace: bool,
    columns: Vec<usize>,
    headings: Vec<String>,
}

impl Shown {
    /// Chooses from a table's columns.
    pub fn of(definitions: &[ColumnDefinition], is_wide: bool, with_namespace: bool) -> Self {
        let chosen = definitions.iter().enumerate();
        let chosen: Vec<(usize, &ColumnDefinition)> =
            chosen.filter(|(_, column)| is_wide || column.priority == 0).collect();
        let names = chosen.iter().map(|(_, column)| column.name.clone());
        let namespace = with_namespace.then(|| "NAMESPACE".to_owned());
        Self {
            with_namespace,
            headings: namespace.into_iter().chain(names).collect(),
            columns: chosen.into_iter().map(|(index, _)| index).collect(),
        }
    }

    /// The headings.
    pub fn headings(&self) -> &[String] {
        &self.headings
    }

    /// The cells of a row that are shown.
    pub fn cells(&self, row: &Row) -> Vec<String> {
        let namespace = self.with_namespace.then(|| row.key().0);
        let cell = |index: &usize| row.cells.get(*index).map(text).unwrap_or_default();
        namespace.into_iter().chain(self.columns.iter().map(cell)).collect()
    }

    /// What of a row makes it worth printing again: all but what grows by itself.
    pub fn substance(&self, row: &Row) -> Vec<String> {
        let cells = self.headings.iter().zip(self.cells(row));
        let lasting = cells.filter(|(heading, _)| !matches!(heading.as_str(), "AGE" | "TOOK"));
        lasting.map(|(_, cell)| cell).collect()
    }

    /// The cells of a row whose object is gone.
    pub fn cells_of_deleted(&self, row: &Row) -> Vec<String> {
        let mut cells = self.cells(row);
        match self.headings.iter().position(|heading| heading == "STATUS") {
            Some(status) => "Deleted".clone_into(&mut cells[status]),
            None => cells.push("Deleted".to_owned()),
        }
        cells
    }
}

/// Rows in the order that people expect: web-2 before web-10.
pub fn sort(rows: &mut [Row]) {
    rows.sort_by_cached_key(|row| {
        let (namespace, name) = row.key();
        (namespace, natural(&name))
    });
}

/// A name as runs of text and numbers.
pub fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        parts.push((text.to_owned(), number.parse().unwrap_or(u64::MAX)));
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
            Shown::of(&table.column_definitions, is_wide, with_namespace).cells(&table.rows[0])
        };
        assert_eq!(cells(false, false), ["web-10", "Running", "2s"]);
        assert_eq!(cells(true, true), ["ns", "web-10", "Running", "3", "2s"]);
    }

    #[test]
    fn growing_older_is_no_news() {
        let table = table();
        let shown = Shown::of(&table.column_definitions, false, false);
        let mut older = table.rows[0].clone();
        older.cells[3] = "9s".into();
        assert_eq!(shown.substance(&older), shown.substance(&table.rows[0]));
        older.cells[1] = "Failed".into();
        assert_ne!(shown.substance(&older), shown.substance(&table.rows[0]));
        assert_eq!(shown.cells_of_deleted(&older), ["web-10", "Deleted", "9s"]);
    }

    #[test]
    fn numbers_in_names_count() {
        let mut table = table();
        sort(&mut table.rows);
        let names: Vec<String> = table.rows.iter().map(|row| row.key().1).collect();
        assert_eq!(names, ["web", "web-2", "web-10"]);
    }
}
