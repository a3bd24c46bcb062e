//! The folder in which logs are kept after their containers were removed, and how logs are read.

use std::collections::{BTreeMap, BTreeSet};
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
use super::{EngineError, Identity, LOGS_KEPT, log_copy};
use crate::free::Free;
use shim::private::{self, named, remove_if_there};

/// How often a followed log is checked for more.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Extension of the file beside a log that says how many seconds the log is to be kept.
const KEEP: &str = "keep";

/// Most bytes of logs of removed containers. Beyond that the oldest are deleted.
const KEPT_BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;

/// Most logs that are kept of the containers of one attempt: a container that ends again and again
/// would otherwise leave one for each of its restarts.
const RESTARTS_KEPT: usize = 5;

/// Upper bound of what a log takes besides its lines: the unused ends of its files' last blocks,
/// and a mark.
const MARGIN_BYTES: u64 = 4096 * (LOG_FILES as u64 + 2);

/// Resolves once nothing will be added to a log.
pub(crate) type End = BoxFuture<'static, ()>;

/// Logs by identity.
#[derive(Debug, Clone)]
pub struct LogStore {
    dir: PathBuf,
}

impl LogStore {
    /// Creates the folder if it does not exist.
    pub fn open(dir: &Path) -> io::Result<Self> {
        private::folder(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where a container's log is kept.
    pub fn path(&self, identity: &Identity) -> PathBuf {
        self.dir.join(format!("{}.log", identity.file_stem()))
    }

    /// Whether any part of a container's log was kept.
    pub(crate) fn has(&self, identity: &Identity) -> bool {
        LogFiles::at(vec![self.path(identity)]).exist()
    }

    /// Reads a kept log, to which nothing is added. `Gone` if there is none.
    pub async fn read(
        &self,
        identity: &Identity,
        options: LogOptions,
    ) -> Result<LogStream, EngineError> {
        let files = LogFiles::at(vec![self.path(identity)]);
        read_files(files, options, future::ready(()).boxed()).await
    }

    /// Notes that a container's log is to be kept for so long, and not for [`LOGS_KEPT`].
    pub(crate) fn keep_for(&self, identity: &Identity, keep: Duration) -> io::Result<()> {
        let path = self.dir.join(format!("{}.{KEEP}", identity.file_stem()));
        std::fs::write(&path, keep.as_secs().to_string()).map_err(|error| named(&path, &error))
    }

    /// Deletes the logs whose time is over at `now`, the oldest ones of an attempt with many
    /// restarts, and the oldest ones if all together are too large, but none of those that are in
    /// use (`is_kept`). It deletes all it can even if one deletion fails.
    pub(crate) fn prune(&self, now: Timestamp, is_kept: impl Fn(&str) -> bool) -> io::Result<()> {
        self.prune_to(now, KEPT_BYTES_MAX, is_kept)
    }

    fn prune_to(
        &self,
        now: Timestamp,
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
            if entry.path().extension().is_some_and(|end| end == KEEP) {
                log.keep = std::fs::read_to_string(entry.path())?.parse().ok();
                log.files.push(entry.path());
                continue;
            }
            let written = Timestamp::try_from(metadata.modified()?).ok();
            log.written = log.written.max(written);
            log.bytes += metadata.len();
            log.files.push(entry.path());
        }
        logs.retain(|stem, _| !is_kept(stem));
        let many = surplus_restarts(logs.keys());
        let mut bytes: u64 = logs.values().map(|log| log.bytes).sum();
        let mut oldest_first: Vec<(String, KeptLog)> = logs.into_iter().collect();
        oldest_first.sort_by_key(|(_, log)| log.written);
        let mut stays = Ok(());
        for (stem, log) in oldest_first {
            let keep = log.keep.map_or(LOGS_KEPT, Duration::from_secs);
            let before = now.saturating_sub(keep).map_err(io::Error::other)?;
            let is_old = log.written.is_none_or(|written| written < before);
            if is_old || bytes > bytes_max || many.contains(&stem) {
                bytes -= log.bytes;
                let remove = |file: &PathBuf| remove_if_there(file).map_err(|it| named(file, &it));
                // A file that cannot be deleted must not prevent the deletion of others, or the
                // disk would fill up.
                stays = log.files.iter().map(remove).fold(stays, io::Result::and);
            }
        }
        stays
    }

    /// Keeps the files of a log at `from`, which is complete and about to be deleted. If they do
    /// not exist any more, what an earlier try has kept stays.
    pub(crate) fn keep_files(&self, identity: &Identity, from: &Path) -> io::Result<()> {
        let path = self.path(identity);
        if !LogFiles::at(vec![from.to_owned()]).exist() {
            return Ok(());
        }
        // The newest first: if there is not enough room for all, the oldest lines are the least
        // missed.
        for number in 0..LOG_FILES {
            let (from, to) = (rotated(from, number), rotated(&path, number));
            // The engine has deleted the file since an earlier try, which has kept it.
            if !from.try_exists()? {
                continue;
            }
            remove_if_there(&to)?;
            if let Err(error) = self.keep_file(identity, &from, &to) {
                // Not all fits, so the end of this file is kept, after a mark that says so. It must
                // be a new file, because the one that exists may be a hard link to the engine's
                // own. If there is no room even for the mark, the file names tell it.
                if !to.exists() {
                    tell_by_name(&path, number)?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn keep_file(&self, identity: &Identity, from: &Path, to: &Path) -> io::Result<()> {
        // Within one file system a hard link is enough. The file then becomes private under the
        // engine's name as well; the engine is about to delete it, and until then can read it as
        // its owner or as root.
        if std::fs::hard_link(from, to).and_then(|()| private::take_over(to)).is_ok() {
            return Ok(());
        }
        // The link is to a file of another user, which cannot be made private. Copy it instead.
        remove_if_there(to)?;
        let copy = self.dir.join(format!("{}.copy", identity.file_stem()));
        let copied = log_copy::copy(from, &copy);
        if copied.is_ok() || copy.exists() {
            private::take_over(&copy)?;
            std::fs::rename(&copy, to)?;
        }
        copied
    }

    /// Replaces the kept log of a container by `events`, if there are any. If there are none, an
    /// earlier try to remove the container may have deleted the log after it was kept.
    pub(crate) async fn keep(
        &self,
        identity: &Identity,
        mut events: LogStream,
        bytes_max: u64,
    ) -> Result<(), EngineError> {
        let path = self.path(identity);
        let failed = |error: &io::Error| io_failed(&path, error);
        // The engine returns the oldest lines first, so if the disk has little room, the file size
        // is limited accordingly: the writer's rotation then drops the oldest lines.
        let room = Free::on(&self.dir).map_err(|error| failed(&error))?.bytes;
        let bytes_max = bytes_max.min(room.saturating_sub(MARGIN_BYTES).max(MARGIN_BYTES));
        let mut next = events.next().await;
        let says_something = matches!(next, Some(Ok(_)));
        if !says_something && self.has(identity) {
            return Ok(());
        }
        // Includes what an interrupted earlier copy has left.
        for number in 0..LOG_FILES {
            remove_if_there(&rotated(&path, number)).map_err(|error| failed(&error))?;
        }
        let opened = LogWriter::open(&path, bytes_max).and_then(|mut writer| {
            writer.reserve_mark()?;
            Ok(writer)
        });
        let mut writer = opened.map_err(|error| {
            // An empty log would mean that the container wrote nothing.
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
                // The rest is missing. There is still room to note that.
                writer.lost();
                let _broken = writer.end();
                return Err(error);
            }
            next = events.next().await;
        }
        writer.end().map_err(|error| failed(&error))
    }
}

/// Those of these names of logs whose attempt has enough newer ones.
fn surplus_restarts<'a>(stems: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    let mut of_attempts: BTreeMap<Identity, BTreeMap<u32, String>> = BTreeMap::new();
    for stem in stems {
        if let Some(identity) = Identity::of_file_stem(stem) {
            let restart = identity.restart();
            let of_attempt = of_attempts.entry(identity.into_attempt()).or_default();
            of_attempt.insert(restart, stem.clone());
        }
    }
    let surplus = |of_attempt: BTreeMap<u32, String>| {
        of_attempt.into_values().rev().skip(RESTARTS_KEPT).collect::<Vec<_>>()
    };
    of_attempts.into_values().flat_map(surplus).collect()
}

/// The files of a log of a removed container.
#[derive(Debug, Default)]
struct KeptLog {
    written: Option<Timestamp>,
    /// How long it is to be kept, in seconds, where that was noted.
    keep: Option<u64>,
    bytes: u64,
    files: Vec<PathBuf>,
}

/// Tells by the name of a file, without a byte on the full disk, that a log had more than is kept:
/// the file of this number and older ones are missing. The oldest kept file gets the last number,
/// from which readers conclude that older ones were deleted. If nothing is kept, readers are told
/// that there is no log.
fn tell_by_name(path: &Path, number: u32) -> io::Result<()> {
    // What an earlier try has kept of older files would be taken for newer records.
    for older in number..LOG_FILES {
        remove_if_there(&rotated(path, older))?;
    }
    let newer = (0..number).rev().map(|newer| rotated(path, newer)).find(|newer| newer.exists());
    newer.map_or(Ok(()), |newer| std::fs::rename(newer, rotated(path, LOG_FILES - 1)))
}

/// Reads the files of a log. If it is followed, until `end` resolves.
pub(crate) async fn read_files(
    files: LogFiles,
    options: LogOptions,
    end: End,
) -> Result<LogStream, EngineError> {
    let reader = blocking(move || {
        let reader = Reader::begin(files.clone(), options)?;
        // The files may be deleted at any moment; one that is open can be read to its end.
        Ok((reader.is_open() || files.exist()).then_some(reader))
    });
    let reader = reader.await?.ok_or(EngineError::Gone)?;
    let following = Following {
        reader: Some(reader),
        end: end.fuse(),
        // If it is not followed, what exists now is read to its end.
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
    /// `None` while a read is in progress.
    reader: Option<Reader>,
    end: Fuse<End>,
    has_ended: bool,
}

impl Following {
    /// The next events; nothing after the end.
    async fn next(&mut self) -> Result<Option<Vec<LogEvent>>, EngineError> {
        loop {
            // Must be determined before the files are read, so that everything written before the
            // end is read.
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

/// Runs file operations outside the executor, because they may wait for the disk.
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
