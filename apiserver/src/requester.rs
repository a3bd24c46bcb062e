//! Who sends a request.
//! Every request has a requester, from the connection that it arrives on down to the store; this
//! includes requests of components in the same process. There is no authentication yet, so a
//! requester is what its connection and its headers say. Access rules, field managers and the audit
//! trail will find it where they need it.

use std::fmt;
use std::sync::Arc;

use api::node::{CLUSTER_HEADER, PEER_HEADER};
use http::HeaderMap;

/// The name that Kubernetes gives to requesters who do not authenticate.
const ANONYMOUS: &str = "system:anonymous";

/// The sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    name: Arc<str>,
    via: Via,
}

/// How a request got here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// Over a connection to a listener.
    Listener,
    /// Over a connection to a listener, from an agent: it says which cluster it works for.
    Agent,
    /// Over a connection to a listener, forwarded by another apiserver.
    Peer,
    /// From within the process.
    Process,
}

impl Requester {
    /// The unknown sender at the other end of a connection to a listener.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.into(), via: Via::Listener }
    }

    /// A component of the same process.
    pub fn component(name: &str) -> Self {
        Self { name: name.into(), via: Via::Process }
    }

    /// Whether it is a component of this process.
    pub(crate) fn is_of_process(&self) -> bool {
        self.via == Via::Process
    }

    /// The requester of a request with these headers. They are believed, since nothing is revealed
    /// or permitted because of them.
    pub(crate) fn of_request(&self, headers: &HeaderMap) -> Self {
        let via = match self.via {
            Via::Process => Via::Process,
            Via::Listener | Via::Agent | Via::Peer if headers.contains_key(PEER_HEADER) => {
                Via::Peer
            }
            Via::Listener | Via::Agent | Via::Peer if headers.contains_key(CLUSTER_HEADER) => {
                Via::Agent
            }
            Via::Listener | Via::Agent | Via::Peer => self.via,
        };
        Self { name: Arc::clone(&self.name), via }
    }
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let via = match self.via {
            Via::Listener => "a connection",
            Via::Agent => "an agent's connection",
            Via::Peer => "another apiserver",
            Via::Process => "this process",
        };
        write!(f, "{} via {via}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_requester_is_what_its_connection_and_headers_say() {
        let with = |requester: Requester, name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static("x"));
            requester.of_request(&headers).to_string()
        };
        let anonymous = Requester::anonymous();
        assert_eq!(with(anonymous.clone(), "accept"), "system:anonymous via a connection");
        assert_eq!(
            with(anonymous.clone(), CLUSTER_HEADER),
            "system:anonymous via an agent's connection"
        );
        assert_eq!(with(anonymous, PEER_HEADER), "system:anonymous via another apiserver");
        let scheduler = Requester::component("scheduler");
        assert_eq!(with(scheduler, PEER_HEADER), "scheduler via this process");
    }
}
