//! The laws that every engine must satisfy, as tests that run against each engine.
//!
//! A [`Bench`] creates engines and the small programs that the laws run. The laws in
//! [`conformance_suite!`](crate::conformance_suite) hold for all engines; those in
//! [`shell_suite!`](crate::shell_suite) need programs that really run.

mod logs;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use api::exec::ExecRequest;
use base::Rng;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

pub use self::logs::{
    a_followed_log_ends_with_its_container, a_log_is_read_on_after_any_line,
    a_log_that_is_rotated_under_its_follower_is_whole, both_outputs_are_logged,
    logs_outlive_their_container, odd_output_is_logged_whole, the_tail_counts_lines_of_the_program,
};
use super::logs::Output;
use super::{
    ContainerSpec, ContainerState, Engine, EngineError, EngineEvent, HostSettings, Identity,
    LogEvent, LogLimits, LogLine, LogOptions, LogStream, MAIN, PullPolicy, Reason, Resources,
    Signal, Usage,
};

/// How long a law waits for a state before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A small program.
#[derive(Debug, Clone, Copy)]
pub enum Program<'a> {
    /// Ends at once with this code.
    Exit(i32),
    /// Runs until it is stopped; TERM ends it.
    Forever,
    /// Ignores TERM, and prints `ready` from when it does so.
    IgnoresTerm,
    /// Writes lines to stdout, then to stderr, then ends with 0.
    Says(&'a [&'a str], &'a [&'a str]),
    /// Writes a line and runs for a moment before it ends with 0.
    SaysAndLingers(&'a str),
}

/// The nodes that laws and tests use. Containers on other nodes are not cleaned up.
pub const NODES: [&str; 2] = ["a", "b"];

/// Makes engines, and specs for them.
pub trait Bench: Sync {
    /// A new engine for one of [`NODES`]. A second engine for the same name is what an agent has
    /// after a restart.
    fn engine<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Arc<dyn Engine>>;

