//! Logs of containers. Docker's `json-file` driver writes them, and we read its files.
//!
//! If the files cannot be read, because the agent lacks the permission or the engine keeps them
//! elsewhere (Podman, or an engine in another file system), the engine's log API is used. Following
//! then works only as well as in that engine: Docker 20.10 loses and repeats lines when it rotates
//! files under a reader. Positions are times in that case, also in the copy that is kept of such a
//! log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use api::log::Position;
use bollard::container::LogOutput;
use bollard::models::HostConfigLogConfig;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::stream::StreamExt as _;
use futures_util::{FutureExt as _, TryStreamExt as _, future};
use jiff::Timestamp;
use tokio::time::{Duration, sleep};
use tracing::{debug, warn};

use super::classify::{Stage, classify};
use super::find::Found;
use super::{DockerEngine, observe};
use crate::engine::log_segments::LogFiles;
use crate::engine::log_store::{End, read_files};
use crate::engine::logs::{LOG_BYTES_MAX, LOG_FILES, LogEvent, LogLine, LogOptions, Output};
use crate::engine::{ContainerState, EngineError, Identity, LogStream};

/// How long to wait before checking again whether a container has ended, after the engine's wait
/// call failed.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// How long the log is to be kept after the container is gone, in seconds: the engine's own record of
/// it, since the agent that removes the container need not know its template.
pub(super) const LABEL_KEEP: &str = "heliox.dev/log-keep";

/// The file number in positions of logs that are read through the engine. No real file has it.
const ENGINE_FILE: i64 = -1;

/// Bounded in size. The driver's blocking mode makes a program that writes faster than the disk
/// wait, as with a file of its own, so that no line is dropped.
pub(super) fn config(bytes_max: u64) -> HostConfigLogConfig {
    let options = [
        ("max-size", (bytes_max / u64::from(LOG_FILES)).to_string()),
        ("max-file", LOG_FILES.to_string()),
    ];
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
    }
}

/// Whether a container's log was deleted and is not merely invisible to us: the parent of all
/// container folders is visible. While the engine removes a container it still knows it, but the
/// log is gone.
fn is_deleted(log: &Path) -> bool {
    !log.exists() && log.ancestors().nth(2).is_some_and(Path::exists)
}

/// Where the log of a container that the engine knows can be read.
#[derive(Debug, PartialEq, Eq)]
enum LogPlace {
    /// In the engine's files, of which this is the newest, or in the copy of them.
    File(PathBuf),
    /// Through the engine's API.
    Engine,
    /// Nowhere: the engine is removing the container and has deleted the log, and the disk had no
    /// room for a copy.
    Deleted,
}

/// Where the log is whose newest file the engine says to be `path`; an error if we may not read it.
fn place_of(path: &Path, has_copy: impl FnOnce() -> bool) -> io::Result<LogPlace> {
    // Other engines use other formats and names.
    let name = path.file_name().and_then(|name| name.to_str());
    if !name.is_some_and(|name| name.ends_with("-json.log")) {
        return Ok(LogPlace::Engine);
    }
    match std::fs::File::open(path) {
        Err(_) if is_deleted(path) && !has_copy() => Ok(LogPlace::Deleted),
        Err(error) if !is_deleted(path) => Err(error),
        // The copy is read together with the files, and so with positions in them.
        Ok(_) | Err(_) => Ok(LogPlace::File(path.to_owned())),
    }
}

impl DockerEngine {
    pub(super) async fn read_logs(
        &self,
        identity: &Identity,
        options: LogOptions,
    ) -> Result<LogStream, EngineError> {
        let found = match self.find(identity).await {
            Ok(found) => found.into_iter().next(),
            Err(EngineError::Gone) => None,
            Err(error) => return Err(error),
        };
        let Some(found) = found else {
            return self.logs.read(identity, in_the_copy(options)).await;
        };
        let path = match self.place_of_log(&found, identity) {
            LogPlace::File(path) => path,
            LogPlace::Engine => return Ok(self.ask_for_logs(&found.id, options)),
            // The engine would answer with an empty log, as if the container had written nothing.
            LogPlace::Deleted => return Err(EngineError::Gone),
        };
        // The copy is complete before the original is deleted, so one of the two is always there,
        // unless the disk had no room for a copy.
        let files = LogFiles::at(vec![path, self.logs.path(identity)]);
        read_files(files, options, self.clone().end_of(identity.clone(), found.id)).await
    }

