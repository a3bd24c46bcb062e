//! Renews the node lease, the proof that this agent lives.

use std::time::Duration;

use api::node::{GrantRequest, GrantResponse, RenewRequest};
use api::status::Why;
use base::{Backoff, Clock, ErrorChain, Health, Retry, Rng, Timestamp};
use client::{Client, Error};
use jiff::SignedDuration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::Event;
use crate::metrics::Metrics;

/// Renewals within the lifetime of a lease: two of them may fail.
const RENEWALS_PER_TTL: u32 = 3;

/// Renews the lease of one node.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) client: Client,
    pub(super) request: GrantRequest,
    pub(super) rng: Rng,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// Until when the lease is certainly valid, counted from when the last acknowledged renewal was
    /// sent.
    pub(super) lives_until: watch::Sender<Option<Instant>>,
    /// When the last acknowledged heartbeat was sent, for people.
    pub(super) contact: (watch::Sender<Option<Timestamp>>, Clock),
}

impl Keeper {
    /// Requests a lease, reports the grant, renews it, and begins again when it is lost. Never
    /// ends.
    pub(super) async fn run(self, events: mpsc::Sender<Event>) {
        let wait = (Duration::from_millis(200), Duration::from_secs(5));
        let backoff = Backoff::new(wait.0, wait.1, self.rng.clone());
        let mut retry = Retry::new("getting the node lease", backoff, &self.health);
        loop {
            let sent = Instant::now();
            match self.client.grant(&self.request).await {
                Ok(granted) => {
                    self.acknowledged(sent, &granted);
                    info!(node = self.request.node, lease = granted.lease, "node lease granted");
                    retry.worked();
                    if events.send(Event::Granted(granted.clone())).await.is_err() {
                        return;
                    }
                    self.renew(&granted, &events).await;
                }
                Err(error) => {
                    let wait = retry.failed(&error);
                    let displaced = || Event::Displaced(ErrorChain(&error).to_string());
                    let is_taken = error.why() == Some(Why::Conflict);
                    if is_taken && events.send(displaced()).await.is_err() {
                        return;
                    }
                    sleep(wait).await;
                }
            }
        }
    }

    fn acknowledged(&self, sent: Instant, granted: &GrantResponse) {
        let lives_until = sent + Duration::from_millis(granted.ttl_millis);
        self.lives_until.send_replace(Some(lives_until));
        let (contact, clock) = &self.contact;
        let sent = SignedDuration::try_from(sent.elapsed()).unwrap_or_default();
        contact.send_replace(clock.now().checked_sub(sent).ok());
    }

    /// Renews a lease until it is lost, or until the cluster was confirmed: the grant of a new
    /// lease reports that.
    async fn renew(&self, granted: &GrantResponse, events: &mpsc::Sender<Event>) {
        let interval = Duration::from_millis(granted.ttl_millis) / RENEWALS_PER_TTL;
        let request = RenewRequest { node: self.request.node.clone(), lease: granted.lease };
        // A lease of the same number in another cluster is not ours.
        let client = self.client.for_cluster(&granted.granted_by());
        // The interval is constant: with a growing back-off the lease would expire.
        let backoff = Backoff::new(interval, interval, self.rng.clone());
        let mut retry = Retry::new("renewing the node lease", backoff, &self.health);
        loop {
            let sent = Instant::now();
            let next = sent + interval;
            match timeout(interval, client.renew(&request)).await {
                Ok(Ok(answer)) if granted.unconfirmed && !answer.unconfirmed => return,
                Ok(Ok(answer)) if answer.alive => {
                    self.acknowledged(sent, granted);
                    retry.worked();
                    if answer.unregistered && events.send(Event::Unregistered).await.is_err() {
                        return;
                    }
                }
                Ok(Ok(_)) => {
                    return debug!(
                        lease = granted.lease,
                        "the node lease has expired or was removed"
                    );
                }
                Ok(Err(Error::Refused(refusal))) if needs_another(refusal.why) => {
                    return warn!(error = %refusal, "cannot renew the node lease");
                }
                Ok(Err(error)) => {
                    self.metrics.renewals_failed.inc();
                    retry.failed(&error);
                }
                Err(elapsed) => {
                    self.metrics.renewals_failed.inc();
                    retry.failed(&elapsed);
                }
            }
            tokio::time::sleep_until(next).await;
        }
    }
}

