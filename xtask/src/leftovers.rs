//! Runs the tests, and fails if a process of ours is left over.
//! A test that leaves a server or a task running may pass, but takes memory, ports and processors
//! from every test after it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::park_timeout;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How often to look for a process that was asked to end, and how long to wait in between. The shim
/// of a task looks for its directory every two seconds.
const LOOKS_MAX: u32 = 100;
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Runs a command, and fails if it leaves processes running. Its temporary files get a folder of
/// their own. This tells the tasks of tests from those of a Heliox that somebody uses at the same
/// time.
pub(crate) fn run(command: &[String]) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("heliox-tests-").tempdir();
    run_in(folder.context("make a folder for what is temporary")?.path(), command)
}

fn run_in(folder: &Path, command: &[String]) -> Result<()> {
    let (program, args) = command.split_first().context("say what to run")?;
    let before = ours(folder)?;
    let mut command = Command::new(program);
    let status = command.args(args).env("TMPDIR", folder).status().context("run the tests")?;
    let mut left = BTreeMap::new();
    for _ in 0..LOOKS_MAX {
        left = ours(folder)?;
        left.retain(|pid, _| !before.contains_key(pid));
        if left.is_empty() {
            break;
        }
        // Nothing unparks this thread.
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

/// Our running processes, and what they run.
fn ours(folder: &Path) -> Result<BTreeMap<u32, String>> {
    let target = std::env::current_exe()?;
    // target/debug/xtask
    let target = target.parent().and_then(Path::parent).context("find the target folder")?;
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(pid) = name.and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that ends meanwhile is not left over, and other users' processes cannot be
        // read.
        let link = |name: &str| fs::read_link(path.join(name)).unwrap_or_default();
        if pid != std::process::id() && is_ours((&link("exe"), &link("cwd")), (target, folder)) {
            let words = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            found.insert(pid, words.replace('\0', " "));
        }
    }
    Ok(found)
}

/// Whether a process runs a program that was built here, or one in the tests' temporary folder, as
/// tasks of the process engine do.
fn is_ours((exe, cwd): (&Path, &Path), (target, folder): (&Path, &Path)) -> bool {
    exe.starts_with(target) || cwd.starts_with(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shims_and_tasks_are_ours_and_nothing_else() {
        let places = (Path::new("/src/target"), Path::new("/tmp/heliox-tests-7"));
        let is = |exe: &str, cwd: &str| is_ours((Path::new(exe), Path::new(cwd)), places);
        assert!(is("/src/target/debug/heliox-shim", "/"));
        assert!(is("/src/target/debug/heliox (deleted)", "/"));
        assert!(is("/bin/dash", "/tmp/heliox-tests-7/.tmpX/a/tasks/0af3-1/work"));
        assert!(is("/bin/dash", "/tmp/heliox-tests-7/.tmpX/a/tasks/0af3-1/work (deleted)"));
        assert!(!is("/bin/dash", "/tmp/heliox-dev-1/a/tasks/0af3-1/work"), "somebody else's");
        assert!(!is("/bin/dash", "/src"));
        assert!(!is("/usr/bin/dockerd", "/"));
        assert!(!is("", ""));
    }
}
