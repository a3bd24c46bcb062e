//! Services: what it takes to bring containers of a Docker Engine up, to replace them and to start one
//! again, beside calls of the engine's own API; and what a rollout over many nodes takes of the control
//! plane.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use api::amounts::Amounts;
use api::{Service, Task};
use base::Tasks;
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{
    CreateContainerOptions, KillContainerOptions, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions,
};
use client::{Client, DeletePropagation, Servers, http_transport};
use heliox::args::Runtime;
use heliox::control_plane::Common;
use heliox::node::{self, Engines, NodeConfig};
use node_agent::engine::docker;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::workload::{LOOK, typed};
use super::{Figure, Missing, millis};
use crate::fleet::{ControlPlane, Fleet, Shape};

const SOCKET: &str = "/var/run/docker.sock";
const IMAGE: &str = "heliox-bench:1";
/// As many at the same time as an agent starts.
const AT_ONCE: usize = 8;
/// Each pair is one run of ours and one without us, so that both meet the machine as it is then. With
/// fewer replicas than this there are fewer.
const PAIRS: usize = 5;
/// How long a state is waited for before the figure counts as not measured.
const PATIENCE: Duration = Duration::from_secs(120);

type Pair = (u64, u64);
type Measured<T> = Result<T, String>;

/// The figures of services on a Docker Engine, with `count` replicas to bring up and two fifths as many
/// to replace.
pub(super) async fn on_docker(count: usize) -> Vec<Figure> {
    let (pairs, few) = (PAIRS.min(count), (count * 2 / 5).max(1));
    let up = format!("{count} replicas of a service on Docker, until all run");
    let rolled = |at_once| format!("{few} tasks on Docker rolled out, {at_once} at a time");
    let again = "container of a service killed to running again".to_owned();
    let mut figures = Vec::new();
    let bench = match Bench::start().await {
        Ok(bench) => bench,
        Err(why) => {
            let rows = [up, rolled(1), rolled(4), again];
            let row = |what| Figure::new(what, ("-", "-"), (0, "ms"));
            return rows.map(|what| row(what).without(Missing::Measure(why.clone()))).into();
        }
    };
    figures.push(of_pairs((up, "1.1 of the Engine", "1.05"), bench.up(count, pairs).await));
    for at_once in [1, 4] {
        let pair = bench.rolled(few, at_once).await.map(|pair| vec![pair]);
        figures.push(of_pairs((rolled(at_once), "-", "1.1 of the Engine"), pair));
    }
    figures.push(of_pairs((again, "1500 ms", "1000 ms"), bench.again(pairs).await));
    figures
}

/// The median of pairs, by their ratio.
fn of_pairs(
    (what, first, goal): (String, &'static str, &'static str),
    pairs: Measured<Vec<Pair>>,
) -> Figure {
    let figure = |number| Figure::new(what.clone(), (first, goal), (number, "ms"));
    match pairs {
        Err(why) => figure(0).without(Missing::Measure(why)),
        Ok(mut pairs) => {
            pairs.sort_by_key(|(ours, alone)| ours * 1000 / (*alone).max(1));
            let (ours, alone) = pairs[pairs.len() / 2];
            let times = if pairs.len() == 1 { "once".to_owned() } else { median(pairs.len()) };
            figure(ours).beside(alone, format!("the Engine's API alone, {times}"))
        }
    }
}

fn median(of: usize) -> String {
    format!("the median of {of} pairs by ratio")
}

/// One agent on the real engine.
struct Bench {
    fleet: Fleet,
    docker: Docker,
}

impl Bench {
    async fn start() -> Measured<Self> {
        let docker = docker::connect(SOCKET).await.map_err(|error| error.to_string())?;
        let imported = docker::busybox::import(&docker, "heliox-bench", "1").await;
        imported.map_err(|error| error.to_string())?;
        let fleet = Fleet::start(Shape {
            runtime: "docker",
            agents: 1,
            capacity: "cpu=10000,memory=10000Gi",
            control_plane: ControlPlane::Embedded,
        });
        Ok(Self { fleet: fleet.await, docker })
    }

    /// Milliseconds until all replicas run: ours, and the engine's alone.
    async fn up(&self, count: usize, times: usize) -> Measured<Vec<Pair>> {
        let mut pairs = Vec::new();
        for number in 0..times {
            let name = format!("up-{number}");
            let start = Instant::now();
            self.create(&name, json!({ "replicas": count })).await;
            self.until(&name, |service| service.status.ready as usize == count).await?;
            let ours = millis(start.elapsed());
            self.remove(&name).await?;
            let start = Instant::now();
            let made = self.each((0..count).map(|_| None).collect(), AT_ONCE).await?;
            pairs.push((ours, millis(start.elapsed()).max(1)));
            self.clear(made).await?;
        }
        Ok(pairs)
    }

