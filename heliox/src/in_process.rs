//! Connections to an apiserver in the same process. Requests are bytes all the same, and all limits
//! apply.

use std::sync::Arc;

use apiserver::{Requester, Router};
use base::Spawner;
use client::{Client, Dial, Stream, transport};

use crate::serve;

/// Buffer of such a connection in each direction, in bytes.
const PIPE_BYTES: usize = 64 * 1024;

/// A client of an apiserver in this process, for one of the components.
pub fn client(router: &Router, component: &str) -> Client {
    Client::new(transport(Whole(router.asked_by(Requester::component(component)))))
}

/// Opens connections to an apiserver in this process, for one of the components.
pub fn dial(router: &Router, component: &str, spawner: Spawner) -> Dial {
    let router = router.asked_by(Requester::component(component));
    Arc::new(move || {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        spawner.spawn("connection within the process", serve::connection(far, router.clone()));
        Box::pin(async move { Ok(Box::new(near) as Box<dyn Stream>) })
    })
}

/// The router as a service of one request type, so that type inference is unambiguous.
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
