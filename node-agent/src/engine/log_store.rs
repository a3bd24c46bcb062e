//! The folder in which logs outlive their containers, and how they are read.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::ErrorChain;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::logs::{LogLine, LogOptions, LogStream, LogWriter, rotated};
use super::{EngineError, Identity};
use crate::private;

/// How often a followed file is looked at again.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Says whether nothing will be written to a log any more.
pub(crate) type IsEnded = Arc<dyn Fn() -> bool + Send + Sync>;

/// Logs by identity.
#[derive(Debug, Clone)]
pub struct LogStore {
    dir: PathBuf,
}

impl LogStore {
    /// Makes the folder where it is missing.
    pub fn open(dir: &Path) -> io::Result<Self> {
        private::folder(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where a container's log is.
    pub fn path(&self, identity: &Identity) -> PathBuf {
        self.dir.join(format!("{}.log", identity.file_stem()))
    }

    /// Reads a container's log. `Gone` where there is none.
    pub async fn read(
        &self,
        identity: &Identity,
        options: LogOptions,
    ) -> Result<LogStream, EngineError> {
        self.read_until(identity, LogOptions { follow: false, ..options }, Arc::new(|| true)).await
    }

    /// Reads a container's log, while it is written to if that is wanted.
    pub(crate) async fn read_until(
        &self,
        identity: &Identity,
        options: LogOptions,
        is_ended: IsEnded,
    ) -> Result<LogStream, EngineError> {
        let path = self.path(identity);
        let mut there = VecDeque::new();
        if let Some(mut old) = open(&rotated(&path)).await? {
            read_all(&mut old, options, &mut there).await?;
        }
        let Some(mut reader) = open(&path).await? else {
            return Err(EngineError::Gone);
        };
        // Asked before the end is read: what is written in between is then read below.
        let was_ended = is_ended();
        read_all(&mut reader, options, &mut there).await?;
        let present = stream::iter(there).map(Ok);
        if !options.follow || was_ended {
            return Ok(present.boxed());
        }
        let follower = Follower { path, reader, is_ended, options, ready: VecDeque::new() };
        Ok(present.chain(stream::unfold(Some(follower), next_line)).boxed())
    }

    /// Deletes the logs last written before `before`, but those that `is_kept` says are in use.
    pub(crate) fn prune(
        &self,
        before: Timestamp,
        is_kept: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let stem = name.to_str().and_then(|name| name.split('.').next()).unwrap_or_default();
            let written = Timestamp::try_from(entry.metadata()?.modified()?);
            if written.is_ok_and(|written| written < before) && !is_kept(stem) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Replaces what is kept of a container by `lines`.
    pub(crate) async fn keep(
        &self,
        identity: &Identity,
        mut lines: LogStream,
        bytes_max: u64,
    ) -> Result<(), EngineError> {
        let path = self.path(identity);
        let copy = self.dir.join(format!("{}.copy.log", identity.file_stem()));
        // What a copy that was cut off has left.
        for stale in [copy.clone(), rotated(&copy)] {
            remove_if_there(&stale).map_err(|error| io_failed(&stale, &error))?;
        }
        let mut writer =
            LogWriter::open(&copy, bytes_max).map_err(|error| io_failed(&copy, &error))?;
        while let Some(line) = lines.next().await {
            writer.write(&line?).map_err(|error| io_failed(&copy, &error))?;
        }
        if rotated(&copy).exists() {
            std::fs::rename(rotated(&copy), rotated(&path))
                .map_err(|error| io_failed(&path, &error))?;
        }
        std::fs::rename(&copy, &path).map_err(|error| io_failed(&path, &error))
    }
}

/// Deletes a file that may not be there.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A log that is being written to.
struct Follower {
    path: PathBuf,
    reader: Reader,
    is_ended: IsEnded,
    options: LogOptions,
    ready: VecDeque<LogLine>,
}

/// An open log file and the line that was not whole yet.
struct Reader {
    file: BufReader<File>,
    inode: u64,
    partial: Vec<u8>,
}

async fn next_line(
    follower: Option<Follower>,
) -> Option<(Result<LogLine, EngineError>, Option<Follower>)> {
    let mut follower = follower?;
    loop {
        if let Some(line) = follower.ready.pop_front() {
            return Some((Ok(line), Some(follower)));
        }
        match follower.look().await {
            Ok(true) => (),
            Ok(false) => return None,
            Err(error) => return Some((Err(error), None)),
        }
    }
}

impl Follower {
    /// Reads what there is, after a pause where that is nothing; false where no more will come.
    async fn look(&mut self) -> Result<bool, EngineError> {
        let options = LogOptions { tail: None, ..self.options };
        // Asked first, so that what was written before the end is read.
        let ended = (self.is_ended)();
        let replaced = tokio::fs::metadata(&self.path)
            .await
            .is_ok_and(|there| there.ino() != self.reader.inode);
        read_all(&mut self.reader, options, &mut self.ready).await?;
        if replaced && let Some(reader) = open(&self.path).await? {
            self.reader = reader;
            return Ok(true);
        }
        if self.ready.is_empty() {
            if ended {
                return Ok(false);
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
        Ok(true)
    }
}

async fn open(path: &Path) -> Result<Option<Reader>, EngineError> {
    let file = match File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_failed(path, &error)),
    };
    let inode = file.metadata().await.map_err(|error| io_failed(path, &error))?.ino();
    Ok(Some(Reader { file: BufReader::new(file), inode, partial: Vec::new() }))
}

/// Reads whole lines up to the end of the file, as far as they are wanted.
async fn read_all(
    reader: &mut Reader,
    options: LogOptions,
    lines: &mut VecDeque<LogLine>,
) -> Result<(), EngineError> {
    loop {
        let read = reader.file.read_until(b'\n', &mut reader.partial).await;
        let read = read.map_err(|error| EngineError::unavailable(error.to_string()))?;
        if read == 0 {
            return Ok(());
        }
        if !reader.partial.ends_with(b"\n") {
            continue;
        }
        let line = LogLine::parse(&reader.partial);
        reader.partial.clear();
        let wanted = line.filter(|line| options.since.is_none_or(|since| line.time >= since));
        lines.extend(wanted);
        if options.tail.is_some_and(|tail| lines.len() > tail) {
            lines.pop_front();
        }
    }
}

fn io_failed(path: &Path, error: &io::Error) -> EngineError {
    EngineError::unavailable(format!("{}: {}", path.display(), ErrorChain(error)))
}
