//! An etcd whose database has reached its quota.
//!
//! The store makes room by itself within a second or two of the first refusal, and something comes
//! back even where nothing was deleted: history, and pages that are half empty. So no test may take
//! an etcd that was full for one that still is. Nor does its quota say how much it holds: of quick
//! writes it takes twice as much before it notices.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, CompactionOptions};
use futures_util::future::{join, join_all};
use store::{Etcd, Expectation, Group, List, Outcome, Revision, Store};

use crate::etcd_server::{Options, Servers, connect};

/// So small that a few dozen values fill it.
const QUOTA_BYTES: u64 = 4 * 1024 * 1024;
/// As large as a person may try it with.
const LARGER_QUOTA_BYTES: u64 = 16 * 1024 * 1024;
/// Of one value.
const VALUE_BYTES: usize = 100 * 1024;
/// Values that are not deleted again: far fewer than any quota here.
const KEPT: usize = 10;
/// Values of one call: some are on their way while another fills it.
const VALUES: usize = 8;
/// Calls that fill any: one that is not refused altogether has put a value at least.
const CALLS: u64 = LARGER_QUOTA_BYTES / VALUE_BYTES as u64 + 2;

fn put(key: &str) -> Group {
    Group::default().put(key, Expectation::Absent, vec![b'x'; VALUE_BYTES])
}

/// Writes until it is full; what became of each key.
async fn fill(store: &Etcd, who: &str) -> BTreeMap<String, Outcome> {
    let mut ends = BTreeMap::new();
    for call in 0..CALLS {
        let keys: Vec<String> = (0..VALUES).map(|n| format!("/{who}/{call}-{n}")).collect();
        let outcomes = store.commit(keys.iter().map(|key| put(key)).collect()).await;
        let is_full = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Full(_)));
        ends.extend(keys.into_iter().zip(outcomes));
        if is_full {
            return ends;
        }
    }
    panic!("{CALLS} calls do not fill it");
}

fn options(quota_bytes: u64) -> Options {
    Options { no_fsync: true, quota_bytes: Some(quota_bytes), ..Options::default() }
}

/// Whoever deletes enough finds an etcd that takes writes again, whatever it is asked for meanwhile:
/// history is forgotten, the members are defragmented and the alarm is disarmed by itself.
#[tokio::test]
async fn a_full_etcd_takes_writes_again_once_enough_was_deleted() {
    let servers = Servers::start(3, &options(QUOTA_BYTES)).await;
    takes_writes_again(&servers, &[]).await;
}

#[tokio::test]
async fn a_full_etcd_of_one_member_takes_writes_again_once_enough_was_deleted() {
    let servers = Servers::start(1, &options(LARGER_QUOTA_BYTES)).await;
    takes_writes_again(&servers, &[]).await;
}

/// Even so where one of three members is dead: the other two do for writes.
#[tokio::test]
async fn a_full_etcd_with_a_dead_member_takes_writes_again_once_enough_was_deleted() {
    let mut servers = Servers::start(3, &options(LARGER_QUOTA_BYTES)).await;
    // An election is not what this is about.
    let dead = if servers.leader().await == 1 { 2 } else { 1 };
    servers.kill(dead);
    takes_writes_again(&servers, &[]).await;
}

/// Somebody has made room, and died or gone home before the alarm was disarmed.
#[tokio::test]
async fn an_alarm_that_was_left_is_disarmed() {
    let servers = Servers::start(1, &options(QUOTA_BYTES)).await;
    let (store, tasks) = connect(&servers, "").await;
    let ends = fill(&store, "a").await;
    drop(store);
    tasks.stop().await;
    let mut client = servers.client(0).await;
    let everything = etcd_client::DeleteOptions::new().with_prefix();
    let deleted = client.delete("/a", Some(everything)).await.unwrap();
    let newest = deleted.header().unwrap().revision();
    let physical = Some(CompactionOptions::new().with_physical());
    client.compact(newest, physical).await.unwrap();
    client.defragment().await.unwrap();
    let (store, _tasks) = connect(&servers, "").await;
    let outcome = put_in_the_end(&store, "/after").await;
    assert!(outcome.is_done(), "{outcome:?}");
    let key = ends.keys().next().unwrap();
    assert!(store.get(key).await.unwrap().is_none());
}

