//! Which cluster an agent works for. Decided whenever a node lease is granted.
//!
//! # Invariants
//!
//! * For a cluster that was restored and not confirmed nothing is started or stopped, unless a
//!   person told this agent to (`--accept-cluster`).
//! * An agent that has attempts continues with a later epoch of its own cluster once that is
//!   confirmed. It continues with an earlier epoch, or with another cluster, only if it is told to:
//!   that store may be empty or old, and the agent would stop everything.

use api::cluster::{AWAITS_CONFIRMATION, Cluster};

/// The input of the decision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation<'a> {
    /// The cluster that the agent has worked for so far.
    pub(super) known: Option<&'a Cluster>,
    /// The cluster that granted the lease.
    pub(super) now: &'a Cluster,
    /// Whether that one was restored and not confirmed.
    pub(super) is_unconfirmed: bool,
    /// Whether the agent was started with `--accept-cluster`.
    pub(super) is_told_to: bool,
    /// Whether the agent has attempts of the known cluster.
    pub(super) has_promised: bool,
}

/// Which cluster the agent works for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClusterChoice {
    /// The known one.
    Same,
    /// The new one from now on, which does not know its attempts.
    Other,
    /// Another epoch of the known one: it may know some of the attempts, but nothing that was
    /// reported after its backup.
    Restored,
    /// None, for this reason.
    Nobody(String),
}

/// Decides.
pub(super) fn choose_cluster(situation: &Situation<'_>) -> ClusterChoice {
    let Situation { known, now, .. } = *situation;
    if known == Some(now) {
        return ClusterChoice::Same;
    }
    let own = known.filter(|known| known.id == now.id);
    if !situation.is_told_to {
        if situation.is_unconfirmed && (own.is_some() || !situation.has_promised) {
            return ClusterChoice::Nobody(AWAITS_CONFIRMATION.to_owned());
        }
        let is_later = own.is_some_and(|own| own.epoch <= now.epoch);
        // Changing the cluster can do no harm to a node without attempts.
        if known.is_some() && situation.has_promised && !is_later {
            return ClusterChoice::Nobody(stranger(own, now));
        }
    }
    if own.is_some() { ClusterChoice::Restored } else { ClusterChoice::Other }
}

fn stranger(own: Option<&Cluster>, now: &Cluster) -> String {
    let Cluster { id, epoch, .. } = now;
    let what = match own {
        Some(own) => format!(
            "the cluster that answers is in epoch {epoch}, and this node's tasks belong to its \
             epoch {}: an older store came back",
            own.epoch
        ),
        None => format!(
            "the cluster that answers ({id}, epoch {epoch}) is not the one that this node's tasks \
             belong to: its store was replaced"
        ),
    };
    format!(
        "{what}. Nothing is started or stopped; to hand this node over to that cluster, restart \
         its agent with --accept-cluster"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(text: &str) -> Cluster {
        let mut parts = text.split('/');
        let mut next = || parts.next().unwrap_or_default().to_owned();
        Cluster { id: next(), epoch: next().parse().unwrap(), restore: next() }
    }

    /// `a/1 -> a/2/r unconfirmed told empty`: what it knows, what it hears, and how things are.
    fn decided(case: &str) -> String {
        let words: Vec<&str> = case.split_whitespace().collect();
        let known = (words[0] != "-").then(|| cluster(words[0]));
        let is = |word: &str| words.contains(&word);
        let decided = choose_cluster(&Situation {
            known: known.as_ref(),
            now: &cluster(words[2]),
            is_unconfirmed: is("unconfirmed"),
            is_told_to: is("told"),
            has_promised: known.is_some() && !is("empty"),
        });
        match decided {
            ClusterChoice::Nobody(why) => why.split([':', '(']).next().unwrap().trim().to_owned(),
            other @ (ClusterChoice::Same | ClusterChoice::Other | ClusterChoice::Restored) => {
                format!("{other:?}")
            }
        }
    }

    #[test]
    fn an_agent_works_for_its_own_cluster_and_waits_for_word_after_a_restore() {
        let waits = "the cluster was restored from a backup";
        let older = "the cluster that answers is in epoch 1, and this node's tasks belong to its \
                     epoch 2";
        for (case, expected) in [
            ("- -> a/1", "Other"),
            ("a/1 -> a/1", "Same"),
            ("a/1 -> a/2/r unconfirmed", waits),
            ("a/1 -> a/2/r unconfirmed empty", waits),
            ("- -> a/2/r unconfirmed", waits),
            ("a/1 -> a/2/r", "Restored"),
            ("a/1 -> a/3/s", "Restored"),
            ("a/1 -> a/2/r unconfirmed told", "Restored"),
            ("a/2/r -> a/2/r unconfirmed", "Same"),
            ("a/2/r -> a/2/s unconfirmed", waits),
            ("a/2/r -> a/2/s", "Restored"),
            ("a/2/r -> a/1", older),
            ("a/2/r -> a/1 told", "Restored"),
            ("a/2/r -> a/1 empty", "Restored"),
            ("a/1 -> b/1", "the cluster that answers"),
            ("a/1 -> b/2/r", "the cluster that answers"),
            ("a/1 -> b/2/r unconfirmed", "the cluster that answers"),
            ("a/1 -> b/1 told", "Other"),
            ("a/1 -> b/1 empty", "Other"),
        ] {
            assert_eq!(decided(case), expected, "{case}");
        }
    }
}
