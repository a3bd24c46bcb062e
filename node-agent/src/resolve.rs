//! Makes the engine's container specification from a task and its template.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use api::amounts::{CPU, MEMORY, MEMORY_SWAP, PIDS, amount};
use api::substitute::{NodeNames, for_node};
use api::task_template::TaskTemplateSpec;
use api::template::probe::{HTTP_PATH, PortRef};
use api::template::{ImagePullPolicy, Probe, ProbeKind, Protocol, Template};
use api::{Kind as _, KindId, Task, Violation, labels};

use crate::engine::{
    ContainerSpec, HostSettings, HttpRequest, Identity, LOG_BYTES_MAX, LogLimits, Mount,
    MountSource, Port, ProbeAction, Protocol as EngineProtocol, PullPolicy, Resources, Signal,
    Socket,
};
use crate::health::{Check, Checks};

/// The properties of the node that go into a container.
#[derive(Debug, Clone, Copy)]
pub struct HostInfo<'a> {
    /// Name of the node.
    pub node: &'a str,
    /// Address at which its ports are reached.
    pub address: &'a str,
    /// Whether containers have a network of their own, so that they may listen on other port
    /// numbers than the node's.
    pub own_network: bool,
}

/// The template with the task's own partial template merged over it. The error is a sentence.
pub fn merged(task: &Task, template: &TaskTemplateSpec) -> Result<Template, String> {
    let over = task.spec.overrides.template.as_deref();
    api::merge::template(&template.template, over).map_err(|found| sentence(&found))
}

/// What an attempt was given of its node.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// Node ports by the names of the ports.
    pub ports: &'a BTreeMap<String, u16>,
    /// Numbers of graphics processors.
    pub gpus: &'a [u32],
    /// Digest of the image, whatever its tag means by now.
    pub digest: Option<&'a str>,
}

/// An image by its digest: its name without the tag, and the digest.
pub(crate) fn by_digest(image: &str, digest: &str) -> String {
    format!("{}@{digest}", repository(image))
}

/// The name of an image without its tag or digest.
pub(crate) fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    // A colon before the last slash is that of a registry's port.
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        Some(_) | None => name,
    }
}

/// Which image a container runs, when it is pulled, and whether its digest is to be found out.
fn image(template: &Template, stays_up: bool, digest: Option<&str>) -> (String, PullPolicy, bool) {
    let policy = match template.image_pull_policy.unwrap_or_default() {
        ImagePullPolicy::IfNotPresent => PullPolicy::IfNotPresent,
        ImagePullPolicy::Always => PullPolicy::Always,
        ImagePullPolicy::Never => PullPolicy::Never,
    };
    match (digest, policy) {
        // What a digest names never changes.
        (Some(digest), PullPolicy::Always | PullPolicy::IfNotPresent) => {
            (by_digest(&template.image, digest), PullPolicy::IfNotPresent, false)
        }
        // Such images come to a node in other ways, and other nodes may have them without a digest.
        (_, PullPolicy::Never) => (template.image.clone(), policy, false),
        (None, PullPolicy::Always | PullPolicy::IfNotPresent) => {
            (template.image.clone(), policy, stays_up)
        }
    }
}

/// The specification for the engine, with what the attempt was given. The error is a sentence.
pub fn container_spec(
    identity: &Identity,
    (task, template): (&Task, &TaskTemplateSpec),
    merged: &Template,
    given: Given<'_>,
    host: &HostInfo<'_>,
) -> Result<ContainerSpec, String> {
    let stays_up = template.restart.is_some();
    let host_ports = given.ports;
    let Substituted { template, listens, ours } =
        substituted((task, template), merged, host_ports, host)?;
    let (image, pull_policy, wants_digest) = image(&template, stays_up, given.digest);
    let mut env: Vec<(String, String)> = ours.into_iter().collect();
    env.extend(template.env.iter().map(|variable| (variable.name.clone(), variable.value.clone())));
    Ok(ContainerSpec {
        identity: identity.clone(),
        image,
        pull_policy,
        wants_digest,
        command: template.command.clone(),
        args: template.args.clone(),
        working_dir: template.working_dir.clone(),
        env,
        labels: template.labels.clone(),
        resources: resources(&template),
        ports: ports(&template, host_ports, &listens)?,
        mounts: template.mounts.iter().map(mount).collect::<Result<_, _>>()?,
        stop_signal: stop_signal(&template)?,
        grace: Duration::from_secs(template.grace_seconds().into()),
        network_mode: template.network_mode.clone(),
        logs: log_limits(&template),
        host: host_settings(template, given.gpus),
    })
}

