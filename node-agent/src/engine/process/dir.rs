//! What the files of a task say ([`shim::records`]), and the end of one whose shim is gone.

use std::io;
use std::path::Path;

use api::table::some_of;
use jiff::Timestamp;
pub(crate) use shim::records::{
    ExitRecord, Reserved, RunRecord, ShimAnswer, TaskDir, beside, is_damage, read,
};
use shim::table::end_family;
use tracing::warn;

use crate::engine::logs::LogWriter;
use crate::engine::{ContainerState, Identity};

/// What the shim is told, with whose task it is.
pub(crate) type TaskSpec = shim::records::TaskSpec<Identity>;

/// So many processes that are left of a task are named.
const LEFT_SHOWN_MAX: usize = 10;

/// The exit code of a process that nobody saw end.
const CODE_UNKNOWN: i32 = 255;

/// What the files of a task say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing runs and nothing ever ran: whoever made the directory died before its shim came to
    /// start the program.
    Abandoned,
    /// The shim has not started the command yet.
    Starting,
    Running(RunRecord),
    Ended(ExitRecord),
}

/// What a look at the files of a task comes to.
#[derive(Debug)]
pub(crate) enum Found {
    Said(Seen),
    /// It ran, and its shim is gone: see [`end_orphaned`].
    Orphaned(RunRecord),
}

/// What the files say.
pub(crate) fn look(dir: &TaskDir, exit: &Path) -> io::Result<Found> {
    let has_shim = dir.has_shim()?;
    // Read after the lock: a shim that has just released it has written its exit before.
    if let Some(exit) = if_whole(dir, read(exit))? {
        return Ok(Found::Said(Seen::Ended(exit)));
    }
    Ok(match (if_whole(dir, dir.run())?, has_shim) {
        (Some(run), true) => Found::Said(Seen::Running(run)),
        (None, true) => Found::Said(Seen::Starting),
        (Some(run), false) => Found::Orphaned(run),
        // Whether the program was started, nobody knows: it must not be started twice.
        (None, false) => match dir.shim()? {
            Some(shim) => Found::Orphaned(shim),
            None => Found::Said(Seen::Abandoned),
        },
    })
}

/// A record that is not synced: where the machine lost its power it may be there in part, which is as
/// good as not at all.
fn if_whole<T>(dir: &TaskDir, record: io::Result<Option<T>>) -> io::Result<Option<T>> {
    match record {
        Err(error) if is_damage(&error) && dir.is_of_earlier_boot() => Ok(None),
        record => record,
    }
}

/// Ends what is left of a task whose shim is gone, because it or the machine was killed: what it
/// writes goes nowhere, and nobody will see how it ends. That is written down as its end. To be called
/// by one at a time. What cannot be ended runs on, and is tried again by the next look: it keeps
/// nothing else of the node waiting.
pub(crate) fn end_orphaned(spec: &TaskSpec, run: RunRecord, now: Timestamp) -> Seen {
    let message = if run.is_of_this_boot() {
        let left = match end_family(run.pid, run.start_ticks, run.session) {
            Ok(left) => left,
            Err(error) => {
                warn!(%error, identity = %spec.identity, "a task whose shim is gone could not be killed");
                return Seen::Running(run);
            }
        };
        if left.contains(&run.pid) {
            warn!(identity = %spec.identity, pid = run.pid, "not permitted to kill a task whose shim is gone");
            return Seen::Running(run);
        }
        if !run.dies() {
            return Seen::Running(run);
        }
        ended_message(&left)
    } else {
        "the node was rebooted while the task ran: its result is unknown, and the last lines \
         of its log may be missing"
            .to_owned()
    };
    // Before the end, so that who hears of that finds it. A second mark, after a crash between the two,
    // says nothing wrong.
    if let Err(error) = mark_cut(spec, now) {
        warn!(%error, "could not note in a log that its last lines may be missing");
    }
    let exit = ExitRecord {
        started: Some(run.started),
        at: now,
        code: CODE_UNKNOWN,
        signal: None,
        is_unseen: true,
        message: Some(message),
    };
    // It has ended, whether that can be written down or not. The next look tries again.
    if let Err(error) = Reserved::kept(&spec.exit).write(&exit) {
        warn!(%error, "could not record that a task ended unseen");
    }
    Seen::Ended(exit)
}

/// How a task ended that was ended without its shim, except for those that are left.
fn ended_message(left: &[i32]) -> String {
    let mut message =
        "the process that supervises the task (its shim) was killed, so the task was ended: its \
         result is unknown, and the last lines of its log may be missing"
            .to_owned();
    if !left.is_empty() {
        message.push_str("; ");
        message.push_str(&not_permitted(left));
    }
    message
}

/// Says which processes are left of a task, with what to do.
pub(crate) fn not_permitted(left: &[i32]) -> String {
    format!(
        "the agent's user is not permitted to kill the processes {} that the task left running: kill them by hand",
        some_of(left.iter(), LEFT_SHOWN_MAX)
    )
}

/// Marks that the last lines of a log may be missing, in the room that its shim has set aside.
fn mark_cut(spec: &TaskSpec, now: Timestamp) -> io::Result<()> {
    let mut log = LogWriter::resume(&spec.log, spec.log_bytes_max, now)?;
    log.lost();
    log.end()
}

impl Seen {
    /// As every engine says it.
    pub(crate) fn state(self) -> ContainerState {
        match self {
            Self::Abandoned | Self::Starting => ContainerState::Created,
            Self::Running(run) => ContainerState::Running { since: run.started },
            Self::Ended(exit) => ContainerState::Exited {
                started: exit.started,
                at: exit.at,
                code: exit.code,
                signal: exit.signal,
                oom_killed: false,
                is_unseen: exit.is_unseen,
                message: exit.message,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_ended_is_named_in_the_end() {
        assert!(ended_message(&[]).ends_with("may be missing"));
        let said = ended_message(&[7, 8]);
        assert!(
            said.ends_with("the processes 7, 8 that the task left running: kill them by hand"),
            "{said}"
        );
        let said = ended_message(&(1..=12).collect::<Vec<_>>());
        assert!(said.contains("9, 10 and 2 more that"), "{said}");
    }

    /// As a loss of power leaves what was not synced.
    #[test]
    fn what_an_earlier_boot_left_in_part_is_not_damage_but_an_end_that_nobody_saw() {
        let root = tempfile::tempdir().unwrap();
        let (dir, exit) = (TaskDir(root.path().join("task")), root.path().join("exit"));
        std::fs::create_dir(&dir.0).unwrap();
        let mut shim = RunRecord::of(std::process::id(), Timestamp::UNIX_EPOCH).unwrap();
        let write = |shim: &RunRecord| {
            std::fs::write(dir.0.join("shim.json"), serde_json::to_vec(shim).unwrap()).unwrap();
        };
        std::fs::write(&exit, "").unwrap();
        std::fs::write(dir.0.join("run.json"), "\0\0\0\0").unwrap();
        write(&shim);
        assert!(is_damage(&look(&dir, &exit).unwrap_err()), "of this boot it is damage");
        "an earlier one".clone_into(&mut shim.boot_id);
        write(&shim);
        let found = look(&dir, &exit).unwrap();
        assert!(matches!(&found, Found::Orphaned(orphan) if *orphan == shim), "{found:?}");
    }
}
