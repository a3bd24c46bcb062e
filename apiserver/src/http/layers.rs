//! What is done for every request, whatever its handler: its id, a line in the log, metrics, its
//! time limit, and an answer if a handler panics.
//! Compression is here, too, but only for lists. A client that accepts only compressed answers gets
//! its refusal (406) after the request was carried out, which must not happen to a write.

use std::any::Any;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::status::{Refusal, Why};
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;
use base::Rng;
use http::header::ACCEPT_ENCODING;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use tokio::time::Instant;
use tower::timeout::TimeoutLayer;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::normalize_path::NormalizePathLayer;
use tower_http::request_id::{
    MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::trace::TraceLayer;
use tracing::{Span, debug, debug_span, field, warn};

use super::extract::Refused;
use crate::Server;
use crate::requester::Requester;

/// An answer has to begin within this time: a body may take five minutes, and reads and writes have
/// tighter limits of their own. The rest of an answer, such as the lines of a watch or a log, may
/// take any time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(360);
/// Smaller answers are not compressed. This is the limit of Kubernetes.
const COMPRESSED_BYTES_MIN: u64 = 128 * 1024;
/// The maximum length of a request id from a client.
const REQUEST_ID_BYTES_MAX: usize = 128;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Everything between a connection and the routes.
pub(crate) type Stack = BoxCloneSyncService<Request, Response, Infallible>;

/// Wraps all routes. A path may end with a slash, as clients in some languages send it.
pub(super) fn around(routes: axum::Router, rng: &Rng) -> Stack {
    let trace = TraceLayer::new_for_http()
        .make_span_with(|request: &Request| {
            debug_span!(
                "request",
                requester = request.extensions().get::<Requester>().map(field::display),
                method = %request.method(),
                // Without the query, because selectors may reveal what objects contain.
                path = request.uri().path(),
                id = id(request),
            )
        })
        .on_request(())
        .on_response(|response: &Response, took: Duration, _: &Span| {
            let why = response.extensions().get::<Why>().map(field::debug);
            debug!(code = response.status().as_u16(), why, ?took, "answered");
        })
        .on_eos(())
        .on_failure(());
    let stack = ServiceBuilder::new()
        .map_response(|response: http::Response<_>| response.map(Body::new))
        .layer(NormalizePathLayer::trim_trailing_slash())
        .map_request(with_usable_id)
        .layer(SetRequestIdLayer::new(REQUEST_ID, Ids(rng.fork("request ids"))))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(trace)
        .service(routes);
    BoxCloneSyncService::new(stack)
}

/// Makes ids for requests without one. Components in this process get none: they send most of the
/// requests, and each has a name already.
#[derive(Debug, Clone)]
struct Ids(Rng);

impl MakeRequestId for Ids {
    fn make_request_id<B>(&mut self, request: &http::Request<B>) -> Option<RequestId> {
        if request.extensions().get().is_some_and(Requester::is_of_process) {
            return None;
        }
        HeaderValue::try_from(self.0.uuid()).ok().map(RequestId::new)
    }
}

fn id(request: &Request) -> Option<&str> {
    request.headers().get(REQUEST_ID)?.to_str().ok()
}

/// Replaces an id that is too long or contains unusual characters.
fn with_usable_id(mut request: Request) -> Request {
    let is_usable = |id: &HeaderValue| {
        let bytes = id.as_bytes();
        (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    if request.headers().get(REQUEST_ID).is_some_and(|id| !is_usable(id)) {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

/// Wraps the methods of one path. `label` is their name in metrics.
pub(super) fn around_path(
    methods: MethodRouter<Arc<Server>>,
    server: &Arc<Server>,
    label: &'static str,
) -> MethodRouter<Arc<Server>> {
    let observed = Observed { server: Arc::clone(server), label };
    methods.layer(
        ServiceBuilder::new()
            .layer(from_fn_with_state(observed, observe))
            .layer(HandleErrorLayer::new(late))
            .layer(TimeoutLayer::new(ANSWER_TIME_MAX))
            .layer(CatchPanicLayer::custom(panicked)),
    )
}

/// Compresses long lists for clients that ask for it, with the lowest effort, because it takes time
/// on the server.
pub(super) fn compressed(methods: MethodRouter<Arc<Server>>) -> MethodRouter<Arc<Server>> {
    let is_list = |_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions| {
        extensions.get::<Compressible>().is_some()
    };
    methods.layer(
        ServiceBuilder::new().map_request(with_usable_encodings).layer(
            CompressionLayer::new()
                .quality(CompressionLevel::Fastest)
                .compress_when(SizeAbove::new(COMPRESSED_BYTES_MIN).and(is_list)),
        ),
    )
}

/// Ignores `Accept-Encoding` if it excludes an encoding, by a weight of zero. If it excluded all of
/// them, the compression layer would replace the status code of a finished answer by 406.
fn with_usable_encodings(mut request: Request) -> Request {
    let is_zero = |weight: &str| weight.trim().bytes().all(|digit| matches!(digit, b'0' | b'.'));
    let rules_out = |accepted: &HeaderValue| {
        let mut parameters = accepted.to_str().unwrap_or_default().split([',', ';']);
        parameters.any(|it| it.trim().strip_prefix("q=").is_some_and(is_zero))
    };
    if request.headers().get_all(ACCEPT_ENCODING).iter().any(rules_out) {
        request.headers_mut().remove(ACCEPT_ENCODING);
    }
    request
}

/// Marks an answer that may be compressed because it ends by itself. The lines of a watch must not
/// wait in a compressor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compressible;

/// Where the requests for a path are counted, and under which name.
#[derive(Debug, Clone)]
struct Observed {
    server: Arc<Server>,
    label: &'static str,
}

/// Counts a request. If it ran into a bug, this is always logged, but without the message, which
/// may reveal what an object contains.
async fn observe(State(seen): State<Observed>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let requester = request.extensions().get::<Requester>().cloned();
    let id = request.headers().get(REQUEST_ID).cloned();
    let response = next.run(request).await;
    seen.server.metrics.answered(&method, seen.label, response.status(), started.elapsed());
    if response.extensions().get::<Why>() == Some(&Why::Internal) {
        let (requester, kind) = (requester.map(field::display), seen.label);
        warn!(requester, %method, kind, ?id, "a request failed");
    }
    response
}

/// The answer to a request that took too long. The handler is stopped, but a write may already be
/// on its way to the store.
async fn late(method: Method, error: BoxError) -> Response {
    if !error.is::<tower::timeout::error::Elapsed>() {
        return Refused(Refusal::new(Why::Internal, error.to_string())).into_response();
    }
    let seconds = ANSWER_TIME_MAX.as_secs();
    let (why, what) = match method {
        Method::GET => (Why::Late, "try again"),
        _ => (Why::Unknown, "if the request was a change, check whether it was made"),
    };
    let message = format!("timed out: the request took longer than {seconds} s; {what}");
    Refused(Refusal::new(why, message)).into_response()
}

/// Answers a request whose handler panicked, which is a bug. It is logged and counted, and affects
/// no other request. The state that requests share is behind locks that are used even if poisoned,
/// and in the store, where a write is atomic.
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    base::caught_panic("request", &*panic);
    let message = "internal error: a bug, described in the log of the server. If the request was a \
                   change, check whether it was made";
    Refused(Refusal::new(Why::Internal, message)).into_response()
}

#[cfg(test)]
mod tests;
