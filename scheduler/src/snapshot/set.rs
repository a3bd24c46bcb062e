//! A partition set as the scheduler sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::partition_set::PartitionSet;

use crate::class::ClassId;

/// For each node, the states of the replicas that it holds.
pub(crate) type ServedBy = BTreeMap<String, BTreeSet<String>>;

/// A partition set, and the classes that refer to it.
#[derive(Debug, Default)]
pub(crate) struct SetState {
    pub(crate) object: Option<Arc<PartitionSet>>,
    pub(crate) served_by: ServedBy,
    pub(super) classes: BTreeSet<ClassId>,
}
