//! The laws on the process engine, and what only it can show.

mod shims;

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::exec::ExecRequest;
use base::Clock;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, future};
use nix::sys::signal::{Signal as NixSignal, kill};
use nix::unistd::Pid;
use node_agent::engine::conformance::{self, Bench, Program, ended, hold, state, text};
use node_agent::engine::logs::Output;
use node_agent::engine::process::{ProcessConfig, ProcessEngine};
use node_agent::engine::{
    ContainerSpec, ContainerState, Engine, EngineError, EngineEvent, LogEvent, LogOptions,
    LogStream, Mount, MountSource, Reason, Scope, Signal,
};
use tempfile::TempDir;

/// Each node has a folder of its own here.
struct ProcessBench(TempDir);

/// The shim that was built with these tests.
pub(crate) fn heliox_shim() -> String {
    let this = std::env::current_exe().unwrap();
    let program = this.ancestors().nth(2).unwrap().join("heliox-shim");
    assert!(
        program.is_file(),
        "{} is missing: run `make test`, which builds it",
        program.display()
    );
    program.to_str().unwrap().to_owned()
}

/// What the laws' programs are in shell.
pub(crate) fn set_shell_program(spec: &mut ContainerSpec, program: Program<'_>) {
    let script = match program {
        Program::Exit(code) => format!("exit {code}"),
        // An init-like shell ignores TERM unless it says what to do.
        Program::Forever => "trap 'trap - TERM; kill -TERM $$; exit 143' TERM; \
                             while :; do sleep 1000 & wait $!; done"
            .to_owned(),
        Program::IgnoresTerm => "trap '' TERM; echo ready; while :; do sleep 1000; done".to_owned(),
        Program::Says(out, err) => {
            let out: String = out.iter().map(|line| format!("echo {line}\n")).collect();
            let err: String = err.iter().map(|line| format!("echo {line} >&2\n")).collect();
            // A pause between the outputs: nothing promises an order across two pipes.
            format!("{out}sleep 0.3\n{err}")
        }
        Program::SaysAndLingers(line) => format!("echo '{line}'; sleep 1"),
    };
    spec.command = ["sh", "-c", &script].map(str::to_owned).into();
}

async fn bench() -> ProcessBench {
    ProcessBench(tempfile::tempdir().unwrap())
}

impl Bench for ProcessBench {
    fn engine<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Arc<dyn Engine>> {
        let config = ProcessConfig {
            scope: Scope::new("test", node).unwrap(),
            state_dir: self.0.path().join(node),
            shim: vec![heliox_shim().into()].into(),
            clock: Clock::system(),
        };
        let engine: Arc<dyn Engine> = Arc::new(ProcessEngine::open(config).unwrap());
        future::ready(engine).boxed()
    }

    fn set_program(&self, spec: &mut ContainerSpec, program: Program<'_>) {
        set_shell_program(spec, program);
    }
}

node_agent::conformance_suite!(bench(), tokio::test);
node_agent::shell_suite!(bench(), tokio::test);

fn says(bench: &ProcessBench, script: &str) -> ContainerSpec {
    let mut spec = conformance::spec(bench, "script", Program::Exit(0));
    spec.command = ["sh", "-c", script].map(str::to_owned).into();
    spec
}

/// What a program that runs to its end writes to stdout.
async fn output(engine: &dyn Engine, spec: &ContainerSpec) -> String {
    engine.create_and_start(spec).await.unwrap();
    ended(engine, &spec.identity).await;
    let lines = conformance::all_logs(engine, &spec.identity, LogOptions::default()).await;
    text(&lines, Output::Stdout)
}

#[tokio::test]
async fn a_program_sees_its_own_environment_and_nothing_of_the_agents() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let mut spec = says(bench, "env | cut -d= -f1 | sort | tr '\\n' ' '");
        spec.env = vec![("ONLY".to_owned(), "this".to_owned())];
        let names = output(&*engine, &spec).await;
        let names: Vec<&str> = names.split_whitespace().filter(|name| *name != "_").collect();
        assert_eq!(names, ["HOME", "ONLY", "PATH", "PWD"]);
    })
    .await;
}

