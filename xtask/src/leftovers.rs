//! Runs the tests, and fails where a process of ours outlives them.
//!
//! A test that leaves a server or a task behind passes, and takes memory, ports and processors of
//! every test after it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::park_timeout;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// So often it is looked for a process that was asked to end, and how long it is waited in between.
/// A task's shim looks for its directory every two seconds.
const LOOKS_MAX: u32 = 100;
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Runs a command; what it leaves running is an error.
pub(crate) fn run(command: &[String]) -> Result<()> {
    let (program, args) = command.split_first().context("say what to run")?;
    let before = ours()?;
    let status = Command::new(program).args(args).status().context("run the tests")?;
    let mut left = BTreeMap::new();
    for _ in 0..LOOKS_MAX {
        left = ours()?;
        left.retain(|pid, _| !before.contains_key(pid));
        if left.is_empty() {
            break;
        }
        // Nobody wakes this thread.
        park_timeout(LOOK_INTERVAL);
    }
    if !status.success() {
        bail!("{program}: {status}");
    }
    if !left.is_empty() {
        let each: Vec<String> = left.iter().map(|(pid, what)| format!("  {pid} {what}")).collect();
        bail!(
            "{} processes outlived the tests; a test must end what it started:\n{}",
            left.len(),
            each.join("\n")
        );
    }
    Ok(())
}

/// Processes of ours that run, and what they run.
fn ours() -> Result<BTreeMap<u32, String>> {
    let target = std::env::current_exe()?;
    // target/debug/xtask
    let target = target.parent().and_then(Path::parent).context("find the target folder")?;
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(pid) = name.and_then(|name| name.parse::<u32>().ok()) else { continue };
        // What ends meanwhile is no leftover, and what is somebody else's cannot be read.
        let link = |name: &str| fs::read_link(path.join(name)).unwrap_or_default();
        if pid != std::process::id() && is_ours(&link("exe"), &link("cwd"), target) {
            let words = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            found.insert(pid, words.replace('\0', " "));
        }
    }
    Ok(found)
}

/// Whether a process runs a program that was built here, or in the folder of a task of the process
/// engine.
fn is_ours(exe: &Path, cwd: &Path, target: &Path) -> bool {
    let cwd: Vec<PathBuf> = cwd.components().map(|part| PathBuf::from(part.as_os_str())).collect();
    let is_task = match cwd.as_slice() {
        [.., tasks, _, work] => {
            // The kernel adds to the name of a folder that was deleted.
            *tasks == *"tasks" && work.to_string_lossy().split(' ').next() == Some("work")
        }
        _ => false,
    };
    is_task || exe.starts_with(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shims_and_tasks_are_ours_and_nothing_else() {
        let target = Path::new("/src/target");
        let is = |exe: &str, cwd: &str| is_ours(Path::new(exe), Path::new(cwd), target);
        assert!(is("/src/target/debug/heliox-shim", "/"));
        assert!(is("/src/target/debug/heliox (deleted)", "/"));
        assert!(is("/bin/dash", "/tmp/.tmpX/a/tasks/0af3-1/work"));
        assert!(is("/bin/dash", "/tmp/.tmpX/a/tasks/0af3-1/work (deleted)"));
        assert!(!is("/bin/dash", "/src"));
        assert!(!is("/usr/bin/dockerd", "/"));
        assert!(!is("", ""));
    }
}
