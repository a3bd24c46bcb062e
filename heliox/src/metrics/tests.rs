//! A process's health is shown as metrics.

use prometheus::{Encoder as _, Registry, TextEncoder};

use super::*;

#[tokio::test]
async fn what_fails_is_shown() {
    let (health, registry) = (Health::default(), Registry::new());
    registry.register(Box::new(HealthMetrics::new(health.clone()).unwrap())).unwrap();
    health.failed("the node lease", "refused");
    health.failed("the node lease", "refused");
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for line in [
        "heliox_failing{activity=\"the node lease\"} 1",
        "heliox_failures_total{activity=\"the node lease\"} 2",
        "heliox_panics_total 0",
    ] {
        assert!(text.contains(line), "{text}");
    }
}