    /// Copies the log of a container that has ended and is about to be removed.
    pub(super) async fn keep_log(&self, identity: &Identity, found: &Found) {
        let kept = match self.place_of_log(found, identity) {
            LogPlace::File(path) => {
                let (logs, identity) = (self.logs.clone(), identity.clone());
                let keep = move || logs.keep_files(&identity, &path);
                let kept = base::blocking("logs", keep).await;
                kept.map_err(io::Error::other)
                    .and_then(|kept| kept)
                    .map_err(|error| EngineError::unavailable(error.to_string()))
            }
            LogPlace::Deleted => Ok(()),
            LogPlace::Engine => {
                let log = self.ask_for_logs(&found.id, LogOptions::default());
                self.logs.keep(identity, log, LOG_BYTES_MAX).await
            }
        };
        if let Err(error) = kept {
            // If the disk is full, the container must be removed all the same.
            warn!(%identity, %error, "the logs of a removed container could not be kept");
        }
        self.keep_for_as_long_as_asked(identity, found).await;
    }

    /// Notes how long the log of a container is to be kept, where its template says so.
    async fn keep_for_as_long_as_asked(&self, identity: &Identity, found: &Found) {
        let labels = found.inspected.config.as_ref().and_then(|config| config.labels.as_ref());
        let keep = labels.and_then(|labels| labels.get(LABEL_KEEP)?.parse::<u64>().ok());
        let Some(keep) = keep.map(Duration::from_secs) else { return };
        let (logs, of) = (self.logs.clone(), identity.clone());
        let noted = base::blocking("logs", move || logs.keep_for(&of, keep)).await;
        if let Err(error) = noted.map_err(io::Error::other).and_then(|noted| noted) {
            warn!(%identity, %error, "how long a log is to be kept could not be noted");
        }
    }

    /// Resolves when a container has ended, so that its log is complete.
    fn end_of(self, identity: Identity, id: String) -> End {
        async move {
            loop {
                let mut ended = self.docker.wait_container(&id, None);
                // This stream reports an exit code other than 0, and a lost connection, as errors.
                // So the state is inspected afterwards.
                let heard = ended.next().await;
                let state = self.ask(self.docker.inspect_container(&id, None)).await;
                let has_ended = match state {
                    Ok(inspected) => observe::state(&inspected)
                        .is_none_or(|state| matches!(state, ContainerState::Exited { .. })),
                    // Without an answer nothing is known of the container.
                    Err(error) => error == EngineError::Gone,
                };
                if has_ended {
                    return;
                }
                debug!(%identity, ?heard, "still waiting for a container's end");
                sleep(ASK_INTERVAL).await;
            }
        }
        .boxed()
    }

    fn place_of_log(&self, found: &Found, identity: &Identity) -> LogPlace {
        let path = Path::new(found.inspected.log_path.as_deref().unwrap_or_default());
        place_of(path, || self.logs.has(identity)).unwrap_or_else(|error| {
            if !self.has_told_of_logs.swap(true, Ordering::Relaxed) {
                warn!(
                    path = %path.display(), %error,
                    "cannot read the engine's log files; asking the engine for logs instead, \
                     which may lose or repeat lines. Run the agent as root on the engine's \
                     machine"
                );
            }
            LogPlace::Engine
        })
    }