fn log_limits(template: &Template) -> LogLimits {
    let bytes_max = template.logs.max_size.as_ref().map_or(LOG_BYTES_MAX, |size| size.whole());
    LogLimits { bytes_max, keep: template.logs.keep.map(api::duration::Duration::get) }
}

pub(crate) fn host_settings(template: Template, gpus: &[u32]) -> HostSettings {
    HostSettings {
        hostname: template.hostname,
        dns: template.dns,
        host_aliases: template.host_aliases,
        host_pid: template.host_pid,
        runtime: template.runtime,
        devices: template.devices,
        sysctls: template.sysctls,
        ulimits: template.ulimits,
        security: template.security_context,
        gpus: gpus.to_vec(),
    }
}

/// A template with everything substituted for an attempt on this node.
struct Substituted {
    template: Template,
    /// The port numbers that its program listens on, by the names of the ports.
    listens: BTreeMap<String, u16>,
    /// The variables that Heliox sets.
    ours: BTreeMap<String, String>,
}

fn substituted(
    (task, template): (&Task, &TaskTemplateSpec),
    merged: &Template,
    host_ports: &BTreeMap<String, u16>,
    host: &HostInfo<'_>,
) -> Result<Substituted, String> {
    let listens = listens_on(merged, host_ports, host);
    let ours = environment(task, template, host_ports, &listens, host);
    let names = NodeNames {
        task: task.name(),
        index: task.spec.index,
        count: task.spec.count,
        attempt: task.spec.attempt,
        partition: task.spec.overrides.partition.as_deref(),
        item: task.spec.overrides.item.as_deref(),
        node: host.node,
        ports: &listens,
        env: &ours,
    };
    let template = for_node(merged, &names).map_err(|found| sentence(&found))?;
    Ok(Substituted { template, listens, ours })
}

/// The probes of a container with these node ports. The error is a sentence.
pub fn checks(
    of: (&Task, &TaskTemplateSpec),
    merged: &Template,
    host_ports: &BTreeMap<String, u16>,
    host: &HostInfo<'_>,
) -> Result<Checks, String> {
    let Substituted { template, listens, .. } = substituted(of, merged, host_ports, host)?;
    let ports = ports(&template, host_ports, &listens)?;
    let check = |(kind, probe): (ProbeKind, &Probe)| {
        let check = Check {
            action: probe_action(probe, &ports)?,
            initial_delay: probe.initial_delay(),
            period: probe.period(),
            timeout: probe.timeout(),
            successes: probe.success_threshold(),
            failures: probe.failure_threshold(),
        };
        Ok((kind, check))
    };
    template.probes().map(check).collect()
}

fn probe_action(probe: &Probe, ports: &[Port]) -> Result<ProbeAction, String> {
    if let Some(get) = &probe.http_get {
        let headers = get.http_headers.iter();
        return Ok(ProbeAction::Http(HttpRequest {
            socket: socket(&get.port, get.host.as_ref(), ports)?,
            path: get.path.clone().unwrap_or_else(|| HTTP_PATH.to_owned()),
            headers: headers.map(|it| (it.name.clone(), it.value.clone())).collect(),
        }));
    }
    if let Some(tcp) = &probe.tcp_socket {
        return Ok(ProbeAction::Tcp(socket(&tcp.port, tcp.host.as_ref(), ports)?));
    }
    let exec = probe.exec.as_ref().ok_or("a probe does nothing")?;
    Ok(ProbeAction::Exec(exec.command.clone()))
}

fn socket(wanted: &PortRef, host: Option<&String>, ports: &[Port]) -> Result<Socket, String> {
    let is_it = |port: &&Port| match wanted {
        PortRef::Number(number) => {
            port.container_port == *number && port.protocol == EngineProtocol::Tcp
        }
        PortRef::Name(name) => port.name == *name,
    };
    let port = ports.iter().find(is_it);
    let number = match wanted {
        PortRef::Number(number) => *number,
        PortRef::Name(name) => {
            port.map(|port| port.container_port).ok_or(format!("port {name:?} has no number"))?
        }
    };
    let published = port.and_then(|port| Some((port.host_ip, port.host_port?)));
    Ok(Socket { host: host.cloned(), port: number, published })
}

/// The stop signal of a container of this template.
pub fn stop_signal(template: &Template) -> Result<Signal, String> {
    let word = template.stop_signal.as_deref();
    word.map_or(Ok(Signal::TERM), |word| {
        word.parse().map_err(|error| format!("stopSignal: {error}"))
    })
}

