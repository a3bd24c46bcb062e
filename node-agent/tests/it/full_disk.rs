//! Processes on a full disk: nothing of what ran is lost, what cannot begin waits, and everything
//! goes on once there is room.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, future};
use node_agent::engine::conformance::{self, Bench, Program, ended, hold, state};
use node_agent::engine::process::{ProcessConfig, ProcessEngine};
use node_agent::engine::{
    ContainerSpec, ContainerState, Engine, EngineError, LogEvent, LogOptions, LogStream, Scope,
};
use tempfile::TempDir;

use crate::process::{heliox_shim, set_shell_program};

/// A disk of 1 MiB that holds all that the engine writes, beside a folder with room.
struct SmallDisk {
    beside: TempDir,
    disk: PathBuf,
}

impl SmallDisk {
    /// Needs root, as the tests of the Docker Engine do.
    fn new() -> Self {
        let beside = tempfile::tempdir().unwrap();
        let disk = beside.path().join("disk");
        fs::create_dir(&disk).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "small"]).arg(&disk));
        Self { beside, disk }
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let mut file = File::create(self.disk.join("filler")).unwrap();
        for block in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![b'x'; block]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.disk.join("filler")).unwrap();
    }

    /// A file that programs wait for.
    fn sign(&self) -> PathBuf {
        self.beside.path().join("sign")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.disk));
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?} needs root: {status}");
}

impl Bench for SmallDisk {
    fn engine<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Arc<dyn Engine>> {
        let config = ProcessConfig {
            scope: Scope::new("test", node).unwrap(),
            state_dir: self.disk.join(node),
            shim: vec![heliox_shim().into()].into(),
            clock: Clock::system(),
        };
        // After a test there is room again, so that everything can be removed.
        let _room = fs::remove_file(self.disk.join("filler"));
        let engine: Arc<dyn Engine> = Arc::new(ProcessEngine::open(config).unwrap());
        future::ready(engine).boxed()
    }

    fn set_program(&self, spec: &mut ContainerSpec, program: Program<'_>) {
        set_shell_program(spec, program);
    }
}

/// A program that waits for the sign in the middle of `script`, at each `wait`.
fn waits(disk: &SmallDisk, script: &str) -> ContainerSpec {
    let mut spec = conformance::spec(disk, "waits", Program::Exit(0));
    let wait = |path: &Path| format!("until [ -e {} ]; do sleep 0.02; done", path.display());
    let script = script.replace("WAIT", &wait(&disk.sign()));
    spec.command = ["sh", "-c", &script].map(str::to_owned).into();
    spec
}

