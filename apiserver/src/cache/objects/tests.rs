//! The objects are what a sorted map is, and a page of them costs the page.

use std::cell::Cell;
use std::collections::BTreeMap;

use api::resource_version::ResourceVersion;
use api::{KindId, ObjectKey};
use bytes::Bytes;
use proptest::prelude::*;
use store::Revision;

use super::*;
use crate::cache::{Labels, Part, Selection};

fn entry(name: &str, tier: &str) -> Arc<Entry> {
    Arc::new(Entry {
        kind: KindId::Task,
        key: ObjectKey::new("a", name).into(),
        version: ResourceVersion::default(),
        created: Revision(1),
        uid: "u".into(),
        is_deleting: false,
        has_more: false,
        wire: Bytes::new(),
        labels: Arc::new(Labels::from([("tier".to_owned(), tier.to_owned())])),
        fields: Arc::default(),
    })
}

fn names<'a>(entries: impl Iterator<Item = &'a Arc<Entry>>) -> Vec<String> {
    entries.map(|entry| entry.key.name.clone()).collect()
}

/// What a change is about: many keys of few prefixes, so that runs are filled, split and joined.
fn changes() -> impl Strategy<Value = Vec<(bool, u16)>> {
    prop::collection::vec((prop::bool::weighted(0.6), 0..2500_u16), 1..4000)
}

fn key(number: u16) -> Key {
    format!("/{}/{number:04}", ["a", "b", "ba", "c"][usize::from(number % 4)]).into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn objects_are_a_sorted_map(changes in changes(), ascending in any::<bool>()) {
        let (mut objects, mut wanted) = (Objects::default(), BTreeMap::<Key, Arc<Entry>>::new());
        if ascending {
            for number in 0..2500 {
                objects.insert(key(number), entry("x", ""));
                wanted.insert(key(number), entry("x", ""));
            }
        }
        for (number, (puts, of)) in changes.into_iter().enumerate() {
            let key = key(of);
            let name = |entry: Option<Arc<Entry>>| entry.map(|entry| entry.key.name.clone());
            if puts {
                let entry = entry(&number.to_string(), "");
                let before = wanted.insert(Arc::clone(&key), Arc::clone(&entry));
                prop_assert_eq!(name(objects.insert(key, entry)), name(before));
            } else {
                prop_assert_eq!(name(objects.remove(&key)), name(wanted.remove(&key)));
            }
        }
        prop_assert_eq!(objects.len(), wanted.len());
        prop_assert_eq!(names(objects.values()), names(wanted.values()));
        prop_assert!(objects.runs.iter().all(|run| (1..=RUN_MAX).contains(&run.len())));
        for prefix in ["", "/", "/a/", "/b", "/b/", "/ba/", "/c/", "/d/"] {
            for after in [None, Some("/"), Some("/a/1000"), Some("/b/0001"), Some("/c/9999")] {
                let within = objects.within(prefix, after);
                let keys = wanted.iter().filter(|(key, _)| {
                    key.starts_with(prefix) && after.is_none_or(|after| &***key > after)
                });
                let wanted = names(keys.map(|(_, entry)| entry));
                prop_assert_eq!(within.len(), wanted.len());
                prop_assert_eq!(names(within), wanted, "{} {:?}", prefix, after);
            }
        }
    }
}

#[test]
fn objects_that_come_in_order_fill_their_runs() {
    let number = |number: usize| (Key::from(format!("/{number:06}")), entry("x", ""));
    let objects: Objects = (0..10 * RUN_MAX).map(number).collect();
    assert_eq!(objects.runs.len(), 10);
}

/// The names on a page, how many objects are said to follow it, and how many were looked at.
fn page(objects: &Objects, after: Option<&str>, labels: &str) -> (Vec<String>, Part, usize) {
    let looked_at = Cell::new(0);
    let within = objects.within("/a/", after).inspect(|_| looked_at.set(looked_at.get() + 1));
    let selection = Selection { labels: labels.parse().unwrap(), ..Selection::default() };
    let part = Part::of(within, 500, &selection);
    (names(part.entries.iter()), part, looked_at.get())
}

#[test]
fn a_page_costs_the_page_and_what_its_selector_skips() {
    let tier = |number: usize| if number.is_multiple_of(2) { "even" } else { "odd" };
    let of = |number: usize| format!("{number:06}");
    let object =
        |number| (Key::from(format!("/a/{}", of(number))), entry(&of(number), tier(number)));
    let mut objects: Objects = (0..100_000).map(object).collect();
    objects.insert("/b/0".into(), entry("of another namespace", "even"));
    let mut after = None;
    for begins_at in (0..100_000).step_by(500) {
        let (names, part, looked_at) = page(&objects, after.as_deref(), "");
        assert_eq!(names, (begins_at..begins_at + 500).map(of).collect::<Vec<_>>());
        let left = 100_000 - begins_at - 500;
        assert_eq!((part.more, part.remaining, looked_at), (left > 0, Some(left), 500));
        after = names.last().map(|name| format!("/a/{name}"));
    }
    // Every second one is skipped, and one more is looked for: whether another page is to follow.
    let (names, part, looked_at) = page(&objects, Some("/a/090000"), "tier=odd");
    assert_eq!((names.len(), &*names[0], &*names[499]), (500, "090001", "090999"));
    assert_eq!((part.more, part.remaining, looked_at), (true, None, 1001));
    // It comes to the end while it looks for the last one.
    let (names, part, _) = page(&objects, Some("/a/099000"), "tier=even");
    assert_eq!((names.len(), part.more, part.remaining), (499, false, None));
    let (names, part, _) = page(&objects, Some("/a/098999"), "tier=even");
    assert_eq!((names.len(), part.more, part.remaining), (500, false, None));
}
