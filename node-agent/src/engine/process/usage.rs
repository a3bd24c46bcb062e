//! What the processes of tasks use, as `/proc` tells it.

use std::collections::BTreeMap;
use std::io;

use tokio::time::Instant;

use super::dir::Seen;
use super::{Inner, failed};
use crate::engine::usage::{TICK_NANOS, kib_field, of_this_machine};
use crate::engine::{ContainerState, EngineError, Identity, Usage, Used};

impl Inner {
    /// What the processes of each running task's group use.
    pub(super) fn usage(&self) -> Result<Usage, EngineError> {
        let mut groups = BTreeMap::new();
        for container in self.list()? {
            if !matches!(container.state, ContainerState::Running { .. }) {
                continue;
            }
            match self.look(&container.identity) {
                Ok(Seen::Running(run)) => {
                    groups.insert(run.pid, (container.identity, Group::default()));
                }
                Ok(Seen::Abandoned | Seen::Starting | Seen::Ended(_)) | Err(EngineError::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        let at = Instant::now();
        add_processes(&mut groups).map_err(|error| failed(&error))?;
        let used = |group: &Group| Used {
            at,
            cpu_nanos: group.ticks.saturating_mul(TICK_NANOS),
            memory_bytes: group.memory_bytes,
        };
        let mut containers: Vec<_> =
            groups.into_values().map(|(identity, group)| (identity, used(&group))).collect();
        containers.sort_by(|(a, _), (b, _)| a.cmp(b));
        let machine = of_this_machine().map_err(|error| failed(&error))?;
        Ok(Usage { machine, containers })
    }
}

/// What the processes of one group use.
#[derive(Debug, Default, PartialEq, Eq)]
struct Group {
    ticks: u64,
    memory_bytes: u64,
}

/// Adds each process of this machine to its group, where that is one of `groups`.
fn add_processes(groups: &mut BTreeMap<i32, (Identity, Group)>) -> io::Result<()> {
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let is_process = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        // A process that ends meanwhile uses nothing any more.
        if is_process
            && let Ok(stat) = std::fs::read_to_string(path.join("stat"))
            && let Some((pgid, ticks)) = group_and_ticks(&stat)
            && let Some((_, group)) = groups.get_mut(&pgid)
        {
            group.ticks = group.ticks.saturating_add(ticks);
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            let memory = kib_field(&status, "VmRSS:").unwrap_or_default();
            group.memory_bytes = group.memory_bytes.saturating_add(memory);
        }
    }
    Ok(())
}

/// The process group, and the ticks of the process and of the children that it has waited for.
fn group_and_ticks(stat: &str) -> Option<(i32, u64)> {
    // The command's name is in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks =
        fields.get(11..15)?.iter().map(|word| word.parse::<u64>().ok()).sum::<Option<u64>>();
    Some((fields.get(2)?.parse().ok()?, ticks?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_counts_with_the_children_it_has_waited_for() {
        let stat = "7 (a ) b (c) S 1 42 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4711 10 11";
        assert_eq!(group_and_ticks(stat), Some((42, 26)));
        assert_eq!(group_and_ticks("7 (a) S 1"), None);
    }
}
