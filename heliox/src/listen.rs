//! Which addresses may be served on.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use tokio::net::TcpListener;
use tracing::warn;

/// Opens a listener. An address that other hosts can reach is refused unless `insecure` says so:
/// nobody is asked who they are yet.
pub async fn listen(address: SocketAddr, insecure: bool) -> Result<TcpListener> {
    if !address.ip().is_loopback() {
        if !insecure {
            bail!(
                "refusing to listen on {address}: every host that reaches it could run anything \
                 here, since there is no authentication yet; listen on 127.0.0.1, or add \
                 --insecure if that is what you want"
            );
        }
        warn!(%address, "listening without authentication: every host that reaches this may run anything");
    }
    TcpListener::bind(address).await.with_context(|| {
        format!("listen on {address} (is another process there? choose another with --listen)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_loopback_is_served_unless_told() {
        let refused = listen("0.0.0.0:0".parse().unwrap(), false).await.unwrap_err();
        assert!(refused.to_string().contains("--insecure"), "{refused}");
        listen("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
        listen("0.0.0.0:0".parse().unwrap(), true).await.unwrap();
    }
}
