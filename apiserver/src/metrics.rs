//! The metrics of an apiserver.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};

/// The counters of an apiserver. Labels have fixed sets of values, and never names that users
/// choose.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    watches: IntGauge,
    objects: IntGauge,
    events: IntGauge,
}

impl Metrics {
    /// Registers the counters.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("heliox_apiserver_requests_total", "Requests answered"),
            &["verb", "kind", "code"],
        )?;
        let buckets = exponential_buckets(0.000_5, 2.0, 14)?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "heliox_apiserver_request_seconds",
                "Time to the answer's beginning",
            )
            .buckets(buckets),
            &["verb"],
        )?;
        let gauge = |name: &str, help: &str| IntGauge::new(name, help);
        let watches = gauge("heliox_apiserver_watches", "Open watches")?;
        let objects = gauge("heliox_apiserver_cache_objects", "Objects in the watch cache")?;
        let events = gauge("heliox_apiserver_cache_events", "Events in the watch cache")?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        for gauge in [&watches, &objects, &events] {
            registry.register(Box::new(gauge.clone()))?;
        }
        Ok(Self { requests, seconds, watches, objects, events })
    }

    pub(crate) fn answered(&self, verb: &Method, kind: &str, code: StatusCode, took: Duration) {
        // A client may send any word as the method, so the label has only the known ones.
        let verb = match *verb {
            Method::GET => "get",
            Method::POST => "post",
            Method::PUT => "put",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "other",
        };
        self.requests.with_label_values(&[verb, kind, code.as_str()]).inc();
        self.seconds.with_label_values(&[verb]).observe(took.as_secs_f64());
    }

    pub(crate) fn watch_started(&self) {
        self.watches.inc();
    }

    pub(crate) fn watch_ended(&self) {
        self.watches.dec();
    }

    pub(crate) fn cache_holds(&self, (objects, events): (usize, usize)) {
        self.objects.set(i64::try_from(objects).unwrap_or(i64::MAX));
        self.events.set(i64::try_from(events).unwrap_or(i64::MAX));
    }
}
