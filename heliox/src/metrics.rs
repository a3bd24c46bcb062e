//! Exports a process's health as metrics.

use base::{Health, panics};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts};

/// Exports the state of a process's activities. Label values are names of activities from the code,
/// and of the nodes of `heliox dev`.
#[derive(Debug)]
pub struct HealthMetrics {
    health: Health,
    descriptions: [Desc; 3],
}

impl HealthMetrics {
    /// Shows `health`.
    pub fn new(health: Health) -> Result<Self, prometheus::Error> {
        let (failing, failures, panicked) = metrics()?;
        let first = |collector: &dyn Collector| collector.desc()[0].clone();
        let descriptions = [first(&failing), first(&failures), first(&panicked)];
        Ok(Self { health, descriptions })
    }
}

fn metrics() -> Result<(IntGaugeVec, IntCounterVec, IntCounter), prometheus::Error> {
    let failing = Opts::new("heliox_failing", "1 for an activity whose last try failed, else 0");
    let failures = Opts::new("heliox_failures_total", "Failed tries of an activity");
    Ok((
        IntGaugeVec::new(failing, &["activity"])?,
        IntCounterVec::new(failures, &["activity"])?,
        IntCounter::new("heliox_panics_total", "Tasks that panicked; each is a bug")?,
    ))
}

impl Collector for HealthMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Cannot fail: the same metrics were accepted when this was created.
        let Ok((failing, failures, panicked)) = metrics() else { return Vec::new() };
        for tally in self.health.tallies() {
            let activity = [tally.what.as_str()];
            failing.with_label_values(&activity).set(i64::from(tally.is_failing));
            failures.with_label_values(&activity).inc_by(tally.failures);
        }
        panicked.inc_by(panics());
        let families = [failing.collect(), failures.collect(), panicked.collect()];
        families.into_iter().flatten().filter(|family| !family.get_metric().is_empty()).collect()
    }
}

#[cfg(test)]
mod tests;
