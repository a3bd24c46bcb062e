//! The table of figures: each is measured on real processes, with simulated nodes that speak the real
//! protocol, and stands beside its target and its goal. Nothing here asserts a time.

mod containers;
mod figures;
mod idle;
mod limits;
mod placements;
mod processes;
mod removal;
mod restart;
mod services;
mod steps;
mod watches;
mod workload;

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// Nodes and tasks of the placements that are timed.
    pub placements: (u32, u32),
    /// Simulated nodes, an agent process each; at least 1.
    pub nodes: usize,
    /// Tasks of the job that is timed; at least 1.
    pub tasks: u32,
    /// Tasks of the large job; none where 0.
    pub large: u32,
    /// Real processes; none where 0.
    pub processes: u32,
    /// Containers of a Docker Engine; none where 0.
    pub containers: u32,
    /// Replicas of a service on a Docker Engine; services are not measured there where 0.
    pub replicas: usize,
    /// Simulated nodes of the rollouts that are measured, more than one each.
    pub rollouts: Vec<usize>,
    /// Jobs of the workflow in which each follows the one before; at least 2.
    pub chain: u32,
    /// Whether a client watches that workflow, to tell where the time of its steps goes.
    pub trace_steps: bool,
    /// Tasks that run while their server is killed; it is not measured where 0.
    pub restart: u32,
    /// Finished jobs that an idle server has; it is not measured where 0.
    pub finished: u32,
    /// For how long an idle server is measured, in whole seconds.
    pub idle: Duration,
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
    /// What the machine allows, where that was measured.
    pub limit: Option<Bound>,
    /// What of it could not be measured, and why.
    pub missing: Option<Missing>,
}

/// What could not be measured, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The figure itself.
    Measure(String),
    /// What it is to be compared with.
    Limit(String),
}

/// What a figure would be if nothing but the durable writes that it needs were done.
#[derive(Debug, Clone)]
pub struct Bound {
    /// In the figure's unit; at least 1.
    pub number: u64,
    /// What was measured for it.
    pub of: String,
}

/// All figures of one run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The lines.
    pub figures: Vec<Figure>,
    /// Where the time of the workflow's steps went, as lines; empty unless that was asked for.
    pub steps: Vec<String>,
    /// The machine's load before and after, as Linux tells it.
    pub load: (String, String),
    /// Its processors.
    pub cpus: usize,
}

/// The first line of the table.
pub fn header() -> String {
    format!(
        "{:<58} {:>14}  {:<16} {:<14} BESIDE THE LIMIT",
        "WHAT", "MEASURED", "TO REACH FIRST", "GOAL"
    )
}

/// Measures everything, one after the other; each figure is told of when it is there.
pub async fn run(sizes: &Sizes, mut tell: impl FnMut(&Figure)) -> Report {
    let before = load();
    let mut figures = Vec::new();
    let steps = figures::all(sizes, |figure| {
        tell(&figure);
        figures.push(figure);
    })
    .await;
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    Report { figures, steps, load: (before, load()), cpus }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

impl Missing {
    fn why(&self) -> &str {
        match self {
            Self::Measure(why) | Self::Limit(why) => why,
        }
    }
}

/// In whole milliseconds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Report {
    /// The figures for programs.
    pub fn to_json(&self) -> Value {
        let figure = |figure: &Figure| {
            json!({
                "what": figure.what, "first": figure.first, "goal": figure.goal,
                "number": figure.number, "unit": figure.unit,
                "limit": figure.limit.as_ref().map(|limit| limit.number),
                "limitOf": figure.limit.as_ref().map(|limit| limit.of.as_str()),
                "missing": figure.missing.as_ref().map(Missing::why),
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

impl Figure {
    /// A figure with what is `(to reach first, the goal)` and the measure with its unit.
    fn new(
        what: String,
        (first, goal): (&'static str, &'static str),
        (number, unit): (u64, &'static str),
    ) -> Self {
        Self { what, first, goal, number, unit, limit: None, missing: None }
    }

    /// The same beside what the machine allows, in its unit.
    fn beside(self, number: u64, of: String) -> Self {
        Self { limit: Some(Bound { number: number.max(1), of }), ..self }
    }

    /// The same, of which something could not be measured.
    fn without(self, missing: Missing) -> Self {
        Self { missing: Some(missing), ..self }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, first, goal, number, unit, limit, missing } = self;
        let measured = match missing {
            Some(Missing::Measure(_)) => "-".to_owned(),
            Some(Missing::Limit(_)) | None => format!("{number} {unit}"),
        };
        write!(f, "{what:<58} {measured:>14}  {first:<16} ")?;
        if let Some(missing) = missing {
            return write!(f, "{goal:<14} not measured: {}", missing.why());
        }
        let Some(Bound { number: limit, of }) = limit else { return write!(f, "{goal}") };
        // Two digits behind the point, without rounding errors.
        let hundredths = number.saturating_mul(100) / limit;
        let (whole, rest) = (hundredths / 100, hundredths % 100);
        write!(f, "{goal:<14} {whole}.{rest:02} of {limit} {unit}: {of}")
    }
}
