//! What watches receive is what a plain filter lets through, and nobody is woken for nothing.

use api::selector::FieldSelector;
use api::{KindId, ObjectKey};
use bytes::Bytes;
use futures_util::FutureExt as _;
use proptest::prelude::*;
use store::{Key, Revision};

use super::*;
use crate::cache::audience::NODE_FIELD;
use crate::cache::{Change, Entry, Labels, Scope, Selection};
use crate::keys;

/// Watches that are compared with the filter.
const WATCHES: usize = 200;
const KINDS: [KindId; 3] = [KindId::Task, KindId::Job, KindId::Node];
const NAMESPACES: [&str; 2] = ["a", "b"];
const NODES: [&str; 4] = ["", "x", "y", "z"];
const TIERS: [&str; 2] = ["p", "q"];

/// An object of the test's world; every part is chosen by a number.
#[derive(Debug, Clone, Copy)]
struct Put {
    kind: usize,
    namespace: usize,
    name: usize,
    node: usize,
    tier: usize,
    /// Whether it is gone afterwards.
    deletes: bool,
}

impl Put {
    fn kind(self) -> KindId {
        KINDS[self.kind % KINDS.len()]
    }

    fn key(self) -> ObjectKey {
        let namespace = NAMESPACES[self.namespace % NAMESPACES.len()];
        let namespace = if self.kind().is_namespaced() { namespace } else { "" };
        ObjectKey::new(namespace, format!("n{}", self.name))
    }

    fn entry(self, version: ResourceVersion) -> Entry {
        let node = NODES[self.node % NODES.len()].to_owned();
        let fields = (self.kind() == KindId::Task).then_some((NODE_FIELD, node));
        let tier = TIERS[self.tier % TIERS.len()].to_owned();
        Entry {
            kind: self.kind(),
            key: self.key().into(),
            version,
            created: Revision(1),
            uid: "u".into(),
            is_deleting: false,
            has_more: false,
            wire: Bytes::from(version.to_string()),
            labels: Arc::new(Labels::from([("tier".to_owned(), tier)])),
            fields: Arc::new(fields.into_iter().collect()),
        }
    }

    fn change(self, revision: u64) -> (Key, Change) {
        let version = ResourceVersion::of_event(revision, 0);
        let now = (!self.deletes).then(|| Arc::new(self.entry(version)));
        (keys::object(self.kind(), &self.key()), Change { version, now })
    }
}

fn puts() -> impl Strategy<Value = Put> {
    (0..3_usize, 0..2_usize, 0..3_usize, 0..4_usize, 0..2_usize, prop::bool::weighted(0.2))
        .prop_map(|(kind, namespace, name, node, tier, deletes)| Put {
            kind,
            namespace,
            name,
            node,
            tier,
            deletes,
        })
}

fn scopes() -> impl Strategy<Value = Scope> {
    let labels = prop::sample::select(vec!["", "", "tier=p", "tier!=p", "tier in (p, q)", "!tier"]);
    let fields = prop::sample::select(vec![
        "",
        "metadata.name=n1",
        "metadata.name!=n1",
        "metadata.namespace=a",
        "spec.nodeName=",
        "spec.nodeName=x",
        "spec.nodeName=y,metadata.name=n2",
        "spec.nodeName!=x",
        "spec.nodeName=x,spec.nodeName=y",
    ]);
    let kinds = prop::sample::subsequence(KINDS.to_vec(), 1..=KINDS.len());
    let namespace = prop::sample::select(vec!["", "", "a", "b"]);
    (kinds, labels, fields, namespace).prop_map(|(kinds, labels, fields, namespace)| {
        let selection = |kind: KindId| {
            // As a request for several kinds does it: a selector concerns the kinds that have the field.
            let fields: FieldSelector = fields.parse().unwrap();
            let fields = if fields.unknown_field(kind).is_none() { fields } else { <_>::default() };
            (kind, Selection { labels: labels.parse().unwrap(), fields })
        };
        let selections = kinds.into_iter().map(selection).collect();
        Scope { selections, namespace: namespace.to_owned() }
    })
}