/// Whether a refused renewal would always be refused, so that a new lease has to be requested.
fn needs_another(why: Why) -> bool {
    match why {
        Why::Mistaken(_)
        | Why::Invalid
        | Why::TooLarge
        | Why::Forbidden
        | Why::NotFound
        | Why::Exists
        | Why::Conflict
        | Why::Contended
        | Why::Deposed
        | Why::Expired
        | Why::Internal => true,
        Why::Busy | Why::Unavailable | Why::Full | Why::Late | Why::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use api::status::Refusal;
    use base::Tasks;
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use prometheus::Registry;
    use serde_json::{Value, json};

    use super::*;

    const TTL: Duration = Duration::from_secs(6);

    /// A keeper under test, with its events and the lease's validity.
    struct World {
        _tasks: Tasks,
        began: Instant,
        news: mpsc::Receiver<Event>,
        lives_until: watch::Receiver<Option<Instant>>,
    }

    /// A keeper whose requests get these answers in order, and then none.
    fn answered(answers: impl IntoIterator<Item = (u16, Value)>) -> World {
        let answers: VecDeque<(u16, Value)> = answers.into_iter().collect();
        let answers = Arc::new(Mutex::new(answers));
        let transport = client::transport(tower::service_fn(move |_: Request<Bytes>| {
            let next = answers.lock().unwrap().pop_front();
            let (code, body) = next.unwrap_or_else(|| (503, status(Why::Unavailable)));
            let body = Full::new(Bytes::from(body.to_string()));
            let answer = Response::builder().status(code).body(body).unwrap();
            std::future::ready(Ok::<_, Infallible>(answer))
        }));
        let (sender, lives_until) = watch::channel(None);
        let request = json!({ "node": "n1", "agent": "a", "bootId": "b" });
        let keeper = Keeper {
            client: Client::new(transport),
            request: serde_json::from_value(request).unwrap(),
            rng: Rng::seeded(1),
            metrics: Metrics::new(&Registry::new()).unwrap(),
            health: Health::default(),
            lives_until: sender,
            contact: (watch::channel(None).0, Clock::simulated(Timestamp::UNIX_EPOCH)),
        };
        let (tasks, (events, news)) = (Tasks::new("test"), mpsc::channel(8));
        tasks.spawn_part("node lease", keeper.run(events));
        World { _tasks: tasks, began: Instant::now(), news, lives_until }
    }

    fn status(why: Why) -> Value {
        serde_json::to_value(Refusal::new(why, "on purpose").to_status()).unwrap()
    }

    fn granted(lease: u64) -> Value {
        json!({ "lease": lease, "ttlMillis": TTL.as_millis(), "cluster": "c", "epoch": 1 })
    }

    /// The next lease that is told of.
    async fn next_lease(world: &mut World) -> u64 {
        match world.news.recv().await {
            Some(Event::Granted(granted)) => granted.lease,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_another_agent_has_the_lease_is_told() {
        let mut world = answered([(409, status(Why::Conflict)), (200, granted(7))]);
        let first = world.news.recv().await;
        assert!(matches!(&first, Some(Event::Displaced(why)) if why.contains("on purpose")));
        assert_eq!(next_lease(&mut world).await, 7, "it is asked for again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_lives_from_when_its_last_acknowledged_renewal_was_sent() {
        let alive = || (200, json!({ "alive": true }));
        let mut world = answered([(200, granted(7)), alive(), alive()]);
        assert_eq!(next_lease(&mut world).await, 7);
        sleep(TTL).await;
        // Renewals after the second one were not acknowledged.
        let lives_until = world.lives_until.borrow().unwrap();
        assert_eq!(lives_until - world.began, TTL + TTL / RENEWALS_PER_TTL);
    }

    #[tokio::test(start_paused = true)]
    async fn that_the_node_object_is_gone_is_told() {
        let gone = (200, json!({ "alive": true, "unregistered": true }));
        let mut world = answered([(200, granted(7)), (200, json!({ "alive": true })), gone]);
        assert_eq!(next_lease(&mut world).await, 7);
        assert!(matches!(world.news.recv().await, Some(Event::Unregistered)));
        assert_eq!(world.began.elapsed(), TTL / RENEWALS_PER_TTL, "by the second renewal");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_gone_is_asked_for_anew() {
        let gone = (200, json!({ "alive": false }));
        let mut world = answered([(200, granted(7)), gone, (200, granted(8))]);
        assert_eq!(next_lease(&mut world).await, 7);
        assert_eq!(next_lease(&mut world).await, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn that_a_restored_cluster_was_confirmed_is_told_by_a_new_lease() {
        let mut unconfirmed = granted(7);
        unconfirmed["unconfirmed"] = true.into();
        let still = (200, json!({ "alive": true, "unconfirmed": true }));
        let confirmed = (200, json!({ "alive": true }));
        let mut world = answered([(200, unconfirmed), still, confirmed, (200, granted(8))]);
        assert_eq!(next_lease(&mut world).await, 7);
        assert_eq!(next_lease(&mut world).await, 8);
    }
}
