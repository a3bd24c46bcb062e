//! The laws on the simulated engine, and what only it can show.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::*;
use crate::engine::conformance::{self, Bench, ended, state};
use crate::engine::{ContainerState, MAIN, Reason};

struct SimBench(SimMachine);

async fn bench() -> SimBench {
    let clock = Clock::simulated("2026-11-21T10:00:00Z".parse().unwrap());
    SimBench(SimMachine::new(clock, 8, 1 << 30))
}

impl Bench for SimBench {
    fn engine<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Arc<dyn Engine>> {
        let engine: Arc<dyn Engine> = Arc::new(self.0.engine(Scope::new("test", node).unwrap()));
        future::ready(engine).boxed()
    }

    fn set_program(&self, spec: &mut ContainerSpec, program: conformance::Program<'_>) {
        use conformance::Program;
        let words = |output: &str, lines: &[&str]| {
            lines.iter().map(|line| format!("{output}={line}")).collect::<Vec<_>>()
        };
        spec.args = match program {
            Program::Exit(code) => vec![format!("exit={code}")],
            Program::Forever => vec!["duration=forever".to_owned()],
            Program::IgnoresTerm => {
                ["duration=forever", "ignore-term=true", "stdout=ready"].map(str::to_owned).into()
            }
            Program::Says(out, err) => [words("stdout", out), words("stderr", err)].concat(),
            Program::SaysAndLingers(line) => {
                vec!["duration=200ms".to_owned(), format!("stdout={line}")]
            }
        };
    }
}

crate::conformance_suite!(bench(), tokio::test(start_paused = true));

async fn started(words: &[&str]) -> (SimBench, Arc<dyn Engine>, ContainerSpec) {
    let bench = bench().await;
    let engine = bench.engine("a").await;
    let mut spec = conformance::spec(&bench, "sim", conformance::Program::Exit(0));
    spec.args = words.iter().map(|word| (*word).to_owned()).collect();
    engine.create_and_start(&spec).await.unwrap();
    (bench, engine, spec)
}