    /// Milliseconds until all tasks of a service are replaced, and what the engine alone takes for it.
    async fn rolled(&self, count: usize, at_once: usize) -> Measured<Pair> {
        let name = format!("rolled-{at_once}");
        let rollout = json!({ "parallelism": at_once, "minReadySeconds": 0 });
        let spec = json!({ "replicas": count, "maxUnavailable": at_once, "rollout": rollout });
        self.create(&name, spec).await;
        self.until(&name, |service| service.status.updated as usize == count).await?;
        let start = Instant::now();
        self.change(&name).await;
        self.until(&name, |it| it.status.current_revision == 2).await?;
        let ours = millis(start.elapsed());
        self.remove(&name).await?;
        let made = self.each((0..count).map(|_| None).collect(), AT_ONCE).await?;
        let start = Instant::now();
        let made = self.each(made.into_iter().map(Some).collect(), at_once).await?;
        let alone = millis(start.elapsed()).max(1);
        self.clear(made).await?;
        Ok((ours, alone))
    }

    /// Milliseconds from the kill of a container until the service's next one runs, and what the
    /// engine alone takes to start one. Its default pause of 1 s is part of ours.
    async fn again(&self, times: usize) -> Measured<Vec<Pair>> {
        self.create("killed", json!({ "replicas": 1 })).await;
        self.until("killed", |service| service.status.ready == 1).await?;
        let mut pairs = Vec::new();
        for number in 1..=times {
            let container = self.containers().await?.pop().ok_or("no container is there")?;
            let start = Instant::now();
            let kill = self.docker.kill_container(&container, None::<KillContainerOptions>);
            kill.await.map_err(|error| error.to_string())?;
            let tasks = self.fleet.client().api::<Task>("default");
            loop {
                let all = tasks.list(&client::ListOptions::default()).await;
                let all = all.map_err(|error| error.to_string())?.items;
                let is_back =
                    |task: &Task| task.status.restarts as usize >= number && task.is_ready();
                if all.iter().any(is_back) {
                    break;
                } else if start.elapsed() > PATIENCE {
                    return Err("the container was not started again".to_owned());
                }
                sleep(LOOK).await;
            }
            let ours = millis(start.elapsed());
            let start = Instant::now();
            let made = self.each(vec![None], 1).await?;
            pairs.push((ours, millis(start.elapsed()).max(1)));
            self.clear(made).await?;
            // A run that lasts is none of a flapping container.
            sleep(Duration::from_secs(2)).await;
        }
        self.remove("killed").await?;
        Ok(pairs)
    }

    async fn create(&self, name: &str, spec: Value) {
        let services = self.fleet.client().api::<Service>("default");
        services.create(&service(name, spec)).await.unwrap();
    }

    async fn change(&self, name: &str) {
        change(&self.fleet.client(), name).await;
    }

    async fn until(&self, name: &str, holds: impl Fn(&Service) -> bool) -> Measured<()> {
        until(&self.fleet.client(), name, holds).await
    }

