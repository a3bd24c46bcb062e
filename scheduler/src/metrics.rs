//! The scheduler's metrics.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};

/// Metrics of a scheduler. Label values come from fixed lists, never from names that users choose.
#[derive(Debug, Clone)]
pub struct Metrics {
    bindings: IntCounterVec,
    seconds: Histogram,
    pending: IntGauge,
    unschedulable: IntGauge,
}

/// The result of sending a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was stored.
    Bound,
    /// It was refused, because the task had changed.
    Refused,
    /// It can never be stored.
    Invalid,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// A metric of this name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let bindings = IntCounterVec::new(
            Opts::new("heliox_scheduler_bindings_total", "Answered bindings"),
            &["outcome"],
        )?;
        let buckets = exponential_buckets(0.000_01, 4.0, 10)?;
        let seconds = Histogram::with_opts(
            HistogramOpts::new("heliox_scheduler_placement_seconds", "Duration of one decision")
                .buckets(buckets),
        )?;
        let gauge = |name: &str, help: &str| IntGauge::new(name, help);
        let pending = gauge("heliox_scheduler_pending_tasks", "Tasks waiting for a node")?;
        let unschedulable = gauge(
            "heliox_scheduler_unschedulable_classes",
            "Classes of waiting tasks for which no node fits",
        )?;
        registry.register(Box::new(bindings.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(pending.clone()))?;
        registry.register(Box::new(unschedulable.clone()))?;
        Ok(Self { bindings, seconds, pending, unschedulable })
    }

    pub(crate) fn answered(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Bound => "bound",
            Outcome::Refused => "refused",
            Outcome::Invalid => "invalid",
        };
        self.bindings.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn decided(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn waiting(&self, tasks: usize, classes: usize) {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.pending.set(number(tasks));
        self.unschedulable.set(number(classes));
    }
}
