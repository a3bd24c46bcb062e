//! Host ports and resources: what a new attempt gets of what is left.

use std::collections::{BTreeMap, BTreeSet};

use api::amounts::Amounts;
use api::template::Port;

use crate::attempt::Attempt;
use crate::engine::Identity;

/// What attempts on this node take.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    amounts: Amounts,
    /// Held by what runs.
    ports: BTreeSet<u16>,
    /// Held, or had by what has ended and was not tidied away yet.
    kept: BTreeSet<u16>,
}

impl Taken {
    /// What the attempts take.
    pub(super) fn by(attempts: &BTreeMap<Identity, Attempt>) -> Self {
        let mut taken = Self::default();
        for attempt in attempts.values() {
            taken.kept.extend(attempt.ports.values());
            if attempt.holds() {
                taken.add(&attempt.requests, &attempt.ports);
            }
        }
        taken
    }

    /// Takes more.
    pub(super) fn add(&mut self, requests: &Amounts, ports: &BTreeMap<String, u16>) {
        for (resource, amount) in requests {
            let sum = self.amounts.entry(resource.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
        self.ports.extend(ports.values());
        self.kept.extend(ports.values());
    }

    /// Why `requests` do not fit into `capacity` any more.
    pub(super) fn misfit(&self, requests: &Amounts, capacity: &Amounts) -> Option<String> {
        requests.iter().filter(|(_, wanted)| **wanted > 0).find_map(|(resource, wanted)| {
            let all = capacity.get(resource).copied().unwrap_or(0);
            let free = all.saturating_sub(self.amounts.get(resource).copied().unwrap_or(0));
            (*wanted > free).then(|| format!("{resource}: {wanted} wanted, {free} free"))
        })
    }

    /// Host ports for `ports`: those that were asked for, and others from `range`.
    pub(super) fn allot(
        &self,
        ports: &[Port],
        range: (u16, u16),
    ) -> Result<BTreeMap<String, u16>, String> {
        let mut given = BTreeMap::new();
        let named: BTreeSet<u16> = ports.iter().filter_map(|port| port.host_port).collect();
        if let Some(port) = named.iter().find(|port| self.ports.contains(port)) {
            return Err(format!("port {port} is taken"));
        }
        let mut free =
            (range.0..=range.1).filter(|port| !self.kept.contains(port) && !named.contains(port));
        for port in ports {
            let number = match port.host_port {
                Some(number) => number,
                None => free
                    .next()
                    .ok_or_else(|| format!("no port of {} to {} is free", range.0, range.1))?,
            };
            given.insert(port.name.clone(), number);
        }
        Ok(given)
    }
}
