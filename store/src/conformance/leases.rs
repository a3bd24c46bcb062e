//! Laws of node leases.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use crate::conformance::{
    after, commit_done, commit_one, delete, events_until, listed, next, put, read, show_event,
    watch,
};
use crate::{Expectation, Group, LeaseId, Outcome, Revision, Store};

/// Short, but not shorter than etcd allows.
const TTL: Duration = Duration::from_secs(2);
/// Often enough that a lease does not expire on a busy machine.
const RENEW_EVERY: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_hours(1);

async fn grant(store: &dyn Store, ttl: Duration) -> LeaseId {
    store.grant(ttl).await.expect("the store works")
}

async fn renew(store: &dyn Store, leases: &[LeaseId]) -> Vec<bool> {
    store.renew(leases.to_vec()).await.expect("the store works")
}

async fn put_under(store: &dyn Store, lease: LeaseId, key: &str) -> Revision {
    commit_done(store, Group::default().put_under(lease, key, Expectation::Any, "x")).await
}

/// An expiry causes delete events, in a transaction of its own.
pub async fn a_node_lease_that_is_renewed_lives_and_one_that_is_not_goes(store: &dyn Store) {
    let renewed = grant(store, TTL).await;
    put_under(store, renewed, "/law/renewed").await;
    let forgotten = grant(store, TTL).await;
    put_under(store, forgotten, "/law/forgotten/a").await;
    let start = put_under(store, forgotten, "/law/forgotten/b").await;
    let mut watch = watch(store, "/law/", after(start)).await;
    let keep_renewing = async || -> Infallible {
        loop {
            assert_eq!(renew(store, &[renewed]).await, [true], "a renewed node lease lives");
            tokio::time::sleep(RENEW_EVERY).await;
        }
    };
    let events = match select(pin!(next(&mut watch)), pin!(keep_renewing())).await {
        Either::Left((events, _)) => events,
        Either::Right((never, _)) => match never {},
    };
    let gone = after(start);
    let expected =
        [format!("{gone} /law/forgotten/a: nothing"), format!("{gone} /law/forgotten/b: nothing")];
    assert_eq!(events.iter().map(show_event).collect::<Vec<_>>(), expected);
    assert_eq!(renew(store, &[forgotten, renewed]).await, [false, true]);
    assert_eq!(store.get("/law/forgotten/a").await, Ok(None));
    read(store, "/law/renewed").await;
    let late = Group::default().put_under(forgotten, "/law/late", Expectation::Any, "x");
    assert!(matches!(commit_one(store, late).await, Outcome::Invalid(_)));
}

/// It takes effect at once and only on the lease's keys. Revoking a lease that does not exist is no
/// error.
pub async fn a_revoked_node_lease_takes_its_keys_along(store: &dyn Store) {
    let (lease, other) = (grant(store, LONG).await, grant(store, LONG).await);
    assert_ne!(lease, other);
    put_under(store, lease, "/law/a").await;
    put_under(store, lease, "/law/deleted").await;
    put_under(store, other, "/law/other").await;
    delete(store, "/law/deleted").await;
    let start = put(store, "/law/deleted", "mine now").await;
    store.revoke(lease).await.expect("the store works");
    assert_eq!(
        listed(store, "/law/", None).await,
        ["/law/deleted=mine now", "/law/other=x"],
        "only the keys under it are gone"
    );
    let events = events_until(store, "/law/", after(start), after(start)).await;
    let gone = format!("{} /law/a: nothing", after(start));
    assert_eq!(events.iter().map(show_event).collect::<Vec<_>>(), [gone]);
    assert_eq!(renew(store, &[lease, other]).await, [false, true]);
    store.revoke(lease).await.expect("the store works");
    assert_eq!(store.revision().await, Ok(after(start)), "nothing was left to delete");
}

/// The key then stays when the lease ends.
pub async fn a_put_without_a_node_lease_takes_the_key_off_it(store: &dyn Store) {
    let lease = grant(store, LONG).await;
    put_under(store, lease, "/law/kept").await;
    put_under(store, lease, "/law/gone").await;
    put(store, "/law/kept", "for good").await;
    store.revoke(lease).await.expect("the store works");
    assert_eq!(read(store, "/law/kept").await.value, "for good");
    assert_eq!(store.get("/law/gone").await, Ok(None));
}

/// A key belongs to at most one node lease.
pub async fn a_put_under_another_node_lease_moves_the_key(store: &dyn Store) {
    let (first, second) = (grant(store, LONG).await, grant(store, LONG).await);
    put_under(store, first, "/law/a").await;
    put_under(store, second, "/law/a").await;
    store.revoke(first).await.expect("the store works");
    read(store, "/law/a").await;
    store.revoke(second).await.expect("the store works");
    assert_eq!(store.get("/law/a").await, Ok(None));
}