    /// Deletes a service and waits until its containers are gone.
    async fn remove(&self, name: &str) -> Measured<()> {
        let services = self.fleet.client().api::<Service>("default");
        let deleted = services.delete(name, DeletePropagation::Background).await;
        deleted.map_err(|error| error.to_string())?;
        let start = Instant::now();
        while !self.containers().await?.is_empty() {
            if start.elapsed() > PATIENCE {
                return Err(format!("containers of {name} are left"));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// The ids of our containers.
    async fn containers(&self) -> Measured<Vec<String>> {
        let cluster = self.fleet.cluster().ok_or("the server does not say which cluster it is")?;
        let ours = vec![format!("heliox.dev/cluster={cluster}")];
        let options = ListContainersOptionsBuilder::new().all(true);
        let options = options.filters(&[("label", ours)].into()).build();
        let all = self.docker.list_containers(Some(options)).await.map_err(|it| it.to_string())?;
        Ok(all.into_iter().filter_map(|container| container.id).collect())
    }

    /// Starts a container for each entry, after it has removed the one that the entry names, so many
    /// at the same time. Returns the new ones.
    async fn each(&self, before: Vec<Option<String>>, at_once: usize) -> Measured<Vec<String>> {
        let (mut workers, mut waiting) = (JoinSet::new(), before.into_iter());
        let mut made = Vec::new();
        loop {
            while workers.len() < at_once
                && let Some(before) = waiting.next()
            {
                let docker = self.docker.clone();
                workers.spawn(async move { replace(&docker, before).await });
            }
            let Some(ended) = workers.join_next().await else { return Ok(made) };
            let ended = ended.map_err(|error| error.to_string())?;
            made.push(ended.map_err(|error| error.to_string())?);
        }
    }

    async fn clear(&self, made: Vec<String>) -> Measured<()> {
        for id in made {
            remove(&self.docker, &id).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// What the engine does for one task of a rollout.
async fn replace(
    docker: &Docker,
    before: Option<String>,
) -> Result<String, bollard::errors::Error> {
    if let Some(id) = before {
        remove(docker, &id).await?;
    }
    let logs = HostConfigLogConfig { typ: Some("json-file".to_owned()), config: None };
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        entrypoint: Some(command()),
        host_config: Some(HostConfig { log_config: Some(logs), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let made = docker.create_container(None::<CreateContainerOptions>, body).await?;
    docker.start_container(&made.id, None::<StartContainerOptions>).await?;
    Ok(made.id)
}

async fn remove(docker: &Docker, id: &str) -> Result<(), bollard::errors::Error> {
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.remove_container(id, Some(options)).await
}

fn command() -> Vec<String> {
    ["/bin/tail", "-f", "/dev/null"].map(str::to_owned).into()
}

fn service(name: &str, mut spec: Value) -> Service {
    // Without a grace: the program ignores TERM, and waiting is not what is measured.
    spec["template"] = json!({
        "image": IMAGE, "command": command(), "terminationGracePeriodSeconds": 0,
    });
    typed(json!({
        "apiVersion": "heliox.dev/v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "default" }, "spec": spec,
    }))
}

/// Makes a new revision of a service.
async fn change(client: &Client, name: &str) {
    let services = client.api::<Service>("default");
    let mut service = services.get(name).await.unwrap();
    service.spec.template.labels.insert("changed".to_owned(), "yes".to_owned());
    services.replace(&service).await.unwrap();
}

async fn until(client: &Client, name: &str, holds: impl Fn(&Service) -> bool) -> Measured<()> {
    let (services, start) = (client.api::<Service>("default"), Instant::now());
    loop {
        let service = services.get(name).await.map_err(|error| error.to_string())?;
        if holds(&service) {
            return Ok(());
        } else if start.elapsed() > PATIENCE {
            return Err(format!("{name} stays {}", service.status.phase));
        }
        sleep(LOOK).await;
    }
}

/// A rollout over many simulated nodes, whose agents run in this process and speak to the server as any
/// agent does. All tasks are replaced at once: from the change until the last node's new task is ready,
/// and the server's processor time for each node.
pub(super) async fn over_nodes(nodes: usize) -> [Figure; 2] {
    let told = format!("rollout over {nodes} nodes at once: change to the last one ready");
    let each = format!("server's processor time a node of it, {nodes} nodes");
    let goal = if nodes == 5_000 { "2000 ms" } else { "-" };
    let figures = |told_in: u64, cpu: u64| {
        let told = Figure::new(told.clone(), ("-", goal), (told_in, "ms"));
        [told, Figure::new(each.clone(), ("-", "-"), (cpu, "us"))]
    };
    match rolled_over(nodes).await {
        Ok((took, cpu)) => figures(took, cpu),
        Err(why) => figures(0, 0).map(|figure| figure.without(Missing::Measure(why.clone()))),
    }
}

async fn rolled_over(nodes: usize) -> Measured<(u64, u64)> {
    let control_plane = ControlPlane::Embedded;
    let fleet =
        Fleet::start(Shape { runtime: "sim", agents: 1, capacity: "", control_plane }).await;
    let agents = agents(&fleet, nodes - 1)?;
    let rollout = json!({ "parallelism": "100%", "minReadySeconds": 0 });
    let spec = json!({ "perNode": true, "maxUnavailable": "100%", "rollout": rollout });
    let mut all: Service = service("all", spec);
    all.spec.template.command = Vec::new();
    all.spec.template.args = vec!["duration=86400s".to_owned()];
    let client = fleet.client();
    client.api::<Service>("default").create(&all).await.map_err(|error| error.to_string())?;
    until(&client, "all", |service| service.status.updated as usize == nodes).await?;
    let (before, start) = (fleet.cpu_millis_of("server"), Instant::now());
    change(&client, "all").await;
    until(&client, "all", |service| service.status.current_revision == 2).await?;
    let took = millis(start.elapsed());
    let cpu = (fleet.cpu_millis_of("server") - before) * 1000 / nodes as u64;
    drop(agents);
    Ok((took, cpu))
}

/// Agents of simulated nodes in this process, and the folder of their state.
fn agents(fleet: &Fleet, count: usize) -> Measured<(Tasks, tempfile::TempDir)> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let tasks = Tasks::new("bench");
    let common = Common::of_machine().map_err(|error| error.to_string())?;
    let servers = Servers::parse(&fleet.url(), 0).map_err(|error| error.to_string())?;
    let client = Client::new(http_transport(&servers));
    for number in 1..=count {
        let name = format!("many-{number}");
        let config = NodeConfig {
            state_dir: dir.path().join(&name),
            name,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            capacity: Amounts::new(),
            runtime: Runtime::Sim,
            port_range: (20_000, 20_999),
            address: IpAddr::from([127, 0, 0, 1]),
            accept_cluster: false,
            engine: heliox::engine_flags::EngineOptions::default(),
        };
        let registry = prometheus::Registry::new();
        let outside = (client.clone(), None);
        node::start(config, outside, (&common, registry), &Engines::default(), &tasks)
            .map_err(|error| error.to_string())?;
    }
    Ok((tasks, dir))
}