#[tokio::test]
async fn how_a_task_ended_is_known_although_the_disk_was_full() {
    hold(SmallDisk::new(), async |disk| {
        let engine = disk.engine("a").await;
        let spec = waits(disk, "WAIT; exit 3");
        engine.create_and_start(&spec).await.unwrap();
        disk.fill();
        fs::write(disk.sign(), "").unwrap();
        assert_eq!(ended(&*engine, &spec.identity).await, (3, None), "while it is full");
        disk.make_room();
        let later = disk.engine("a").await;
        assert_eq!(ended(&*later, &spec.identity).await, (3, None));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_begun_and_begins_once_there_is_room() {
    hold(SmallDisk::new(), async |disk| {
        let engine = disk.engine("a").await;
        let spec = waits(disk, "echo begun; WAIT");
        let tasks = disk.disk.join("a/tasks");
        disk.fill();
        for _ in 0..3 {
            match engine.create_and_start(&spec).await {
                Err(EngineError::Unavailable { message }) => {
                    let task = tasks.join(spec.identity.file_stem());
                    let names_the_place =
                        message.starts_with(&format!("cannot create {}", task.display()));
                    let is_said = names_the_place && message.contains("No space left on device");
                    assert!(is_said, "{message}");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(state(&*engine, &spec.identity).await, None);
            // A folder that was begun under another name would take the room that others need.
            let left: Vec<_> =
                fs::read_dir(&tasks).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(left.is_empty(), "nothing is left of it: {left:?}");
        }
        disk.make_room();
        engine.create_and_start(&spec).await.unwrap();
        let state = state(&*engine, &spec.identity).await;
        assert!(matches!(state, Some(ContainerState::Running { .. })), "{state:?}");
    })
    .await;
}

#[tokio::test]
async fn a_shim_without_room_says_so_and_costs_no_attempt() {
    hold(SmallDisk::new(), async |disk| {
        let engine = disk.engine("a").await;
        let spec = waits(disk, "WAIT");
        // Room for the task's own folder, and for nothing that the shim writes: from none on, block
        // by block, until it starts.
        disk.fill();
        let filler = File::options().write(true).open(disk.disk.join("filler")).unwrap();
        let full = filler.metadata().unwrap().len();
        let mut refusals = 0;
        for blocks in 0_u64.. {
            filler.set_len(full - blocks * 4096).unwrap();
            match engine.create_and_start(&spec).await {
                Ok(_) => break,
                Err(EngineError::Unavailable { message }) => {
                    assert!(message.contains("No space left on device"), "{message}");
                    refusals += 1;
                }
                Err(other) => panic!("after {blocks} blocks: {other:?}"),
            }
            assert_eq!(state(&*engine, &spec.identity).await, None, "{blocks} blocks");
        }
        assert!(refusals > 1, "it had room at once");
    })
    .await;
}

#[tokio::test]
async fn lines_that_a_full_disk_has_cost_are_a_gap_and_the_task_runs_on() {
    hold(SmallDisk::new(), async |disk| {
        let engine = disk.engine("a").await;
        let (sign, full) = (disk.sign(), disk.beside.path().join("was-full"));
        let script = format!(
            "echo before; WAIT; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo lost $i; done; \
             touch {}; while [ -e {} ]; do sleep 0.02; done; echo after",
            full.display(),
            sign.display(),
        );
        let spec = waits(disk, &script);
        engine.create_and_start(&spec).await.unwrap();
        let log = disk.disk.join(format!("a/logs/{}.log", spec.identity.file_stem()));
        while fs::metadata(&log).unwrap().len() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        disk.fill();
        fs::write(&sign, "").unwrap();
        // A pipe holds a third of this: by then the shim has read, and lost, the rest.
        while !full.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        disk.make_room();
        fs::remove_file(&sign).unwrap();
        assert_eq!(ended(&*engine, &spec.identity).await, (0, None));
        let log = engine.logs(&spec.identity, LogOptions::default()).await.unwrap();
        let events: Vec<_> = log.map(Result::unwrap).collect().await;
        let gaps = events.iter().filter(|event| matches!(event, LogEvent::Gap)).count();
        let lines = events.iter().filter_map(|event| match event {
            LogEvent::Line { line, .. } => Some(String::from_utf8_lossy(&line.bytes)),
            LogEvent::From(_) | LogEvent::Gap => None,
        });
        let text: String = lines.collect();
        assert!(text.starts_with("before\n") && text.ends_with("after\n"), "{text}");
        assert!(text.matches("lost").count() < 20_000, "the disk was full");
        assert_eq!(gaps, 1, "what is missing is told, once");
    })
    .await;
}

/// Runs a program that loses the end of what it writes, and ends, while the disk is full; what is then
/// said of its log, by a reader that follows it, one that comes later, and one after there is room.
async fn end_of_log(disk: &SmallDisk, begin: &str) -> Vec<Vec<String>> {
    let engine = disk.engine("a").await;
    let lines = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo lost $i; done; echo END";
    let spec = waits(disk, &format!("{begin} WAIT; {lines}"));
    engine.create_and_start(&spec).await.unwrap();
    let log = disk.disk.join(format!("a/logs/{}.log", spec.identity.file_stem()));
    while !begin.is_empty() && fs::metadata(&log).unwrap().len() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let following = engine.logs(&spec.identity, follow).await.unwrap();
    disk.fill();
    fs::write(disk.sign(), "").unwrap();
    let mut told = vec![told(following).await];
    assert_eq!(ended(&*engine, &spec.identity).await, (0, None));
    for is_full in [true, false] {
        if !is_full {
            disk.make_room();
        }
        told.push(
            self::told(engine.logs(&spec.identity, LogOptions::default()).await.unwrap()).await,
        );
    }
    let room = log.with_extension("room");
    assert!(!room.exists(), "what was set aside is used or given back");
    told
}

/// The lines of a log, and where some are missing.
async fn told(log: LogStream) -> Vec<String> {
    let told = log.filter_map(|event| {
        future::ready(match event.unwrap() {
            LogEvent::From(_) => None,
            LogEvent::Gap => Some("GAP".to_owned()),
            LogEvent::Line { line, .. } => {
                Some(String::from_utf8_lossy(&line.bytes).trim().to_owned())
            }
        })
    });
    told.collect().await
}

#[tokio::test]
async fn a_log_whose_end_a_full_disk_has_cost_says_so_to_every_reader() {
    hold(SmallDisk::new(), async |disk| {
        for told in end_of_log(disk, "echo before;").await {
            assert_eq!(told.first().map(String::as_str), Some("before"));
            assert_eq!(told.last().map(String::as_str), Some("GAP"), "{}", told.len());
            let gaps = told.iter().filter(|it| *it == "GAP").count();
            assert!(gaps < told.len() && !told.iter().any(|it| it == "END"), "{told:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_log_of_which_nothing_could_be_written_says_so() {
    hold(SmallDisk::new(), async |disk| {
        for told in end_of_log(disk, "").await {
            assert_eq!(told, ["GAP"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_task_that_loses_nothing_leaves_its_log_alone() {
    hold(SmallDisk::new(), async |disk| {
        let engine = disk.engine("a").await;
        let spec = waits(disk, "echo all");
        engine.create_and_start(&spec).await.unwrap();
        assert_eq!(ended(&*engine, &spec.identity).await, (0, None));
        let names = fs::read_dir(disk.disk.join("a/logs")).unwrap();
        let names: Vec<_> = names.map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, [format!("{}.log", spec.identity.file_stem()).as_str()]);
    })
    .await;
}