    /// Makes `spec` run the program.
    fn set_program(&self, spec: &mut ContainerSpec, program: Program<'_>);
}

/// Runs a test on a bench and removes every container afterwards, even if the test panicked.
pub async fn hold<B: Bench>(bench: B, test: impl AsyncFnOnce(&B)) {
    let held = AssertUnwindSafe(test(&bench)).catch_unwind().await;
    for node in NODES {
        let engine = bench.engine(node).await;
        for container in engine.list().await.expect("the engine lists") {
            let removed = engine.remove(&container.identity).await;
            assert!(matches!(removed, Ok(()) | Err(EngineError::Gone)), "{removed:?}");
        }
    }
    if let Err(panic) = held {
        resume_unwind(panic);
    }
}

/// An identity that nothing else has.
pub fn identity(task: &str) -> Identity {
    Identity::new("default", task, &Rng::from_machine().uuid(), 1)
        .expect("names written in a law are valid")
}

/// A container that nothing else has, running `program`.
pub fn spec(bench: &dyn Bench, task: &str, program: Program<'_>) -> ContainerSpec {
    let mut spec = ContainerSpec {
        identity: identity(task),
        image: String::new(),
        pull_policy: PullPolicy::IfNotPresent,
        wants_digest: false,
        command: Vec::new(),
        args: Vec::new(),
        working_dir: None,
        env: Vec::new(),
        labels: BTreeMap::new(),
        resources: Resources::default(),
        ports: Vec::new(),
        mounts: Vec::new(),
        stop_signal: Signal::TERM,
        grace: Duration::from_secs(30),
        network_mode: None,
        host: HostSettings::default(),
        logs: LogLimits::default(),
    };
    bench.set_program(&mut spec, program);
    spec
}

/// The state of a container; nothing where it is not listed.
pub async fn state(engine: &dyn Engine, identity: &Identity) -> Option<ContainerState> {
    let listed = engine.list().await.expect("the engine lists");
    let mut ours = listed.into_iter().filter(|container| container.identity == *identity);
    let state = ours.next().map(|container| container.state);
    assert!(ours.next().is_none(), "{identity} is listed twice");
    state
}

/// Waits until a container has ended and returns its code and signal.
pub async fn ended(engine: &dyn Engine, identity: &Identity) -> (i32, Option<i32>) {
    let mut seen = None;
    let ended = timeout(PATIENCE, async {
        loop {
            seen = state(engine, identity).await;
            if let Some(ContainerState::Exited { code, signal, .. }) = &seen {
                return (*code, *signal);
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    match ended.await {
        Ok(ended) => ended,
        Err(_) => panic!("{identity} has not ended; last seen: {seen:?}"),
    }
}

/// Everything a container wrote.
pub async fn all_logs(
    engine: &dyn Engine,
    identity: &Identity,
    options: LogOptions,
) -> Vec<LogLine> {
    let lines = logs::positioned_logs(engine, identity, options).await;
    lines.into_iter().map(|(line, _)| line).collect()
}

/// The next line of a log that is followed.
pub async fn next_line(log: &mut LogStream) -> LogLine {
    let next = async {
        loop {
            match log.next().await.expect("the log goes on").expect("the log can be read") {
                LogEvent::Line { line, .. } => return line,
                LogEvent::From(_) | LogEvent::Gap => (),
            }
        }
    };
    timeout(PATIENCE, next).await.expect("it writes a line")
}

/// The text of the lines written to `output`.
pub fn text(lines: &[LogLine], output: Output) -> String {
    let bytes: Vec<u8> = lines
        .iter()
        .filter(|line| line.output == output)
        .flat_map(|line| line.bytes.to_vec())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn start(engine: &dyn Engine, spec: &ContainerSpec) {
    let started = engine.create_and_start(spec).await.expect("it starts");
    assert!(!started.adopted, "{} was there before", spec.identity);
}

async fn remove(engine: &dyn Engine, identity: &Identity) {
    engine.remove(identity).await.expect("it can be removed");
}

/// What ends is listed with its code, until it is removed.
pub async fn an_exit_is_listed_with_its_code_until_it_is_removed(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    for code in [0, 3] {
        let spec = spec(bench, "ends", Program::Exit(code));
        start(&*engine, &spec).await;
        assert_eq!(ended(&*engine, &spec.identity).await, (code, None));
        let Some(ContainerState::Exited { started, at, oom_killed, .. }) =
            state(&*engine, &spec.identity).await
        else {
            panic!("it is still listed");
        };
        assert!(started.is_some_and(|started| started <= at) && !oom_killed);
        remove(&*engine, &spec.identity).await;
        assert_eq!(state(&*engine, &spec.identity).await, None);
    }
}

/// Creating again what is there finds it, running or ended.
pub async fn creating_twice_makes_one(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let spec = spec(bench, "twice", Program::Forever);
    start(&*engine, &spec).await;
    let before = state(&*engine, &spec.identity).await;
    assert!(matches!(before, Some(ContainerState::Running { .. })), "{before:?}");
    let again = engine.create_and_start(&spec).await.expect("it is found");
    assert!(again.adopted);
    assert_eq!(state(&*engine, &spec.identity).await, before, "it was not started anew");
    engine.kill(&spec.identity).await.expect("it can be killed");
    let killed = ended(&*engine, &spec.identity).await;
    let again = engine.create_and_start(&spec).await.expect("it is found");
    assert!(again.adopted);
    assert_eq!(ended(&*engine, &spec.identity).await, killed, "what ended is not run again");
    remove(&*engine, &spec.identity).await;
}

/// TERM ends a program that does not mind, and its end tells of it.
pub async fn term_ends_it(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let spec = spec(bench, "term", Program::Forever);
    start(&*engine, &spec).await;
    engine.signal(&spec.identity, Signal::TERM).await.expect("it can be signalled");
    assert_eq!(ended(&*engine, &spec.identity).await, (143, Some(15)));
    engine.signal(&spec.identity, Signal::TERM).await.expect("signalling an ended one is no fault");
    engine.kill(&spec.identity).await.expect("killing an ended one is no fault");
    remove(&*engine, &spec.identity).await;
}

/// KILL ends what ignores TERM.
pub async fn kill_ends_what_ignores_term(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let spec = spec(bench, "stubborn", Program::IgnoresTerm);
    start(&*engine, &spec).await;
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let mut lines = engine.logs(&spec.identity, follow).await.expect("there are logs");
    // From this line on the program ignores TERM.
    next_line(&mut lines).await;
    engine.signal(&spec.identity, Signal::TERM).await.expect("it can be signalled");
    let running = state(&*engine, &spec.identity).await;
    assert!(matches!(running, Some(ContainerState::Running { .. })), "{running:?}");
    engine.kill(&spec.identity).await.expect("it can be killed");
    assert_eq!(ended(&*engine, &spec.identity).await, (137, Some(9)));
    remove(&*engine, &spec.identity).await;
}

/// Removing what runs ends it.
pub async fn removing_a_running_one_ends_it(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let spec = spec(bench, "removed", Program::IgnoresTerm);
    start(&*engine, &spec).await;
    remove(&*engine, &spec.identity).await;
    assert_eq!(state(&*engine, &spec.identity).await, None);
    assert_eq!(engine.remove(&spec.identity).await, Err(EngineError::Gone));
    // The name can be used again, and this is a new container.
    start(&*engine, &spec).await;
    remove(&*engine, &spec.identity).await;
}

/// What a list says of a container, and an inspection as well.
async fn looked_at(engine: &dyn Engine, identity: &Identity) -> Option<ContainerState> {
    let listed = state(engine, identity).await;
    assert_eq!(engine.inspect(identity).await, Ok(listed.clone()));
    listed
}

/// Inspecting one container gives the same as the list: before it exists, while it runs, after it
/// has ended, and after it was removed. Another node's engine does not see it.
pub async fn an_inspection_says_what_the_list_says(bench: &dyn Bench) {
    let (a, b) = (bench.engine("a").await, bench.engine("b").await);
    let neighbour = spec(bench, "neighbour", Program::Forever);
    start(&*a, &neighbour).await;
    let spec = spec(bench, "inspected", Program::Forever);
    let identity = &spec.identity;
    assert_eq!(looked_at(&*a, identity).await, None, "it is not there yet");
    start(&*a, &spec).await;
    let running = looked_at(&*a, identity).await;
    assert!(matches!(running, Some(ContainerState::Running { .. })), "{running:?}");
    assert_eq!(looked_at(&*b, identity).await, None, "it is another node's");
    a.kill(identity).await.expect("it can be killed");
    ended(&*a, identity).await;
    looked_at(&*a, identity).await;
    remove(&*a, identity).await;
    assert_eq!(looked_at(&*a, identity).await, None, "it was removed");
    remove(&*a, &neighbour.identity).await;
}

/// What was never there is gone, for every operation.
pub async fn an_unknown_container_is_gone(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let identity = identity("nobody");
    assert_eq!(engine.signal(&identity, Signal::TERM).await, Err(EngineError::Gone));
    assert_eq!(engine.kill(&identity).await, Err(EngineError::Gone));
    assert_eq!(engine.remove(&identity).await, Err(EngineError::Gone));
    assert_eq!(engine.logs(&identity, LogOptions::default()).await.err(), Some(EngineError::Gone));
}

/// An attempt may have several containers, one after another or at the same time.
pub async fn containers_of_one_attempt_are_apart(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let first = spec(bench, "several", Program::Says(&["first"], &[]));
    let of = |container: &str, restart| {
        let mut other = spec(bench, "several", Program::Forever);
        let identity = first.identity.clone().of_container(container, restart);
        other.identity = identity.expect("the name is valid");
        other
    };
    let (again, beside) = (of(MAIN, 1), of("beside", 0));
    for spec in [&first, &again, &beside] {
        let started = engine.create_and_start(spec).await.expect("it starts");
        assert!(!started.adopted, "{} is one of its own", spec.identity);
    }
    assert_eq!(ended(&*engine, &first.identity).await, (0, None));
    // A new engine value, which must find the containers without remembering them.
    let engine = bench.engine("a").await;
    for spec in [&again, &beside] {
        let state = engine.inspect(&spec.identity).await.expect("it is looked at");
        assert!(matches!(state, Some(ContainerState::Running { .. })), "{state:?}");
    }
    engine.remove(&first.identity).await.expect("it is removed");
    engine.kill(&beside.identity).await.expect("it is killed");
    assert_eq!(ended(&*engine, &beside.identity).await.1, Some(9));
    assert_eq!(state(&*engine, &first.identity).await, None);
    let state = state(&*engine, &again.identity).await;
    assert!(matches!(state, Some(ContainerState::Running { .. })), "{state:?}");
    let kept = all_logs(&*engine, &first.identity, LogOptions::default()).await;
    assert_eq!(
        text(&kept, Output::Stdout),
        "first
",
        "each has a log of its own"
    );
}

/// Nodes that share an engine leave each other's containers alone.
pub async fn two_nodes_do_not_see_each_other(bench: &dyn Bench) {
    let (a, b) = (bench.engine("a").await, bench.engine("b").await);
    let spec = spec(bench, "mine", Program::Forever);
    start(&*a, &spec).await;
    assert_eq!(state(&*b, &spec.identity).await, None);
    assert_eq!(b.kill(&spec.identity).await, Err(EngineError::Gone));
    assert_eq!(b.remove(&spec.identity).await, Err(EngineError::Gone));
    // The same identity on another node is another container.
    start(&*b, &spec).await;
    remove(&*b, &spec.identity).await;
    let running = state(&*a, &spec.identity).await;
    assert!(matches!(running, Some(ContainerState::Running { .. })), "{running:?}");
    remove(&*a, &spec.identity).await;
}

/// Containers do not need the engine value that started them.
pub async fn containers_outlive_the_engine_value(bench: &dyn Bench) {
    let first = bench.engine("a").await;
    let lasting = spec(bench, "lasting", Program::Forever);
    let ending = spec(bench, "ending", Program::SaysAndLingers("was here"));
    start(&*first, &lasting).await;
    start(&*first, &ending).await;
    let before = state(&*first, &lasting.identity).await;
    drop(first);
    // The second container ends while no engine exists.
    let second = bench.engine("a").await;
    assert_eq!(state(&*second, &lasting.identity).await, before);
    assert_eq!(ended(&*second, &ending.identity).await, (0, None));
    let lines = all_logs(&*second, &ending.identity, LogOptions::default()).await;
    assert_eq!(text(&lines, Output::Stdout), "was here\n");
    second.signal(&lasting.identity, Signal::TERM).await.expect("an adopted one can be signalled");
    assert_eq!(ended(&*second, &lasting.identity).await, (143, Some(15)));
    remove(&*second, &lasting.identity).await;
    remove(&*second, &ending.identity).await;
}

/// Whoever listens hears of an end, and then sees it.
pub async fn an_exit_is_an_event(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let mut events = engine.events();
    // The program runs for a moment, so that the event of its start is not taken for that of its
    // end.
    let spec = spec(bench, "heard", Program::SaysAndLingers("listen"));
    start(&*engine, &spec).await;
    let heard = timeout(PATIENCE, async {
        loop {
            match events.next().await.expect("events do not end") {
                EngineEvent::Changed(identity) if identity != spec.identity => (),
                EngineEvent::Changed(_) | EngineEvent::Missed => {
                    let seen = state(&*engine, &spec.identity).await;
                    if matches!(seen, Some(ContainerState::Exited { .. })) {
                        return;
                    }
                }
            }
        }
    });
    heard.await.expect("the end is heard of");
    remove(&*engine, &spec.identity).await;
}

/// A node knows what it is.
pub async fn a_node_has_facts(bench: &dyn Bench) {
    let facts = bench.engine("a").await.info().await.expect("the engine knows its node");
    assert!(facts.cpus > 0 && facts.memory_bytes > 0, "{facts:?}");
    assert!(!facts.engine.is_empty() && !facts.kernel.is_empty(), "{facts:?}");
}

/// What runs uses something, on its own node only; what has ended uses nothing.
pub async fn what_runs_is_told_with_what_it_uses(bench: &dyn Bench) {
    let (a, b) = (bench.engine("a").await, bench.engine("b").await);
    let mut spec = spec(bench, "used", Program::Forever);
    spec.resources.cpu_request_millis = Some(100);
    spec.resources.memory_limit_bytes = Some(64 << 20);
    start(&*a, &spec).await;
    let used = |usage: Usage| {
        let found = usage.containers.into_iter().find(|(identity, _)| *identity == spec.identity);
        found.map(|(_, used)| used)
    };
    let first = a.usage().await.expect("it is told");
    assert!(first.machine.memory_bytes > 0, "{first:?}");
    let first = used(first).expect("it runs");
    assert!((1..=64 << 20).contains(&first.memory_bytes), "{first:?}");
    let later = used(a.usage().await.expect("it is told")).expect("it runs");
    assert!(later.cpu_nanos >= first.cpu_nanos && later.at >= first.at, "{first:?} {later:?}");
    assert_eq!(used(b.usage().await.expect("it is told")), None, "it is another node's");
    a.kill(&spec.identity).await.expect("it can be killed");
    ended(&*a, &spec.identity).await;
    assert_eq!(used(a.usage().await.expect("it is told")), None, "it has ended");
    remove(&*a, &spec.identity).await;
}

/// A command that does not exist is refused, and leaves nothing behind.
pub async fn a_missing_command_is_refused(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let mut spec = spec(bench, "absent", Program::Exit(0));
    spec.command = vec!["/no/such/program".to_owned()];
    spec.args = Vec::new();
    match engine.create_and_start(&spec).await {
        Err(EngineError::Refused { reason: Reason::CannotRun, message }) => {
            assert!(message.contains("/no/such/program"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(state(&*engine, &spec.identity).await, None);
}

/// Environment, arguments and working directory reach the program, with nothing expanded.
pub async fn what_the_spec_says_reaches_the_program(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let mut spec = spec(bench, "reached", Program::Exit(0));
    let script = r#"echo "$GREETING|$1|$(pwd)|$HOME_OF_AGENT""#;
    spec.command = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned(), "sh".to_owned()];
    spec.args = vec!["$(id) * ; a  b".to_owned()];
    spec.env = vec![
        ("GREETING".to_owned(), "no".to_owned()),
        ("GREETING".to_owned(), "two words = \"$X\"".to_owned()),
    ];
    spec.working_dir = Some("/tmp".to_owned());
    start(&*engine, &spec).await;
    assert_eq!(ended(&*engine, &spec.identity).await, (0, None));
    let lines = all_logs(&*engine, &spec.identity, LogOptions::default()).await;
    assert_eq!(text(&lines, Output::Stdout), "two words = \"$X\"|$(id) * ; a  b|/tmp|\n");
    remove(&*engine, &spec.identity).await;
}

/// What a program started does not live on when it has ended, nor hold back its end.
pub async fn children_end_with_their_parent(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let mut spec = spec(bench, "parent", Program::Exit(0));
    let script = "sleep 1000 & echo started; exit 4";
    spec.command = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
    start(&*engine, &spec).await;
    assert_eq!(ended(&*engine, &spec.identity).await, (4, None));
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let lines = all_logs(&*engine, &spec.identity, follow).await;
    assert_eq!(text(&lines, Output::Stdout), "started\n");
    remove(&*engine, &spec.identity).await;
}

fn request(script: &str) -> ExecRequest {
    let command = ["sh", "-c", script].map(str::to_owned).into();
    ExecRequest { command, stdin: true, tty: false }
}

/// A command beside a task reads, writes to both outputs, and tells its exit code.
pub async fn a_command_beside_a_task_has_its_streams_and_its_exit_code(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let spec = spec(bench, "beside", Program::Forever);
    start(&*engine, &spec).await;
    let request = request("read line; echo \"got $line\"; cat; echo alas >&2; exit 3");
    let exec = engine.exec(&spec.identity, &request).await.expect("it runs");
    let mut input = exec.input.expect("it was asked to read");
    input.write_all(b"one\ntwo\n").await.expect("it reads");
    input.shutdown().await.expect("its input ends");
    drop(input);
    let written = timeout(PATIENCE, exec.output.collect::<Vec<_>>()).await.expect("it ends");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    for (of, bytes) in written.into_iter().map(|read| read.expect("it can be read")) {
        let text = if of == Output::Stdout { &mut out } else { &mut err };
        text.extend_from_slice(&bytes);
    }
    assert_eq!((out.as_slice(), err.as_slice()), (&b"got one\ntwo\n"[..], &b"alas\n"[..]));
    assert_eq!(exec.control.exit_code().await, Ok(3));
    assert_eq!(exec.control.stop().await, Ok(()), "ending what has ended is no fault");
    let running = state(&*engine, &spec.identity).await;
    assert!(matches!(running, Some(ContainerState::Running { .. })), "the task minds nothing");
    remove(&*engine, &spec.identity).await;
}

/// A command is ended although it does not end by itself; beside what does not run there is none.
pub async fn a_command_that_is_stopped_ends_and_needs_a_task_that_runs(bench: &dyn Bench) {
    let engine = bench.engine("a").await;
    let spec = spec(bench, "beside", Program::Forever);
    let gone = async |what: &str| {
        let refused = engine.exec(&spec.identity, &request("true")).await.err();
        assert_eq!(refused, Some(EngineError::Gone), "{what}");
    };
    gone("it was never there").await;
    start(&*engine, &spec).await;
    let request = request("trap '' TERM; echo ready; while :; do sleep 1; done");
    let mut exec = engine.exec(&spec.identity, &request).await.expect("it runs");
    let ready = timeout(PATIENCE, exec.output.next()).await.expect("it gets ready");
    assert!(ready.is_some_and(|read| read.is_ok()), "it ignores TERM from here on");
    assert_eq!(exec.control.stop().await, Ok(()));
    assert_eq!(timeout(PATIENCE, exec.control.exit_code()).await, Ok(Ok(137)));
    engine.kill(&spec.identity).await.expect("it can be killed");
    ended(&*engine, &spec.identity).await;
    gone("it has ended").await;
    remove(&*engine, &spec.identity).await;
}

/// Runs the laws that hold for every engine; `$bench` makes a [`Bench`] for each.
#[macro_export]
macro_rules! conformance_suite {
    ($bench:expr, $test:meta) => {
        $crate::conformance_suite!(@laws $bench, $test;
            an_exit_is_listed_with_its_code_until_it_is_removed,
            creating_twice_makes_one,
            term_ends_it,
            kill_ends_what_ignores_term,
            removing_a_running_one_ends_it,
            an_inspection_says_what_the_list_says,
            an_unknown_container_is_gone,
            two_nodes_do_not_see_each_other,
            containers_of_one_attempt_are_apart,
            containers_outlive_the_engine_value,
            both_outputs_are_logged,
            a_followed_log_ends_with_its_container,
            logs_outlive_their_container,
            a_log_is_read_on_after_any_line,
            an_exit_is_an_event,
            a_node_has_facts,
            what_runs_is_told_with_what_it_uses,
        );
    };
    (@laws $bench:expr, $test:meta; $($law:ident,)+) => {$(
        #[$test]
        async fn $law() {
            use $crate::engine::conformance;
            conformance::hold($bench.await, async |bench| conformance::$law(bench).await).await;
        }
    )+};
}

/// Runs the laws that need real programs.
#[macro_export]
macro_rules! shell_suite {
    ($bench:expr, $test:meta) => {
        $crate::conformance_suite!(@laws $bench, $test;
            a_missing_command_is_refused,
            what_the_spec_says_reaches_the_program,
            children_end_with_their_parent,
            odd_output_is_logged_whole,
            a_log_that_is_rotated_under_its_follower_is_whole,
            the_tail_counts_lines_of_the_program,
            a_command_beside_a_task_has_its_streams_and_its_exit_code,
            a_command_that_is_stopped_ends_and_needs_a_task_that_runs,
        );
    };
}
