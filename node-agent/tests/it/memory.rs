//! Containers over their memory limit, which the Docker Engine alone misses now and then.

use bollard::query_parameters::KillContainerOptionsBuilder;
use futures_util::stream::{self, StreamExt};
use node_agent::engine::conformance::{Bench, ended, hold, state};
use node_agent::engine::{ContainerSpec, ContainerState, Engine, docker};

use crate::docker::{DockerBench, SOCKET, bench, inspect, says};

/// The program is the container's only process: with it goes the control group, which the engine
/// asks for what happened.
const ONLY_PROCESS: &str = "exec tail -c 200000000 /dev/zero";
/// Containers of one test. The engine alone misses every third or so.
const CONTAINERS: usize = 16;
/// So many at the same time.
const AT_ONCE: usize = 8;

fn limited(bench: &DockerBench, script: &str) -> ContainerSpec {
    let mut spec = says(bench, script);
    spec.resources.memory_limit_bytes = Some(16 << 20);
    spec
}

/// How a container ended: its exit code, and whether that was for want of memory.
async fn end(engine: &dyn Engine, spec: &ContainerSpec) -> (i32, bool) {
    ended(engine, &spec.identity).await;
    match state(engine, &spec.identity).await {
        Some(ContainerState::Exited { code, oom_killed, .. }) => (code, oom_killed),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_program_over_its_memory_limit_is_missed() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let ends = stream::iter((0..CONTAINERS).map(|_| limited(bench, ONLY_PROCESS)))
            .map(|spec| {
                let engine = &engine;
                async move {
                    engine.create_and_start(&spec).await.unwrap();
                    end(&**engine, &spec).await
                }
            })
            .buffer_unordered(AT_ONCE);
        assert_eq!(ends.collect::<Vec<_>>().await, [(137, true); CONTAINERS]);
    })
    .await;
}

#[tokio::test]
async fn a_shell_that_outlives_its_program_tells_by_its_own_code() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        for (then, expected) in [("exit 3", (3, true)), ("exit 0", (0, false))] {
            let spec = limited(bench, &format!("tail -c 200000000 /dev/zero; {then}"));
            engine.create_and_start(&spec).await.unwrap();
            assert_eq!(end(&*engine, &spec).await, expected, "{then}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_container_that_ran_before_this_agent_is_watched_as_well() {
    hold(bench().await, async |bench| {
        let former = bench.engine("a").await;
        // It waits for the new agent.
        let script = "trap 'exec tail -c 200000000 /dev/zero' TERM; while :; do sleep 0.1; done";
        let specs: Vec<_> = (0..4).map(|_| limited(bench, script)).collect();
        for spec in &specs {
            former.create_and_start(spec).await.unwrap();
        }
        drop(former);
        let engine = bench.engine("a").await;
        engine.list().await.unwrap();
        for spec in &specs {
            engine.signal(&spec.identity, node_agent::engine::Signal::TERM).await.unwrap();
        }
        for spec in &specs {
            assert_eq!(end(&*engine, spec).await, (137, true));
        }
    })
    .await;
}

#[tokio::test]
async fn a_kill_by_hand_is_not_called_out_of_memory() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let by_hand = docker::connect(SOCKET).await.unwrap();
        for _ in 0..4 {
            let spec = limited(bench, "sleep 1000");
            engine.create_and_start(&spec).await.unwrap();
            let id = inspect(bench, "a", &spec).await.id.unwrap();
            let kill = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
            by_hand.kill_container(&id, Some(kill)).await.unwrap();
            assert_eq!(end(&*engine, &spec).await, (137, false));
        }
    })
    .await;
}