#[tokio::test(start_paused = true)]
async fn a_container_runs_exactly_as_long_as_it_says() {
    let (_bench, engine, spec) = started(&["duration=5s", "exit=3"]).await;
    tokio::time::advance(Duration::from_millis(4_999)).await;
    let running = state(&*engine, &spec.identity).await;
    assert!(matches!(running, Some(ContainerState::Running { .. })), "{running:?}");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(
        state(&*engine, &spec.identity).await,
        Some(ContainerState::Exited {
            started: Some("2026-11-21T10:00:00Z".parse().unwrap()),
            at: "2026-11-21T10:00:05Z".parse().unwrap(),
            code: 3,
            signal: None,
            oom_killed: false,
            is_unseen: false,
            message: None,
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_container_crashes_on_its_first_attempts() {
    let (bench, engine, spec) = started(&["crash=1"]).await;
    assert_eq!(ended(&*engine, &spec.identity).await, (139, Some(11)));
    let mut second = conformance::spec(&bench, "sim", conformance::Program::Exit(0));
    second.identity = Identity::new("default", "sim", "0a", 2).unwrap();
    second.args = vec!["crash=1".to_owned()];
    engine.create_and_start(&second).await.unwrap();
    assert_eq!(ended(&*engine, &second.identity).await, (0, None));
    second.identity = spec.identity.of_container(MAIN, 1).unwrap();
    engine.create_and_start(&second).await.unwrap();
    assert_eq!(ended(&*engine, &second.identity).await, (0, None), "a restart counts, too");
}

#[tokio::test(start_paused = true)]
async fn an_argument_that_makes_no_sense_is_refused() {
    let bench = bench().await;
    let engine = bench.engine("a").await;
    for word in ["duration=soon", "duration=-1s", "exit=256", "ignore-term=perhaps", "crash=-1"] {
        let mut spec = conformance::spec(&bench, "sim", conformance::Program::Exit(0));
        spec.args = vec!["sh".to_owned(), "a=b".to_owned(), word.to_owned()];
        let refused = engine.create_and_start(&spec).await.unwrap_err();
        assert!(
            matches!(&refused, EngineError::Refused { reason: Reason::CannotRun, message }
                if message.contains(word)),
            "{refused:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_with_a_lost_answer_may_have_happened() {
    let bench = bench().await;
    let engine = bench.engine("a").await;
    let faults =
        [(Fault::UnknownDone, true), (Fault::UnknownNotDone, false), (Fault::Unavailable, false)];
    for (fault, happened) in faults {
        let spec = conformance::spec(&bench, "sim", conformance::Program::Forever);
        bench.0.fail_next_create(fault);
        engine.create_and_start(&spec).await.unwrap_err();
        assert_eq!(state(&*engine, &spec.identity).await.is_some(), happened, "{fault:?}");
        let again = engine.create_and_start(&spec).await.unwrap();
        assert_eq!(again.adopted, happened, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_machine_runs_nothing() {
    let (bench, engine, spec) = started(&["duration=forever", "stdout=x"]).await;
    assert_eq!(bench.0.running().len(), 1);
    bench.0.lose_everything();
    assert_eq!(bench.0.running(), []);
    assert_eq!(engine.kill(&spec.identity).await, Err(EngineError::Gone));
    assert!(engine.logs(&spec.identity, LogOptions::default()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_happened_is_kept_on_request_and_told_once() {
    let (bench, engine, first) = started(&["duration=1s", "exit=3"]).await;
    assert_eq!(bench.0.take_history(), [], "nobody asked for it");
    bench.0.keep_history();
    tokio::time::advance(Duration::from_secs(1)).await;
    let start = async |program| {
        let spec = conformance::spec(&bench, "sim", program);
        engine.create_and_start(&spec).await.unwrap();
        spec.identity
    };
    let stopped = start(conformance::Program::Forever).await;
    let lost = start(conformance::Program::Forever).await;
    engine.kill(&stopped).await.unwrap();
    engine.remove(&stopped).await.unwrap();
    engine.remove(&first.identity).await.unwrap();
    bench.0.lose_everything();
    let told: Vec<_> =
        bench.0.take_history().into_iter().map(|it| (it.identity, it.what)).collect();
    let began = HistoryKind::Started { cpu_millis: 0, host_ports: Vec::new() };
    let wanted = [
        (first.identity, HistoryKind::Ended { code: 3 }),
        (stopped.clone(), began.clone()),
        (lost.clone(), began),
        (stopped, HistoryKind::Stopped),
        (lost, HistoryKind::Lost),
    ];
    assert_eq!(told, wanted);
    assert_eq!(bench.0.take_history(), []);
}

#[tokio::test(start_paused = true)]
async fn each_of_many_changes_is_heard_of_once() {
    let bench = bench().await;
    let engine = bench.engine("a").await;
    let mut events = engine.events();
    let mut started = std::collections::BTreeSet::new();
    for n in 0_u32..10_000 {
        let mut spec = conformance::spec(&bench, "sim", conformance::Program::Exit(0));
        spec.identity = Identity::new("default", "sim", &format!("{n:x}"), 1).unwrap();
        spec.args = vec![format!("duration={}ms", 1 + n % 100)];
        engine.create_and_start(&spec).await.unwrap();
        started.insert(spec.identity);
    }
    let mut heard_now = || {
        std::iter::from_fn(|| match events.next().now_or_never()? {
            Some(EngineEvent::Changed(identity)) => Some(identity),
            Some(EngineEvent::Missed) | None => panic!("the stream goes on and misses nothing"),
        })
        .collect::<Vec<_>>()
    };
    let in_order: Vec<_> = started.into_iter().collect();
    assert!(heard_now() == in_order, "each start is heard of once");
    assert_eq!(heard_now(), [], "nothing else has happened");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(heard_now() == in_order, "each end is heard of once");
    assert_eq!(bench.0.running(), []);
}
