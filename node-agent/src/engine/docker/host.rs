//! What a container has of its host and what it may do there, as the Docker Engine takes it.

use api::template::{Device, HostAlias, SecurityContext};
use bollard::models::{DeviceMapping, DeviceRequest, HostConfig, ResourcesUlimits, SystemInfo};

use crate::engine::HostSettings;

/// The runtime that gives containers graphics processors, where the engine has it. Without it the
/// engine does so by a hook.
const GPU_RUNTIME: &str = "nvidia";

/// The runtime for a container that is given graphics processors, where its template names none.
pub(super) fn gpu_runtime(engine: &SystemInfo) -> Option<String> {
    let has_it = engine.runtimes.as_ref().is_some_and(|them| them.contains_key(GPU_RUNTIME));
    has_it.then(|| GPU_RUNTIME.to_owned())
}

/// A host configuration with these settings.
pub(super) fn with_settings(config: HostConfig, host: &HostSettings) -> HostConfig {
    let SecurityContext {
        privileged, read_only_root_filesystem, capabilities, security_opt, ..
    } = &host.security;
    HostConfig {
        dns: some(host.dns.clone()),
        extra_hosts: some(host.host_aliases.iter().flat_map(extra_hosts).collect()),
        pid_mode: host.host_pid.then(|| "host".to_owned()),
        runtime: host.runtime.clone(),
        devices: some(host.devices.iter().filter_map(|text| device(text)).collect()),
        device_requests: (!host.gpus.is_empty()).then(|| vec![gpus(&host.gpus)]),
        sysctls: (!host.sysctls.is_empty()).then(|| host.sysctls.iter().map(sysctl).collect()),
        ulimits: some(ulimits(host)),
        privileged: privileged.then_some(true),
        readonly_rootfs: read_only_root_filesystem.then_some(true),
        cap_add: some(capabilities.add.clone()),
        cap_drop: some(capabilities.drop.clone()),
        security_opt: some(security_opt.clone()),
        ..config
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn extra_hosts(alias: &HostAlias) -> impl Iterator<Item = String> {
    alias.hostnames.iter().map(|name| format!("{name}:{}", alias.ip))
}

fn device(text: &str) -> Option<DeviceMapping> {
    let Device { host, container, permissions } = Device::parse(text)?;
    Some(DeviceMapping {
        path_on_host: Some(host.to_owned()),
        path_in_container: Some(container.to_owned()),
        cgroup_permissions: Some(permissions.to_owned()),
    })
}

/// These graphics processors and no others: by a mere count every container would be given the first
/// ones.
fn gpus(numbers: &[u32]) -> DeviceRequest {
    DeviceRequest {
        device_ids: Some(numbers.iter().map(ToString::to_string).collect()),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        ..DeviceRequest::default()
    }
}

fn sysctl(sysctl: &api::template::Sysctl) -> (String, String) {
    (sysctl.name.clone(), sysctl.value.clone())
}

fn ulimits(host: &HostSettings) -> Vec<ResourcesUlimits> {
    let of = |ulimit: &api::template::Ulimit| ResourcesUlimits {
        name: Some(ulimit.name.clone()),
        soft: Some(ulimit.soft),
        hard: Some(ulimit.hard.unwrap_or(ulimit.soft)),
    };
    host.ulimits.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphics_processors_come_by_the_runtime_where_the_engine_has_it() {
        let engine = |name: &str| SystemInfo {
            runtimes: Some([(name.to_owned(), bollard::models::Runtime::default())].into()),
            ..SystemInfo::default()
        };
        assert_eq!(gpu_runtime(&engine("nvidia")).as_deref(), Some("nvidia"));
        assert_eq!(gpu_runtime(&engine("runc")), None);
    }
}
