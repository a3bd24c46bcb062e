//! The apiserver of the same process: requests are still bytes, and limits still hold.

use std::sync::Arc;

use apiserver::{Requester, Router};
use base::Spawner;
use client::{Client, Dial, Stream, transport};

use crate::serve;

/// Bytes that a connection within the process buffers in each direction.
const PIPE_BYTES: usize = 64 * 1024;

/// A client of an apiserver in this process, for one of its components.
pub fn client(router: &Router, component: &str) -> Client {
    Client::new(transport(Whole(router.asked_by(Requester::component(component)))))
}

/// Opens connections to an apiserver in this process, for one of its components.
pub fn dial(router: &Router, component: &str, spawner: Spawner) -> Dial {
    let router = router.asked_by(Requester::component(component));
    Arc::new(move || {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        spawner.spawn("connection within the process", serve::connection(far, router.clone()));
        Box::pin(async move { Ok(Box::new(near) as Box<dyn Stream>) })
    })
}

/// The router as a service of whole requests alone, so that the compiler need not choose.
#[derive(Debug, Clone)]
struct Whole(Router);

impl tower::Service<http::Request<bytes::Bytes>> for Whole {
    type Response = http::Response<axum::body::Body>;
    type Error = std::convert::Infallible;
    type Future = <Router as tower::Service<http::Request<bytes::Bytes>>>::Future;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        tower::Service::<http::Request<bytes::Bytes>>::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, request: http::Request<bytes::Bytes>) -> Self::Future {
        self.0.call(request)
    }
}