#[tokio::test]
async fn a_mount_must_be_where_it_is() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let dir = bench.0.path().join("data/set");
        let host_path = |path: &Path, create| Mount {
            path: path.to_owned(),
            source: MountSource::HostPath { host_path: dir.clone(), read_only: false, create },
        };
        let refused = [
            (host_path(Path::new("/elsewhere"), true), "path and hostPath the same"),
            (host_path(&dir, false), "does not exist"),
            (
                Mount { path: "/tmp/x".into(), source: MountSource::Tmpfs { size_bytes: None } },
                "process runtime does not support tmpfs",
            ),
        ];
        for (mount, part) in refused {
            let mut spec = says(bench, "true");
            spec.mounts = vec![mount];
            match engine.create_and_start(&spec).await {
                Err(EngineError::Refused { reason: Reason::Mount, message }) => {
                    assert!(message.contains(part), "{message}");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(state(&*engine, &spec.identity).await, None);
        }
        let mut spec = says(bench, &format!("echo kept > {}/file", dir.display()));
        spec.mounts = vec![host_path(&dir, true)];
        output(&*engine, &spec).await;
        assert_eq!(std::fs::read_to_string(dir.join("file")).unwrap(), "kept\n");
    })
    .await;
}

#[tokio::test]
async fn a_task_whose_record_is_damaged_keeps_no_other_from_being_seen_and_is_not_started_twice() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let spec = |name: &str| {
            let mut spec = conformance::spec(bench, name, Program::Forever);
            let script = "touch $$; exec sleep 1000";
            spec.command = ["sh", "-c", script].map(str::to_owned).into();
            spec
        };
        let (well, damaged) = (spec("well"), spec("damaged"));
        for spec in [&well, &damaged] {
            engine.create_and_start(spec).await.unwrap();
        }
        let dir = bench.0.path().join("a/tasks").join(damaged.identity.file_stem());
        for record in ["spec.json", "run.json"] {
            let (file, kept) = (dir.join(record), dir.join("kept"));
            std::fs::rename(&file, &kept).unwrap();
            std::fs::write(&file, "{").unwrap();
            let listed = engine.list().await.unwrap();
            assert_eq!(listed.len(), 2, "{listed:?}");
            for container in listed {
                if container.identity == well.identity {
                    assert!(matches!(container.state, ContainerState::Running { .. }));
                    continue;
                }
                let (uid, attempt) = (damaged.identity.uid(), damaged.identity.attempt());
                assert_eq!(
                    (container.identity.uid(), container.identity.attempt()),
                    (uid, attempt)
                );
                let ContainerState::Unreadable { why } = container.state else {
                    panic!("{:?}", container.state)
                };
                let says = format!("{} is damaged", file.display());
                assert!(why.starts_with(&says), "{why}");
            }
            let seen = engine.inspect(&damaged.identity).await.unwrap();
            assert!(matches!(seen, Some(ContainerState::Unreadable { .. })), "{seen:?}");
            let again = engine.create_and_start(&damaged).await;
            assert!(matches!(again, Err(EngineError::Unavailable { .. })), "{again:?}");
            std::fs::rename(&kept, &file).unwrap();
        }
        assert!(engine.create_and_start(&damaged).await.unwrap().adopted);
    })
    .await;
}

/// Starts a program that says the number of its shim first; that number, and the log that follows.
async fn start_and_find_shim(engine: &dyn Engine, spec: &ContainerSpec) -> (Pid, LogStream) {
    engine.create_and_start(spec).await.unwrap();
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let mut lines = engine.logs(&spec.identity, follow).await.unwrap();
    let line = conformance::next_line(&mut lines).await;
    let shim = std::str::from_utf8(&line.bytes).unwrap().trim().parse().unwrap();
    (Pid::from_raw(shim), lines)
}

/// Waits until a process is no more than remains that wait for whoever inherited it.
async fn is_gone(pid: &str) {
    let stat = format!("/proc/{pid}/stat");
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Whether a process is there, and more than its remains.
fn is_there(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Leaves a process in a session of its own, and one whose parent has ended as well; says their
/// numbers.
const LEAVES_SESSIONS: &str = "setsid sh -c 'echo $$; touch a; exec sleep 1000' & \
    (setsid sh -c 'echo $$; touch b; exec sleep 1000' &); \
    until [ -e a ] && [ -e b ]; do sleep 0.05; done";

#[tokio::test]
async fn what_a_program_leaves_in_other_sessions_is_ended_with_it() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let said = output(&*engine, &says(bench, &format!("{LEAVES_SESSIONS}; exit 0"))).await;
        let left: Vec<&str> = said.lines().collect();
        assert_eq!(left.len(), 2, "{said}");
        let there: Vec<_> = left.into_iter().filter(|pid| is_there(pid)).collect();
        assert!(there.is_empty(), "{there:?} are left of a task that has ended");
    })
    .await;
}

