//! The table of figures: each is measured on real processes, with simulated nodes that speak the real
//! protocol, and stands beside its target and its goal. Nothing here asserts a time.

mod figures;
mod placements;

use std::fmt;

use serde_json::{Value, json};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Nodes and tasks of the placements that are timed.
    pub placements: (u32, u32),
    /// Simulated nodes, an agent process each; at least 1.
    pub nodes: usize,
    /// Tasks of the job that is timed; at least 1.
    pub tasks: u32,
    /// Tasks of the large job; none where 0.
    pub large: u32,
    /// Jobs of the workflow in which each follows the one before; at least 2.
    pub chain: u32,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// What is to be reached first.
    pub first: &'static str,
    /// What is to be reached in the end.
    pub goal: &'static str,
    /// The measure, in `unit`.
    pub number: u64,
    /// Its unit.
    pub unit: &'static str,
}

/// All figures of one run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The lines.
    pub figures: Vec<Figure>,
    /// The machine's load before and after, as Linux tells it.
    pub load: (String, String),
    /// Its processors.
    pub cpus: usize,
}

/// The first line of the table.
pub fn header() -> String {
    format!("{:<58} {:>14}  {:<16} GOAL", "WHAT", "MEASURED", "TO REACH FIRST")
}

/// Measures everything, one after the other; each figure is told of when it is there.
pub async fn run(sizes: &Sizes, mut tell: impl FnMut(&Figure)) -> Report {
    let before = load();
    let mut figures = Vec::new();
    figures::all(sizes, |figure| {
        tell(&figure);
        figures.push(figure);
    })
    .await;
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    Report { figures, load: (before, load()), cpus }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

impl Report {
    /// The figures for programs.
    pub fn to_json(&self) -> Value {
        let figure = |figure: &Figure| {
            json!({
                "what": figure.what, "first": figure.first, "goal": figure.goal,
                "number": figure.number, "unit": figure.unit,
            })
        };
        let figures: Vec<Value> = self.figures.iter().map(figure).collect();
        json!({ "figures": figures, "cpus": self.cpus, "load": [self.load.0, self.load.1] })
    }

    /// The last line of the table.
    pub fn footer(&self) -> String {
        let (before, after) = &self.load;
        format!("{} processors; load {before} before, {after} after", self.cpus)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, first, goal, number, unit } = self;
        write!(f, "{what:<58} {:>14}  {first:<16} {goal}", format!("{number} {unit}"))
    }
}
