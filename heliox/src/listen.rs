//! Checks the addresses that are served on.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use apiserver::Peers;
use tokio::net::TcpListener;
use tracing::warn;

/// What is served on an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// The API. Whoever can reach it can run anything.
    Api,
    /// Health and metrics.
    Status,
}

impl Served {
    fn flag(self) -> &'static str {
        match self {
            Self::Api => "--listen",
            Self::Status => "--status-listen",
        }
    }

    /// What every host that reaches the address could do.
    fn risk(self) -> &'static str {
        match self {
            Self::Api => "run anything here",
            Self::Status => "read this process's health and metrics",
        }
    }
}

/// Parses an address of this host to listen on.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let wrong = "write an IP address of this host and a port, such as 127.0.0.1:7070";
    text.parse().map_err(|_| wrong.to_owned())
}

/// Opens a listener. An address that other hosts can reach is refused without `insecure`, because
/// there is no authentication yet.
pub async fn listen(served: Served, address: SocketAddr, insecure: bool) -> Result<TcpListener> {
    let (flag, risk) = (served.flag(), served.risk());
    if !address.ip().is_loopback() {
        if !insecure {
            bail!(
                "refusing to listen on {address} ({flag}): every host that can reach it could \
                 {risk}, since there is no authentication yet; listen on 127.0.0.1, or add \
                 --insecure to accept that"
            );
        }
        warn!(%address, "listening without authentication: every host that can reach this address can {risk}");
    }
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address} (it must be an address of this host that no other process \
             uses; choose another one with {flag})"
        )
    })
}

/// Reads the URL of an apiserver.
pub fn server_url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    match client::Servers::parse(text, 0) {
        Ok(_) if text.contains(',') => Err("name one URL only".to_owned()),
        // Another apiserver would send its requests to itself.
        Ok(_) if is_anywhere(text) => {
            Err(format!("other hosts cannot reach {text}; name an address of this host"))
        }
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether the host of a URL means "all addresses" and not one host.
fn is_anywhere(url: &str) -> bool {
    ["http://0.0.0.0", "http://[::]"].iter().any(|any| {
        url.strip_prefix(any).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    })
}

/// How other apiservers reach this one. Nothing with the embedded store, which has only one
/// apiserver.
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
        for (served, parts) in [
            (Served::Api, ["(--listen)", "run anything"]),
            (Served::Status, ["(--status-listen)", "read this process's health and metrics"]),
        ] {
            let refused = listen(served, "0.0.0.0:0".parse().unwrap(), false).await.unwrap_err();
            for part in parts.into_iter().chain(["--insecure"]) {
                assert!(refused.to_string().contains(part), "{refused}");
            }
            let open = listen(served, "127.0.0.1:0".parse().unwrap(), false).await.unwrap();
            listen(served, "0.0.0.0:0".parse().unwrap(), true).await.unwrap();
            let taken = listen(served, open.local_addr().unwrap(), false).await.unwrap_err();
            assert!(taken.to_string().contains(served.flag()), "{taken}");
        }
    }

    #[test]
    fn an_address_is_an_ip_address_and_a_port() {
        for bad in ["", "localhost:7070", "127.0.0.1", ":7070", "7070", "127.0.0.1:99999", "a:b"] {
            assert!(address(bad).unwrap_err().contains("such as 127.0.0.1:7070"), "{bad:?}");
        }
        assert!(address("[::1]:7070").is_ok());
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
        let bad = ["a:1", "https://a", "http://a,http://b", "http://a/b", "", "http://a:0"];
        for bad in bad.into_iter().chain(["http://0.0.0.0:7070", "http://0.0.0.0", "http://[::]:1"])
        {
            assert!(server_url(bad).is_err(), "{bad:?}");
        }
    }
}