#[tokio::test]
async fn what_a_killed_program_leaves_in_other_sessions_is_ended_with_it() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let spec = says(bench, &format!("{LEAVES_SESSIONS}; exec sleep 1000"));
        engine.create_and_start(&spec).await.unwrap();
        let follow = LogOptions { follow: true, ..LogOptions::default() };
        let mut lines = engine.logs(&spec.identity, follow).await.unwrap();
        let mut left = Vec::new();
        for _ in 0..2 {
            let line = conformance::next_line(&mut lines).await;
            left.push(std::str::from_utf8(&line.bytes).unwrap().trim().to_owned());
        }
        engine.kill(&spec.identity).await.unwrap();
        assert_eq!(ended(&*engine, &spec.identity).await, (137, Some(9)));
        left.retain(|pid| is_there(pid));
        assert!(left.is_empty(), "{left:?} are left of a task that was killed");
    })
    .await;
}

#[tokio::test]
async fn what_loses_its_parent_while_the_task_runs_leaves_no_remains() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let script = "echo $PPID; (true & echo $!); echo end; exec sleep 1000";
        let spec = says(bench, script);
        let (_, mut lines) = start_and_find_shim(&*engine, &spec).await;
        let line = conformance::next_line(&mut lines).await;
        let stat = format!("/proc/{}/stat", std::str::from_utf8(&line.bytes).unwrap().trim());
        // Its shim is its parent now, and nobody else could wait for it.
        while std::fs::exists(&stat).unwrap() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_ended() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let child = output(&*engine, &says(bench, "sleep 1000 & echo $!")).await;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        // Its remains may wait for whoever inherited it.
        assert!(stat.as_ref().map_or(true, |stat| stat.contains(") Z ")), "{stat:?}");
    })
    .await;
}

#[tokio::test]
async fn all_of_a_last_burst_is_logged_before_the_end() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let written = output(&*engine, &says(bench, "yes | head -n 60000")).await;
        assert_eq!(written.len(), 120_000);
    })
    .await;
}

#[tokio::test]
async fn a_process_with_a_used_number_is_left_alone() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let spec = conformance::spec(bench, "script", Program::Forever);
        engine.create_and_start(&spec).await.unwrap();
        let path = bench.0.path().join("a/tasks").join(spec.identity.file_stem()).join("run.json");
        let run = std::fs::read_to_string(&path).unwrap();
        // The record now names a process that started at another time.
        let mut other: serde_json::Value = serde_json::from_str(&run).unwrap();
        other["start_ticks"] = 1.into();
        std::fs::write(&path, other.to_string()).unwrap();
        engine.kill(&spec.identity).await.unwrap();
        std::fs::write(&path, run).unwrap();
        engine.signal(&spec.identity, Signal::TERM).await.unwrap();
        let end = ended(&*engine, &spec.identity).await;
        assert_eq!(end, (143, Some(15)), "it was TERM that ended it, not KILL");
    })
    .await;
}

#[tokio::test]
async fn a_half_made_task_is_made_again() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let spec = says(bench, "echo made");
        output(&*engine, &spec).await;
        // As an agent leaves it that dies before its shim runs.
        let tasks = bench.0.path().join("a/tasks").join(spec.identity.file_stem());
        let exits = bench.0.path().join("a/exits").join(spec.identity.file_stem());
        // The shim has written the exit, and may not have ended yet.
        std::fs::File::open(tasks.join("shim.json")).unwrap().lock_shared().unwrap();
        for file in [tasks.join("shim.json"), tasks.join("run.json"), exits] {
            std::fs::remove_file(file).unwrap();
        }
        assert_eq!(state(&*engine, &spec.identity).await, Some(ContainerState::Created));
        assert!(!engine.create_and_start(&spec).await.unwrap().adopted);
        assert_eq!(ended(&*engine, &spec.identity).await, (0, None));
        engine.remove(&spec.identity).await.unwrap();
    })
    .await;
}

