//! Usage of this node and its tasks, requested by the apiserver.
//!
//! Engines report processor time since the start. People want a rate, so the last figures are kept
//! and compared with new ones.

use std::sync::Arc;
use std::time::Duration;

use api::node::stats::{NodeStats, TaskStats};
use api::status::{Refusal, Why};
use axum::Json;
use axum::extract::State;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::answers::{Refused, no_engine};
use crate::engine::{Engine, EngineError, Identity, Usage, Used};

/// How long to measure if there are no earlier figures, and how long an answer is reused.
const WINDOW: Duration = Duration::from_secs(1);
/// Figures older than this are not used for a rate.
const WINDOW_MAX: Duration = Duration::from_secs(30);

/// The last figures.
#[derive(Debug, Default)]
pub(super) struct Sampler(
    /// Locked during a measurement: others who ask meanwhile get its result.
    Mutex<Option<Sample>>,
);

#[derive(Debug)]
struct Sample {
    usage: Usage,
    stats: NodeStats,
    taken: Instant,
}

impl Sampler {
    async fn stats(&self, engine: &dyn Engine) -> Result<NodeStats, EngineError> {
        let mut last = self.0.lock().await;
        let before = match last.take() {
            Some(sample) if sample.taken.elapsed() < WINDOW => {
                return Ok(last.insert(sample).stats.clone());
            }
            Some(sample) if sample.taken.elapsed() <= WINDOW_MAX => sample.usage,
            Some(_) | None => {
                let usage = engine.usage().await?;
                sleep(WINDOW).await;
                usage
            }
        };
        let usage = engine.usage().await?;
        let stats = compared(&before, &usage);
        Ok(last.insert(Sample { usage, stats, taken: Instant::now() }).stats.clone())
    }
}

/// The usage between two measurements.
fn compared(before: &Usage, now: &Usage) -> NodeStats {
    let task = |(identity, used): &(Identity, Used)| {
        let found = before.containers.binary_search_by(|(other, _)| other.cmp(identity));
        let before = found.ok().map(|index| &before.containers[index].1);
        TaskStats {
            namespace: identity.namespace().to_owned(),
            name: identity.task().to_owned(),
            uid: identity.uid().to_owned(),
            attempt: identity.attempt(),
            cpu_millis: before.and_then(|before| used.cpu_millis_since(before)),
            cpu_nanos: used.cpu_nanos,
            memory_bytes: used.memory_bytes,
        }
    };
    let passed = now.machine.at.saturating_duration_since(before.machine.at);
    NodeStats {
        window_millis: u64::try_from(passed.as_millis()).unwrap_or(u64::MAX),
        cpu_millis: now.machine.cpu_millis_since(&before.machine),
        memory_bytes: now.machine.memory_bytes,
        tasks: together(now.containers.iter().map(task)),
    }
}

/// Adds up the containers of each attempt. Containers of one attempt are next to each other.
fn together(containers: impl Iterator<Item = TaskStats>) -> Vec<TaskStats> {
    let mut tasks: Vec<TaskStats> = Vec::new();
    for container in containers {
        match tasks
            .last_mut()
            .filter(|last| (&last.uid, last.attempt) == (&container.uid, container.attempt))
        {
            Some(last) => {
                // A container that has just started has no rate yet, and neither has a sum with it.
                let rates = last.cpu_millis.zip(container.cpu_millis);
                last.cpu_millis = rates.map(|(one, other)| one.saturating_add(other));
                last.cpu_nanos = last.cpu_nanos.saturating_add(container.cpu_nanos);
                last.memory_bytes = last.memory_bytes.saturating_add(container.memory_bytes);
            }
            None => tasks.push(container),
        }
    }
    tasks
}

/// What the usage is measured with.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    pub(super) engine: Option<Arc<dyn Engine>>,
    pub(super) sampler: Arc<Sampler>,
}

/// Answers with the current usage.
pub(super) async fn answer(State(figures): State<Figures>) -> Result<Json<NodeStats>, Refused> {
    let engine = figures.engine.ok_or_else(no_engine)?;
    let stats = figures.sampler.stats(engine.as_ref()).await;
    let stats = stats.map_err(|error| Refusal::new(Why::Unavailable, error.to_string()))?;
    Ok(Json(stats))
}

#[cfg(test)]
mod tests {
    use base::{Clock, Timestamp};

    use super::*;
    use crate::engine::Scope;
    use crate::engine::sim::SimMachine;

    #[test]
    fn what_containers_of_one_attempt_use_is_one_sum() {
        let of = |uid: &str, attempt, rate| TaskStats {
            namespace: "default".to_owned(),
            name: "t".to_owned(),
            uid: uid.to_owned(),
            attempt,
            cpu_millis: rate,
            cpu_nanos: 5,
            memory_bytes: 7,
        };
        let used =
            [of("a", 1, Some(1)), of("a", 1, Some(2)), of("a", 2, Some(4)), of("b", 2, None)];
        let sums = together(used.into_iter().chain([of("b", 2, Some(8))]));
        let shown: Vec<_> = sums.iter().map(|it| (it.cpu_millis, it.memory_bytes)).collect();
        assert_eq!(shown, [(Some(3), 14), (Some(4), 7), (None, 14)]);
    }

    #[test]
    fn what_has_just_started_has_no_rate_yet() {
        let at = Instant::now();
        let used = |seconds, cpu_nanos| Used {
            at: at + Duration::from_secs(seconds),
            cpu_nanos,
            memory_bytes: 7,
        };
        let identity = |uid| Identity::new("default", "t", uid, 1).unwrap();
        let before = Usage {
            machine: used(0, 0),
            containers: vec![(identity("0a"), used(0, 0)), (identity("0b"), used(0, 0))],
        };
        let now = Usage {
            machine: used(2, 4_000_000_000),
            containers: vec![
                (identity("0b"), used(2, 500_000_000)),
                (identity("0c"), used(2, 500_000_000)),
            ],
        };
        let stats = compared(&before, &now);
        assert_eq!((stats.window_millis, stats.cpu_millis), (2000, Some(2000)));
        let tasks: Vec<_> = stats.tasks.iter().map(|it| (&*it.uid, it.cpu_millis)).collect();
        assert_eq!(tasks, [("0b", Some(250)), ("0c", None)]);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_together_get_the_same_answer_and_later_ones_need_not_wait() {
        let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
        let engine = SimMachine::new(clock, 1, 1).engine(Scope::new("c", "n").unwrap());
        let (sampler, began) = (Sampler::default(), Instant::now());
        let (a, b) = tokio::join!(sampler.stats(&engine), sampler.stats(&engine));
        assert_eq!((began.elapsed(), a.unwrap()), (WINDOW, b.unwrap()));
        sleep(WINDOW * 5).await;
        let later = Instant::now();
        assert_eq!(sampler.stats(&engine).await.unwrap().window_millis, 5000);
        assert_eq!(later.elapsed(), Duration::ZERO);
    }
}
