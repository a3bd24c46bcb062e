//! For whom, and for what, one apiserver asks another. An agent is connected to one apiserver, and
//! people may ask any: the one that holds the connection has to judge the person who asks, and not
//! the apiserver in between.
//!
//! # Invariants
//!
//! * Only another apiserver says for whom it asks, and only where it asks for an agent. The header
//!   of anybody else is refused, rather than ignored: whoever sends it expects it to count.
//! * The person passes the gate of both apiservers with the same question.

use api::node::{CLUSTER_HEADER, REQUESTER_HEADER};
use api::status::{Mistake, Refusal, Why};
use api::verb::{Subresource, Verb};
use api::{KindId, ObjectKey};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::Server;
use crate::access::Ask;
use crate::requester::{Requester, Who};

/// The maximum length of the header, in bytes. All headers of a request together may have 16 KiB.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// A question that a person asked another apiserver, about a subresource of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OnBehalf {
    pub(crate) requester: Requester,
    verb: Verb,
    part: (KindId, Option<Subresource>),
    key: ObjectKey,
}

/// Its form in the header, in the words of access rules.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    requester: Who,
    verb: String,
    resource: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subresource: Option<String>,
    #[serde(default)]
    namespace: String,
    name: String,
}

/// Whether a request comes from another apiserver of this cluster. This is the one place that
/// decides it, for everything that only apiservers may do.
///
/// Peers do not authenticate yet. So a peer is who claims to be one: it sends the peer header over
/// a connection to a listener, which no page in a browser can, to an apiserver that works together
/// with others. That claim gives nobody anything while everybody may do everything. Before there
/// are access rules, this has to require the certificate of an apiserver.
pub(crate) fn is_peer(server: &Server, requester: &Requester) -> bool {
    server.peers.is_some() && requester.claims_to_be_peer()
}

/// For whom a request asks, if its requester asks for another. `is_for_agent` tells whether the
/// request is for the agent of a node, which is all that apiservers ask of each other.
pub(crate) fn of_request(
    server: &Server,
    requester: &Requester,
    is_for_agent: bool,
    headers: &HeaderMap,
) -> Result<Option<OnBehalf>, Refusal> {
    let mut values = headers.get_all(REQUESTER_HEADER).iter();
    // An apiserver of an earlier version does not say for whom it asks.
    let Some(value) = values.next() else { return Ok(None) };
    // It says which cluster it asks, so that what it says is about a requester of this one.
    let names_cluster = headers.contains_key(CLUSTER_HEADER);
    if !is_for_agent || !names_cluster || !is_peer(server, requester) {
        let message = format!(
            "{requester} may not ask for others: only apiservers send the header \
             {REQUESTER_HEADER}, and only for agents"
        );
        return Err(Refusal::new(Why::Forbidden, message));
    }
    if values.next().is_some() {
        return Err(unusable("it is there more than once"));
    }
    OnBehalf::of_header(value).map(Some)
}

impl OnBehalf {
    pub(crate) fn new(
        requester: Requester,
        verb: Verb,
        part: (KindId, Option<Subresource>),
        key: ObjectKey,
    ) -> Self {
        Self { requester, verb, part, key }
    }

    /// What the person asks for.
    pub(crate) fn ask(&self) -> Ask<'_> {
        Ask::of(self.verb, self.part, &self.key)
    }

    /// The header by which another apiserver is told.
    pub(crate) fn header(&self) -> Result<HeaderValue, Refusal> {
        let (kind, subresource) = self.part;
        let header = Header {
            requester: self.requester.who().clone(),
            verb: self.verb.word().to_owned(),
            resource: kind.info().plural.to_owned(),
            subresource: subresource.map(|part| part.word().to_owned()),
            namespace: self.key.namespace.clone(),
            name: self.key.name.clone(),
        };
        let json = serde_json::to_string(&header).expect("names and groups are text");
        if json.len() > HEADER_BYTES_MAX {
            let bytes = json.len();
            return Err(unusable(&format!(
                "name and groups of the requester come to {bytes} bytes (maximum {HEADER_BYTES_MAX})"
            )));
        }
        HeaderValue::try_from(json).map_err(|error| unusable(&error.to_string()))
    }

    fn of_header(value: &HeaderValue) -> Result<Self, Refusal> {
        if value.len() > HEADER_BYTES_MAX {
            return Err(unusable("it is too long"));
        }
        let Header { requester, verb, resource, subresource, namespace, name } =
            serde_json::from_slice(value.as_bytes())
                .map_err(|error| unusable(&error.to_string()))?;
        // A newer apiserver may have more of them. Its question cannot be judged here.
        let unknown = |word: &str| unusable(&format!("this version does not know {word:?}"));
        let known = Verb::ALL.into_iter().find(|it| it.word() == verb);
        let verb = known.ok_or_else(|| unknown(&verb))?;
        let kind = KindId::ALL.into_iter().find(|it| it.info().plural == resource);
        let kind = kind.ok_or_else(|| unknown(&resource))?;
        let subresource = match subresource {
            None => None,
            Some(word) => {
                let part = Subresource::ALL.into_iter().find(|it| it.word() == word);
                Some(part.ok_or_else(|| unknown(&word))?)
            }
        };
        let requester = Requester::through_peer(requester);
        Ok(Self::new(requester, verb, (kind, subresource), ObjectKey::new(namespace, name)))
    }
}

fn unusable(why: &str) -> Refusal {
    Refusal::new(Why::Mistaken(Mistake::Request), format!("header {REQUESTER_HEADER}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_behalf(name: &str) -> OnBehalf {
        let key = ObjectKey::new("default", "j-0");
        let requester = Requester::member(name, &["interns", "night shift"]);
        OnBehalf::new(requester, Verb::Get, (KindId::Task, Some(Subresource::Log)), key)
    }

    #[test]
    fn whom_it_asks_for_and_for_what_comes_through_a_header() {
        for name in ["ann", "Ünal \"x\"\n", ""] {
            let told = on_behalf(name);
            let heard = OnBehalf::of_header(&told.header().unwrap()).unwrap();
            assert_eq!(heard.requester.who(), told.requester.who());
            assert_eq!(heard.ask(), told.ask());
            assert!(heard.requester.claims_to_be_peer());
        }
    }

    #[test]
    fn what_cannot_be_judged_is_refused_with_a_reason() {
        let long = on_behalf(&"x".repeat(HEADER_BYTES_MAX)).header().unwrap_err();
        assert!(long.message.contains("maximum 8192"), "{long}");
        let known = on_behalf("ann").header().unwrap();
        let known = known.to_str().unwrap();
        for (from, to, why) in [
            ("\"get\"", "\"peel\"", "does not know \"peel\""),
            ("\"tasks\"", "\"plums\"", "does not know \"plums\""),
            ("\"log\"", "\"pip\"", "does not know \"pip\""),
            ("\"no\"", "\"oracle\"", "unknown variant `oracle`"),
            ("{\"requester\"", "{\"x\"", "missing field `requester`"),
        ] {
            let value = HeaderValue::try_from(known.replace(from, to)).unwrap();
            let refusal = OnBehalf::of_header(&value).unwrap_err();
            assert!(refusal.message.contains(why), "{refusal}");
        }
    }
}
