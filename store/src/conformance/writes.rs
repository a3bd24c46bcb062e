//! Laws of commits.

use bytes::Bytes;
use futures_util::future::join_all;

use crate::conformance::{
    after, bytes, commit_done, commit_one, delete, events_until, key, listed, put, read, revision,
    show_event,
};
use crate::{
    Conflict, Expectation, GROUP_OPERATIONS_MAX, Group, KEY_BYTES_MAX, LeaseId, Outcome, Record,
    Revision, Store, VALUE_BYTES_MAX,
};

/// What was written can be read with its revision and position.
pub async fn create_then_get(store: &dyn Store) {
    let before = revision(store).await;
    assert_eq!(store.get("/law/a").await, Ok(None));
    let outcome =
        commit_one(store, Group::default().put("/law/a", Expectation::Absent, "one")).await;
    let created = after(before);
    assert_eq!(outcome, Outcome::Done { revision: created, positions: vec![0] });
    let record = read(store, "/law/a").await;
    let (key, value) = (key("/law/a"), bytes("one"));
    let expected = Record { key, value, created, modified: created, position: 0 };
    assert_eq!(record, expected);
    let modified = put(store, "/law/a", "two").await;
    assert_eq!(read(store, "/law/a").await, Record { value: bytes("two"), modified, ..expected });
}

/// A refusal contains the existing record.
pub async fn create_twice_is_refused_with_what_is_there(store: &dyn Store) {
    let create = Group::default().put("/law/a", Expectation::Absent, "one");
    commit_done(store, create.clone()).await;
    let there = read(store, "/law/a").await;
    let conflict = Conflict { key: key("/law/a"), found: Some(there) };
    assert_eq!(commit_one(store, create).await, Outcome::Refused { conflicts: vec![conflict] });
}

/// Every expectation, with whether it holds for the existing `record`, and whether it holds for an
/// absent key.
fn expectations(record: &Record) -> Vec<(Expectation, bool, bool)> {
    let other = Revision(record.modified.0 + 1000);
    vec![
        (Expectation::Any, true, true),
        (Expectation::Absent, false, true),
        (Expectation::Modified(record.modified), true, false),
        (Expectation::Modified(record.created), false, false),
        (Expectation::Modified(other), false, false),
        (Expectation::Created(record.created), true, false),
        (Expectation::Created(record.modified), false, false),
        (Expectation::Value(record.value.clone()), true, false),
        (Expectation::Value(bytes("other")), false, false),
        (Expectation::Value(Bytes::new()), false, false),
    ]
}

/// A record that was created at one revision and modified at another.
async fn modified_record(store: &dyn Store) -> Record {
    put(store, "/law/there", "one").await;
    put(store, "/law/there", "two").await;
    read(store, "/law/there").await
}

/// Expectations of a key that is written.
pub async fn each_expectation_holds_or_refuses(store: &dyn Store) {
    let mut record = modified_record(store).await;
    for index in 0..expectations(&record).len() {
        let (expect, of_there, of_absent) = expectations(&record).swap_remove(index);
        let write = Group::default().put("/law/there", expect.clone(), "two");
        assert_eq!(commit_one(store, write).await.is_done(), of_there, "{expect:?} of {record:?}");
        let write = Group::default().put("/law/absent", expect.clone(), "now");
        assert_eq!(commit_one(store, write).await.is_done(), of_absent, "{expect:?} of nothing");
        delete(store, "/law/absent").await;
        record = read(store, "/law/there").await;
    }
}

/// Guards on a key that is not written.
pub async fn a_guard_on_another_key_holds_or_refuses(store: &dyn Store) {
    let record = modified_record(store).await;
    for (expect, of_there, of_absent) in expectations(&record) {
        for (guarded, holds) in [("/law/there", of_there), ("/law/absent", of_absent)] {
            let group = Group::default().guard(guarded, expect.clone()).put(
                "/law/written",
                Expectation::Any,
                "x",
            );
            let outcome = commit_one(store, group).await;
            if holds {
                assert!(outcome.is_done(), "{expect:?} of {guarded}: {outcome:?}");
            } else {
                let found = store.get(guarded).await.expect("the store works");
                let conflicts = vec![Conflict { key: key(guarded), found }];
                assert_eq!(outcome, Outcome::Refused { conflicts }, "{expect:?} of {guarded}");
            }
        }
    }
    assert_eq!(read(store, "/law/there").await, record, "a guard changes nothing");
}

