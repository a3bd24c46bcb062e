//! The metrics of the controllers.

use std::collections::BTreeMap;

use api::node::NodePhase;
use api::{Kind as _, Node, ObjectKey, Service};
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// The counters of all controllers of a process. The label is the name of a controller.
#[derive(Debug, Clone)]
pub struct Metrics {
    plans: IntCounterVec,
    groups: IntCounterVec,
    refusals: IntCounterVec,
    objects: IntCounterVec,
    notices: IntCounterVec,
    nodes: IntGaugeVec,
    service_tasks: IntGaugeVec,
}

impl Metrics {
    /// Registers the counters.
    ///
    /// # Errors
    /// They are already registered there.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labelled = |name: &str, help: &str, label: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let counter = |name: &str, help: &str| labelled(name, help, "controller");
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            plans: counter("heliox_controllers_plans_total", "Plans made")?,
            groups: counter("heliox_controllers_groups_total", "Groups of writes sent")?,
            refusals: counter(
                "heliox_controllers_refusals_total",
                "Plans of which a write was refused or not answered",
            )?,
            objects: counter(
                "heliox_controllers_objects_read_total",
                "Objects read from the cache to make plans",
            )?,
            notices: labelled(
                "heliox_controllers_notices_total",
                "Events told to people",
                "reason",
            )?,
            nodes: gauge("heliox_controllers_nodes", "Nodes by phase", &["phase"])?,
            service_tasks: gauge(
                "heliox_controllers_service_tasks",
                "Tasks of a service that are wanted, and that are ready",
                &["namespace", "service", "state"],
            )?,
        })
    }

    pub(crate) fn planned(&self, controller: &str, groups: usize) {
        self.plans.with_label_values(&[controller]).inc();
        let groups = u64::try_from(groups).unwrap_or(u64::MAX);
        self.groups.with_label_values(&[controller]).inc_by(groups);
    }

    /// Counts a plan that was made from this many objects. If this grows faster than the number of
    /// changes in the cluster, some code reads all objects in order to find a few.
    pub(crate) fn viewed(&self, controller: &str, objects: usize) {
        let objects = u64::try_from(objects).unwrap_or(u64::MAX);
        self.objects.with_label_values(&[controller]).inc_by(objects);
    }

    /// The number of objects that the plans of a controller were made from.
    #[cfg(test)]
    pub(crate) fn objects_viewed(&self, controller: &str) -> u64 {
        self.objects.with_label_values(&[controller]).get()
    }

    /// Counts an event by its reason, of which there are as many as the code names.
    pub(crate) fn told(&self, reason: &str) {
        self.notices.with_label_values(&[reason]).inc();
    }

    /// Sets the number of nodes in each phase.
    pub(crate) fn nodes(&self, nodes: &[impl AsRef<Node>]) {
        let mut counts: BTreeMap<NodePhase, i64> = BTreeMap::new();
        for node in nodes {
            *counts.entry(node.as_ref().phase()).or_default() += 1;
        }
        self.nodes.reset();
        for (phase, count) in counts {
            self.nodes.with_label_values(&[&phase.to_string()]).set(count);
        }
    }

    /// Sets how many tasks of a service are wanted and ready.
    pub(crate) fn service(&self, service: &Service) {
        let (namespace, name) = (service.namespace(), service.name());
        for (state, count) in [("wanted", service.status.replicas), ("ready", service.status.ready)]
        {
            self.service_tasks.with_label_values(&[namespace, name, state]).set(count.into());
        }
    }

    /// The service is gone.
    pub(crate) fn service_gone(&self, key: &ObjectKey) {
        for state in ["wanted", "ready"] {
            // There is none of a service that was never looked at.
            let _none = self.service_tasks.remove_label_values(&[&key.namespace, &key.name, state]);
        }
    }

    /// Forgets what only a leader knows: this process has begun or ended to lead.
    pub(crate) fn forget(&self) {
        self.nodes.reset();
        self.service_tasks.reset();
    }

    pub(crate) fn refused(&self, controller: &str) {
        self.refusals.with_label_values(&[controller]).inc();
    }
}