/// What a program says of all that it could have inherited. Nothing is said after `end`.
const SAYS_WHAT_IT_HAS: &str = "grep SigIgn /proc/self/status; umask; ulimit -Sn; ulimit -Sc; \
    cat /proc/self/oom_score_adj; nice; echo $(ls /proc/self/fd); pwd; \
    echo $(env | cut -d= -f1 | grep -v ^_ | sort); echo end";

/// Checks what it said.
fn check_what_it_has(said: &str, what: &str) {
    let (ignored, rest) = said.split_once('\n').unwrap();
    let mask = u64::from_str_radix(ignored.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    // Signals 32 and 33 are the C library's own.
    assert_eq!(mask & 0x7fff_ffff, 0, "{what} ignores {mask:x}");
    // Only root can make itself more important again.
    let nice = if nix::unistd::geteuid().is_root() { 0 } else { 5 };
    // The descriptor 3 is of `ls` itself.
    let wanted = format!("0022\n1024\n0\n0\n{nice}\n0 1 2 3\n/tmp\nHOME PATH PWD\nend\n");
    assert_eq!(rest, wanted, "{what}");
}

/// An engine whose agent was started by a shell that leaves its traces.
fn engine_with_a_past(bench: &ProcessBench) -> Arc<dyn Engine> {
    let past = "trap '' HUP INT QUIT USR1 ALRM; umask 077; ulimit -Sn 77; cd /proc; \
                exec 7</etc/passwd 9>/dev/null; echo 500 > /proc/self/oom_score_adj; \
                A=secret exec nice -n 5 \"$0\" \"$@\"";
    let config = ProcessConfig {
        scope: Scope::new("test", "a").unwrap(),
        state_dir: bench.0.path().join("a"),
        shim: ["sh", "-c", past, &heliox_shim()].map(OsString::from).to_vec().into(),
        clock: Clock::system(),
    };
    Arc::new(ProcessEngine::open(config).unwrap())
}

#[tokio::test]
async fn a_program_inherits_nothing_of_whoever_started_the_agent() {
    hold(bench().await, async |bench| {
        let engine = engine_with_a_past(bench);
        let mut spec = says(bench, &format!("{SAYS_WHAT_IT_HAS}; sleep 1000"));
        spec.working_dir = Some("/tmp".to_owned());
        engine.create_and_start(&spec).await.unwrap();
        let follow = LogOptions { follow: true, ..LogOptions::default() };
        let mut lines = engine.logs(&spec.identity, follow).await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"end\n") {
            said.extend_from_slice(&conformance::next_line(&mut lines).await.bytes);
        }
        check_what_it_has(std::str::from_utf8(&said).unwrap(), "the task");

        let command = ["sh", "-c", SAYS_WHAT_IT_HAS].map(str::to_owned).into();
        let request = ExecRequest { command, stdin: false, tty: false };
        let exec = engine.exec(&spec.identity, &request).await.unwrap();
        let said: Vec<_> = exec.output.map(|read| read.unwrap().1.to_vec()).collect().await;
        let said = said.concat();
        check_what_it_has(std::str::from_utf8(&said).unwrap(), "a command beside it");
    })
    .await;
}

#[tokio::test]
async fn a_command_beside_a_task_that_cannot_run_says_so() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let spec = says(bench, "sleep 1000");
        engine.create_and_start(&spec).await.unwrap();
        let command = vec!["/no/such/program".to_owned()];
        let request = ExecRequest { command, stdin: false, tty: false };
        let exec = engine.exec(&spec.identity, &request).await.unwrap();
        let said: Vec<_> = exec.output.map(|read| read.unwrap().1.to_vec()).collect().await;
        let said = String::from_utf8(said.concat()).unwrap();
        assert!(said.contains("/no/such/program"), "{said}");
        assert_eq!(exec.control.exit_code().await, Ok(127));
    })
    .await;
}

#[tokio::test]
async fn a_working_dir_that_is_none_is_refused_by_name() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        for dir in ["/bin/sh", "/no/such/folder"] {
            let mut spec = says(bench, "true");
            spec.working_dir = Some(dir.to_owned());
            match engine.create_and_start(&spec).await {
                Err(EngineError::Refused { reason: Reason::CannotRun, message }) => {
                    assert_eq!(
                        message,
                        format!("workingDir {dir}: no such directory on this node")
                    );
                }
                other => panic!("{dir}: {other:?}"),
            }
            assert_eq!(state(&*engine, &spec.identity).await, None);
        }
    })
    .await;
}

