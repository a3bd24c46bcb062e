//! Fake apiservers to test controllers with: they store nothing. One accepts every request, and
//! another gives the answer that the test specifies.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::Timestamp;
use api::batch::{Batch, BatchResponse, GroupResult};
use api::resource_version::ResourceVersion;
use base::{Clock, Rng};
use bytes::Bytes;
use client::Client;
use http::{Request, Response};
use http_body_util::Full;
use prometheus::Registry;
use runtime::{Any, Cache, Recorder, Update};

use crate::metrics::Metrics;
use crate::tools::Tools;

/// The number of groups that it was asked to write.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<AtomicUsize>);

impl Asked {
    pub(crate) fn groups(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        let batch: Batch = serde_json::from_slice(request.body()).unwrap();
        self.0.fetch_add(batch.groups.len(), Ordering::Relaxed);
        let results = batch.groups.iter().map(|_| GroupResult::Done).collect();
        let answer = BatchResponse { resource_version: ResourceVersion::default(), results };
        Response::new(Full::new(Bytes::from(serde_json::to_vec(&answer).unwrap())))
    }
}

/// Tools whose cache has `objects` and never changes. The time starts at `now`.
pub(crate) fn tools(objects: Vec<Any>, now: Timestamp) -> (Tools, Asked) {
    let asked = Asked::default();
    let server = asked.clone();
    (tools_at(objects, now, move |request| server.answer(request)), asked)
}

/// The same, with an apiserver that answers with `answer`.
pub(crate) fn tools_at<A>(objects: Vec<Any>, now: Timestamp, answer: A) -> Tools
where
    A: Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
{
    let transport = client::transport(tower::service_fn(move |request: Request<Bytes>| {
        std::future::ready(Ok::<_, Infallible>(answer(&request)))
    }));
    let (client, clock) = (Client::new(transport), Clock::simulated(now));
    let cache = Cache::default();
    cache.apply(Update::Reset { objects, version: ResourceVersion::after(1) }, |_, _, _| ());
    let recorder = Recorder::new(client.clone(), "test", clock.clone(), Rng::seeded(1));
    let metrics = Metrics::new(&Registry::new()).unwrap();
    Tools { client, cache, clock, recorder, metrics }
}
