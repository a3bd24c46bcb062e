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
    /// Real processes.
    #[arg(long, default_value_t = 2_000)]
    processes: u32,
    /// Containers of a Docker Engine.
    #[arg(long, default_value_t = 40)]
    containers: u32,
    /// Replicas of a service on a Docker Engine.
    #[arg(long, default_value_t = 50)]
    replicas: usize,
    /// Simulated nodes of each rollout that is timed, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1000,5000")]
    rollouts: Vec<usize>,
    /// Jobs of the workflow in which each follows the one before.
    #[arg(long, default_value_t = 50)]
    chain: u32,
    /// Also prints where the time of each step of that workflow went. A client watches it meanwhile,
    /// which makes the steps a little slower.
    #[arg(long)]
    trace_steps: bool,
    /// Tasks that run while their server is killed.
    #[arg(long, default_value_t = 50_000)]
    restart: u32,
    /// Finished jobs of the idle server that is measured.
    #[arg(long, default_value_t = 10_000)]
    finished: u32,
    /// Seconds for which an idle server is measured.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Writes the figures here, too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let placements = (args.placement_nodes, args.placement_tasks);
    println!("{}", bench::header());
    let idle = std::time::Duration::from_secs(args.idle);
    let Args { nodes, tasks, large, processes, containers, chain, restart, finished, .. } = args;
    let (replicas, rollouts) = (args.replicas, args.rollouts);
    let sizes = Sizes {
        placements,
        nodes,
        tasks,
        large,
        processes,
        containers,
        replicas,
        rollouts,
        chain,
        trace_steps: args.trace_steps,
        restart,
        finished,
        idle,
    };
    let report = bench::run(&sizes, |figure| println!("{figure}")).await;
    println!("{}", report.footer());
    report.steps.iter().for_each(|line| println!("{line}"));
    if let Some(file) = args.json {
        std::fs::write(file, report.to_json().to_string())?;
    }
    Ok(())
}
