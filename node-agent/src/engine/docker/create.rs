//! A container's spec, as the Docker Engine takes it.

use std::net::IpAddr;

use bollard::models::{
    ContainerCreateBody, HostConfig, Mount as DockerMount, MountTmpfsOptions, MountType,
    PortBinding, PortMap, RestartPolicy, RestartPolicyNameEnum,
};

use super::{host, logs};
use crate::engine::{ContainerSpec, EngineError, Mount, MountSource, Port, Reason, Scope};

/// Docker's CPU share of one whole processor.
const SHARES_PER_CPU: u64 = 1024;
/// The smallest share that the kernel accepts.
const SHARES_MIN: u64 = 2;

const NANOS_PER_MILLI: u64 = 1_000_000;

/// Linux limits the length of an argument or environment variable including its terminating zero
/// (`MAX_ARG_STRLEN`). The engine would start such a container, which would then exit with code 1.
const WORD_BYTES_MAX: usize = 128 * 1024 - 1;

/// Refuses values that Docker's syntax cannot express.
pub(super) fn check(spec: &ContainerSpec) -> Result<(), EngineError> {
    if spec.image.is_empty() {
        return Err(EngineError::refused(Reason::Invalid, "no image is given"));
    }
    let env = spec.env.iter().map(|(name, value)| name.len() + 1 + value.len());
    let words = spec.command.iter().chain(&spec.args).map(String::len);
    if let Some(bytes) = env.chain(words).find(|bytes| *bytes > WORD_BYTES_MAX) {
        let message = format!(
            "an argument or an environment variable has {bytes} bytes: the kernel allows at most \
             {WORD_BYTES_MAX} (argument list too long)"
        );
        return Err(EngineError::refused(Reason::CannotRun, message));
    }
    for mount in &spec.mounts {
        let MountSource::HostPath { host_path, create: true, .. } = &mount.source else {
            continue;
        };
        for path in [host_path, &mount.path] {
            if path.to_string_lossy().contains(':') {
                let message = format!(
                    "mount {}: the path of a created hostPath must not contain a colon",
                    path.display()
                );
                return Err(EngineError::refused(Reason::Mount, message));
            }
        }
    }
    Ok(())
}

/// Adds which field is at fault where the engine's message does not tell: the engine creates the
/// working directory while it creates the container.
pub(super) fn explain(error: EngineError, spec: &ContainerSpec) -> EngineError {
    match (error, &spec.working_dir) {
        (EngineError::Refused { reason: Reason::Invalid, message }, Some(dir))
            if message.starts_with("Cannot mkdir: ") || message.starts_with("lstat ") =>
        {
            EngineError::refused(Reason::Invalid, format!("workingDir {dir}: {message}"))
        }
        (error, _) => error,
    }
}

/// What the engine is asked to create.
pub fn body(
    spec: &ContainerSpec,
    scope: &Scope,
    default_host_ip: Option<IpAddr>,
) -> ContainerCreateBody {
    let mut labels = spec.labels.clone();
    labels.extend(scope.labels(&spec.identity));
    if let Some(keep) = spec.logs.keep {
        labels.insert(logs::LABEL_KEEP.to_owned(), keep.as_secs().to_string());
    }
    let published = || spec.ports.iter().map(docker_port);
    ContainerCreateBody {
        hostname: spec.host.hostname.clone(),
        user: spec.host.security.run_as_user.map(|user| user.to_string()),
        image: Some(spec.image.clone()),
        entrypoint: (!spec.command.is_empty()).then(|| spec.command.clone()),
        cmd: (!spec.args.is_empty()).then(|| spec.args.clone()),
        working_dir: spec.working_dir.clone(),
        env: Some(spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        labels: Some(labels.into_iter().collect()),
        exposed_ports: (!spec.ports.is_empty()).then(|| published().collect()),
        stop_signal: Some(spec.stop_signal.name().to_owned()),
        stop_timeout: Some(signed(spec.grace.as_secs())),
        host_config: Some(host_config(spec, default_host_ip)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(spec: &ContainerSpec, default_host_ip: Option<IpAddr>) -> HostConfig {
    let resources = &spec.resources;
    let memory = resources.memory_limit_bytes.map(signed);
    let (binds, mounts): (Vec<_>, Vec<_>) = spec.mounts.iter().partition(|mount| is_bind(mount));
    let config = HostConfig {
        cpu_shares: resources
            .cpu_request_millis
            .map(|millis| signed((millis * SHARES_PER_CPU / 1_000).max(SHARES_MIN))),
        nano_cpus: resources.cpu_limit_millis.map(|millis| signed(millis * NANOS_PER_MILLI)),
        memory,
        // The same value as memory means no swap.
        memory_swap: resources.memory_swap_bytes.map(signed).or(memory),
        cpuset_cpus: resources.cpuset.clone(),
        pids_limit: resources.pids.map(signed),
        binds: (!binds.is_empty()).then(|| binds.into_iter().map(bind).collect()),
        mounts: (!mounts.is_empty()).then(|| mounts.into_iter().map(docker_mount).collect()),
        port_bindings: Some(port_bindings(&spec.ports, default_host_ip)),
        network_mode: spec.network_mode.clone(),
        log_config: Some(logs::config(spec.logs.bytes_max)),
        // The agent decides about restarts.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        ..HostConfig::default()
    };
    host::with_settings(config, &spec.host)
}

/// Docker creates the source of a bind, and requires the source of a mount to exist. The former is
/// what `create` means.
fn is_bind(mount: &Mount) -> bool {
    matches!(mount.source, MountSource::HostPath { create: true, .. })
}

fn bind(mount: &Mount) -> String {
    let (source, read_only) = match &mount.source {
        MountSource::HostPath { host_path, read_only, .. } => (host_path.as_path(), *read_only),
        MountSource::Volume { .. } | MountSource::Tmpfs { .. } => (mount.path.as_path(), false),
    };
    let mode = if read_only { "ro" } else { "rw" };
    format!("{}:{}:{mode}", source.display(), mount.path.display())
}

fn docker_mount(mount: &Mount) -> DockerMount {
    let target = Some(mount.path.to_string_lossy().into_owned());
    match &mount.source {
        MountSource::HostPath { host_path, read_only, .. } => DockerMount {
            target,
            source: Some(host_path.to_string_lossy().into_owned()),
            typ: Some(MountType::BIND),
            read_only: Some(*read_only),
            ..DockerMount::default()
        },
        MountSource::Volume { name, read_only } => DockerMount {
            target,
            source: Some(name.clone()),
            typ: Some(MountType::VOLUME),
            read_only: Some(*read_only),
            ..DockerMount::default()
        },
        MountSource::Tmpfs { size_bytes } => DockerMount {
            target,
            typ: Some(MountType::TMPFS),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: size_bytes.map(signed),
                ..MountTmpfsOptions::default()
            }),
            ..DockerMount::default()
        },
    }
}

fn port_bindings(ports: &[Port], default_host_ip: Option<IpAddr>) -> PortMap {
    let mut bindings = PortMap::new();
    for port in ports {
        let Some(host_port) = port.host_port else {
            continue;
        };
        let binding = PortBinding {
            host_ip: port.host_ip.or(default_host_ip).map(|ip| ip.to_string()),
            host_port: Some(host_port.to_string()),
        };
        bindings.entry(docker_port(port)).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

fn docker_port(port: &Port) -> String {
    format!("{}/{}", port.container_port, port.protocol.as_str())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
