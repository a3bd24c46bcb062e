//! Real processes: what starting one costs, beside HyperQueue on the same machine.

use std::path::Path;
use std::process::{Command, Stdio};

use tokio::time::Instant;

use super::workload::{complete, no_op};
use super::{Figure, Missing, millis};
use crate::fleet::{ControlPlane, Fleet, Shape, program};

/// Where `python3 -m pip` puts HyperQueue, beside the programs: it is installed once.
const PEER_DIR: &str = "bench-hyperqueue";

/// Runs processes that do nothing, each a task.
pub(super) async fn figures(count: u32) -> [Figure; 2] {
    let shape = Shape {
        runtime: "process",
        agents: 1,
        capacity: "cpu=10000,memory=10000Gi",
        control_plane: ControlPlane::Embedded,
    };
    let fleet = Fleet::start(shape).await;
    let mut job = no_op("processes", count);
    job.spec.template.command = vec!["/bin/true".to_owned()];
    let (before, start) = (fleet.cpu_of_all_millis(), Instant::now());
    complete(&fleet, &job).await;
    let took = millis(start.elapsed()).max(1);
    let cpu = fleet.cpu_of_all_millis() - before;
    drop(fleet);
    let what = format!("{count} real processes: cpu a task, theirs as well, embedded");
    let number = cpu * 1000 / u64::from(count);
    let cpu = Figure::new(what, ("1.2 of HyperQueue", "-"), (number, "us"));
    let peer = tokio::task::spawn_blocking(move || peer(count)).await;
    let cpu = match peer.unwrap_or_else(|panic| Err(panic.to_string())) {
        Ok((version, number)) => cpu.beside(number, format!("HyperQueue {version}")),
        Err(why) => cpu.without(Missing::Limit(format!("HyperQueue: {why}"))),
    };
    let what = format!("{count} real processes: submitted to ended, embedded");
    let rate = Figure::new(what, ("-", "-"), (u64::from(count) * 1000 / took, "/s"));
    [cpu, rate]
}

/// HyperQueue's version and the processor time that a task of it takes, in microseconds; or why that is
/// not known.
fn peer(count: u32) -> Result<(String, u64), String> {
    let heliox = program("heliox");
    let dir = heliox.parent().unwrap_or(Path::new("/")).join(PEER_DIR);
    if !dir.join("hyperqueue").is_dir() {
        let pip = ["-m", "pip", "install", "--quiet", "--target"];
        let mut install = Command::new("python3");
        said(install.args(pip).arg(&dir).arg("hyperqueue"))?;
    }
    // It leaves two files for each task in the folder where it is started.
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut run = Command::new("python3");
    run.args(["-c", include_str!("peer.py"), &count.to_string()]).env("PYTHONPATH", &dir);
    let said = said(run.current_dir(folder.path()))?;
    let line = said.lines().find_map(|line| line.strip_prefix("FIGURE "));
    let (version, number) = line.and_then(|line| line.split_once(' ')).ok_or("it said nothing")?;
    let number = number.parse().map_err(|_| format!("it said {number:?}"))?;
    Ok((version.to_owned(), number))
}

/// What a command prints; or why it failed, in its last words.
fn said(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run python3: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(words.lines().last().unwrap_or("it failed without a word").to_owned())
}
