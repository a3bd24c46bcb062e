//! Probes of a container that runs: which are made now, and what follows from their results.
//!
//! # Invariants
//!
//! * A container is reported as ready only once that is in the journal.
//! * A change of readiness is reported at once. What a probe says meanwhile is reported at intervals
//!   that grow: a probe that keeps failing in different ways costs few reports.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use api::Timestamp;
use api::task::ReportState;
use api::template::ProbeKind;

use super::{After, Assignment, Planner, Template, later, report};
use crate::attempt::{Attempt, Content, Progress};
use crate::engine::Identity;
use crate::health::{Checks, Finding, Health, Judged, judge};
use crate::resolve::{checks, merged};

/// From the first words of a probe to their report: a container that starts quickly costs none.
const FIRST_WORDS: Duration = Duration::from_secs(2);
/// From the report of words to the next one, at first. Each further report doubles it.
const NEXT_WORDS: Duration = Duration::from_secs(10);
/// The longest such interval.
const NEXT_WORDS_MAX: Duration = Duration::from_secs(640);

/// A probe to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeOrder {
    /// The container.
    pub identity: Identity,
    /// Which of its probes.
    pub kind: ProbeKind,
    /// All of its probes.
    pub checks: Arc<Checks>,
}

/// The attempt after a probe of its container. Nothing follows if that is no news.
pub(crate) fn after_probe(attempt: &Attempt, kind: ProbeKind, finding: Finding) -> After {
    let is_running = matches!(attempt.progress, Progress::Running { .. });
    if !is_running || attempt.session.probing.is_no_news(&attempt.health, kind, &finding) {
        return After::Nothing;
    }
    let mut next = attempt.clone();
    next.session.probing.hear(kind, finding);
    After::Known(Box::new(next))
}

impl Attempt {
    /// What its probes say about it; nothing if all is well.
    pub(super) fn words_of_probes(&self) -> Option<String> {
        match &self.health {
            Health::Unprobed | Health::Unread => None,
            Health::Probed(probed) => self.session.probing.words(probed),
        }
    }
}

impl Planner<'_> {
    /// The attempt with what its template says of probes, if it did not know that yet.
    pub(super) fn with_health<'b>(
        assignment: &Assignment,
        attempt: Cow<'b, Attempt>,
    ) -> Cow<'b, Attempt> {
        if attempt.health != Health::Unread {
            return attempt;
        }
        let Some(Template::Known(template)) = &assignment.template else { return attempt };
        let Ok(merged) = merged(&assignment.task, template) else { return attempt };
        let mut next = attempt.into_owned();
        next.health = Health::of(&merged);
        Cow::Owned(next)
    }

    /// A container that runs since `since`: makes the probes that are due, and decides by the results
    /// so far. Returns the new state of the attempt.
    pub(super) fn probe<'b>(
        &mut self,
        assignment: &Assignment,
        attempt: &'b Attempt,
        since: Timestamp,
    ) -> Cow<'b, Attempt> {
        let Progress::Running { started, seen } = attempt.progress else {
            return Cow::Borrowed(attempt);
        };
        let mut attempt = Cow::Borrowed(attempt);
        if since > started && !attempt.health.is_unprobed() {
            // A person has started the container again. Its probes begin anew.
            let next = attempt.to_mut();
            next.health = next.health.anew();
            next.progress = Progress::Running { started: since, seen: self.view.now };
            next.session.probing = Default::default();
            attempt = Self::with_health(assignment, attempt);
        }
        let attempt = self.with_checks(assignment, attempt);
        let (Health::Probed(probed), Some(checks)) =
            (&attempt.health, attempt.session.probing.checks.clone())
        else {
            return attempt;
        };
        if probed.failed.is_some() {
            return attempt;
        }
        let seen = if since > started { self.view.now } else { seen };
        let Judged { probed, probing, due, wake } =
            judge((probed, &attempt.session.probing), &checks, seen, self.view.now);
        self.wake_at(&attempt.identity, wake);
        let order = |kind| ProbeOrder {
            identity: attempt.identity.clone(),
            kind,
            checks: Arc::clone(&checks),
        };
        self.plan.probes.extend(due.into_iter().map(order));
        let mut next = attempt.into_owned();
        next.health = Health::Probed(probed);
        next.session.probing = probing;
        if self.known(&next.identity) != Some(&next) {
            self.keep(next.clone());
        }
        Cow::Owned(next)
    }

    /// Resolves the probes of an attempt, once for each container.
    fn with_checks<'b>(
        &self,
        assignment: &Assignment,
        attempt: Cow<'b, Attempt>,
    ) -> Cow<'b, Attempt> {
        let is_probed = matches!(attempt.health, Health::Probed(_));
        let Some(Template::Known(template)) = &assignment.template else { return attempt };
        if !is_probed || attempt.session.probing.checks.is_some() {
            return attempt;
        }
        let (task, host) = ((&*assignment.task, &**template), self.view.node.host);
        // Cannot fail: its container could not have been started.
        let resolved = merged(&assignment.task, template)
            .and_then(|merged| checks(task, &merged, &attempt.ports, &host));
        let Ok(resolved) = resolved else { return attempt };
        let mut next = attempt.into_owned();
        next.session.probing.checks = Some(Arc::new(resolved));
        Cow::Owned(next)
    }

    /// Reports what probes say about an attempt whose state and readiness are reported, at growing
    /// intervals.
    pub(super) fn tell_words(&mut self, assignment: &Assignment, attempt: &Attempt) {
        if attempt.health.is_unprobed() {
            return;
        }
        let (words, now) = (attempt.words_of_probes(), self.view.now);
        let shown = match &attempt.session.told_words {
            Some(told) => told,
            None => &assignment.task.status.message,
        };
        if *shown == words {
            return;
        }
        let mut next = attempt.clone();
        let session = &mut next.session;
        let due = *session.words_due.get_or_insert(later(now, FIRST_WORDS));
        if due > now {
            self.wake_at(&next.identity, Some(due));
            if next != *attempt {
                self.keep(next);
            }
            return;
        }
        let wait = (session.words_wait * 2).clamp(NEXT_WORDS, NEXT_WORDS_MAX);
        (session.words_wait, session.words_due) = (wait, Some(later(now, wait)));
        self.say_running(next);
    }

    /// Reports the present state of an attempt whose container runs.
    pub(super) fn say_running(&mut self, mut attempt: Attempt) {
        let said = report(&attempt, self.view.node.boot_id, ReportState::Running);
        attempt.session.told = Some((said.state, said.ready));
        attempt.session.told_words = Some(said.message.clone());
        self.say(&mut attempt, Content::Report(Box::new(said)));
        self.keep(attempt);
    }
}