/// Several processes make room for one etcd, and all of them can write to it afterwards.
#[tokio::test]
async fn processes_that_make_room_at_once_do_not_get_in_each_others_way() {
    let servers = Servers::start(3, &options(LARGER_QUOTA_BYTES)).await;
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(connect(&servers, "").await);
    }
    let others: Vec<&Etcd> = others.iter().map(|(store, _)| store).collect();
    takes_writes_again(&servers, &others).await;
}

/// What a backup reads at is kept while room is made, until the backup has ended.
#[tokio::test]
async fn a_revision_that_is_held_can_be_read_at_while_room_is_made() {
    let servers = Servers::start(1, &options(QUOTA_BYTES)).await;
    let (store, _tasks) = connect(&servers, "").await;
    // There is some history before it to forget.
    for n in 0..4 {
        assert!(store.commit(vec![put(&format!("/a/{n}"))]).await.remove(0).is_done());
    }
    let held = store.revision().await.unwrap();
    let mut holds = vec![store.holds().hold(held)];
    let delete = Group::default().delete("/a/0", Expectation::Any);
    assert!(store.commit(vec![delete]).await.remove(0).is_done());
    let mut oldest = Revision::default();
    let mut round = 0;
    while oldest < held {
        // However long this takes, no hold of it is so old that it no longer counts.
        holds.push(store.holds().hold(held));
        oldest = fill_again(&store, &mut round).await;
    }
    assert_eq!(oldest, held, "no more is forgotten than that");
    let list = List { prefix: "/a/".into(), at: Some(held), after: None, limit: 1 };
    assert_eq!(&*store.list(list).await.unwrap().records[0].key, "/a/0");
    drop(holds);
    while oldest == held {
        oldest = fill_again(&store, &mut round).await;
    }
}

/// While it is full nobody may write for long. A backup reads at the current revision, and an apiserver
/// that starts at the oldest one: room is not made of those.
#[tokio::test]
async fn the_oldest_revision_is_one_that_there_is_while_room_is_made() {
    let servers = Servers::start(1, &options(QUOTA_BYTES)).await;
    let (store, _tasks) = connect(&servers, "").await;
    let list_at = |at| store.list(List { prefix: "/".into(), at: Some(at), after: None, limit: 1 });
    let mut round = 0;
    // Nothing is deleted, so that it stays full in the end, and all history there is is forgotten.
    let current = loop {
        let oldest = fill_again(&store, &mut round).await;
        let current = store.revision().await.unwrap();
        assert!(oldest <= current, "the oldest is {oldest}, the current one {current}");
        if list_at(Revision(current.0 - 1)).await.is_err() {
            break current;
        }
    };
    assert_eq!(list_at(current).await.unwrap().records.len(), 1);
    store.watch("/", Revision(current.0 + 1)).await.map(drop).unwrap();
}

