//! The output formats of `-o`.

use clap::ValueEnum;

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table.
    Table,
    /// A table with more columns.
    Wide,
    /// YAML, ready to apply again.
    #[value(alias = "yml")]
    Yaml,
    /// JSON.
    Json,
    /// KIND/NAME, one on each line.
    Name,
}

impl Format {
    /// Whether output is meant for people: tables, and messages about what happens.
    pub fn is_table(self) -> bool {
        matches!(self, Format::Table | Format::Wide)
    }

    /// Whether objects are printed as documents. A command that waits for what it starts prints one
    /// document, at the end.
    pub fn is_document(self) -> bool {
        matches!(self, Format::Json | Format::Yaml)
    }
}
