//! Containers of a Docker Engine, started by us and by calls of its own API, which is the least that it
//! takes.

use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{
    CreateContainerOptions, ListContainersOptionsBuilder, RemoveContainerOptions,
    StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt as _;
use node_agent::engine::docker;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::workload::{complete, no_op};
use super::{Figure, Missing, millis};
use crate::fleet::{ControlPlane, Fleet, Shape};

const SOCKET: &str = "/var/run/docker.sock";
const IMAGE: &str = "heliox-bench:1";
/// As many at the same time as an agent starts.
const AT_ONCE: u32 = 8;
/// Each pair is one run of ours and one without us, so that both meet the machine as it is then.
const PAIRS: usize = 5;
const LOOK: Duration = Duration::from_millis(5);

/// Runs containers that do nothing, several at a time: the median of pairs.
pub(super) async fn figure(count: u32) -> Figure {
    let what = format!("{count} containers of Docker, {AT_ONCE} at a time, until removed");
    let empty = |number| Figure::new(what.clone(), ("1.1 of the Engine", "-"), (number, "ms"));
    match pairs(count).await {
        Err(why) => empty(0).without(Missing::Measure(why)),
        Ok(mut pairs) => {
            // By the ratio: thousandths, so that no float is needed.
            pairs.sort_by_key(|(ours, alone)| ours * 1000 / alone);
            let (ours, alone) = pairs[pairs.len() / 2];
            let of = format!("the Engine's API alone, the median of {PAIRS} pairs by ratio");
            empty(ours).beside(alone, of)
        }
    }
}

/// Milliseconds: ours, and the engine's alone.
async fn pairs(count: u32) -> Result<Vec<(u64, u64)>, String> {
    let docker = docker::connect(SOCKET).await.map_err(|error| error.to_string())?;
    let imported = docker::busybox::import(&docker, "heliox-bench", "1").await;
    imported.map_err(|error| error.to_string())?;
    let shape = Shape {
        runtime: "docker",
        agents: 1,
        capacity: "cpu=10000,memory=10000Gi",
        control_plane: ControlPlane::Embedded,
    };
    let fleet = Fleet::start(shape).await;
    let mut pairs = Vec::new();
    for number in 0..PAIRS {
        let ours = ours(&fleet, &docker, (number, count)).await?;
        pairs.push((millis(ours), millis(alone(&docker, count).await?).max(1)));
    }
    Ok(pairs)
}

/// A job to its end, and until its containers are removed. The agent starts as many at a time by itself.
async fn ours(
    fleet: &Fleet,
    docker: &Docker,
    (number, count): (usize, u32),
) -> Result<Duration, String> {
    let mut job = no_op(&format!("containers-{number}"), count);
    job.spec.template.image = IMAGE.to_owned();
    job.spec.template.command = vec!["/bin/true".to_owned()];
    let start = Instant::now();
    complete(fleet, &job).await;
    let cluster = fleet.cluster().ok_or("the server does not say which cluster it is")?;
    let ours = vec![format!("heliox.dev/cluster={cluster}")];
    loop {
        let options = ListContainersOptionsBuilder::new().all(true);
        let options = options.filters(&[("label", ours.clone())].into()).build();
        let left = docker.list_containers(Some(options)).await.map_err(|it| it.to_string())?;
        if left.is_empty() {
            return Ok(start.elapsed());
        }
        sleep(LOOK).await;
    }
}

/// The same with nothing between this program and the engine.
async fn alone(docker: &Docker, count: u32) -> Result<Duration, String> {
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..AT_ONCE {
        let (docker, each) = (docker.clone(), (worker..count).step_by(AT_ONCE as usize).count());
        workers.spawn(async move {
            for _ in 0..each {
                run(&docker).await?;
            }
            Ok::<(), bollard::errors::Error>(())
        });
    }
    for ended in workers.join_all().await {
        ended.map_err(|error| error.to_string())?;
    }
    Ok(start.elapsed())
}

async fn run(docker: &Docker) -> Result<(), bollard::errors::Error> {
    let logs = HostConfigLogConfig { typ: Some("json-file".to_owned()), config: None };
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        entrypoint: Some(vec!["/bin/true".to_owned()]),
        host_config: Some(HostConfig { log_config: Some(logs), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let made = docker.create_container(None::<CreateContainerOptions>, body).await?;
    docker.start_container(&made.id, None::<StartContainerOptions>).await?;
    let mut ends = docker.wait_container(&made.id, None::<WaitContainerOptions>);
    while let Some(end) = ends.next().await {
        end?;
    }
    docker.remove_container(&made.id, None::<RemoveContainerOptions>).await
}
