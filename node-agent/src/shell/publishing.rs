//! When the Node object is written: as soon as something about the node has changed, and from time
//! to time.

use std::collections::BTreeMap;
use std::time::Duration;

use api::amounts::Amounts;
use api::node::{Leftover, Trouble};
use api::status::{Mistake, Why};
use api::task::report::shortened;
use base::{Backoff, Health, Retry, Rng};
use tokio::time::Instant;
use tracing::info;

use super::presence::{self, Presence};
use super::work_queue::Due;
use super::{Agent, AgentError, Event, Host};
use crate::engine::{Identity, NodeFacts};

/// How often the Node object is compared with what it should be: somebody may have deleted or
/// changed it.
const REPUBLISH: Duration = Duration::from_secs(60);
/// Longest problem that is reported, in characters: it may contain the engine's words.
const PROBLEM_CHARS_MAX: usize = 1_024;

/// What has to be reported of this node, and whether it was.
pub(super) struct Publishing {
    presence: Presence,
    /// What prevents the node from working, other than its disk, and what kind of trouble that is.
    problem: Option<(String, Option<Trouble>)>,
    /// What prevents the journal from being written.
    journal_problem: Option<String>,
    /// What prevents starts, on its disk.
    disk_problem: Option<String>,
    /// What prevents starts, in its memory.
    memory_problem: Option<String>,
    /// Whether the apiserver has ever accepted this node's description.
    was_published: bool,
    /// Whether something has changed since it was last reported.
    is_news: bool,
    is_under_way: bool,
    lease: Lease,
    try_at: Option<Instant>,
    again_at: Option<Instant>,
    retry: Retry,
}

/// The state of the node lease when something was last to be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lease {
    Lives,
    /// It may belong to another agent by now. Nothing is reported until it was renewed.
    Over,
    /// It is not ours and not renewed. Its grant will be an event.
    NotOurs,
}

impl Publishing {
    pub(super) fn new(presence: Presence, rng: Rng, health: &Health) -> Self {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10), rng);
        Self {
            presence,
            problem: None,
            journal_problem: None,
            disk_problem: None,
            memory_problem: None,
            was_published: false,
            is_news: true,
            is_under_way: false,
            lease: Lease::NotOurs,
            try_at: None,
            again_at: None,
            retry: Retry::new("writing the Node object", backoff, health),
        }
    }

    /// Why the node takes no new tasks.
    pub(super) fn problem(&self) -> Option<&str> {
        self.presence.problem.as_deref()
    }

    /// Resources that tasks may use.
    pub(super) fn capacity(&self) -> &Amounts {
        &self.presence.capacity
    }

    /// Stores the engine's description of the machine; the configuration takes precedence.
    pub(super) fn describe(&mut self, facts: &NodeFacts, (host, configured): (&Host, &Amounts)) {
        self.presence.describe(facts, host);
        self.presence.capacity = presence::capacity(facts);
        self.presence.capacity.extend(configured.clone());
        self.is_news = true;
    }

    /// Stores the list of images.
    pub(super) fn show_images(&mut self, images: Vec<String>) {
        self.is_news |= self.presence.show_images(images);
    }

    /// Sets what prevents the node from working.
    pub(super) fn set_problem(&mut self, problem: Option<String>) {
        self.problem = problem.map(|problem| (problem, None));
        self.tell_problem();
    }

    /// The engine does not answer.
    pub(super) fn engine_is_down(&mut self, problem: String) {
        self.problem = Some((problem, Some(Trouble::EngineDown)));
        self.tell_problem();
    }

    /// Sets what prevents starts, in the memory of the host.
    pub(super) fn set_memory_problem(&mut self, problem: Option<String>) {
        self.memory_problem = problem;
        self.tell_problem();
    }

    /// Sets what prevents the journal from being written.
    pub(super) fn set_journal_problem(&mut self, problem: Option<String>) {
        self.journal_problem = problem;
        self.tell_problem();
    }

    /// Sets what prevents starts, on its disk.
    pub(super) fn set_disk_problem(&mut self, problem: Option<String>) {
        self.disk_problem = problem;
        self.tell_problem();
    }

    fn tell_problem(&mut self) {
        let of = |problem: &Option<String>, trouble| problem.clone().map(|it| (it, trouble));
        let problem = of(&self.journal_problem, None)
            .or_else(|| of(&self.disk_problem, Some(Trouble::DiskPressure)))
            .or_else(|| self.problem.clone())
            .or_else(|| of(&self.memory_problem, Some(Trouble::MemoryPressure)));
        let (problem, trouble) = problem.unzip();
        let problem = problem.map(|problem| shortened(&problem, PROBLEM_CHARS_MAX));
        let trouble = trouble.flatten();
        if (&self.presence.problem, self.presence.trouble) != (&problem, trouble) {
            (self.presence.problem, self.presence.trouble) = (problem, trouble);
            self.is_news = true;
        }
    }

    /// Sets which of the attempts that were decided about are unwanted leftovers.
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

    /// Whether the next renewal of the node lease is awaited.
    pub(super) fn awaits_lease(&self) -> bool {
        self.lease == Lease::Over
    }

    /// Whether the node may be reported now, given the lease and its validity.
    fn may_tell(&mut self, has_lease: bool, lives_until: Option<Instant>, now: Instant) -> bool {
        self.lease = match lives_until {
            _ if !has_lease => Lease::NotOurs,
            Some(until) if until > now => Lease::Lives,
            Some(_) | None => Lease::Over,
        };
        self.lease == Lease::Lives
    }

    /// The Node object was written.
    pub(super) fn worked(&mut self, now: Instant) {
        self.is_under_way = false;
        self.was_published = true;
        self.retry.worked();
        self.again_at = Some(now + REPUBLISH);
    }

    /// The Node object does not exist: it was not created yet, or somebody deleted it. Write it at
    /// once, because the node gets no tasks without it.
    pub(super) fn unregistered(&mut self) {
        if self.was_published && !self.is_news {
            info!("the Node object is gone: registering the node again");
        }
        self.is_news = true;
    }

    /// Writing the Node object failed. Returns an error if it always will: then the agent's flags
    /// are wrong.
    pub(super) fn failed(&mut self, error: client::Error, now: Instant) -> Result<(), AgentError> {
        self.is_under_way = false;
        // Later refusals concern what the node has observed since, and its containers need a
        // running agent.
        if !self.was_published && error.why().is_some_and(is_never_taken) {
            return Err(AgentError::Refused(error));
        }
        self.is_news = true;
        self.try_at = Some(now + self.retry.failed(&error));
        Ok(())
    }

    /// What has to be reported now, if anything. It is in progress from then on.
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

