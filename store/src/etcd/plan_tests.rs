//! Which groups go together, by example.

use bytes::Bytes;

use super::*;
use crate::{LeaseId, Revision};

fn put(key: &str) -> Group {
    Group::default().put(key, Expectation::Any, "x")
}

fn gathered(groups: &[Group]) -> Vec<usize> {
    gather(waiting(groups), false)
}

fn waiting(groups: &[Group]) -> impl Iterator<Item = Waiting<'_>> {
    groups.iter().map(|group| {
        let load = Load::of(group);
        Waiting { group, load, alone: load.goes_alone() }
    })
}

/// etcd refuses a transaction that puts anything while it is full, and takes one that only deletes.
#[test]
fn while_etcd_is_full_deletes_do_not_travel_with_puts() {
    let delete = |key: &str| Group::default().delete(key, Expectation::Any);
    let groups = [delete("/a"), put("/b"), delete("/c"), put("/d")];
    assert_eq!(gather(waiting(&groups), true), [0, 2]);
    assert_eq!(gather(waiting(&groups[1..]), true), [0, 2]);
    assert_eq!(gather(waiting(&groups), false), [0, 1, 2, 3]);
}

fn many(count: usize, group: impl Fn(usize) -> Group) -> usize {
    let groups: Vec<Group> = (0..count).map(group).collect();
    gathered(&groups).len()
}

/// The limits that a real etcd was seen to have.
#[test]
fn a_transaction_holds_as_many_groups_as_etcd_takes() {
    assert_eq!(many(200, |i| put(&format!("/{i}"))), 127, "a write each");
    let swap =
        |i: usize| Group::default().put(format!("/{i}"), Expectation::Modified(Revision(9)), "x");
    assert_eq!(many(200, swap), 127, "a compare-and-swap each");
    let shared = |i: usize| swap(i).guard("/leader", Expectation::Created(Revision(3)));
    assert_eq!(many(200, shared), 126, "a shared guard");
    let by_value = |i: usize| swap(i).guard("/leader", Expectation::Value("me".into()));
    assert_eq!(many(200, by_value), 125, "a shared guard by value is two comparisons");
    let own = |i: usize| swap(i).guard(format!("/guard/{i}"), Expectation::Absent);
    assert_eq!(many(200, own), 64, "a guard each");
}

#[test]
fn groups_that_touch_the_same_key_do_not_go_together() {
    let guarded = |guard: &str, key: &str| put(key).guard(guard, Expectation::Absent);
    let cases = [
        ("both write it", vec![put("/a"), put("/a"), put("/b")], vec![0, 2]),
        ("the second guards it", vec![put("/a"), guarded("/a", "/b"), put("/c")], vec![0, 2]),
        ("the first guards it", vec![guarded("/a", "/b"), put("/a"), put("/c")], vec![0, 2]),
        ("both guard it", vec![guarded("/g", "/a"), guarded("/g", "/b")], vec![0, 1]),
        (
            "a guard that says nothing",
            vec![put("/a"), put("/b").guard("/a", Expectation::Any)],
            vec![0, 1],
        ),
        (
            "the first expects what it writes",
            vec![Group::default().put("/a", Expectation::Absent, "x"), guarded("/a", "/b")],
            vec![0],
        ),
    ];
    for (name, groups, expected) in cases {
        assert_eq!(gathered(&groups), expected, "{name}");
    }
}

#[test]
fn a_group_may_guard_what_it_writes() {
    let group = put("/a").guard("/a", Expectation::Absent).guard("/a", Expectation::Absent);
    assert_eq!(gathered(&[group, put("/b")]), [0, 1]);
}

#[test]
fn large_groups_go_alone_and_others_by_weight() {
    let sized = |key: &str, bytes: usize| {
        Group::default().put(key, Expectation::Any, Bytes::from(vec![0; bytes]))
    };
    let (large, small) = (sized("/large", 300 * 1024), put("/small"));
    assert_eq!(gathered(&[large.clone(), small.clone()]), [0], "at its turn it goes by itself");
    assert_eq!(gathered(&[small, large]), [0], "and waits for it");
    assert_eq!(many(20, |i| sized(&format!("/{i}"), 100 * 1024)), 10, "under 1 MiB together");
    let wide = (0..65).fold(Group::default(), |group, i| {
        group.put_under(LeaseId(1), format!("/wide/{i}"), Expectation::Any, "x")
    });
    assert_eq!(gathered(&[wide, put("/small")]), [0], "more than 64 writes");
}

#[test]
fn a_group_waits_for_those_before_it_that_touch_its_keys() {
    let groups = [
        put("/a"),
        put("/b"),
        put("/a"),
        put("/c").guard("/a", Expectation::Absent),
        put("/d").guard("/a", Expectation::Absent),
        put("/a"),
        put("/e"),
    ];
    let waits: Vec<Vec<usize>> =
        waits_for(&groups).into_iter().map(|before| before.into_iter().collect()).collect();
    let none = Vec::new;
    assert_eq!(waits, [none(), none(), vec![0], vec![2], vec![2], vec![2, 3, 4], none()]);
}
