//! What goes wrong on demand in the simulated store, and what a careful client makes of it.

use std::time::Duration;

use base::Rng;
use futures_util::FutureExt;
use futures_util::future::join_all;
use store::conformance::next_events;
use store::{Event, Expectation, Fault, Group, Outcome, ReadError, Revision, Simulated, Store};

fn create(key: &str, value: &str) -> Group {
    Group::default().put(key, Expectation::Absent, value.to_owned())
}

async fn there(store: &Simulated, key: &str) -> bool {
    store.get(key).await.unwrap().is_some()
}

#[tokio::test(start_paused = true)]
async fn an_unknown_group_happened_or_did_not_or_happens_later() {
    let store = Simulated::new();
    let faults = store.faults();
    faults.next_groups(1, Fault::AnswerLost);
    faults.next_groups(1, Fault::RequestLost);
    faults.next_groups(1, Fault::Late(Duration::from_secs(3)));
    let groups = ["/a", "/b", "/c", "/d"].map(|key| create(key, "x"));
    let outcomes = store.commit(groups.to_vec()).await;
    assert_eq!(outcomes[..3], [Outcome::Unknown, Outcome::Unknown, Outcome::Unknown]);
    assert!(outcomes[3].is_done(), "{outcomes:?}");
    assert_eq!((there(&store, "/a").await, there(&store, "/b").await), (true, false));
    let mut watch = store.watch("/c", Revision(1)).await.unwrap();
    assert!(!there(&store, "/c").await);
    let events = next_events(&mut *watch).await.unwrap();
    assert_eq!(&*events[0].key, "/c", "a watcher wakes for it");
    assert!(there(&store, "/c").await);
}

#[tokio::test(start_paused = true)]
async fn a_late_group_is_judged_when_it_comes() {
    let store = Simulated::new();
    store.faults().next_groups(1, Fault::Late(Duration::from_secs(3)));
    store.commit(vec![create("/a", "late")]).await;
    assert!(store.commit(vec![create("/a", "early")]).await[0].is_done());
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, "early");
    assert_eq!(store.revision().await, Ok(Revision(1)));
}

#[tokio::test(start_paused = true)]
async fn reads_fail_and_watches_are_cut_on_demand() {
    let store = Simulated::new();
    let faults = store.faults();
    store.commit(vec![create("/a", "x")]).await;
    let mut watch = store.watch("/", Revision(2)).await.unwrap();
    assert!(watch.next().now_or_never().is_none());
    faults.cut_watches();
    assert!(matches!(watch.next().await, Err(ReadError::Unavailable(_))));
    assert!(there(&store, "/a").await, "reads go on");

    let mut watch = store.watch("/", Revision(2)).await.unwrap();
    faults.fail_reads(true);
    assert!(matches!(watch.next().await, Err(ReadError::Unavailable(_))));
    assert!(matches!(store.get("/a").await, Err(ReadError::Unavailable(_))));
    assert!(matches!(store.watch("/", Revision(1)).await.err(), Some(ReadError::Unavailable(_))));
    faults.heal();
    assert!(there(&store, "/a").await);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_answer_comes_after_the_deed() {
    let store = Simulated::new();
    store.faults().delay_answers(Rng::seeded(1), Duration::from_secs(10));
    let start = tokio::time::Instant::now();
    let gave_up = store.commit(vec![create("/a", "x")]).now_or_never();
    assert!(gave_up.is_none(), "the answer takes a while");
    assert_eq!(store.commit(vec![create("/a", "y")]).await[0].done(), None, "it has happened");
    assert!(start.elapsed() > Duration::ZERO, "virtual time has passed");
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_data_and_gives_node_leases_their_full_time() {
    let store = Simulated::new();
    let other = store.clone();
    let lease = store.grant(Duration::from_secs(10)).await.unwrap();
    store.commit(vec![Group::default().put_under(lease, "/a", Expectation::Any, "x")]).await;
    let mut watch = store.watch("/", Revision(2)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(9)).await;
    other.restart();
    assert!(matches!(watch.next().await, Err(ReadError::Unavailable(_))));
    drop((store, watch));
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(there(&other, "/a").await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!there(&other, "/a").await);
}

/// Creates each of its keys exactly once, whatever goes wrong: a value of its own tells its
/// write from another's.
async fn create_all(store: Simulated, who: &str) {
    for index in 0..50 {
        let (key, value) = (format!("/{who}/{index}"), format!("{who} {index}"));
        loop {
            match store.commit(vec![create(&key, &value)]).await.remove(0) {
                Outcome::Done { .. } => break,
                Outcome::Refused { conflicts } => {
                    let found = conflicts[0].found.as_ref().unwrap();
                    assert_eq!(found.value, value, "only its own write can be in the way");
                    break;
                }
                Outcome::Unknown => (),
                Outcome::Full(reason) | Outcome::Invalid(reason) => panic!("{reason}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_careful_client_loses_nothing_and_does_nothing_twice() {
    for seed in 0..20 {
        let (store, rng) = (Simulated::new(), Rng::seeded(seed));
        let faults = store.faults();
        faults.at_random(rng.fork("unknown"), 400, Duration::from_millis(50));
        faults.delay_answers(rng.fork("delay"), Duration::from_millis(20));
        join_all(["x", "y", "z"].map(|who| create_all(store.clone(), who))).await;
        faults.heal();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut watch = store.watch("/", Revision(1)).await.unwrap();
        let events = next_events(&mut *watch).await.unwrap();
        assert_eq!(events.len(), 150, "seed {seed}: each key was created once");
        let is_new = |event: &Event| event.now.as_ref().unwrap().created == event.revision;
        assert!(events.iter().all(is_new), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_goes_wrong_in_the_same_way() {
    let run = async |seed| {
        let store = Simulated::new();
        store.faults().at_random(Rng::seeded(seed), 500, Duration::from_secs(1));
        let groups = (0..100).map(|index| create(&format!("/{index}"), "x")).collect();
        store.commit(groups).await
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}
