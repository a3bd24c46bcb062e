//! Which addresses may be served on.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use apiserver::Peers;
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

/// Reads the URL of an apiserver.
pub fn server_url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    match client::Servers::parse(text, 0) {
        Ok(_) if !text.contains(',') => Ok(text.to_owned()),
        Ok(_) => Err("name one URL".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// How an apiserver that listens on `address` is one of several. Over the embedded store it is the
/// only one.
pub fn peers(
    advertise: Option<&str>,
    address: SocketAddr,
    shares_store: bool,
) -> Result<Option<Peers>> {
    let url = match advertise {
        _ if !shares_store => return Ok(None),
        Some(url) => url.to_owned(),
        None if address.ip().is_unspecified() => bail!(
            "other apiservers cannot reach this one at {address}: say with --advertise where they \
             can, such as --advertise http://10.0.0.1:{}",
            address.port()
        ),
        None => format!("http://{address}"),
    };
    Ok(Some(Peers::over_tcp(url)))
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

    #[test]
    fn an_apiserver_that_shares_its_store_says_where_it_is_reached() {
        let (any, one) = ("0.0.0.0:7070".parse().unwrap(), "10.0.0.1:7070".parse().unwrap());
        let shown = |peers: Option<Peers>| peers.map(|peers| peers.url().to_owned());
        let here = Some("http://10.0.0.1:7070".to_owned());
        assert_eq!(shown(peers(None, one, true).unwrap()), here);
        let named = peers(Some("http://a:1"), any, true).unwrap();
        assert_eq!(shown(named), Some("http://a:1".to_owned()));
        assert!(peers(None, any, false).unwrap().is_none(), "there is no other one");
        let refused = peers(None, any, true).unwrap_err().to_string();
        assert!(refused.contains("--advertise http://10.0.0.1:7070"), "{refused}");
    }

    #[test]
    fn only_one_plain_url_is_advertised() {
        assert_eq!(server_url("http://a:1/"), Ok("http://a:1".to_owned()));
        for bad in ["a:1", "https://a", "http://a,http://b", "http://a/b", ""] {
            assert!(server_url(bad).is_err(), "{bad:?}");
        }
    }
}
