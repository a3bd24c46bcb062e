//! Finds the open watches that may care about an event, so that only those are woken.
//! Five thousand agents each watch the tasks of their own node. Without an index, every change of a
//! task would wake all of them, and all but one would find that the task belongs to another node.
//!
//! # Invariants
//!
//! * A watch that an event is not announced to selects neither the old nor the new state of the
//!   object.
//! * Finding the listeners of an event takes a few look-ups, however many watches there are.

use std::collections::BTreeMap;

use api::KindId;

use super::Selectable;

/// The field by which agents select their tasks.
pub(super) const NODE_FIELD: &str = "spec.nodeName";

/// A subset of the objects of one kind. The topics of a watch cover everything that it selects, and
/// may cover more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(super) kind: KindId,
    pub(super) among: Among,
}

/// Which objects of a kind a topic covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Among {
    /// All of them.
    All,
    /// Those in a namespace.
    Namespace(String),
    /// Those whose [`NODE_FIELD`] has this value; an empty value stands for objects without the
    /// field.
    Node(String),
    /// Those with this name, in any namespace.
    Name(String),
}

/// Identifies a listener. Ids are never reused.
pub(super) type ListenerId = u64;

type Listeners<L> = BTreeMap<ListenerId, L>;

/// The listeners to one kind, each listed under its one topic of that kind.
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

/// All listeners.
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
    /// Adds a listener to `topics`, of which at most one may be of each kind.
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

    /// Removes a listener to `topics`.
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

    /// The listeners that may select an object, each once, in no particular order.
    pub(super) fn of<'a>(&'a self, object: Selectable<'a>) -> impl Iterator<Item = &'a L> {
        let of_kind = self.kinds.get(&object.kind);
        let node = object.fields.get(NODE_FIELD).unwrap_or_default();
        let topics = of_kind.into_iter().flat_map(move |of_kind| {
            [
                Some(&of_kind.all),
                of_kind.by_namespace.get(&object.key.namespace),
                of_kind.by_node.get(node),
                of_kind.by_name.get(&object.key.name),
            ]
        });
        topics.flatten().flat_map(Listeners::values)
    }

    /// Every listener.
    pub(super) fn everybody(&self) -> impl Iterator<Item = &L> {
        self.everybody.values()
    }
}
