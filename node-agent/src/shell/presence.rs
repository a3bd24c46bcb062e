//! The Node object: the description of this node.

use std::collections::BTreeMap;

use api::Node;
use api::amounts::{Amounts, CPU, Quantity};
use api::kind::KindId;
use api::node::{Leftover, NodeInfo, NodeSpec, Trouble};
use api::taint::Taint;
use base::Timestamp;
use client::{Client, Error, object_path};
use http::Method;
use serde_json::{Value, json};

use super::{Host, declared};
use crate::engine::{Identity, NodeFacts};

/// Most images that are listed.
const IMAGES_TOLD_MAX: usize = 100;

/// The description of a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Presence {
    pub(super) name: String,
    /// Identity of the agent's installation.
    pub(super) agent: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) taints: Vec<Taint>,
    pub(super) boot_id: String,
    pub(super) capacity: Amounts,
    pub(super) port_range: (u16, u16),
    pub(super) address: String,
    pub(super) info: NodeInfo,
    pub(super) images: Vec<String>,
    pub(super) leftovers: BTreeMap<Identity, Leftover>,
    pub(super) problem: Option<String>,
    pub(super) trouble: Option<Trouble>,
}

impl Presence {
    /// Stores the engine's description of the machine.
    pub(super) fn describe(&mut self, facts: &NodeFacts, host: &Host) {
        self.info = NodeInfo {
            os: facts.os.clone(),
            arch: go_arch(&facts.arch).to_owned(),
            kernel: facts.kernel.clone(),
            runtime: format!("{} {}", facts.engine, facts.engine_version),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            os_image: host.os_image.clone(),
            cpus: Some(facts.cpus),
            memory: Some(Quantity::units(facts.memory_bytes)),
            disk: host.disk_bytes.map(Quantity::units),
            host_boot_id: host.boot_id.clone(),
        };
    }

    /// Stores the list of images. Returns whether it has changed.
    pub(super) fn show_images(&mut self, mut images: Vec<String>) -> bool {
        images.truncate(IMAGES_TOLD_MAX);
        let is_news = self.images != images;
        self.images = images;
        is_news
    }

    /// Creates or updates the Node object. What people have set (its spec, other labels) stays.
    pub(super) async fn publish(&self, client: &Client, now: Timestamp) -> Result<(), Error> {
        let nodes = client.api::<Node>("");
        let node = match nodes.find(&self.name).await? {
            Some(node) => node,
            None => {
                let spec = NodeSpec { taints: self.taints.clone(), ..NodeSpec::default() };
                let wanted = Node::new("", &self.name, spec);
                nodes.create(&wanted.with_labels(self.labels.clone())).await?
            }
        };
        if let Some(patch) = declared::patch(&node, &self.labels, &self.taints) {
            nodes.merge_patch(&self.name, &patch).await?;
        }
        let patch = json!({ "status": self.status(&node, now) });
        let body = serde_json::to_vec(&patch).expect("a patch has text keys only");
        let path = format!("{}/status", object_path(KindId::Node, "", &self.name));
        let body = Some(("application/merge-patch+json", body));
        client.bytes(Method::PATCH, &path, body).await.map(drop)
    }

    /// The fields of the status that the agent writes.
    fn status(&self, node: &Node, now: Timestamp) -> Value {
        // A merge patch keeps what it does not name, so resources that are gone are set to null.
        let mut capacity: BTreeMap<&str, Option<Quantity>> =
            node.status.capacity.keys().map(|name| (name.as_str(), None)).collect();
        for (name, amount) in &self.capacity {
            capacity.insert(name, Some(quantity(name, *amount)));
        }
        let was_declared = node.status.agent_labels.keys().map(|key| (key, None));
        let declared = self.labels.iter().map(|(key, value)| (key, Some(value)));
        let agent_labels: BTreeMap<&String, Option<&String>> =
            was_declared.chain(declared).collect();
        json!({
            "agentLabels": agent_labels,
            "agentTaints": self.taints,
            "agent": self.agent,
            "bootId": self.boot_id,
            "capacity": capacity,
            "allocatable": capacity,
            "portRange": self.port_range,
            "address": self.address,
            "info": self.info,
            "images": self.images,
            "leftovers": self.leftovers.values().collect::<Vec<_>>(),
            "problem": self.problem,
            "trouble": self.trouble,
            "readySince": node.status.ready_since.unwrap_or(now),
        })
    }
}

fn quantity(name: &str, amount: u64) -> Quantity {
    if name == CPU && !amount.is_multiple_of(1000) {
        let text = format!("{amount}m");
        return text.parse().unwrap_or_else(|_| Quantity::units(amount / 1000));
    }
    Quantity::units(if name == CPU { amount / 1000 } else { amount })
}

/// Names of architectures as images use them.
fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The processors and memory of a machine as resources.
pub(super) fn capacity(facts: &NodeFacts) -> Amounts {
    Amounts::from([
        (CPU.to_owned(), u64::from(facts.cpus) * 1000),
        (api::amounts::MEMORY.to_owned(), facts.memory_bytes),
    ])
}
