//! What handlers are given of a request, each part typed and within its bounds. What cannot be given is
//! a refusal like any other.

use std::sync::Arc;
use std::time::Duration;

use api::KindId;
use api::batch::LEADER_HEADER;
use api::names;
use api::status::{Mistake, Refusal, Why};
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tower_http::timeout::{TimeoutBody, TimeoutError};

use super::answer;
use super::query::{Query, bad};
use crate::Server;
use crate::access::{Allowed, Ask};
use crate::write::{Intent, Leader, Wish};

/// Largest body of a request about one object: twice what the store takes, so that the answer says
/// by how much the object is too large.
pub(super) const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A body of which nothing comes for so long is given up: its client is gone, or means no good.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A body is there after this long: the largest one, over a line of half a megabit a second.
const BODY_TIME_MAX: Duration = Duration::from_secs(300);

/// What every handler answers.
pub(super) type Answer = Result<Response, Refused>;

/// A refusal as an answer. Why is kept beside it, for the log.
#[derive(Debug)]
pub(crate) struct Refused(pub(super) Refusal);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = answer::refused(&self.0);
        response.extensions_mut().insert(self.0.why);
        response
    }
}

/// What the door leaves in a request for the parts of it below.
#[derive(Debug, Clone)]
pub(super) struct Entered {
    pub(super) allowed: Allowed,
    /// Nothing for a path that is no object's.
    pub(super) place: Option<Place>,
    pub(super) query: Query,
}

fn entered(parts: &mut Parts) -> Result<&mut Entered, Refused> {
    let of_no_door = || Refusal::new(Why::Internal, "the request did not pass the gate");
    parts.extensions.get_mut().ok_or_else(|| of_no_door().into())
}

/// A request that was let in.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) server: Arc<Server>,
    allowed: Allowed,
}

impl Call {
    /// What this request wants of the store.
    pub(super) fn intent(&self, wish: Wish) -> Intent {
        Intent { by: self.allowed.clone(), wish }
    }

    /// Whether who was let in with this request may do something else as well, which is part of it: each
    /// operation of a batch is a request of its own.
    pub(super) fn enter(&self, ask: Ask<'_>) -> Result<Allowed, Refusal> {
        self.server.gate.enter(self.allowed.requester(), ask)
    }
}

impl FromRequestParts<Arc<Server>> for Call {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Refused> {
        let allowed = entered(parts)?.allowed.clone();
        Ok(Self { server: Arc::clone(server), allowed })
    }
}

/// Where a request's object is, or where its objects are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) kind: KindId,
    /// Empty for cluster kinds, and for all namespaces.
    pub(super) namespace: String,
    /// Nothing for all objects.
    pub(super) name: Option<String>,
}

impl FromRequestParts<Arc<Server>> for Place {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Server>) -> Result<Self, Refused> {
        let of_no_object = || Refusal::new(Why::Internal, "the request is about no object");
        entered(parts)?.place.take().ok_or_else(|| of_no_object().into())
    }
}

impl FromRequestParts<Arc<Server>> for Query {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Server>) -> Result<Self, Refused> {
        Ok(std::mem::take(&mut entered(parts)?.query))
    }
}

/// What stands in the place of a path's parameters.
#[derive(Debug)]
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Server>> for InPath<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Refused> {
        match Path::from_request_parts(parts, server).await {
            Ok(Path(parameters)) => Ok(Self(parameters)),
            Err(_not_text) => Err(not_served(parts.uri.path()).into()),
        }
    }
}

pub(super) fn not_served(path: &str) -> Refusal {
    Refusal::new(Why::NotFound, format!("unknown path {path}"))
}

/// Whether the client would rather have a table, as kubectl asks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct AsTable(pub(super) bool);

impl FromRequestParts<Arc<Server>> for AsTable {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Server>) -> Result<Self, Refused> {
        let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        Ok(Self(accept.is_some_and(|accept| {
            accept.split(',').any(|form| form.contains("as=Table") && form.contains("v=v1"))
        })))
    }
}

/// The guard that a leader's request carries.
#[derive(Debug)]
pub(super) struct LedBy(pub(super) Option<Leader>);

impl FromRequestParts<Arc<Server>> for LedBy {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Server>) -> Result<Self, Refused> {
        let Some(header) = parts.headers.get(LEADER_HEADER) else {
            return Ok(Self(None));
        };
        let parsed = header.to_str().ok().and_then(|text| text.split_once('/'));
        match parsed {
            Some((component, claim)) if names::problem(component).is_none() => {
                let (component, claim) = (component.to_owned(), claim.to_owned());
                Ok(Self(Some(Leader { component, claim })))
            }
            _ => Err(bad("invalid leader header; the form is COMPONENT/IDENTITY/TERM").into()),
        }
    }
}