/// Most violations that a sentence lists. The sentence goes into the task's report, which must stay
/// small enough to be stored.
const PROBLEMS_MAX: usize = 5;
const PROBLEM_CHARS_MAX: usize = 200;

fn sentence(found: &[Violation]) -> String {
    let each = found.iter().take(PROBLEMS_MAX).map(|violation| {
        let whole = format!("{}: {}", violation.path, violation.message);
        whole.chars().take(PROBLEM_CHARS_MAX).collect::<String>()
    });
    let more = found.len().saturating_sub(PROBLEMS_MAX);
    let more = (more > 0).then(|| format!("and {more} more"));
    each.chain(more).collect::<Vec<_>>().join("; ")
}

/// The port numbers to listen on: those of the container if it has its own network and the template
/// names them, otherwise the node's.
fn listens_on(
    template: &Template,
    host_ports: &BTreeMap<String, u16>,
    host: &HostInfo<'_>,
) -> BTreeMap<String, u16> {
    let shares = template.network_mode.as_deref() == Some("host");
    let own = host.own_network && !shares;
    let number = |port: &api::template::Port| {
        let host = host_ports.get(&port.name).copied();
        port.container_port.filter(|_| own).or(host)
    };
    let ports = template.ports.iter();
    ports.filter_map(|port| Some((port.name.clone(), number(port)?))).collect()
}

fn environment(
    task: &Task,
    template: &TaskTemplateSpec,
    host_ports: &BTreeMap<String, u16>,
    listens: &BTreeMap<String, u16>,
    host: &HostInfo<'_>,
) -> BTreeMap<String, String> {
    let partition = task.spec.overrides.partition.clone().unwrap_or_default();
    let mut env: BTreeMap<String, String> = [
        ("NAMESPACE", task.namespace().to_owned()),
        ("JOB", template.owner.name_as(KindId::Job).to_owned()),
        ("SERVICE", template.owner.name_as(KindId::Service).to_owned()),
        ("REVISION", revision_of_service(task, template)),
        ("RUN", template.run.clone()),
        ("TASK", task.name().to_owned()),
        ("INDEX", task.spec.index.to_string()),
        ("COUNT", task.spec.count.to_string()),
        ("ATTEMPT", task.spec.attempt.to_string()),
        ("PARTITION", partition),
        ("NODE", host.node.to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (format!("HELIOX_{name}"), value))
    .collect();
    for (name, host_port) in host_ports {
        let word = name.to_ascii_uppercase().replace('-', "_");
        let number = listens.get(name).unwrap_or(host_port);
        env.insert(format!("HELIOX_PORT_{word}"), number.to_string());
        env.insert(format!("HELIOX_ADDR_{word}"), format!("{}:{host_port}", host.address));
    }
    env
}

/// The revision of the service that a task belongs to; empty for any other task.
fn revision_of_service(task: &Task, template: &TaskTemplateSpec) -> String {
    if template.owner.name_as(KindId::Service).is_empty() {
        return String::new();
    }
    let labels = task.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(labels::REVISION)).cloned().unwrap_or_default()
}

fn resources(template: &Template) -> Resources {
    let wanted = &template.resources;
    let of = |list: &BTreeMap<String, api::amounts::Quantity>, name: &str| {
        list.get(name).map(|quantity| amount(name, quantity))
    };
    Resources {
        cpu_request_millis: of(&wanted.requests, CPU),
        cpu_limit_millis: of(&wanted.limits, CPU),
        memory_limit_bytes: of(&wanted.limits, MEMORY),
        memory_swap_bytes: of(&wanted.limits, MEMORY_SWAP),
        pids: of(&wanted.limits, PIDS),
        cpuset: wanted.cpuset.clone(),
    }
}

fn ports(
    template: &Template,
    host_ports: &BTreeMap<String, u16>,
    listens: &BTreeMap<String, u16>,
) -> Result<Vec<Port>, String> {
    let mut ports = Vec::new();
    for port in &template.ports {
        let Some(container_port) = listens.get(&port.name).copied() else { continue };
        let host_ip = match port.host_ip.as_deref().map(str::parse) {
            Some(Ok(address)) => Some(address),
            Some(Err(error)) => return Err(format!("ports[{}].hostIP: {error}", port.name)),
            None => None,
        };
        ports.push(Port {
            name: port.name.clone(),
            container_port,
            host_port: host_ports.get(&port.name).copied(),
            host_ip,
            protocol: match port.protocol {
                Protocol::Tcp => EngineProtocol::Tcp,
                Protocol::Udp => EngineProtocol::Udp,
            },
        });
    }
    Ok(ports)
}

