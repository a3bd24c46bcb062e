//! Whether a node has room for a task. The scheduler chooses nodes by this rule and the agent
//! accepts tasks by it; if the two differed, a task would be bound and returned for ever.
//!
//! Both keep what is taken in a form of their own, so the rule reads it through the trait [`Room`].
//!
//! # Invariants
//!
//! * A host port conflicts with another one of the same number, unless their protocols differ, or
//!   both name an address and the addresses differ.
//! * A port number that a node assigns from its range is assigned as a whole: for both protocols,
//!   on all addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::template::{Port, Protocol};

/// A port of a node that is held or wanted. The order begins with the number, so that all ports of
/// one number are next to each other.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    /// Port number.
    pub port: u16,
    /// Transport protocol. Default: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// IP address of the node. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "hostIP")]
    pub address: Option<IpAddr>,
}

impl HostPort {
    /// A number with both protocols on all addresses: what a node assigns from its range.
    pub fn whole(port: u16) -> Self {
        Self { port, protocol: None, address: None }
    }

    /// The node port that a template asks for by number; nothing if the node is to choose one.
    pub fn fixed(port: &Port) -> Option<Self> {
        let address = port.host_ip.as_deref().and_then(|text| text.parse::<IpAddr>().ok());
        // Normalised, so that equal addresses compare as equal: an IPv4 address may be written as
        // an IPv6 one, and `0.0.0.0` and `::` both mean all addresses.
        let address = address.map(|ip| ip.to_canonical()).filter(|ip| !ip.is_unspecified());
        Some(Self { port: port.host_port?, protocol: Some(port.protocol), address })
    }

    /// Whether the two cannot be held at the same time.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        fn overlap<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        self.port == other.port
            && overlap(self.protocol, other.protocol)
            && overlap(self.address, other.address)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port)?,
            Some(address) => write!(f, "{address}:{}", self.port)?,
            None => write!(f, "{}", self.port)?,
        }
        match self.protocol {
            Some(Protocol::Udp) => f.write_str("/UDP"),
            Some(Protocol::Tcp) | None => Ok(()),
        }
    }
}

/// Ports that are held, each with how many hold it: while one attempt stops and the next starts,
/// both may hold the same port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldPorts(BTreeMap<HostPort, u32>);

impl HeldPorts {
    /// Adds a holder of a port. Returns whether no port of this number was held before.
    pub fn add(&mut self, port: HostPort) -> bool {
        let is_new = self.of_number(port.port).next().is_none();
        *self.0.entry(port).or_default() += 1;
        is_new
    }

    /// Removes a holder. Returns whether no port of this number is held any more.
    pub fn take_back(&mut self, port: HostPort) -> bool {
        let Some(times) = self.0.get_mut(&port) else { return false };
        *times -= 1;
        if *times > 0 {
            return false;
        }
        self.0.remove(&port);
        self.of_number(port.port).next().is_none()
    }

    /// How many hold a port.
    pub fn times(&self, port: &HostPort) -> u32 {
        self.0.get(port).copied().unwrap_or(0)
    }

    /// The held ports of one number.
    pub fn of_number(&self, port: u16) -> impl Iterator<Item = &HostPort> {
        let ports = self.0.range(HostPort::whole(port)..).map(|(held, _)| held);
        ports.take_while(move |held| held.port == port)
    }

    /// How many numbers from `first` to `last` are held.
    pub fn numbers_in(&self, (first, last): (u16, u16)) -> u32 {
        let held = self.0.range(HostPort::whole(first)..).map(|(held, _)| held.port);
        let numbers: BTreeSet<u16> = held.take_while(|port| *port <= last).collect();
        u32::try_from(numbers.len()).unwrap_or(u32::MAX)
    }

    /// All that are held.
    pub fn iter(&self) -> impl Iterator<Item = &HostPort> {
        self.0.keys()
    }
}

/// The node ports that a task wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct WantedPorts {
    /// Ports whose number the task chooses.
    pub fixed: Vec<HostPort>,
    /// How many ports the node is to choose from its range.
    pub from_range: u32,
}

impl WantedPorts {
    /// The ports of a template.
    pub fn of(ports: &[Port]) -> Self {
        let fixed: Vec<HostPort> = ports.iter().filter_map(HostPort::fixed).collect();
        let from_range = u32::try_from(ports.len() - fixed.len()).unwrap_or(u32::MAX);
        Self { fixed, from_range }
    }
}

/// The free resources of a node, however they are kept. `R` identifies a resource.
pub trait Room<R> {
    /// The free amount of a resource.
    fn free(&self, resource: R) -> u64;

