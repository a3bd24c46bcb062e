//! The agent's metrics.

use api::template::ProbeKind;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::health::Finding;

/// Metrics of one agent.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Attempts whose containers exist or are being created.
    pub(crate) running: IntGauge,
    /// Messages that the apiserver has not acknowledged.
    pub(crate) unsent: IntGauge,
    /// Containers started.
    pub(crate) starts: IntCounter,
    /// Containers started again in place.
    pub(crate) restarts: IntCounter,
    /// Containers stopped because a probe has failed for good.
    pub(crate) unhealthy: IntCounter,
    /// Probes made, by kind and result.
    probes: IntCounterVec,
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
            restarts: counter("restarts_total", "Containers started again in place")?,
            unhealthy: counter(
                "unhealthy_total",
                "Containers stopped because a startup or liveness probe failed",
            )?,
            probes: IntCounterVec::new(
                Opts::new("heliox_agent_probes_total", "Probes made, by kind and result"),
                &["probe", "result"],
            )?,
            ends: counter("ends_total", "Ended attempts")?,
            renewals_failed: counter(
                "lease_renewals_failed_total",
                "Failed renewals of the node lease",
            )?,
        };
        for gauge in [&metrics.running, &metrics.unsent] {
            registry.register(Box::new(gauge.clone()))?;
        }
        let counters = [
            &metrics.starts,
            &metrics.restarts,
            &metrics.unhealthy,
            &metrics.ends,
            &metrics.renewals_failed,
        ];
        registry.register(Box::new(metrics.probes.clone()))?;
        for counter in counters {
            registry.register(Box::new(counter.clone()))?;
        }
        Ok(metrics)
    }

    /// Counts a probe.
    pub(crate) fn probed(&self, kind: ProbeKind, finding: &Finding) {
        let result = match finding {
            Finding::Passed => "success",
            Finding::Failed(_) => "failure",
            Finding::Unknown(_) => "unknown",
        };
        self.probes.with_label_values(&[kind.word(), result]).inc();
    }
}
