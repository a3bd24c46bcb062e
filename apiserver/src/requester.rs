//! Who sends a request.
//! Every request has a requester, from the connection that it arrives on down to the store; this
//! includes requests of components in the same process. There is no authentication yet, so a
//! requester is what its connection and its headers say. Access rules, field managers and the audit
//! trail will find it where they need it.

use std::fmt;
use std::sync::Arc;

use api::node::{CLUSTER_HEADER, PEER_HEADER};
use http::HeaderMap;
use serde::{Deserialize, Serialize};

/// The name that Kubernetes gives to requesters who do not authenticate.
const ANONYMOUS: &str = "system:anonymous";

/// The sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// Shared, because each write keeps its requester.
    who: Arc<Who>,
    via: Via,
}

/// Who a requester is, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Who {
    /// The user, service account or component.
    pub(crate) name: String,
    /// The groups that it is in. Empty until requesters authenticate.
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    pub(crate) authenticated: Authenticated,
}

/// How it is known who a requester is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Authenticated {
    /// It is not: nothing was asked for that would prove it.
    No,
    /// It is a component of an apiserver's own process.
    Process,
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
        Self::new(Via::Listener, ANONYMOUS, Authenticated::No)
    }

    /// A component of the same process.
    pub fn component(name: &str) -> Self {
        Self::new(Via::Process, name, Authenticated::Process)
    }

    fn new(via: Via, name: &str, authenticated: Authenticated) -> Self {
        let who = Who { name: name.to_owned(), groups: Vec::new(), authenticated };
        Self { who: Arc::new(who), via }
    }

    /// A requester for whom another apiserver asks.
    pub(crate) fn through_peer(who: Who) -> Self {
        Self { who: Arc::new(who), via: Via::Peer }
    }

    /// A member of groups at the other end of a connection to a listener.
    #[cfg(test)]
    pub(crate) fn member(name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let who = Who { name: name.to_owned(), groups, authenticated: Authenticated::No };
        Self { who: Arc::new(who), via: Via::Listener }
    }

    /// Who it is.
    pub(crate) fn who(&self) -> &Who {
        &self.who
    }

    /// Whether it is a component of this process.
    pub(crate) fn is_of_process(&self) -> bool {
        self.via == Via::Process
    }

    /// Whether it claims to be another apiserver. What makes it one is decided in `on_behalf.rs`.
    pub(crate) fn claims_to_be_peer(&self) -> bool {
        self.via == Via::Peer
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
        Self { who: Arc::clone(&self.who), via }
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
        write!(f, "{} via {via}", self.who.name)
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
