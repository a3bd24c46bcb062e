//! What containers use, as the Docker Engine tells it.

use bollard::models::{ContainerMemoryStats, ContainerStatsResponse};
use bollard::query_parameters::{ListContainersOptionsBuilder, StatsOptionsBuilder};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use super::{DockerEngine, INSPECTS_MAX, ours};
use crate::engine::usage::of_this_machine;
use crate::engine::{EngineError, Identity, Usage, Used};

impl DockerEngine {
    pub(super) async fn usage_of_ours(&self) -> Result<Usage, EngineError> {
        let scope = &self.config.scope;
        let filters = [("label", ours(scope)), ("status", vec!["running".to_owned()])];
        let options = ListContainersOptionsBuilder::new().filters(&filters.into()).build();
        let summaries = self.ask(self.docker.list_containers(Some(options))).await?;
        let found: Vec<(String, Identity)> = summaries
            .into_iter()
            .filter_map(|summary| {
                let labels = summary.labels?;
                let identity = scope.identity_in(|key| labels.get(key).map(String::as_str))?;
                Some((summary.id?, identity))
            })
            .collect();
        let read = |(id, identity): (String, Identity)| async move {
            match self.used_by(&id).await {
                Ok(used) => Ok(used.map(|used| (identity, used))),
                // Removed after it was listed.
                Err(EngineError::Gone) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let used: Vec<Option<(Identity, Used)>> =
            stream::iter(found).map(read).buffer_unordered(INSPECTS_MAX).try_collect().await?;
        let mut containers: Vec<(Identity, Used)> = used.into_iter().flatten().collect();
        containers.sort_by(|(a, _), (b, _)| a.cmp(b));
        let machine = of_this_machine();
        let machine = machine.map_err(|error| EngineError::unavailable(error.to_string()))?;
        Ok(Usage { machine, containers })
    }

    async fn used_by(&self, id: &str) -> Result<Option<Used>, EngineError> {
        // `one_shot`: otherwise the engine waits for a second to measure a rate.
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let answer = self.ask(async {
            let mut stats = std::pin::pin!(self.docker.stats(id, Some(options)));
            stats.next().await.transpose()
        });
        Ok(answer.await?.and_then(|stats| used(&stats, Instant::now())))
    }
}

/// Nothing for a container that has just ended: all figures are 0 or missing.
fn used(stats: &ContainerStatsResponse, at: Instant) -> Option<Used> {
    let cpu_nanos = stats.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage?;
    let memory_bytes = working_set(stats.memory_stats.as_ref()?)?;
    Some(Used { at, cpu_nanos, memory_bytes })
}

/// Memory without the page cache that can be dropped, as `docker stats` shows it.
fn working_set(memory: &ContainerMemoryStats) -> Option<u64> {
    let cached = memory.stats.as_ref().and_then(|stats| {
        // The first name is that of control groups version 1.
        stats.get("total_inactive_file").or_else(|| stats.get("inactive_file"))
    });
    memory.usage.map(|usage| usage.saturating_sub(cached.copied().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_files_are_not_counted() {
        let memory = |key: &str| ContainerMemoryStats {
            usage: Some(100),
            stats: Some([(key.to_owned(), 30)].into()),
            ..ContainerMemoryStats::default()
        };
        assert_eq!(working_set(&memory("inactive_file")), Some(70));
        assert_eq!(working_set(&memory("total_inactive_file")), Some(70));
        assert_eq!(working_set(&memory("other")), Some(100));
        assert_eq!(used(&ContainerStatsResponse::default(), Instant::now()), None);
    }
}
