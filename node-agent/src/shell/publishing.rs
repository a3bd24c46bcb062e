//! When the Node object is written: as soon as there is news of this node, and now and then.

use std::collections::BTreeMap;
use std::time::Duration;

use api::amounts::Amounts;
use api::node::Leftover;
use base::{Backoff, ErrorChain, Rng};
use tokio::time::Instant;
use tracing::debug;

use super::agenda::Due;
use super::presence::{self, Presence};
use super::{Agent, Event};
use crate::engine::{Identity, NodeFacts};

/// The Node object is compared with what it should be so often: somebody may have deleted it.
const REPUBLISH: Duration = Duration::from_secs(60);

/// What is to be told of this node, and how far that has come.
pub(super) struct Publishing {
    presence: Presence,
    /// It is not as it was last told.
    is_news: bool,
    is_under_way: bool,
    try_at: Option<Instant>,
    again_at: Option<Instant>,
    backoff: Backoff,
}

impl Publishing {
    pub(super) fn new(presence: Presence, rng: Rng) -> Self {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10), rng);
        Self { presence, is_news: true, is_under_way: false, try_at: None, again_at: None, backoff }
    }

    /// What tasks may use.
    pub(super) fn capacity(&self) -> &Amounts {
        &self.presence.capacity
    }

    /// Takes over what the engine says of the machine; what was configured goes before that.
    pub(super) fn describe(&mut self, facts: &NodeFacts, configured: &Amounts) {
        self.presence.describe(facts);
        self.presence.capacity = presence::capacity(facts);
        self.presence.capacity.extend(configured.clone());
        self.is_news = true;
    }

    /// Takes over which images there are.
    pub(super) fn show_images(&mut self, images: Vec<String>) {
        self.is_news |= self.presence.show_images(images);
    }

    /// What keeps the node from working, from now on.
    pub(super) fn set_problem(&mut self, problem: Option<String>) {
        if self.presence.problem != problem {
            self.presence.problem = problem;
            self.is_news = true;
        }
    }

    /// Of what was decided about, these are here and not wanted.
    pub(super) fn name_leftovers(&mut self, due: &Due, found: BTreeMap<Identity, Leftover>) {
        let named = &mut self.presence.leftovers;
        match due {
            Due::All => {
                self.is_news |= *named != found;
                *named = found;
            }
            Due::These(these) => {
                for identity in these {
                    let (before, now) = (named.get(identity), found.get(identity));
                    if before == now {
                        continue;
                    }
                    self.is_news = true;
                    match now {
                        Some(leftover) => named.insert(identity.clone(), leftover.clone()),
                        None => named.remove(identity),
                    };
                }
            }
        }
    }

    /// When to try again, and when to compare.
    pub(super) fn wake_at(&self) -> [Option<Instant>; 2] {
        [self.try_at, self.again_at]
    }

    /// What was under way has come to an end.
    pub(super) fn ended(&mut self, published: bool, now: Instant) {
        self.is_under_way = false;
        if published {
            self.backoff.reset();
            self.again_at = Some(now + REPUBLISH);
        } else {
            self.is_news = true;
            self.try_at = Some(now + self.backoff.next_wait());
        }
    }

    /// What is to be told now, if anything. It is under way from then on.
    fn take(&mut self, has_engine: bool, now: Instant) -> Option<Presence> {
        let is_ready = self.presence.problem.is_some() || has_engine;
        let waits = self.try_at.is_some_and(|at| at > now);
        let is_due = self.is_news || self.again_at.is_none_or(|at| at <= now);
        if self.is_under_way || waits || !is_ready || !is_due {
            return None;
        }
        self.try_at = None;
        self.is_news = false;
        self.is_under_way = true;
        Some(self.presence.clone())
    }
}

impl Agent {
    /// Tells of this node, where that is not known.
    pub(super) fn publish(&mut self) {
        if !*self.has_lease.borrow() {
            // The Node object is for the agent that has the node's name to write.
            return;
        }
        let has_engine = self.sight.engine.is_some();
        let Some(presence) = self.publishing.take(has_engine, Instant::now()) else { return };
        let client = self.outside.client.clone();
        let (events, wall) = (self.events.clone(), self.outside.clock.now());
        self.spawner.spawn_awaited("presence", async move {
            let published = presence.publish(&client, wall).await;
            if let Err(error) = &published {
                debug!(error = %ErrorChain(error), "the Node object was not written");
            }
            // Nobody listens when the agent ends.
            let _stopping = events.send(Event::Published(published.is_ok())).await;
        });
    }
}
