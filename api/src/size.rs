//! How large objects and writes may be, and how large they are.
//!
//! The store takes values of 1 MiB and groups of 1.25 MiB. Anything larger could never be written,
//! so it is refused where a user's document comes in, with room for what Heliox will add to it.
//! What is not known there (parameters of a run, partitions of a set) the controllers check later
//! against the same numbers.

use std::io;

use serde::Serialize;

use crate::job::JobSpec;
use crate::violation::Violation;
use crate::workflow::{WorkflowJob, WorkflowSpec};

/// Largest object, in bytes of JSON: the store's largest value, less what the stored form adds.
pub const OBJECT_BYTES_MAX: usize = 1024 * 1024 - 1024;
/// Most bytes of all objects that one group writes: the store's bound, less room for keys and
/// guards.
pub const GROUP_BYTES_MAX: usize = 1200 * 1024;
/// Largest batch, in bytes of JSON. The apiserver reads no larger one.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that every object leaves free for what Heliox adds: uid, times, conditions, counts, an
/// agent's report.
pub const ADDED_BYTES: usize = 16 * 1024;
/// The same for a kind without a status.
pub const ADDED_METADATA_BYTES: usize = 1024;
/// Most bytes that all jobs of one workflow (or all listed tasks of one job) have together after
/// defaults and parameters were merged in. Each is checked when the manifest is applied, so this
/// bounds the work.
pub const EXPANDED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a run's status holds for one job besides names and messages: phase, six counts, two times.
const RUN_JOB_BYTES: usize = 320;
/// Longest name of an object, with quotes and a comma.
const NAME_BYTES: usize = 66;
/// An item's entry in `status.indexes`: ten characters of hash, maybe `.9999`, quotes and a comma.
const ITEM_KEY_BYTES: usize = 18;

/// The size of a value as JSON in bytes, computed without building the text.
pub fn json_bytes(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value)
        .expect("our kinds have text keys and finite numbers, and counting cannot fail");
    count.0
}

/// An entry in `status.parts`: ten characters of hash, quotes and a comma.
const PART_BYTES: usize = 13;

/// Most bytes that `status.indexes` and `status.parts` of a job with this spec take in a new run.
pub fn index_bytes(spec: &JobSpec) -> usize {
    let names: usize = spec.tasks.iter().map(|task| task.name.len() + 3 + PART_BYTES).sum();
    let items = spec.items.as_ref().map_or(0, Vec::len) * ITEM_KEY_BYTES;
    let partitions = match &spec.target {
        // The set may change, so the largest allowed number of partitions with the longest names
        // counts.
        Some(target) if target.partitions.is_empty() => {
            crate::partition_set::PARTITIONS_MAX as usize * NAME_BYTES
        }
        Some(target) => target.partitions.iter().map(|name| name.len() + 3).sum(),
        None => 0,
    };
    names + items + partitions
}

/// Most bytes that a run's status holds for one job, without its message.
pub fn run_job_bytes(job: &WorkflowJob) -> usize {
    job.name.len() + NAME_BYTES + RUN_JOB_BYTES
}

/// Most bytes of the status of a run of this workflow, with default parameters and without
/// messages: it holds a copy of the spec and the state of each job.
pub fn run_bytes(spec: &WorkflowSpec) -> usize {
    let jobs: usize = spec.jobs.iter().map(run_job_bytes).sum();
    let params =
        spec.params.iter().filter_map(|param| Some((&param.name, param.default.as_ref()?)));
    let params: usize = params.map(|param| json_bytes(&param)).sum();
    json_bytes(spec) + jobs + params + ADDED_BYTES
}

/// The violation of an object of more than the allowed size; `of` says what takes the bytes.
pub(crate) fn problem(bytes: usize, path: &str, of: &str) -> Option<Violation> {
    (bytes > OBJECT_BYTES_MAX).then(|| {
        let over = bytes - OBJECT_BYTES_MAX;
        let why = format!(
            "{of} {bytes} bytes as JSON, {over} more than the {OBJECT_BYTES_MAX} that can be stored"
        );
        Violation::new(path, why)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_are_counted_as_they_are_written() {
        for value in [json!(null), json!({"a": "\u{1}\"ü"}), json!([1, 2.5, "x"])] {
            assert_eq!(json_bytes(&value), value.to_string().len());
        }
    }
}