/// A watch that reads when it is woken, as a session does.
struct Watcher {
    scope: Scope,
    subscription: Subscription,
    sent: ResourceVersion,
    received: Vec<ResourceVersion>,
}

/// The version of an event, if it concerns a watch.
fn version(scope: &Scope, past: PastEvent<'_>) -> Option<ResourceVersion> {
    let concerned = past.event.before().into_iter().chain(past.event.now());
    concerned.into_iter().any(|object| scope.selects(object)).then_some(past.event.version)
}

impl Watcher {
    fn new(cache: &Arc<Cache>, scope: Scope, announced_max: usize) -> Self {
        let subscription = cache.listen_up_to(scope.topics(), announced_max);
        let mut watcher = Self { scope, subscription, sent: cache.newest(), received: Vec::new() };
        watcher.read(1);
        watcher
    }

    /// Reads all there is; how many events it had to look at.
    fn read(&mut self, limit: usize) -> usize {
        let mut looked_at = 0;
        loop {
            let before = looked_at;
            let tell = |past: PastEvent<'_>| {
                looked_at += 1;
                version(&self.scope, past)
            };
            let read = self.subscription.news((self.sent, limit), tell);
            let News { news, reached, is_all } = read.unwrap();
            assert!(looked_at - before <= limit && reached >= self.sent);
            self.sent = reached;
            self.received.extend(news);
            if is_all {
                return looked_at;
            }
        }
    }

    /// Whether its sleep has ended.
    fn is_woken(&self) -> bool {
        self.subscription.woken().now_or_never().is_some()
    }
}

impl Cache {
    fn newest(&self) -> ResourceVersion {
        ResourceVersion::after(self.state().revision.0)
    }

    /// Lets go of the oldest events, as where there are too many.
    fn forget(&self, up_to: Revision) {
        let mut state = self.state.write().unwrap();
        while state.history.since(0).next().is_some_and(|it| it.event.version.revision() <= up_to.0)
        {
            state.history.forget_oldest();
        }
    }

