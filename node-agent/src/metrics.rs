//! The agent's metrics.

use prometheus::{IntCounter, IntGauge, Registry};

/// Metrics of one agent.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Attempts whose containers exist or are being created.
    pub(crate) running: IntGauge,
    /// Messages that the apiserver has not acknowledged.
    pub(crate) unsent: IntGauge,
    /// Containers started.
    pub(crate) starts: IntCounter,
    /// Ended attempts.
    pub(crate) ends: IntCounter,
    /// Failed renewals of the node lease.
    pub(crate) renewals_failed: IntCounter,
}

impl Metrics {
    /// Registers the counters.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGauge::new(format!("heliox_agent_{name}"), help);
        let counter =
            |name: &str, help: &str| IntCounter::new(format!("heliox_agent_{name}"), help);
        let metrics = Self {
            running: gauge(
                "tasks_running",
                "Attempts whose containers exist or are being created",
            )?,
            unsent: gauge("reports_pending", "Reports that are not acknowledged yet")?,
            starts: counter("starts_total", "Containers started")?,
            ends: counter("ends_total", "Ended attempts")?,
            renewals_failed: counter(
                "lease_renewals_failed_total",
                "Failed renewals of the node lease",
            )?,
        };
        for gauge in [&metrics.running, &metrics.unsent] {
            registry.register(Box::new(gauge.clone()))?;
        }
        for counter in [&metrics.starts, &metrics.ends, &metrics.renewals_failed] {
            registry.register(Box::new(counter.clone()))?;
        }
        Ok(metrics)
    }
}