/// Writes until it is full, whether it was or there is room again; what is the oldest revision then.
async fn fill_again(store: &Etcd, round: &mut usize) -> Revision {
    *round += 1;
    fill(store, &format!("round-{round}")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    store.oldest().await.unwrap()
}

/// Writes until it is no longer refused for want of room; what became of it.
async fn put_in_the_end(store: &Etcd, key: &str) -> Outcome {
    let put = || Group::default().put(key, Expectation::Any, vec![b'x'; VALUE_BYTES]);
    loop {
        let outcome = store.commit(vec![put()]).await.remove(0);
        if !matches!(outcome, Outcome::Full(_)) {
            return outcome;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Fills an etcd and deletes all of it but a few values. `others` come to know that it is full, too, and
/// make room like `store`.
async fn takes_writes_again(servers: &Servers, others: &[&Etcd]) {
    let (store, _tasks) = connect(servers, "").await;
    let mut ends = fill(&store, "a").await;
    for (n, other) in others.iter().enumerate() {
        ends.extend(fill(other, &format!("other-{n}")).await);
    }
    let done: Vec<&String> =
        ends.iter().filter(|(_, outcome)| outcome.is_done()).map(|(key, _)| key).collect();
    let (kept, gone) = done.split_at(KEPT);
    // Deletes that come with puts in the same call, as those of busy controllers do.
    let deletes = gone.iter().map(|key| Group::default().delete(key.as_str(), Expectation::Any));
    // Those puts are small: there may be room by then, which they must not use up.
    let small = |n| Group::default().put(format!("/small/{n}"), Expectation::Any, vec![b'x']);
    let groups = deletes.enumerate().flat_map(|(n, delete)| [delete, small(n)]);
    let mut deleted = 0;
    for outcome in store.commit(groups.collect()).await.into_iter().step_by(2) {
        assert!(outcome.is_done(), "{outcome:?}");
        deleted += 1;
    }
    assert_eq!(deleted, gone.len());
    let writers = others.iter().copied().chain([&store]);
    for outcome in join_all(writers.map(|writer| put_in_the_end(writer, "/after"))).await {
        assert!(outcome.is_done(), "{outcome:?}");
    }
    for key in kept {
        assert!(store.get(key).await.unwrap().is_some(), "{key} is not lost");
    }
    assert!(store.get(gone[0]).await.unwrap().is_none());
}

/// What is refused did not happen, what is done is there, nothing is in doubt; reads and deletes go
/// on; and writes, too, once there is room.
#[tokio::test]
async fn a_full_etcd_is_told_apart_from_a_doubt_and_takes_writes_when_room_was_made() {
    let servers = Servers::start(1, &options(QUOTA_BYTES)).await;
    let (store, _tasks) = connect(&servers, "").await;
    let (other, _others) = connect(&servers, "").await;
    let (mut ends, more) = join(fill(&store, "a"), fill(&other, "b")).await;
    ends.extend(more);
    let mut kept = Vec::new();
    for (key, outcome) in &ends {
        let is_there = store.get(key).await.unwrap().is_some();
        match outcome {
            Outcome::Done { .. } => assert!(is_there, "{key} was done"),
            Outcome::Full(why) => {
                assert!(!is_there, "{key} was refused");
                assert!(why.contains("compact") && why.contains("disarm"), "{why}");
            }
            other @ (Outcome::Refused { .. } | Outcome::Unknown | Outcome::Invalid(_)) => {
                panic!("{key}: {other:?}")
            }
        }
        if is_there {
            kept.push(key);
        }
    }
    assert!(!kept.is_empty(), "it began empty");
    // There may be room again by now: what was refused is tried when it was just filled.
    let mut round = 0;
    let refused = loop {
        match store.grant(Duration::from_secs(6)).await {
            Ok(_) => fill(&store, &format!("c{round}")).await,
            Err(error) => break error.to_string(),
        };
        round += 1;
    };
    assert!(refused.contains("etcd is full"), "{refused}");

    let gone = kept.iter().map(|key| Group::default().delete(key.as_str(), Expectation::Any));
    for outcome in store.commit(gone.collect()).await {
        assert!(outcome.is_done(), "a delete takes no room: {outcome:?}");
    }
    // A person may be quicker than the store is by itself.
    let mut client = servers.client(0).await;
    let newest = i64::try_from(store.revision().await.unwrap().0).unwrap();
    // Without "physical" it is answered before it is done, and there is nothing yet to defragment.
    let physical = Some(CompactionOptions::new().with_physical());
    let _may_be_done_already = client.compact(newest, physical).await;
    client.defragment().await.unwrap();
    let alarms = client.alarm(AlarmAction::Get, AlarmType::Nospace, None).await.unwrap();
    for alarm in alarms.alarms() {
        let mut of_member = AlarmOptions::new();
        of_member.with_member(alarm.member_id());
        client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(of_member)).await.unwrap();
    }
    let outcome = put_in_the_end(&store, "/after").await;
    assert!(outcome.is_done(), "{outcome:?}");
}
