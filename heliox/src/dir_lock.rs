//! A directory that one process uses at a time, such as an agent's state.
//!
//! Two agents on one directory would take turns in writing its journal, and each would start and stop
//! what the other one knows nothing of.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The file that is locked. It stays when the process has ended; the lock does not.
const FILE: &str = "lock";
/// Longest line that is read of the file: a process id and some more.
const LINE_BYTES_MAX: u64 = 100;

/// A directory is this process's own until this is dropped or the process ends, in whatever way. The
/// system keeps the lock, so a process that was killed leaves none behind.
#[derive(Debug)]
pub struct DirLock(
    #[expect(dead_code, reason = "it is held, not used: the lock goes when the file is closed")]
    File,
);

impl DirLock {
    /// Takes `dir`, which is made where it is missing. `what` it is and which `flag` names another
    /// one stand in the error, for where another process has it.
    pub fn take(dir: &Path, (what, flag): (&str, &str)) -> Result<Self> {
        let shown = dir.display();
        let mut builder = fs::DirBuilder::new();
        // Manifests, and with them secrets, are in it.
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
        // Who holds the lock is said to people alone, and a full disk must not keep an agent from
        // starting: the lock counts, not the text.
        if let Err(error) = written.and_then(|()| writeln!(file, "{pid}")) {
            tracing::warn!(%error, path = %path.display(), "cannot record which process uses the directory");
        }
        Ok(Self(file))
    }
}

/// Who holds the lock, as far as the file tells.
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
