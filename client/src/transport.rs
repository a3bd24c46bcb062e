//! The layer below the client: a tower service from requests to answers.

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
/// Sends a request to the apiserver and returns its answer.
pub type Transport = BoxCloneSyncService<Request<Bytes>, Response<Body>, BoxError>;

/// The error of a transport that knows that nothing was sent, such as a simulated one.
#[derive(Debug, thiserror::Error)]
#[error("the request was not sent: {0}")]
pub struct NotSent(pub String);

/// Converts any body to a [`Body`].
pub fn boxed_body<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// Makes a transport of any service that takes whole requests, such as a router in the same
/// process.
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
