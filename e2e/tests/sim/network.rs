//! The way between components and the apiserver, with its faults.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use apiserver::Router;
use axum::body::{Body, BodyDataStream};
use base::Rng;
use bytes::Bytes;
use client::{BoxError, Client, NotSent, transport};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use http::{Request, Response};
use tokio::sync::watch;
use tower::Service;

/// Where the apiserver is at the moment, and how bad the network is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Network {
    router: Arc<Mutex<Option<Router>>>,
    /// Counts the apiservers: what one of them was sending ends with it.
    served: watch::Sender<u64>,
    /// Of a thousand requests, so many are lost, and so many answers.
    lost_per_mille: Arc<AtomicU64>,
}

/// One component's line to the apiserver.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    network: Network,
    rng: Rng,
    cut: Arc<AtomicBool>,
}

impl Network {
    /// The apiserver is there now, or gone.
    pub(crate) fn serve(&self, router: Option<Router>) {
        *self.router.lock().unwrap_or_else(PoisonError::into_inner) = router;
        self.served.send_modify(|served| *served += 1);
    }

    /// How many of a thousand requests and answers are lost.
    pub(crate) fn lose(&self, per_mille: u64) {
        self.lost_per_mille.store(per_mille, Ordering::Relaxed);
    }

    /// A line of its own.
    pub(crate) fn line(&self, rng: Rng) -> Line {
        Line { network: self.clone(), rng, cut: Arc::default() }
    }
}

impl Line {
    /// A client on this line.
    pub(crate) fn client(&self) -> Client {
        Client::new(transport(self.clone()))
    }

    /// Cuts the line, or mends it.
    pub(crate) fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    fn loses(&self) -> bool {
        self.rng.chance(self.network.lost_per_mille.load(Ordering::Relaxed))
    }
}

fn not_sent<T>() -> Result<T, BoxError> {
    Err(Box::new(NotSent("the line is dead".to_owned())))
}

impl Service<Request<Bytes>> for Line {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let line = self.clone();
        Box::pin(async move {
            // A request takes a moment: in it, anything may happen.
            tokio::time::sleep(Duration::from_micros(200 + line.rng.below(800))).await;
            let served = line.network.served.subscribe();
            let router = line.network.router.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(mut router) = router.filter(|_| !line.cut.load(Ordering::Relaxed)) else {
                return not_sent();
            };
            if line.loses() {
                return Err("the request was lost, for all that is known here".into());
            }
            let answer = Service::<Request<Bytes>>::call(&mut router, request).await?;
            if line.loses() || line.cut.load(Ordering::Relaxed) {
                return Err("the answer was lost".into());
            }
            let (parts, body) = answer.into_parts();
            Ok(Response::from_parts(parts, line.guarded(body, served)))
        })
    }
}

impl Line {
    /// A body that breaks when the line is cut, with the apiserver that sends it, and as answers are
    /// lost: anywhere, so that an event may be heard and the next of its transaction not.
    fn guarded(self, body: Body, served: watch::Receiver<u64>) -> Body {
        let state = Sending { line: self, stream: body.into_data_stream(), served, lost: false };
        Body::from_stream(stream::unfold(state, |mut state| async move {
            let frame = state.next().await?;
            Some((frame, state))
        }))
    }
}

/// A body on its way.
struct Sending {
    line: Line,
    stream: BodyDataStream,
    served: watch::Receiver<u64>,
    /// Half a frame was lost: there is no more.
    lost: bool,
}

impl Sending {
    async fn next(&mut self) -> Option<Result<Bytes, axum::Error>> {
        let broken = |why| Some(Err(axum::Error::new(why)));
        if self.lost {
            return broken("the rest was lost");
        }
        let frame = tokio::select! {
            biased;
            _gone = self.served.changed() => return broken("the apiserver is gone"),
            frame = self.stream.next() => frame?,
        };
        if self.line.cut.load(Ordering::Relaxed) {
            return broken("the line was cut");
        }
        self.lost = self.line.loses();
        Some(frame.map(|mut frame| {
            let length = u64::try_from(frame.len()).unwrap();
            if self.lost {
                frame.truncate(usize::try_from(self.line.rng.below(length)).unwrap());
            }
            frame
        }))
    }
}