/// A group without writes tells whether all of its guards hold at present, and changes nothing.
pub async fn a_group_that_only_looks_holds_or_refuses(store: &dyn Store) {
    let record = modified_record(store).await;
    let start = revision(store).await;
    for (expect, of_there, _) in expectations(&record) {
        let look = Group::default().guard("/law/there", expect.clone());
        let outcome = commit_one(store, look.clone()).await;
        if of_there {
            assert_eq!(outcome, Outcome::Done { revision: start, positions: vec![] }, "{expect:?}");
        } else {
            let conflicts = vec![Conflict { key: key("/law/there"), found: Some(record.clone()) }];
            assert_eq!(outcome, Outcome::Refused { conflicts }, "{expect:?}");
        }
    }
    assert_eq!(revision(store).await, start, "looking makes no revision");
    // Together with a group that writes.
    let look = Group::default().guard("/law/there", Expectation::Modified(record.modified));
    let stale = Group::default().guard("/law/there", Expectation::Absent);
    let write = Group::default().put("/law/other", Expectation::Absent, "x");
    let outcomes = store.commit(vec![look, stale, write]).await;
    let done: Vec<bool> = outcomes.iter().map(Outcome::is_done).collect();
    assert_eq!(done, [true, false, true], "{outcomes:?}");
}

/// A group happens as a whole or not at all, and groups are independent.
pub async fn a_refused_group_changes_nothing_and_leaves_its_neighbours_alone(store: &dyn Store) {
    put(store, "/law/taken", "mine").await;
    let start = revision(store).await;
    let outcomes = store
        .commit(vec![
            Group::default().put("/law/a", Expectation::Absent, "a"),
            Group::default()
                .put("/law/b", Expectation::Any, "b")
                .delete("/law/taken", Expectation::Absent)
                .put("/law/c", Expectation::Modified(start), "c"),
            Group::default().put("/law/d", Expectation::Absent, "d"),
        ])
        .await;
    assert!(outcomes[0].is_done() && outcomes[2].is_done(), "{outcomes:?}");
    let conflicts = vec![
        Conflict { key: key("/law/taken"), found: Some(read(store, "/law/taken").await) },
        Conflict { key: key("/law/c"), found: None },
    ];
    assert_eq!(outcomes[1], Outcome::Refused { conflicts });
    assert_eq!(listed(store, "/law/", None).await, ["/law/a=a", "/law/d=d", "/law/taken=mine"]);
    let end = revision(store).await;
    let events = events_until(store, "/law/", after(start), end).await;
    assert_eq!(events.len(), 2, "a refused group has no events: {events:?}");
}

/// Each write has its own revision and position, and its event has the same.
pub async fn groups_committed_together_have_places_of_their_own(store: &dyn Store) {
    let start = revision(store).await;
    let group = |index: usize| {
        Group::default()
            .put(format!("/law/{index}/a"), Expectation::Absent, "x")
            .delete(format!("/law/{index}/none"), Expectation::Any)
            .put(format!("/law/{index}/b"), Expectation::Absent, "x")
    };
    let calls = (0..20).map(|call| store.commit((0..10).map(|i| group(call * 10 + i)).collect()));
    let mut places = Vec::new();
    for (index, outcome) in join_all(calls).await.into_iter().flatten().enumerate() {
        let Outcome::Done { revision, positions } = outcome else {
            panic!("the group should happen: {outcome:?}");
        };
        assert_eq!(positions.len(), 3);
        assert!(positions.is_sorted_by(|a, b| a < b), "positions grow: {positions:?}");
        assert!(revision > start);
        places.push(((revision, positions[0]), format!("/law/{index}/a")));
        places.push(((revision, positions[2]), format!("/law/{index}/b")));
    }
    places.sort();
    assert!(places.is_sorted_by(|a, b| a.0 < b.0), "no place is given twice");
    let end = revision(store).await;
    let events = events_until(store, "/law/", after(start), end).await;
    let seen: Vec<_> = events
        .iter()
        .map(|event| ((event.revision, event.position), event.key.to_string()))
        .collect();
    assert_eq!(seen, places);
}

/// Within one commit, groups happen one after the other.
pub async fn a_group_sees_what_those_before_it_did(store: &dyn Store) {
    let outcomes = store
        .commit(vec![
            Group::default().put("/law/a", Expectation::Absent, "first"),
            Group::default().put("/law/a", Expectation::Absent, "second"),
            Group::default().guard("/law/a", Expectation::Value(bytes("first"))).put(
                "/law/b",
                Expectation::Absent,
                "third",
            ),
        ])
        .await;
    let conflicts = vec![Conflict { key: key("/law/a"), found: Some(read(store, "/law/a").await) }];
    assert_eq!(outcomes[1], Outcome::Refused { conflicts });
    assert!(outcomes[0].is_done() && outcomes[2].is_done(), "{outcomes:?}");
    assert_eq!(listed(store, "/law/", None).await, ["/law/a=first", "/law/b=third"]);
}

