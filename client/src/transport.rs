//! The seam below the client: a tower service from requests to answers.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use tower::Service;
use tower::util::BoxCloneSyncService;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// Carries a request to the apiserver and its answer back.
pub type Transport = BoxCloneSyncService<Request<Bytes>, Response<Body>, BoxError>;

/// An error that says: nothing was sent. For transports that know, such as a simulation's.
#[derive(Debug, thiserror::Error)]
#[error("the request was not sent: {0}")]
pub struct NotSent(pub String);

/// A body of any kind as a [`Body`].
pub fn boxed_body<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A transport out of any service with whole requests, such as an in-process router.
pub fn transport<S, B>(service: S) -> Transport
where
    S: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    use tower::ServiceExt as _;
    BoxCloneSyncService::new(
        service.map_response(|response: Response<B>| response.map(boxed_body)).map_err(Into::into),
    )
}
