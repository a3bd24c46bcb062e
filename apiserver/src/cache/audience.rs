//! Which of the open watches an event can concern, so that it wakes those and no others.
//!
//! Five thousand agents watch the tasks of one node each. Without an index, each change of a task
//! would wake all of them, and each would look at it to find that it is another node's.
//!
//! # Invariants
//!
//! * Whoever is not announced an event does not select what its object was before, nor what it is now.
//! * Finding the listeners of an event costs a few look-ups, however many watches there are.

use std::collections::BTreeMap;

use api::KindId;

use super::Entry;

/// The field by which agents select.
pub(super) const NODE_FIELD: &str = "spec.nodeName";

/// Some objects of one kind. A watch listens to topics that cover all that it selects; it may select
/// less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(super) kind: KindId,
    pub(super) among: Among,
}

/// Which objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Among {
    /// All.
    All,
    /// Those of a namespace.
    Namespace(String),
    /// Those whose [`NODE_FIELD`] has this value, which is empty where they have none.
    Node(String),
    /// Those of this name, in any namespace.
    Name(String),
}

/// Names a listener among all that ever were.
pub(super) type ListenerId = u64;

type Listeners<L> = BTreeMap<ListenerId, L>;

/// The listeners of one kind, each under the one topic that it has of the kind.
#[derive(Debug)]
struct OfKind<L> {
    all: Listeners<L>,
    by_namespace: BTreeMap<String, Listeners<L>>,
    by_node: BTreeMap<String, Listeners<L>>,
    by_name: BTreeMap<String, Listeners<L>>,
}

impl<L> Default for OfKind<L> {
    fn default() -> Self {
        let (by_namespace, by_node) = (BTreeMap::new(), BTreeMap::new());
        Self { all: Listeners::new(), by_namespace, by_node, by_name: BTreeMap::new() }
    }
}

/// Everybody who listens.
#[derive(Debug)]
pub(super) struct Audience<L> {
    kinds: BTreeMap<KindId, OfKind<L>>,
    everybody: Listeners<L>,
    last: ListenerId,
}

impl<L> Default for Audience<L> {
    fn default() -> Self {
        Self { kinds: BTreeMap::new(), everybody: Listeners::new(), last: 0 }
    }
}

impl<L: Clone> Audience<L> {
    /// Takes in a listener to `topics`, at most one of each kind.
    pub(super) fn enter(&mut self, topics: &[Topic], listener: &L) -> ListenerId {
        self.last += 1;
        let id = self.last;
        self.everybody.insert(id, listener.clone());
        for Topic { kind, among } in topics {
            let of_kind = self.kinds.entry(*kind).or_default();
            let listeners = match among {
                Among::All => &mut of_kind.all,
                Among::Namespace(value) => of_kind.by_namespace.entry(value.clone()).or_default(),
                Among::Node(value) => of_kind.by_node.entry(value.clone()).or_default(),
                Among::Name(value) => of_kind.by_name.entry(value.clone()).or_default(),
            };
            listeners.insert(id, listener.clone());
        }
        id
    }

    /// Lets go of a listener to `topics`.
    pub(super) fn leave(&mut self, topics: &[Topic], id: ListenerId) {
        self.everybody.remove(&id);
        for Topic { kind, among } in topics {
            let Some(of_kind) = self.kinds.get_mut(kind) else { continue };
            let (listeners, value) = match among {
                Among::All => {
                    of_kind.all.remove(&id);
                    continue;
                }
                Among::Namespace(value) => (&mut of_kind.by_namespace, value),
                Among::Node(value) => (&mut of_kind.by_node, value),
                Among::Name(value) => (&mut of_kind.by_name, value),
            };
            let Some(of_value) = listeners.get_mut(value) else { continue };
            of_value.remove(&id);
            if of_value.is_empty() {
                listeners.remove(value);
            }
        }
    }

    /// Who may select `entry`, in no order that means anything. Nobody comes twice.
    pub(super) fn of(&self, entry: &Entry) -> impl Iterator<Item = &L> {
        let of_kind = self.kinds.get(&entry.kind);
        let node = entry.fields.get(NODE_FIELD).unwrap_or_default();
        let topics = of_kind.into_iter().flat_map(move |of_kind| {
            [
                Some(&of_kind.all),
                of_kind.by_namespace.get(&entry.key.namespace),
                of_kind.by_node.get(node),
                of_kind.by_name.get(&entry.key.name),
            ]
        });
        topics.flatten().flat_map(Listeners::values)
    }

    /// All who listen.
    pub(super) fn everybody(&self) -> impl Iterator<Item = &L> {
        self.everybody.values()
    }
}
