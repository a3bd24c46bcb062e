//! A process's health is shown as metrics.

use prometheus::{Encoder as _, Registry, TextEncoder};

use super::*;

#[tokio::test]
async fn what_fails_is_shown() {
    let (health, registry) = (Health::default(), Registry::new());
    registry.register(Box::new(HealthMetrics::new(health.clone()).unwrap())).unwrap();
    health.failed("the node lease", "refused");
    health.failed("the node lease", "refused");
    let before = panics();
    base::without_panic("breaks", async { assert_eq!(before, u64::MAX) }).await.unwrap_err();
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for line in [
        "heliox_failing{activity=\"the node lease\"} 1",
        "heliox_failures_total{activity=\"the node lease\"} 2",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains(&format!("heliox_panics_total {}", before + 1)), "{text}");
}