/// Otherwise a compare-and-swap by revision would not notice the second change.
pub async fn a_key_changes_at_most_once_in_a_transaction(store: &dyn Store) {
    let start = revision(store).await;
    let group = |value: &'static str| Group::default().put("/law/a", Expectation::Any, value);
    let outcomes = store.commit(vec![group("one"), group("two"), group("three")]).await;
    let revisions: Vec<_> = outcomes.iter().filter_map(Outcome::done).collect();
    assert_eq!(revisions.len(), 3, "{outcomes:?}");
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    let events = events_until(store, "/law/", after(start), revisions[2]).await;
    let expected = [
        format!("{} /law/a: one", revisions[0]),
        format!("{} /law/a: two", revisions[1]),
        format!("{} /law/a: three", revisions[2]),
    ];
    assert_eq!(events.iter().map(show_event).collect::<Vec<_>>(), expected);
}

/// So that whoever remembers `created` notices that it is another object with the same name.
pub async fn a_key_created_anew_has_a_new_created_revision(store: &dyn Store) {
    let first = put(store, "/law/a", "one").await;
    put(store, "/law/a", "two").await;
    assert_eq!(read(store, "/law/a").await.created, first);
    delete(store, "/law/a").await;
    assert_eq!(store.get("/law/a").await, Ok(None));
    let second = put(store, "/law/a", "three").await;
    assert!(second > first);
    assert_eq!(read(store, "/law/a").await.created, second);
    let stale = Group::default().put("/law/a", Expectation::Created(first), "four");
    assert!(!commit_one(store, stale).await.is_done());
}

/// Nothing happened, so there is no new revision and no event. Together with another change it has
/// no event either.
pub async fn a_delete_of_nothing_makes_no_revision(store: &dyn Store) {
    let start = put(store, "/law/a", "x").await;
    let nothing = Group::default().delete("/law/none", Expectation::Any);
    let outcome = commit_one(store, nothing.clone()).await;
    assert_eq!(outcome, Outcome::Done { revision: start, positions: vec![0] });
    let absent = Group::default().delete("/law/none", Expectation::Absent);
    assert_eq!(commit_one(store, absent).await.done(), Some(start));
    assert_eq!(commit_one(store, Group::default()).await.done(), Some(start), "an empty group");
    assert_eq!(revision(store).await, start);
    let end = commit_done(store, nothing.put("/law/b", Expectation::Any, "y")).await;
    let events = events_until(store, "/law/", start, end).await;
    let keys: Vec<&str> = events.iter().map(|event| &*event.key).collect();
    assert_eq!(keys, ["/law/a", "/law/b"]);
}

/// The bound itself is allowed.
pub async fn a_value_of_one_mebibyte_works_and_a_larger_one_is_invalid(store: &dyn Store) {
    let start = revision(store).await;
    let value = Bytes::from(vec![0xa5; VALUE_BYTES_MAX]);
    let end =
        commit_done(store, Group::default().put("/law/a", Expectation::Any, value.clone())).await;
    assert_eq!(read(store, "/law/a").await.value, value);
    let events = events_until(store, "/law/", after(start), end).await;
    assert_eq!(events[0].now.as_ref().map(|record| &record.value), Some(&value));
    let larger = Bytes::from(vec![0xa5; VALUE_BYTES_MAX + 1]);
    let outcome = commit_one(store, Group::default().put("/law/b", Expectation::Any, larger)).await;
    assert!(matches!(outcome, Outcome::Invalid(_)));
    assert_eq!(store.get("/law/b").await, Ok(None));
}

