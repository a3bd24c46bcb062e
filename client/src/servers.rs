//! The apiservers of one cluster. A process uses one of them at a time.
//!
//! All apiservers give the same answers, so after a failure any other one will do. A request that
//! was sent is not sent again here: that is the caller's decision.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::uri::{Authority, Scheme};
use tracing::info;

/// The URL of a server is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid server URL {server:?}: {why}; write for example http://127.0.0.1:7070")]
pub struct InvalidServer {
    server: String,
    why: &'static str,
}

/// The apiservers, and which one is in use. Clones share that.
#[derive(Debug, Clone)]
pub struct Servers {
    /// Never empty.
    all: Arc<[Authority]>,
    /// Number of failures. Modulo the number of servers it is the index of the server in use.
    turn: Arc<AtomicUsize>,
}

/// The server that a request uses.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) authority: Authority,
    turn: usize,
}

impl Servers {
    /// Parses `URL` or `URL,URL,...`, each `http://HOST:PORT` without a path. `first` (modulo the
    /// number of servers) is used first, so that not all processes begin with the same one.
    pub fn parse(urls: &str, first: usize) -> Result<Self, InvalidServer> {
        let all: Arc<[Authority]> = urls.split(',').map(parse_one).collect::<Result<_, _>>()?;
        let turn = Arc::new(AtomicUsize::new(first % all.len()));
        Ok(Self { all, turn })
    }

    /// Number of servers, at least 1.
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// The server in use.
    pub(crate) fn choose(&self) -> Chosen {
        let turn = self.turn.load(Ordering::Relaxed);
        Chosen { authority: self.all[turn % self.all.len()].clone(), turn }
    }

    /// A request to `chosen` failed: use the next server from now on, unless another failure has
    /// already led to that.
    pub(crate) fn failed(&self, chosen: &Chosen) {
        let next = chosen.turn.wrapping_add(1);
        let moved =
            self.turn.compare_exchange(chosen.turn, next, Ordering::Relaxed, Ordering::Relaxed);
        if moved.is_ok() && self.all.len() > 1 {
            let to = &self.all[next % self.all.len()];
            info!(from = %chosen.authority, %to, "switching to another apiserver");
        }
    }
}

fn parse_one(url: &str) -> Result<Authority, InvalidServer> {
    let invalid = |why| InvalidServer { server: url.to_owned(), why };
    let uri = base::server_url(url.trim()).map_err(invalid)?;
    if uri.scheme() != Some(&Scheme::HTTP) {
        return Err(invalid("https is not supported yet"));
    }
    uri.into_parts().authority.ok_or_else(|| invalid("it has no host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_urls_are_servers() {
        let one = Servers::parse("http://127.0.0.1:7070", 0).unwrap();
        assert_eq!(one.choose().authority.as_str(), "127.0.0.1:7070");
        let bad = [
            "127.0.0.1:7070",
            "https://a",
            "http://a/b",
            "http://a?x=1",
            "",
            "http://",
            "http://:1",
        ];
        for bad in bad.into_iter().chain([
            "http://a,",
            "http://a,b",
            "http://a:0",
            "http://a:70000",
            "http://a:",
            "http://u@a",
        ]) {
            assert!(Servers::parse(bad, 0).is_err(), "{bad:?}");
        }
        for good in ["http://a", "http://a:1/", "http://[::1]:7070", "http://[::1]"] {
            assert!(Servers::parse(good, 0).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn each_failure_of_the_server_in_use_moves_on_once() {
        let servers = Servers::parse("http://a, http://b,http://c", 1).unwrap();
        let (first, same) = (servers.choose(), servers.choose());
        assert_eq!(first.authority, "b");
        servers.failed(&first);
        servers.failed(&same);
        assert_eq!(servers.choose().authority, "c", "two failures of one server are one reason");
        servers.failed(&servers.choose());
        assert_eq!(servers.choose().authority, "a");
    }
}
