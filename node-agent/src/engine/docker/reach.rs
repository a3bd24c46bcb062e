//! How the ports of a container are reached from this process.
//!
//! A container has an address in each of its networks. This process reaches it where the host is part
//! of the network, which the network's gateway shows: it is an address of this host. It is not where
//! the engine runs on another machine, or in a network of its own.

use std::net::{IpAddr, UdpSocket};

use bollard::models::{ContainerInspectResponse, EndpointSettings};

use super::DockerEngine;
use crate::engine::{EngineError, Identity, Reach};

/// The network mode of a container that shares the host's network.
const HOST: &str = "host";
/// The beginning of that of a container that shares another container's.
const CONTAINER: &str = "container:";

impl DockerEngine {
    pub(super) async fn reach_of(&self, identity: &Identity) -> Result<Reach, EngineError> {
        let found = self.find(identity).await?.into_iter().next().ok_or(EngineError::Gone)?;
        if !is_running(&found.inspected) {
            return Err(EngineError::Gone);
        }
        let Some(other) = mode(&found.inspected).and_then(|mode| mode.strip_prefix(CONTAINER))
        else {
            return Ok(reach(&found.inspected, is_here));
        };
        let other = self.ask(self.docker.inspect_container(other, None)).await?;
        Ok(reach(&other, is_here))
    }
}

fn is_running(inspected: &ContainerInspectResponse) -> bool {
    inspected.state.as_ref().and_then(|state| state.running).unwrap_or(false)
}

fn mode(inspected: &ContainerInspectResponse) -> Option<&str> {
    inspected.host_config.as_ref()?.network_mode.as_deref()
}

/// How a container is reached. `is_here` says whether an address is one of this host.
fn reach(inspected: &ContainerInspectResponse, is_here: impl Fn(IpAddr) -> bool) -> Reach {
    if mode(inspected) == Some(HOST) {
        return Reach::Node;
    }
    let settings = inspected.network_settings.as_ref();
    let networks = settings.and_then(|settings| settings.networks.as_ref());
    // The engine lists networks in any order. Always the same one is chosen.
    let mut networks: Vec<_> = networks.into_iter().flatten().collect();
    networks.sort_by_key(|(name, _)| *name);
    let address = |text: &Option<String>| text.as_deref()?.parse::<IpAddr>().ok();
    let reached = networks.into_iter().find_map(|(_, network): (_, &EndpointSettings)| {
        let own = address(&network.ip_address)?;
        // An internal network has no gateway, and the host is part of it all the same.
        address(&network.gateway).is_none_or(&is_here).then_some(own)
    });
    reached.map_or(Reach::Published, Reach::Address)
}

/// Whether this host has an address: only then can something be bound to it.
fn is_here(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(mode: &str, networks: Value) -> Reach {
        let inspected = serde_json::from_value(json!({
            "HostConfig": { "NetworkMode": mode }, "NetworkSettings": { "Networks": networks },
        }));
        reach(&inspected.unwrap(), |gateway| gateway.to_string() == "172.17.0.1")
    }

    #[test]
    fn a_container_is_reached_where_the_host_is_part_of_its_network() {
        let network = |ip: &str, gateway: &str| json!({ "IPAddress": ip, "Gateway": gateway });
        let [own, other] = ["172.17.0.2", "10.0.0.7"].map(|it| it.parse().unwrap());
        let bridge = network("172.17.0.2", "172.17.0.1");
        let far = network("10.0.0.7", "10.0.0.1");
        assert_eq!(of("bridge", json!({ "bridge": bridge })), Reach::Address(own));
        assert_eq!(of("x", json!({ "x": far, "y": bridge })), Reach::Address(own));
        assert_eq!(of("x", json!({ "x": far })), Reach::Published);
        assert_eq!(of("x", json!({ "x": network("10.0.0.7", "") })), Reach::Address(other));
        assert_eq!(of("host", json!({ "host": network("", "") })), Reach::Node);
        assert_eq!(of("none", json!({ "none": network("", "") })), Reach::Published);
    }

    #[test]
    fn only_an_address_of_this_host_is_here() {
        assert!(is_here("127.0.0.1".parse().unwrap()));
        assert!(!is_here("192.0.2.1".parse().unwrap()));
    }
}
