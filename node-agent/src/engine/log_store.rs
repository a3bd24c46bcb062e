//! The folder in which logs outlive their containers, and how logs are read.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::ErrorChain;
use futures_util::future::{BoxFuture, Fuse};
use futures_util::{FutureExt as _, StreamExt, future, stream};
use jiff::Timestamp;

use super::log_files::Reader;
use super::log_segments::LogFiles;
use super::logs::{LOG_FILES, LogEvent, LogOptions, LogStream, LogWriter, rotated};
use super::{EngineError, Identity, log_copy};
use crate::free::Free;
use shim::private::{self, named};

/// How often a followed log is looked at again.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes of logs that are kept of containers that were removed. Beyond that the oldest logs go.
const KEPT_BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;

/// What a log takes beside its lines, or less: the ends of the last blocks of its files, and the room
/// for a mark.
const MARGIN_BYTES: u64 = 4096 * (LOG_FILES as u64 + 2);

/// Resolves once nothing will be written to a log any more.
pub(crate) type End = BoxFuture<'static, ()>;

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

    /// Whether anything of a container's log was kept.
    pub(crate) fn has(&self, identity: &Identity) -> bool {
        LogFiles::at(vec![self.path(identity)]).exist()
    }

    /// Reads a container's log, which nobody writes to. `Gone` where there is none.
    pub async fn read(
        &self,
        identity: &Identity,
        options: LogOptions,
    ) -> Result<LogStream, EngineError> {
        let files = LogFiles::at(vec![self.path(identity)]);
        read_files(files, options, future::ready(()).boxed()).await
    }

    /// Deletes the logs last written before `before`, and the oldest ones where all together are too
    /// large; but not those that `is_kept` says are in use. All that can be deleted is, also where this
    /// fails.
    pub(crate) fn prune(
        &self,
        before: Timestamp,
        is_kept: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        self.prune_to(before, KEPT_BYTES_MAX, is_kept)
    }

    fn prune_to(
        &self,
        before: Timestamp,
        bytes_max: u64,
        is_kept: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        let mut logs: BTreeMap<String, KeptLog> = BTreeMap::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let stem = name.to_str().and_then(|name| name.split('.').next()).unwrap_or_default();
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            let log = logs.entry(stem.to_owned()).or_default();
            let written = Timestamp::try_from(metadata.modified()?).ok();
            log.written = log.written.max(written);
            log.bytes += metadata.len();
            log.files.push(entry.path());
        }
        logs.retain(|stem, _| !is_kept(stem));
        let mut bytes: u64 = logs.values().map(|log| log.bytes).sum();
        let mut oldest_first: Vec<KeptLog> = logs.into_values().collect();
        oldest_first.sort_by_key(|log| log.written);
        let mut stays = Ok(());
        for log in oldest_first {
            let is_old = log.written.is_none_or(|written| written < before);
            if is_old || bytes > bytes_max {
                bytes -= log.bytes;
                let remove = |file: &PathBuf| remove_if_there(file).map_err(|it| named(file, &it));
                // A file that cannot be deleted must not keep the others, or the disk would fill.
                stays = log.files.iter().map(remove).fold(stays, io::Result::and);
            }
        }
        stays
    }

    /// Keeps the files of a log that is about to be deleted at `from`, to which nobody writes. Where
    /// there are none (any more), what an earlier try has kept stays.
    pub(crate) fn keep_files(&self, identity: &Identity, from: &Path) -> io::Result<()> {
        let path = self.path(identity);
        if !LogFiles::at(vec![from.to_owned()]).exist() {
            return Ok(());
        }
        // The newest first: where the disk has no room for all, the oldest lines are missed least.
        for number in 0..LOG_FILES {
            let (from, to) = (rotated(from, number), rotated(&path, number));
            // What an earlier try has kept of a file that the engine has deleted since stays.
            if !from.try_exists()? {
                continue;
            }
            remove_if_there(&to)?;
            if let Err(error) = self.keep_file(identity, &from, &to) {
                // Of this file its end is kept, behind a mark that says so: a new file, since the one
                // that is there may be a link to the engine's own. Without room even for a mark, that
                // is told otherwise.
                if !to.exists() {
                    tell_by_name(&path, number)?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn keep_file(&self, identity: &Identity, from: &Path, to: &Path) -> io::Result<()> {
        // The same file under a second name, where both are in one file system. It becomes private
        // under the engine's name, too, which the engine is about to delete; until then it reads it
        // as the file's owner or as root.
        if std::fs::hard_link(from, to).and_then(|()| private::take_over(to)).is_ok() {
            return Ok(());
        }
        // A link to a file of somebody else, which cannot be made private.
        remove_if_there(to)?;
        let copy = self.dir.join(format!("{}.copy", identity.file_stem()));
        let copied = log_copy::copy(from, &copy);
        if copied.is_ok() || copy.exists() {
            private::take_over(&copy)?;
            std::fs::rename(&copy, to)?;
        }
        copied
    }

    /// Replaces what is kept of a container by what `events` say, if they say anything: the engine may
    /// have deleted the log in an earlier try to remove the container, which has kept it.
    pub(crate) async fn keep(
        &self,
        identity: &Identity,
        mut events: LogStream,
        bytes_max: u64,
    ) -> Result<(), EngineError> {
        let path = self.path(identity);
        let failed = |error: &io::Error| io_failed(&path, error);
        // An engine tells the oldest lines first. As a log with less room keeps its newest lines, so
        // does the copy where the disk has less.
        let room = Free::on(&self.dir).map_err(|error| failed(&error))?.bytes;
        let bytes_max = bytes_max.min(room.saturating_sub(MARGIN_BYTES).max(MARGIN_BYTES));
        let mut next = events.next().await;
        let says_something = matches!(next, Some(Ok(_)));
        if !says_something && self.has(identity) {
            return Ok(());
        }
        // What a copy that was cut off has left, too.
        for number in 0..LOG_FILES {
            remove_if_there(&rotated(&path, number)).map_err(|error| failed(&error))?;
        }
        let opened = LogWriter::open(&path, bytes_max).and_then(|mut writer| {
            writer.reserve_mark()?;
            Ok(writer)
        });
        let mut writer = opened.map_err(|error| {
            // An empty log would say that the container wrote nothing.
            let _stays = remove_if_there(&path);
            failed(&error)
        })?;
        while let Some(event) = next {
            let kept = match event {
                Ok(LogEvent::Line { line, .. }) => {
                    writer.write(line.written()).map_err(|it| failed(&it))
                }
                Ok(LogEvent::Gap) => {
                    writer.lost();
                    Ok(())
                }
                Ok(LogEvent::From(_)) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = kept {
                // The rest is missing, which the log says: there is room for that.
                writer.lost();
                let _broken = writer.end();
                return Err(error);
            }
            next = events.next().await;
        }
        writer.end().map_err(|error| failed(&error))
    }
}

/// The files of a log whose container was removed.
#[derive(Debug, Default)]
struct KeptLog {
    written: Option<Timestamp>,
    bytes: u64,
    files: Vec<PathBuf>,
}

/// Says that there was more of a log than is kept, where the file of this number and older ones are
/// not: without a byte. The oldest file that is kept goes to the last place, by which readers know
/// that others were deleted. Where nothing is kept, they are told that there is no log.
fn tell_by_name(path: &Path, number: u32) -> io::Result<()> {
    // What an earlier try has kept of older files would be taken for newer than that.
    for older in number..LOG_FILES {
        remove_if_there(&rotated(path, older))?;
    }
    let newer = (0..number).rev().map(|newer| rotated(path, newer)).find(|newer| newer.exists());
    newer.map_or(Ok(()), |newer| std::fs::rename(newer, rotated(path, LOG_FILES - 1)))
}

/// Deletes a file that may not be there.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Reads the files of a log; if that is wanted, until `end` says that nothing more will be written.
pub(crate) async fn read_files(
    files: LogFiles,
    options: LogOptions,
    end: End,
) -> Result<LogStream, EngineError> {
    let reader =
        blocking(
            move || {
                if files.exist() { Reader::begin(files, options).map(Some) } else { Ok(None) }
            },
        );
    let reader = reader.await?.ok_or(EngineError::Gone)?;
    let following = Following {
        reader: Some(reader),
        end: end.fuse(),
        // What is there now is read to its end.
        has_ended: !options.follow,
    };
    let batches = stream::unfold(Some(following), |following| async move {
        let mut following = following?;
        match following.next().await {
            Ok(None) => None,
            Ok(Some(events)) => Some((Ok(events), Some(following))),
            Err(error) => Some((Err(error), None)),
        }
    });
    let events = batches.flat_map(|batch| match batch {
        Ok(events) => stream::iter(events.into_iter().map(Ok)).left_stream(),
        Err(error) => stream::iter([Err(error)]).right_stream(),
    });
    Ok(events.boxed())
}

/// A log that is read until its end.
struct Following {
    /// Here between two reads.
    reader: Option<Reader>,
    end: Fuse<End>,
    has_ended: bool,
}

impl Following {
    /// What comes next; nothing after the end.
    async fn next(&mut self) -> Result<Option<Vec<LogEvent>>, EngineError> {
        loop {
            // Known before the files are read: what was written before the end is then read.
            let had_ended = self.has_ended;
            let Some(mut reader) = self.reader.take() else { return Ok(None) };
            let read = blocking(move || {
                let events = reader.read()?;
                Ok((reader, events))
            });
            let (reader, events) = read.await?;
            self.reader = Some(reader);
            if !events.is_empty() {
                return Ok(Some(events));
            }
            if had_ended {
                return Ok(None);
            }
            tokio::select! {
                biased;
                () = &mut self.end => self.has_ended = true,
                () = tokio::time::sleep(FOLLOW_INTERVAL) => (),
            }
        }
    }
}

/// Runs file operations off the executor: they may wait for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, EngineError> {
    match base::blocking("logs", work).await {
        Ok(done) => done.map_err(|error| EngineError::unavailable(ErrorChain(&error).to_string())),
        Err(panic) => Err(EngineError::unavailable(panic)),
    }
}

fn io_failed(path: &Path, error: &io::Error) -> EngineError {
    EngineError::unavailable(format!("{}: {}", path.display(), ErrorChain(error)))
}

#[cfg(test)]
mod tests;