/// A body that is whole, within its bounds of size and time. The bound of size is a handler's own: a
/// layer would have one for all of them, and refuse in words of its own.
#[derive(Debug)]
pub(super) struct Whole<const BYTES_MAX: usize = BODY_BYTES_MAX>(pub(super) Bytes);

impl<S: Sync, const BYTES_MAX: usize> FromRequest<S> for Whole<BYTES_MAX> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        let body = TimeoutBody::new(BODY_PAUSE_MAX, Limited::new(request.into_body(), BYTES_MAX));
        let collected = timeout(BODY_TIME_MAX, body.collect()).await;
        match collected.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            Ok(whole) => Ok(Self(whole.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                let message =
                    format!("the body is too large (maximum {} MiB)", BYTES_MAX / 1024 / 1024);
                Err(Refusal::new(Why::TooLarge, message).into())
            }
            Err(error) if error.is::<TimeoutError>() || error.is::<Elapsed>() => {
                let (pause, all) = (BODY_PAUSE_MAX.as_secs(), BODY_TIME_MAX.as_secs());
                let message = format!(
                    "timed out waiting for the body: pauses may last {pause} s, and the whole body {all} s"
                );
                Err(bad(message).into())
            }
            Err(_broken) => {
                Err(bad("the connection broke before the whole body was received").into())
            }
        }
    }
}

/// A body that is JSON, whatever its sender calls it. Bytes that no JSON parser should meet (too deep)
/// are refused by its own recursion limit of 128.
#[derive(Debug)]
pub(super) struct Json<T, const BYTES_MAX: usize = BODY_BYTES_MAX>(pub(super) T);

impl<T, S, const BYTES_MAX: usize> FromRequest<S> for Json<T, BYTES_MAX>
where
    T: DeserializeOwned,
    S: Sync,
{
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let Whole(bytes) = Whole::<BYTES_MAX>::from_request(request, state).await?;
        match api::json::read(&bytes) {
            Ok(read) => Ok(Self(read)),
            Err(why) => Err(bad(format!("cannot parse the body: {why}")).into()),
        }
    }
}

/// An object, which its sender must call JSON where they call it anything: other forms of objects that
/// clients know are not understood.
#[derive(Debug)]
pub(super) struct Object(pub(super) Value);

impl<S: Sync> FromRequest<S> for Object {
    type Rejection = Refused;

    async fn from_request(request: Request<Body>, state: &S) -> Result<Self, Refused> {
        let form = request.headers().get(header::CONTENT_TYPE).and_then(|form| form.to_str().ok());
        if let Some(form) = form.filter(|form| !form.starts_with("application/json")) {
            let message = format!("unsupported content type {form:?}; send application/json");
            return Err(Refusal::new(Why::Mistaken(Mistake::MediaType), message).into());
        }
        let Json(object) = Json::<Value>::from_request(request, state).await?;
        Ok(Self(object))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream::{self, StreamExt as _};

    use super::*;

    async fn refusal<T: FromRequest<(), Rejection = Refused>>(body: Body) -> Refusal {
        match T::from_request(Request::new(body), &()).await {
            Ok(_) => panic!("it was taken"),
            Err(Refused(refusal)) => refusal,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_bounded_in_size_and_in_how_long_it_pauses() {
        let long = refusal::<Whole<1_048_576>>(Body::from(vec![0; 1_048_577])).await;
        assert_eq!((long.why, long.message.contains("maximum 1 MiB")), (Why::TooLarge, true));
        let begun = stream::iter([Ok::<_, Infallible>("{")]).chain(stream::pending());
        let slow = refusal::<Json<Value>>(Body::from_stream(begun)).await;
        assert_eq!(slow.why, Why::Mistaken(Mistake::Request));
        assert!(slow.message.contains("timed out waiting for the body"), "{slow}");
        let broken = stream::iter([Err::<&str, _>(std::io::Error::other("gone"))]);
        let broken = refusal::<Json<Value>>(Body::from_stream(broken)).await;
        assert!(broken.message.contains("connection broke"), "{broken}");
    }

    #[tokio::test]
    async fn an_object_is_json() {
        let request = Request::put("/").header(header::CONTENT_TYPE, "application/yaml");
        let object = Object::from_request(request.body(Body::from("a: 1")).unwrap(), &()).await;
        let Err(Refused(refusal)) = object else { panic!("it was taken") };
        assert_eq!(refusal.why, Why::Mistaken(Mistake::MediaType));
        let object = Object::from_request(Request::new(Body::from("{\"a\":1}")), &()).await;
        assert!(object.is_ok(), "who does not call it anything means JSON");
    }
}