    /// Whether a port is held that conflicts with this one.
    fn is_held(&self, port: &HostPort) -> bool;

    /// Whether any port of this number is held.
    fn is_number_held(&self, port: u16) -> bool;

    /// The first and the last port of the range from which the node assigns ports; nothing if it
    /// has none.
    fn range(&self) -> Option<(u16, u16)>;

    /// How many numbers of that range are free.
    fn free_in_range(&self) -> u32;
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit<R> {
    /// Too little of a resource is free.
    Resource {
        /// The resource.
        resource: R,
        /// How much is wanted.
        wanted: u64,
        /// How much is free.
        free: u64,
    },
    /// The port, or one that conflicts with it, is held.
    Port(HostPort),
    /// Too few ports of the node's range are free.
    Range {
        /// How many are wanted.
        wanted: u32,
        /// How many are free.
        free: u32,
    },
}

/// Whether there is room for a task.
///
/// # Errors
///
/// The first thing that there is too little of.
pub fn fits<R: Copy>(
    requests: impl IntoIterator<Item = (R, u64)>,
    ports: &WantedPorts,
    room: &impl Room<R>,
) -> Result<(), Misfit<R>> {
    for (resource, wanted) in requests {
        let free = room.free(resource);
        if wanted > free {
            return Err(Misfit::Resource { resource, wanted, free });
        }
    }
    if let Some(port) = ports.fixed.iter().find(|port| room.is_held(port)) {
        return Err(Misfit::Port(*port));
    }
    if ports.from_range == 0 {
        return Ok(());
    }
    let free = room.free_in_range().saturating_sub(own_in_range(ports, room));
    if free < ports.from_range {
        return Err(Misfit::Range { wanted: ports.from_range, free });
    }
    Ok(())
}

/// How many free numbers of the range the task itself asks for by number: the node cannot assign
/// those.
fn own_in_range<R>(ports: &WantedPorts, room: &impl Room<R>) -> u32 {
    let Some((first, last)) = room.range() else { return 0 };
    let named: BTreeSet<u16> = ports.fixed.iter().map(|port| port.port).collect();
    let own = named.range(first..=last).filter(|port| !room.is_number_held(**port)).count();
    u32::try_from(own).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn port(text: &str) -> HostPort {
        let (rest, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
        let (ip, number) = rest.rsplit_once('@').map_or((None, rest), |(ip, n)| (Some(ip), n));
        let number: u16 = number.parse().unwrap();
        if protocol == "whole" {
            return HostPort::whole(number);
        }
        let port = json!({ "name": "p", "hostPort": number, "hostIP": ip, "protocol": protocol });
        HostPort::fixed(&serde_json::from_value(port).unwrap()).unwrap()
    }

    #[test]
    fn ports_conflict_where_number_protocol_and_address_overlap() {
        for (one, other, conflict) in [
            ("80", "80", true),
            ("80", "81", false),
            ("80", "80/UDP", false),
            ("127.0.0.1@80", "127.0.0.2@80", false),
            ("127.0.0.1@80", "127.0.0.1@80", true),
            ("127.0.0.1@80", "127.0.0.1@80/UDP", false),
            ("127.0.0.1@80", "80", true),
            ("0.0.0.0@80", "127.0.0.1@80", true),
            ("::@80", "127.0.0.1@80", true),
            ("::1@80", "0:0:0:0:0:0:0:1@80", true),
            ("::ffff:127.0.0.1@80", "127.0.0.1@80", true),
            ("::1@80", "127.0.0.1@80", false),
            ("80/whole", "127.0.0.1@80/UDP", true),
            ("80/whole", "81/whole", false),
        ] {
            assert_eq!(port(one).conflicts_with(&port(other)), conflict, "{one} {other}");
            assert_eq!(port(other).conflicts_with(&port(one)), conflict, "{other} {one}");
        }
    }

    #[test]
    fn held_ports_are_counted_by_port_and_by_number() {
        let mut held = HeldPorts::default();
        assert!(held.add(port("80")), "nobody held the number");
        assert!(!held.add(port("80")));
        assert!(!held.add(port("127.0.0.1@80/UDP")));
        assert!(held.add(port("82/whole")));
        assert_eq!(held.times(&port("80")), 2);
        assert_eq!(held.of_number(80).count(), 2);
        assert_eq!(held.numbers_in((80, 82)), 2);
        assert_eq!(held.numbers_in((81, 81)), 0);
        assert!(!held.take_back(port("80")));
        assert!(!held.take_back(port("80")), "UDP is still held");
        assert!(held.take_back(port("127.0.0.1@80/UDP")));
        assert!(!held.take_back(port("80")), "it is not there");
    }
}