/// Such a group is invalid and changes nothing. Other groups of the commit happen.
pub async fn what_is_over_a_bound_is_invalid(store: &dyn Store) {
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let fits = "k".repeat(KEY_BYTES_MAX);
    let many = (0..=GROUP_OPERATIONS_MAX).fold(Group::default(), |group, index| {
        group.delete(format!("/law/{index}"), Expectation::Any)
    });
    let half = Bytes::from(vec![0; 700_000]);
    let values = (0..=GROUP_OPERATIONS_MAX / 2).fold(Group::default(), |group, index| {
        group.guard(format!("/law/{index}"), Expectation::Value(bytes("x")))
    });
    let invalid = vec![
        values,
        Group::default().put(&*long, Expectation::Any, "x"),
        Group::default().guard(&*long, Expectation::Absent).put("/law/a", Expectation::Any, "x"),
        Group::default().put("", Expectation::Any, "x"),
        Group::default().put("/law/a", Expectation::Any, "x").delete("/law/a", Expectation::Any),
        many,
        Group::default().put("/law/a", Expectation::Any, half.clone()).put(
            "/law/b",
            Expectation::Any,
            half,
        ),
        Group::default().put_under(LeaseId(u64::MAX / 3), "/law/a", Expectation::Any, "x"),
    ];
    for group in invalid {
        let writes = group.writes.len();
        let fine = Group::default().put(&*fits, Expectation::Any, "x");
        let outcomes = store.commit(vec![group, fine]).await;
        assert!(matches!(outcomes[0], Outcome::Invalid(_)), "{writes} writes: {:?}", outcomes[0]);
        assert!(outcomes[1].is_done(), "{:?}", outcomes[1]);
    }
    assert_eq!(listed(store, "/law/", None).await, [""; 0]);
}

/// Compare-and-swap.
pub async fn of_two_writers_with_one_revision_one_wins(store: &dyn Store) {
    let mut seen = put(store, "/law/a", "start").await;
    for round in 0..20 {
        let swap = |who: &str| {
            let value = format!("{who} {round}");
            store.commit(vec![Group::default().put("/law/a", Expectation::Modified(seen), value)])
        };
        let outcomes = join_all([swap("x"), swap("y")]).await.concat();
        let won: Vec<_> = outcomes.iter().filter_map(Outcome::done).collect();
        assert_eq!(won.len(), 1, "exactly one wins: {outcomes:?}");
        seen = won[0];
        let winner = if outcomes[0].is_done() { "x" } else { "y" };
        assert_eq!(read(store, "/law/a").await.value, format!("{winner} {round}"));
    }
}

/// However they are combined, the result is as if one came after the other.
pub async fn of_two_groups_that_guard_each_others_key_one_happens(store: &dyn Store) {
    for round in 0..20 {
        let (a, b) = (format!("/law/{round}/a"), format!("/law/{round}/b"));
        let group = |guarded: &String, written: &String| {
            let group = Group::default().guard(guarded.as_str(), Expectation::Absent);
            store.commit(vec![group.put(written.as_str(), Expectation::Absent, "x")])
        };
        let outcomes = join_all([group(&a, &b), group(&b, &a)]).await.concat();
        let done = outcomes.iter().filter(|outcome| outcome.is_done()).count();
        assert_eq!(done, 1, "exactly one happens: {outcomes:?}");
    }
}

/// Ten tasks at once, each incrementing a hundred times.
pub async fn a_thousand_concurrent_increments_lose_none(store: &dyn Store) {
    put(store, "/law/count", "0").await;
    let counts_up = async || {
        let mut seen = read(store, "/law/count").await;
        let mut left = 100;
        while left > 0 {
            let count: u64 = std::str::from_utf8(&seen.value)
                .expect("a number is text")
                .parse()
                .expect("only numbers are written");
            let expect = Expectation::Modified(seen.modified);
            let value = (count + 1).to_string();
            let group = Group::default().put("/law/count", expect, value.clone());
            match commit_one(store, group).await {
                Outcome::Done { revision, .. } => {
                    seen = Record { modified: revision, value: bytes(&value), ..seen };
                    left -= 1;
                }
                Outcome::Refused { mut conflicts } => {
                    seen = conflicts.remove(0).found.expect("nobody deletes it");
                }
                Outcome::Unknown => panic!("nothing goes wrong here"),
                Outcome::Full(reason) | Outcome::Invalid(reason) => panic!("{reason}"),
            }
        }
    };
    join_all((0..10).map(|_| counts_up())).await;
    assert_eq!(read(store, "/law/count").await.value, "1000");
}

/// A record that is read has the position of its last put, as reported to the writer and to
/// watches.
pub async fn a_record_keeps_its_position(store: &dyn Store) {
    let group = Group::default().put("/law/a", Expectation::Absent, "one").put(
        "/law/b",
        Expectation::Absent,
        "two",
    );
    let Outcome::Done { positions, .. } = commit_one(store, group).await else {
        panic!("nothing is in the way");
    };
    assert_eq!(positions, vec![0, 1]);
    for (name, position) in [("/law/a", 0), ("/law/b", 1)] {
        assert_eq!(read(store, name).await.position, position, "{name}");
    }
}