/// Whether a refused request would always be refused, until the agent is started with other flags.
fn is_never_taken(why: Why) -> bool {
    match why {
        Why::Mistaken(Mistake::Request) | Why::Invalid => true,
        // The server, or a proxy before it, may be another one the next time.
        Why::Mistaken(Mistake::Operation | Mistake::Method | Mistake::MediaType)
        | Why::TooLarge
        | Why::Forbidden
        | Why::NotFound
        | Why::Exists
        | Why::Conflict
        | Why::Contended
        | Why::Deposed
        | Why::Expired
        | Why::Busy
        | Why::Unavailable
        | Why::Full
        | Why::Late
        | Why::Unknown
        | Why::Internal => false,
    }
}

impl Agent {
    /// Writes the Node object if it has changed.
    pub(super) fn publish(&mut self) {
        // Only the agent with the node lease may write the Node object. If it was cut off for too
        // long, another agent may have the lease by now.
        let lives_until = *self.lease_lives_until.borrow_and_update();
        let has_lease = *self.has_lease.borrow();
        if !self.publishing.may_tell(has_lease, lives_until, Instant::now()) {
            return;
        }
        let has_engine = self.engine_view.engine.is_some();
        let Some(presence) = self.publishing.take(has_engine, Instant::now()) else { return };
        let client = self.outside.client.clone();
        let (events, wall) = (self.events.clone(), self.outside.clock.now());
        self.spawner.spawn_awaited("presence", async move {
            let published = presence.publish(&client, wall).await;
            // The receiver is closed when the agent ends.
            let _stopping = events.send(Event::Published(published)).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use api::KindId;
    use api::node::NodeInfo;
    use api::status::Refusal;
    use api::violation::Violation;

    use super::*;

    fn publishing(health: &Health) -> Publishing {
        let presence = Presence {
            name: "n1".to_owned(),
            agent: "a".to_owned(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            boot_id: String::new(),
            capacity: Amounts::new(),
            port_range: (1, 2),
            address: String::new(),
            info: NodeInfo::default(),
            images: Vec::new(),
            leftovers: BTreeMap::new(),
            problem: None,
            trouble: None,
        };
        Publishing::new(presence, Rng::seeded(1), health)
    }

    fn refusal() -> client::Error {
        let wrong = [Violation::new("metadata.labels", "a label is wrong")];
        client::Error::refused(Refusal::invalid(KindId::Node, "n1", &wrong))
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_never_taken_ends_its_agent_and_one_that_was_taken_does_not() {
        let health = Health::default();
        let mut publishing = publishing(&health);
        let refused = publishing.failed(refusal(), Instant::now()).unwrap_err();
        let said = base::ErrorChain(&refused).to_string();
        assert!(
            said.starts_with("cannot register the node: ") && said.contains("a label is wrong"),
            "{said}"
        );
        publishing.worked(Instant::now());
        publishing.failed(refusal(), Instant::now()).unwrap();
        assert!(health.not_ready().unwrap().contains("writing the Node object"));
        assert!(publishing.wake_at()[0].is_some(), "it is tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_is_waited_for_only_where_the_lease_is_ours_and_over() {
        let mut publishing = publishing(&Health::default());
        let now = Instant::now();
        let later = Some(now + Duration::from_secs(1));
        for (has_lease, until, expected) in [
            (false, None, (false, false)),
            (false, Some(now), (false, false)),
            (true, Some(now), (false, true)),
            (true, later, (true, false)),
            (false, later, (false, false)),
        ] {
            let may_tell = publishing.may_tell(has_lease, until, now);
            assert_eq!((may_tell, publishing.awaits_lease()), expected, "{has_lease} {until:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_journals_problem_is_told_until_it_is_over_and_then_the_other_ones() {
        let mut publishing = publishing(&Health::default());
        publishing.set_problem(Some("no engine".to_owned()));
        publishing.set_journal_problem(Some("no room".to_owned()));
        publishing.set_problem(Some("no engine".to_owned()));
        assert_eq!(publishing.presence.problem.as_deref(), Some("no room"));
        publishing.set_disk_problem(Some("little room".to_owned()));
        assert_eq!(publishing.presence.problem.as_deref(), Some("no room"));
        publishing.set_journal_problem(None);
        assert_eq!(publishing.presence.problem.as_deref(), Some("little room"));
        publishing.set_disk_problem(None);
        assert_eq!(publishing.presence.problem.as_deref(), Some("no engine"));
        publishing.set_problem(Some("x".repeat(100_000)));
        assert!(publishing.presence.problem.as_ref().unwrap().len() <= PROBLEM_CHARS_MAX);
    }
}