    fn ask_for_logs(&self, id: &str, options: LogOptions) -> LogStream {
        let after = engine_time(options);
        let since = after.or(options.since);
        let tail = options.tail.filter(|_| options.after.is_none());
        let query = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .follow(options.follow)
            .since(i32::try_from(since.map_or(0, Timestamp::as_second)).unwrap_or(i32::MAX))
            .tail(&tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()))
            .build();
        self.docker
            .logs(id, Some(query))
            .map(|read| read.map(log_line).map_err(|error| classify(&error, Stage::Ask)))
            .try_filter_map(|line| future::ready(Ok(line)))
            // Docker's `since` has a resolution of one second.
            .try_filter(move |line| {
                let is_new = after.is_none_or(|after| line.time > after);
                future::ready(is_new && since.is_none_or(|since| line.time >= since))
            })
            .map_ok(|line| {
                let offset = u64::try_from(line.time.as_nanosecond()).unwrap_or_default();
                LogEvent::Line { line, next: Position { file: ENGINE_FILE, offset } }
            })
            .boxed()
    }
}

/// The time up to which a log was read through the engine.
fn engine_time(options: LogOptions) -> Option<Timestamp> {
    let after = options.after.filter(|after| after.file == ENGINE_FILE)?;
    Timestamp::from_nanosecond(after.offset.into()).ok()
}

/// Translates a request in engine positions to the kept copy, whose positions are in files. A
/// reader that followed the engine continues in the copy without repetition.
fn in_the_copy(options: LogOptions) -> LogOptions {
    let Some(after) = engine_time(options) else { return options };
    let next = after.saturating_add(Duration::from_nanos(1)).unwrap_or(Timestamp::MAX);
    LogOptions { after: None, tail: None, since: options.since.max(Some(next)), ..options }
}

/// Parses a line, to which the engine has prepended its time.
fn log_line(read: LogOutput) -> Option<LogLine> {
    let (output, message) = match read {
        LogOutput::StdErr { message } => (Output::Stderr, message),
        LogOutput::StdOut { message } | LogOutput::Console { message } => (Output::Stdout, message),
        LogOutput::StdIn { .. } => return None,
    };
    let space = message.iter().position(|byte| *byte == b' ')?;
    let time = std::str::from_utf8(&message[..space]).ok()?.parse().ok()?;
    Some(LogLine { output, time, bytes: message.slice(space + 1..) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanosecond(nanos.into()).unwrap()
    }

    #[test]
    fn who_followed_the_engine_goes_on_in_the_copy_behind_what_was_heard() {
        let heard = Position { file: ENGINE_FILE, offset: 500 };
        let followed =
            LogOptions { after: Some(heard), tail: Some(7), follow: true, ..LogOptions::default() };
        let goes_on = in_the_copy(followed);
        let expected = LogOptions { since: Some(at(501)), follow: true, ..LogOptions::default() };
        assert_eq!(format!("{goes_on:?}"), format!("{expected:?}"));
        let later = LogOptions { since: Some(at(900)), ..followed };
        assert_eq!(in_the_copy(later).since, Some(at(900)));
        let in_a_file = LogOptions { after: Some(Position { file: 0, offset: 500 }), ..followed };
        assert_eq!(format!("{:?}", in_the_copy(in_a_file)), format!("{in_a_file:?}"));
    }

    #[test]
    fn a_deleted_log_without_a_copy_is_not_an_empty_log() {
        let containers = tempfile::tempdir().unwrap();
        let path = containers.path().join("c1/c1-json.log");
        let place = |has_copy| place_of(&path, || has_copy).unwrap();
        assert_eq!(place(false), LogPlace::Deleted);
        assert_eq!(place(true), LogPlace::File(path.clone()));
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(place(false), LogPlace::File(path.clone()));
        let of_another_engine = place_of(Path::new("/var/log/ctr.log"), || false);
        assert_eq!(of_another_engine.unwrap(), LogPlace::Engine);
        // The folder of all containers cannot be seen, so that nothing is known of the log.
        place_of(Path::new("/nowhere/containers/c1/c1-json.log"), || false).unwrap_err();
    }
}