    fn put(&self, puts: &[Put]) {
        let first = self.state().revision.0 + 1;
        let changes: Vec<_> = (first..).zip(puts).map(|(at, put)| put.change(at)).collect();
        let last = changes.last().map_or(first - 1, |(_, change)| change.version.revision());
        self.apply(changes, Revision(last));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Watches with random selectors, of which some may hold few announcements, and which read little at
    /// a time, whenever they are woken and it is their turn.
    #[test]
    fn watches_receive_what_a_filter_lets_through(
        scopes in prop::collection::vec(scopes(), WATCHES),
        rounds in prop::collection::vec((prop::collection::vec(puts(), 1..8), 1..6_usize), 1..20),
    ) {
        let cache = Arc::new(Cache::default());
        cache.put(&[Put { kind: 0, namespace: 0, name: 0, node: 1, tier: 0, deletes: false }]);
        let begun = cache.newest();
        let of = |(number, scope)| Watcher::new(&cache, scope, 1 + number % 7);
        let mut watchers: Vec<Watcher> = scopes.into_iter().enumerate().map(of).collect();
        for (puts, turn) in rounds {
            cache.put(&puts);
            for watcher in watchers.iter_mut().step_by(turn) {
                if watcher.is_woken() {
                    watcher.read(turn);
                }
            }
        }
        for watcher in &mut watchers {
            if watcher.is_woken() {
                watcher.read(3);
            }
        }
        for Watcher { scope, received, .. } in &watchers {
            let wanted = cache.news_after((begun, usize::MAX), |past| version(scope, past));
            prop_assert_eq!(received, &wanted.unwrap().news, "{:?}", scope);
        }
    }
}

fn scope(fields: &str) -> Scope {
    let fields = fields.parse().unwrap();
    let selection = Selection { fields, ..Selection::default() };
    Scope { selections: vec![(KindId::Task, selection)], namespace: String::new() }
}

fn on(node: usize, name: usize) -> Put {
    Put { kind: 0, namespace: 0, name, node, tier: 0, deletes: false }
}

#[test]
fn an_event_wakes_and_costs_those_alone_whom_it_can_concern() {
    let cache = Arc::new(Cache::default());
    let watcher = |fields: &str| Watcher::new(&cache, scope(fields), ANNOUNCED_MAX);
    let mut all = watcher("");
    let mut moved = [watcher("spec.nodeName=x"), watcher("spec.nodeName=y")];
    let mut others: Vec<Watcher> =
        (0..1000).map(|number| watcher(&format!("spec.nodeName=node-{number}"))).collect();
    cache.put(&[on(1, 0)]);
    // From one node to another: that concerns both.
    cache.put(&[on(2, 0)]);
    assert_eq!((all.is_woken(), all.read(10)), (true, 2));
    assert_eq!(moved.each_mut().map(|it| (it.is_woken(), it.read(10))), [(true, 2), (true, 1)]);
    for other in &mut others {
        assert!(!other.is_woken());
        // It comes to the newest point all the same: that is what its next bookmark says.
        assert_eq!((other.read(10), other.sent), (0, cache.newest()));
    }
}

#[test]
fn a_watch_that_ends_leaves_the_audience() {
    let cache = Arc::new(Cache::default());
    for fields in ["", "spec.nodeName=x", "metadata.name=n0", "metadata.namespace=a"] {
        drop(Watcher::new(&cache, scope(fields), ANNOUNCED_MAX));
    }
    cache.put(&[on(1, 0)]);
    let entry = on(1, 0).entry(ResourceVersion::default());
    let audience = cache.audience();
    assert_eq!((audience.of(entry.selectable()).count(), audience.everybody().count()), (0, 0));
}

#[test]
fn what_is_gone_before_it_was_read_is_told_of() {
    let cache = Arc::new(Cache::default());
    let watchers = [ANNOUNCED_MAX, 1].map(|max| Watcher::new(&cache, scope(""), max));
    let idle = Watcher::new(&cache, scope("spec.nodeName=z"), ANNOUNCED_MAX);
    cache.put(&[on(1, 0), on(1, 1)]);
    cache.forget(Revision(1));
    let oldest = ResourceVersion::of_event(1, 0);
    for watcher in &watchers {
        // One by one, or in the history: either way the first is missing.
        let news = watcher.subscription.news((watcher.sent, 10), |_| Some(()));
        assert_eq!(news.unwrap_err(), TooOld { oldest });
    }
    let missed = idle.subscription.news((idle.sent, 10), |_| Some(())).unwrap().news;
    assert!(missed.is_empty(), "it missed nothing");
}

/// The cache is filled anew where history is gone: then what comes may have been known, or is missing.
#[test]
fn a_cache_that_is_filled_anew_wakes_everybody() {
    let cache = Arc::new(Cache::default());
    cache.put(&[on(1, 0), on(1, 1)]);
    let mut watchers = ["", "spec.nodeName=z"].map(|it| Watcher::new(&cache, scope(it), 10));
    cache.reset(<_>::default(), Revision(1));
    for watcher in &mut watchers {
        assert!(watcher.is_woken());
        assert_eq!(watcher.read(10), 0);
    }
    // The watch of the store tells again what they know.
    cache.put(&[on(1, 1)]);
    cache.put(&[on(1, 2)]);
    let [all, _] = &mut watchers;
    assert!(all.is_woken());
    all.read(10);
    assert_eq!(all.received, [ResourceVersion::of_event(3, 0)]);
    cache.reset(<_>::default(), Revision(9));
    let news = all.subscription.news((all.sent, 10), |_| Some(()));
    assert_eq!(news.unwrap_err(), TooOld { oldest: ResourceVersion::after(9) });
}
