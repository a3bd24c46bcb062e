//! `/healthz`, `/readyz` and `/metrics` of a process that serves nothing else.

use std::future::pending;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use base::{Health, Spawner};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use prometheus::{Encoder as _, Registry, TextEncoder};
use tokio::net::TcpListener;
use tower::Service as _;

use crate::places::Places;
use crate::serve::{accept, serve_http};

/// How many connections for health and metrics may be open at once: enough for a few scrapers and a
/// few health checks.
const CONNECTIONS_MAX: usize = 100;

/// Serves the health and the metrics of a process on a listener, for ever.
pub async fn serve(
    listener: TcpListener,
    (registry, health): (Registry, Health),
    spawner: Spawner,
) {
    let routes = routes(registry, health);
    accept(listener, Places::for_anybody(CONNECTIONS_MAX), |stream| {
        let routes = routes.clone();
        let answer = move |request: Request<Incoming>| routes.clone().call(request.map(Body::new));
        spawner.spawn("status connection", serve_http(stream, answer, pending()));
    })
    .await;
}

/// `/healthz` would fail if a restart could help, so it never fails: a process in which a part has
/// failed ends by itself. `/readyz` fails while the process cannot work, for example while its
/// server does not answer.
fn routes(registry: Registry, health: Health) -> Router {
    let readyz = async move || match health.not_ready() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    };
    let metrics = async move || {
        let mut text = Vec::new();
        // Writing to memory cannot fail.
        let _infallible = TextEncoder::new().encode(&registry.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    Router::new()
        .route("/healthz", get("ok\n"))
        .route("/livez", get("ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback((StatusCode::NOT_FOUND, "served here: /healthz /readyz /metrics\n"))
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_process_that_cannot_do_its_work_is_alive_and_not_ready() {
        let health = Health::default();
        let routes = routes(Registry::new(), health.clone());
        let ask = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = routes.clone().oneshot(request).await.unwrap();
            let code = answer.status().as_u16();
            let bytes = to_bytes(answer.into_body(), 64 * 1024).await.unwrap();
            (code, String::from_utf8(bytes.to_vec()).unwrap())
        };
        assert_eq!(ask("/readyz").await, (200, "ok\n".to_owned()));
        health.failed("the journal", "no room");
        let (code, why) = ask("/readyz").await;
        assert_eq!(code, 503);
        assert!(why.contains("the journal: no room"), "{why}");
        for path in ["/healthz", "/livez", "/metrics"] {
            assert_eq!(ask(path).await.0, 200, "{path}: a restart would not help");
        }
        health.works("the journal");
        assert_eq!(ask("/readyz").await.0, 200);
        assert_eq!(ask("/else").await.0, 404);
    }
}
