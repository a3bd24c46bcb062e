//! The parts of a request that handlers take, typed and within their limits. If a part is invalid,
//! the request is refused.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::batch::LEADER_HEADER;
use api::names;
use api::status::{Mistake, Refusal, Why};
use api::verb::{Subresource, Verb};
use api::{KindId, ObjectKey};
use axum::BoxError;
use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
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
use crate::on_behalf::OnBehalf;
use crate::requester::Requester;
use crate::write::{Intent, Leader, Wish};

/// The maximum body of a request about one object: twice what the store accepts, so that the answer
/// can say by how much the object is too large.
pub(super) const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A body without data for this long is given up: its client is gone, or malicious.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// The time limit for a body: enough for the largest one at half a megabit a second.
const BODY_TIME_MAX: Duration = Duration::from_secs(300);

/// The result of every handler.
pub(super) type Answer = Result<Response, Refused>;

/// A refusal as an answer. The reason is also kept for the log.
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

/// What the checks have stored in a request for the layers below.
#[derive(Debug, Clone)]
pub(super) struct Entered {
    pub(super) allowed: Allowed,
    /// `None` for a path that is not of objects.
    pub(super) place: Option<ObjectPath>,
    pub(super) query: Query,
}

fn entered(parts: &mut Parts) -> Result<&mut Entered, Refused> {
    let ungated = || Refusal::new(Why::Internal, "the request did not pass the gate");
    parts.extensions.get_mut().ok_or_else(|| ungated().into())
}

/// A request that was let in.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) server: Arc<Server>,
    allowed: Allowed,
}

impl Call {
    /// The intent of this request to write to the store.
    pub(super) fn intent(&self, wish: Wish) -> Intent {
        Intent { by: self.allowed.clone(), wish }
    }

    /// Who sends it, or for whom another apiserver does.
    pub(super) fn requester(&self) -> &Requester {
        self.allowed.requester()
    }

    /// What an apiserver is told that this request is passed on to: `verb` is what it does to the
    /// object that the path stands for.
    pub(super) fn on_behalf(&self, verb: Verb, place: &ObjectPath) -> OnBehalf {
        let part = (place.kind, place.subresource);
        OnBehalf::new(self.requester().clone(), verb, part, place.key())
    }

    /// Checks permission for a part of this request, since each operation of a batch is checked on
    /// its own.
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

/// The object, or the objects, that a path stands for.
#[derive(Debug, Clone)]
pub(super) struct ObjectPath {
    pub(super) kind: KindId,
    /// The subresource at the end of the path; `None` for the object itself.
    pub(super) subresource: Option<Subresource>,
    /// Empty for cluster-wide kinds, and for all namespaces.
    pub(super) namespace: String,
    /// `None` for all objects.
    pub(super) name: Option<String>,
}

impl ObjectPath {
    /// The name of the object; empty for all objects.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The namespace and name of the object.
    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey::new(&*self.namespace, self.name())
    }
}

impl FromRequestParts<Arc<Server>> for ObjectPath {
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

/// The parameters in the path.
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

/// Whether the client prefers a table, which is how kubectl asks for one.
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

/// The leader that a request claims to be from.
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

/// A complete body, within its limits of size and time. Each handler has its own size limit. A
/// layer could have only one for all of them, with its own error message.
#[derive(Debug)]
pub(super) struct Whole<const BYTES_MAX: usize = BODY_BYTES_MAX>(pub(super) Bytes);

impl<S: Sync, const BYTES_MAX: usize> FromRequest<S> for Whole<BYTES_MAX> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        let body = TimeoutBody::new(BODY_PAUSE_MAX, Limited::new(request.into_body(), BYTES_MAX));
        let whole = timeout(BODY_TIME_MAX, in_one_piece(body)).await;
        match whole.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            Ok(whole) => Ok(Self(whole)),
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

/// Reads a whole body into one buffer. The frames are not kept: the client chooses their size, and a
/// frame of one byte takes a hundred bytes of memory or more.
async fn in_one_piece(
    body: impl HttpBody<Data = Bytes, Error = BoxError>,
) -> Result<Bytes, BoxError> {
    let (mut body, mut whole) = (pin!(body), BytesMut::new());
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data() {
            whole.extend_from_slice(&piece);
        }
    }
    Ok(whole.freeze())
}

/// A body with JSON, whatever its content type. JSON that is nested too deeply is refused by the
/// parser's recursion limit of 128.
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

/// A body with an object. If it has a content type, that must be JSON: the other formats of
/// Kubernetes clients are not supported.
#[derive(Debug)]
pub(super) struct Object(pub(super) Value);

impl<S: Sync> FromRequest<S> for Object {
    type Rejection = Refused;

    async fn from_request(request: Request<Body>, state: &S) -> Result<Self, Refused> {
        let form = request.headers().get(header::CONTENT_TYPE).and_then(|form| form.to_str().ok());
        let is_json = |form: &&str| form.to_ascii_lowercase().starts_with("application/json");
        if let Some(form) = form.filter(|form| !is_json(form)) {
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
    async fn a_body_in_pieces_is_one() {
        let pieces = (0..1000).map(|piece| Ok::<_, Infallible>(format!("{piece},")));
        let whole: String = (0..1000).map(|piece| format!("{piece},")).collect();
        let body = Request::new(Body::from_stream(stream::iter(pieces)));
        let Ok(Whole(read)) = Whole::<1_048_576>::from_request(body, &()).await else {
            panic!("it was refused")
        };
        assert_eq!(read, whole);
    }

    #[tokio::test]
    async fn an_object_is_json() {
        let request = Request::put("/").header(header::CONTENT_TYPE, "application/yaml");
        let object = Object::from_request(request.body(Body::from("a: 1")).unwrap(), &()).await;
        let Err(Refused(refusal)) = object else { panic!("it was taken") };
        assert_eq!(refusal.why, Why::Mistaken(Mistake::MediaType));
        let request = Request::put("/").header(header::CONTENT_TYPE, "Application/JSON");
        let object = Object::from_request(request.body(Body::from("{}")).unwrap(), &()).await;
        assert!(object.is_ok(), "media types have no case");
        let object = Object::from_request(Request::new(Body::from("{\"a\":1}")), &()).await;
        assert!(object.is_ok(), "who does not call it anything means JSON");
    }
}
