//! The way between components and the apiserver, with its faults.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use api::batch::LEADER_HEADER;
use apiserver::Router;
use axum::body::{Body, BodyDataStream};
use base::Rng;
use bytes::Bytes;
use client::{BoxError, Client, NotSent, transport};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use http::{Method, Request, Response};
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
    /// Requests that have left their sender and not arrived; nothing while they arrive at once.
    delayed: Arc<Mutex<Option<Vec<Request<Bytes>>>>>,
    /// Whose sender's writes must all be guarded by a leadership.
    of_leader: bool,
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
        let (cut, delayed) = (Arc::default(), Arc::default());
        Line { network: self.clone(), rng, cut, delayed, of_leader: false }
    }

    /// The line of a component that writes while it leads.
    pub(crate) fn leader_line(&self, rng: Rng) -> Line {
        Line { of_leader: true, ..self.line(rng) }
    }

    fn router(&self) -> Option<Router> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

    /// Keeps what is sent from now on, whatever becomes of its sender, or has it all arrive.
    pub(crate) async fn delay(&self, delay: bool) {
        let mut late = Vec::new();
        {
            let mut delayed = self.delayed.lock().unwrap_or_else(PoisonError::into_inner);
            if delay {
                delayed.get_or_insert_default();
            } else {
                late = delayed.take().unwrap_or_default();
            }
        }
        for request in late {
            if let Some(mut router) = self.network.router() {
                let Ok(_nobody_waits_for_it) =
                    Service::<Request<Bytes>>::call(&mut router, request).await;
            }
        }
    }

    /// How many writes under a leadership are kept.
    pub(crate) fn kept_writes(&self) -> usize {
        let delayed = self.delayed.lock().unwrap_or_else(PoisonError::into_inner);
        let guarded = |request: &&Request<Bytes>| request.headers().contains_key(LEADER_HEADER);
        delayed.iter().flatten().filter(guarded).count()
    }

    /// Keeps a request, if the line is slow; its sender never hears of it.
    fn keeps(&self, request: &Request<Bytes>) -> bool {
        let mut delayed = self.delayed.lock().unwrap_or_else(PoisonError::into_inner);
        match delayed.as_mut() {
            Some(delayed) => {
                delayed.push(request.clone());
                true
            }
            None => false,
        }
    }

    /// A leader's writes name its leadership: all but those that make it a leader, that keep a node
    /// lease, and that say what happened.
    fn check_guarded(&self, request: &Request<Bytes>) {
        let path = request.uri().path();
        let free = ["/leases", "/nodeleases", "/events"].iter().any(|free| path.contains(free));
        let guarded = request.headers().contains_key(LEADER_HEADER);
        let reads = request.method() == Method::GET;
        assert!(!self.of_leader || reads || free || guarded, "{} {path}", request.method());
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
            line.check_guarded(&request);
            if line.keeps(&request) {
                return std::future::pending().await;
            }
            let served = line.network.served.subscribe();
            let Some(mut router) =
                line.network.router().filter(|_| !line.cut.load(Ordering::Relaxed))
            else {
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
