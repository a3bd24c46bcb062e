//! The metrics of the controllers.

use prometheus::{IntCounterVec, Opts, Registry};

/// The counters of all controllers of a process. The label is the name of a controller.
#[derive(Debug, Clone)]
pub struct Metrics {
    plans: IntCounterVec,
    groups: IntCounterVec,
    refusals: IntCounterVec,
    objects: IntCounterVec,
}

impl Metrics {
    /// Registers the counters.
    ///
    /// # Errors
    /// They are already registered there.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &["controller"])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
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

    pub(crate) fn refused(&self, controller: &str) {
        self.refusals.with_label_values(&[controller]).inc();
    }
}