#[tokio::test]
async fn the_output_of_a_command_beside_a_task_ends_with_the_command() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let spec = says(bench, "sleep 1000");
        engine.create_and_start(&spec).await.unwrap();
        // What it leaves behind holds its outputs, and writes to one of them without end.
        let script = "sleep 1000 & echo $!; yes left >&2 & echo $!; seq 1 9000; exit 3";
        let command = ["sh", "-c", script].map(str::to_owned).into();
        let request = ExecRequest { command, stdin: false, tty: false };
        let exec = engine.exec(&spec.identity, &request).await.unwrap();
        let said: Vec<_> = exec.output.map(Result::unwrap).collect().await;
        assert_eq!(exec.control.exit_code().await, Ok(3));
        let stdout = said.iter().filter(|(of, _)| *of == Output::Stdout);
        let stdout = stdout.flat_map(|(_, bytes)| bytes.to_vec()).collect();
        let stdout = String::from_utf8(stdout).unwrap();
        let (left, rest): (Vec<&str>, Vec<&str>) =
            (stdout.lines().take(2).collect(), stdout.lines().skip(2).collect());
        for pid in left {
            kill(Pid::from_raw(pid.parse().unwrap()), NixSignal::SIGKILL).unwrap();
        }
        assert_eq!((rest.len(), rest.last()), (9000, Some(&"9000")), "all that it wrote");
    })
    .await;
}

#[tokio::test]
async fn nobody_else_can_read_what_the_engine_keeps() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let mut spec = says(bench, "echo $SECRET; touch made; sleep 1000");
        spec.env = vec![("SECRET".to_owned(), "hush".to_owned())];
        engine.create_and_start(&spec).await.unwrap();
        let command = ["sh", "-c", "umask 000; cat"].map(str::to_owned).into();
        let request = ExecRequest { command, stdin: false, tty: false };
        let exec = engine.exec(&spec.identity, &request).await.unwrap();
        assert_eq!(exec.control.exit_code().await, Ok(0));
        // Another one leaves what is left of a task that has ended.
        output(&*engine, &says(bench, "umask 000; seq 1 1000")).await;
        let mut open = Vec::new();
        let mut folders = vec![bench.0.path().join("a")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                let metadata = entry.metadata().unwrap();
                // Each by itself, although no one else comes so far down: a file may be linked to,
                // copied with its mode, or a folder above opened by hand.
                if metadata.permissions().mode() & 0o077 != 0 {
                    open.push(entry.path());
                }
                // What is in there is the program's.
                if metadata.is_dir() && entry.file_name() != "work" {
                    folders.push(entry.path());
                }
            }
        }
        assert_eq!(open, Vec::<PathBuf>::new());
        let stem = spec.identity.file_stem();
        let file = bench.0.path().join("a/tasks").join(stem).join("spec.json");
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_is_made_for_a_mount_is_the_users() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let dir = bench.0.path().join("made/for");
        let source =
            MountSource::HostPath { host_path: dir.clone(), read_only: false, create: true };
        let mut spec = says(bench, "true");
        spec.mounts = vec![Mount { path: dir.clone(), source }];
        output(&*engine, &spec).await;
        assert_eq!(std::fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o755);
    })
    .await;
}

#[tokio::test]
async fn a_task_whose_directory_was_deleted_is_ended() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let spec = says(bench, "trap '' TERM; echo $PPID $$; while :; do sleep 1; done");
        engine.create_and_start(&spec).await.unwrap();
        let follow = LogOptions { follow: true, ..LogOptions::default() };
        let mut lines = engine.logs(&spec.identity, follow).await.unwrap();
        let line = conformance::next_line(&mut lines).await;
        drop(lines);
        std::fs::remove_dir_all(bench.0.path().join("a")).unwrap();
        for pid in std::str::from_utf8(&line.bytes).unwrap().split_whitespace() {
            let stat = format!("/proc/{pid}/stat");
            // Its remains may wait for whoever inherited it.
            while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    })
    .await;
}
