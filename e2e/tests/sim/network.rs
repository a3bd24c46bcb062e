//! The way between components and the apiserver, with its faults.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use apiserver::Router;
use axum::body::Body;
use base::Rng;
use bytes::Bytes;
use client::{BoxError, Client, NotSent, transport};
use futures_util::future::BoxFuture;
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
            Ok(Response::from_parts(parts, guarded(body, line.cut, served)))
        })
    }
}

/// A body that breaks when the line is cut, and with the apiserver that sends it.
fn guarded(body: Body, cut: Arc<AtomicBool>, served: watch::Receiver<u64>) -> Body {
    let parts = (body.into_data_stream(), cut, served);
    Body::from_stream(futures_util::stream::unfold(
        parts,
        |(mut stream, cut, mut served)| async move {
            let frame = tokio::select! {
                biased;
                _gone = served.changed() => Err(axum::Error::new("the apiserver is gone")),
                frame = futures_util::StreamExt::next(&mut stream) => frame?,
            };
            let frame = if cut.load(Ordering::Relaxed) {
                Err(axum::Error::new("the line was cut"))
            } else {
                frame
            };
            Some((frame, (stream, cut, served)))
        },
    ))
}
