//! `make bench`: one table of figures, beside what they are to be.

use clap::Parser;
use e2e::bench::{self, Sizes};

/// Measures the programs beside this one and prints a table.
#[derive(Debug, Parser)]
struct Args {
    /// Nodes of the placements that are timed.
    #[arg(long, default_value_t = 5_000)]
    placement_nodes: u32,
    /// Tasks of the placements that are timed.
    #[arg(long, default_value_t = 50_000)]
    placement_tasks: u32,
    /// Simulated nodes: an agent process each.
    #[arg(long, default_value_t = 10)]
    nodes: usize,
    /// Tasks of the job that is timed.
    #[arg(long, default_value_t = 10_000)]
    tasks: u32,
    /// Tasks of the large job.
    #[arg(long, default_value_t = 100_000)]
    large: u32,
    /// Jobs of the workflow in which each follows the one before.
    #[arg(long, default_value_t = 50)]
    chain: u32,
    /// Writes the figures here, too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
async fn main() -> std::io::Result<()> {
    let Args { placement_nodes, placement_tasks, nodes, tasks, large, chain, json } = Args::parse();
    let placements = (placement_nodes, placement_tasks);
    println!("{}", bench::header());
    let sizes = Sizes { placements, nodes, tasks, large, chain };
    let report = bench::run(&sizes, |figure| println!("{figure}")).await;
    println!("{}", report.footer());
    if let Some(file) = json {
        std::fs::write(file, report.to_json().to_string())?;
    }
    Ok(())
}
