//! A directory that only one process may use at a time, such as an agent's state.
//!
//! Two agents in one directory would overwrite each other's journal, and each would start and stop
//! containers that the other does not know of.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The file that is locked. It remains after the process has ended; the lock does not.
const FILE: &str = "lock";
/// Longest line that is read from the file: a process id and some more.
const LINE_BYTES_MAX: u64 = 100;

/// The directory belongs to this process until this is dropped or the process ends in any way. The
/// lock is the kernel's, so a killed process leaves none behind.
#[derive(Debug)]
pub struct DirLock(
    #[expect(dead_code, reason = "it is held, not used: the lock goes when the file is closed")]
    File,
);

impl DirLock {
    /// Locks `dir`, which is created if it does not exist. `what` it is, and the `flag` that
    /// selects another one, are part of the error if another process has it.
    pub fn take(dir: &Path, (what, flag): (&str, &str)) -> Result<Self> {
        let shown = dir.display();
        let mut builder = fs::DirBuilder::new();
        // It contains manifests, and so secrets.
        builder.recursive(true).mode(0o700);
        builder
            .create(dir)
            .with_context(|| format!("cannot create {what} {shown} (see {flag})"))?;
        let path = dir.join(FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).with_context(|| {
            format!(
                "cannot open {}: this process must be able to write to {what} (see {flag})",
                path.display()
            )
        })?;
        match file.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file);
                bail!(
                    "{what} {shown} is in use by {holder}. Stop that process, or name another \
                     directory with {flag}"
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let pid = std::process::id();
        let written = file.set_len(0).and_then(|()| file.rewind());
        // The text is only for people. If it cannot be written because the disk is full, the agent
        // must start all the same: the lock counts.
        if let Err(error) = written.and_then(|()| writeln!(file, "{pid}")) {
            tracing::warn!(%error, path = %path.display(), "cannot record which process uses the directory");
        }
        Ok(Self(file))
    }
}

/// Which process holds the lock, according to the file.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(LINE_BYTES_MAX).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_the_directory_until_that_one_is_gone() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        let take = || DirLock::take(&dir, ("the state directory", "--state-dir"));
        let first = take().unwrap();
        let refused = take().unwrap_err().to_string();
        let pid = std::process::id();
        assert!(refused.contains(&format!("is in use by process {pid}. Stop")), "{refused}");
        assert!(refused.contains("--state-dir"), "{refused}");
        drop(first);
        take().unwrap();
    }

    #[test]
    fn a_file_where_the_directory_should_be_is_said() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("file");
        fs::write(&dir, "").unwrap();
        let refused = DirLock::take(&dir, ("the state directory", "--state-dir")).unwrap_err();
        assert!(refused.to_string().contains("see --state-dir"), "{refused}");
    }
}