fn mount(mount: &api::template::Mount) -> Result<Mount, String> {
    let source = match (&mount.host_path, &mount.volume, &mount.tmpfs) {
        (Some(host_path), _, _) => MountSource::HostPath {
            host_path: PathBuf::from(host_path),
            read_only: mount.read_only,
            create: mount.create,
        },
        (None, Some(volume), _) => {
            MountSource::Volume { name: volume.clone(), read_only: mount.read_only }
        }
        (None, None, Some(tmpfs)) => {
            MountSource::Tmpfs { size_bytes: tmpfs.size.as_ref().map(|size| size.whole()) }
        }
        (None, None, None) => return Err(format!("mount {} has no source", mount.path)),
    };
    Ok(Mount { path: PathBuf::from(&mount.path), source })
}

#[cfg(test)]
mod tests {
    use api::substitute::names::ENVIRONMENT;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_program_finds_the_variables_that_are_documented() {
        let task: Task = serde_json::from_value(
            json!({ "metadata": { "name": "a-0" }, "spec": { "template": "a" } }),
        )
        .unwrap();
        let template: TaskTemplateSpec = serde_json::from_value(
            json!({ "owner": { "kind": "Job", "name": "a" }, "template": { "image": "x" } }),
        )
        .unwrap();
        let ports = BTreeMap::from([("name".to_owned(), 31_000)]);
        let host = HostInfo { node: "n1", address: "127.0.0.1", own_network: false };
        let env = environment(&task, &template, &ports, &ports, &host);
        let mut documented: Vec<&str> = ENVIRONMENT.iter().map(|it| it.name).collect();
        documented.sort_unstable();
        assert_eq!(env.keys().map(String::as_str).collect::<Vec<_>>(), documented);
    }

    #[test]
    fn an_image_is_run_by_its_digest_once_that_is_known() {
        let by = |name: &str, policy, stays_up, digest| {
            let template = Template {
                image: name.to_owned(),
                image_pull_policy: policy,
                ..Template::default()
            };
            image(&template, stays_up, digest)
        };
        let (always, never) = (Some(ImagePullPolicy::Always), Some(ImagePullPolicy::Never));
        for (given, expected) in [
            (by("r:5000/a:1", None, true, None), ("r:5000/a:1", PullPolicy::IfNotPresent, true)),
            (by("r:5000/a:1", None, false, None), ("r:5000/a:1", PullPolicy::IfNotPresent, false)),
            (by("a:1", always, true, None), ("a:1", PullPolicy::Always, true)),
            (by("a:1", never, true, Some("d")), ("a:1", PullPolicy::Never, false)),
            (
                by("r:5000/a:1", None, true, Some("d")),
                ("r:5000/a@d", PullPolicy::IfNotPresent, false),
            ),
            (
                by("r:5000/a", always, true, Some("d")),
                ("r:5000/a@d", PullPolicy::IfNotPresent, false),
            ),
            (by("a@e", None, true, Some("d")), ("a@d", PullPolicy::IfNotPresent, false)),
        ] {
            let (image, policy, wants_digest) = given;
            assert_eq!((image.as_str(), policy, wants_digest), expected);
        }
    }

    #[test]
    fn a_program_of_a_service_knows_its_revision() {
        let env_in = |kind: &str| {
            let labels = json!({ "heliox.dev/revision": "7" });
            let metadata = json!({ "name": "web-7-0", "labels": labels });
            let task = json!({ "metadata": metadata, "spec": { "template": "a" } });
            let template =
                json!({ "owner": { "kind": kind, "name": "web" }, "template": { "image": "x" } });
            let host = HostInfo { node: "n1", address: "127.0.0.1", own_network: false };
            let (task, template): (Task, TaskTemplateSpec) =
                (serde_json::from_value(task).unwrap(), serde_json::from_value(template).unwrap());
            let ports = BTreeMap::new();
            let env = environment(&task, &template, &ports, &ports, &host);
            ["JOB", "SERVICE", "REVISION"].map(|name| env[&format!("HELIOX_{name}")].clone())
        };
        assert_eq!(env_in("Service"), ["", "web", "7"]);
        assert_eq!(env_in("Job"), ["web", "", ""]);
    }
}
