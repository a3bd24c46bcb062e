//! What the machine itself allows, measured in the same run as the figures.
//!
//! The same figure differs by two to three times between days and machines, since disks and processors
//! do. Its ratio to what etcd or the embedded database can do alone, with as many bytes in groups as
//! large, does not.

use std::path::Path;
use std::time::Duration;

use etcd_client::{Txn, TxnOp};
use redb::{Database, TableDefinition};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fleet::{ControlPlane, Fleet, Shape};

/// Bytes of a value: about those of a task.
const VALUE_BYTES: usize = 800;
/// Writes of a group: about as many as the store sends to etcd together.
const GROUP_WRITES: usize = 100;
/// Groups that are on their way to etcd at the same time: as many as the store has.
const GROUPS_AT_ONCE: usize = 4;
/// Groups that are written.
const GROUPS: usize = 100;
/// Single writes, one after the other, whose median is taken.
const SINGLE_WRITES: usize = 50;

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("limit");

/// How fast a database is durable when nothing but writes is asked of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// Its name.
    pub(super) of: &'static str,
    /// Writes a second, in groups.
    pub(super) writes_per_second: u64,
    /// A single write.
    pub(super) write: Duration,
}

fn value() -> Vec<u8> {
    // Of random bytes nothing can be saved, and neither can much of these.
    (0..VALUE_BYTES).map(|at| b'a' + u8::try_from(at * at % 23).expect("it is under 23")).collect()
}

fn limit(of: &'static str, grouped: Duration, mut single: Vec<Duration>) -> Limit {
    single.sort_unstable();
    let micros = grouped.as_micros().max(1);
    let writes = u128::try_from(GROUPS * GROUP_WRITES).unwrap_or(u128::MAX);
    let writes_per_second = u64::try_from(writes * 1_000_000 / micros).unwrap_or(u64::MAX);
    Limit { of, writes_per_second: writes_per_second.max(1), write: single[single.len() / 2] }
}

/// An etcd of one member that nobody else uses.
pub(super) async fn etcd() -> Limit {
    let control_plane = ControlPlane::OnEtcd { members: 1 };
    let shape = Shape { runtime: "sim", agents: 1, capacity: "", control_plane };
    let mut fleet = Fleet::prepare(shape);
    fleet.run("etcd-1").await;
    let mut client = etcd_client::Client::connect([fleet.etcd_url()], None).await.unwrap();
    let start = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..GROUPS_AT_ONCE {
        let mut client = client.clone();
        writers.spawn(async move {
            for group in (writer..GROUPS).step_by(GROUPS_AT_ONCE) {
                let put = |number| TxnOp::put(format!("/{group}/{number}"), value(), None);
                let puts: Vec<TxnOp> = (0..GROUP_WRITES).map(put).collect();
                client.txn(Txn::new().and_then(puts)).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let grouped = start.elapsed();
    let mut single = Vec::new();
    for number in 0..SINGLE_WRITES {
        let start = Instant::now();
        client.put(format!("/single/{number}"), value(), None).await.unwrap();
        single.push(start.elapsed());
    }
    limit("etcd alone", grouped, single)
}

/// The embedded store's database.
pub(super) async fn embedded() -> Limit {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("limit.redb");
    tokio::task::spawn_blocking(move || commits(&path)).await.unwrap()
}

fn commits(path: &Path) -> Limit {
    let database = Database::create(path).unwrap();
    let commit = |prefix: &str, writes: usize| {
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(TABLE).unwrap();
        for number in 0..writes {
            table.insert(format!("/{prefix}/{number}").as_str(), value().as_slice()).unwrap();
        }
        drop(table);
        transaction.commit().unwrap();
    };
    let start = Instant::now();
    (0..GROUPS).for_each(|group| commit(&group.to_string(), GROUP_WRITES));
    let grouped = start.elapsed();
    let single = (0..SINGLE_WRITES).map(|number| {
        let start = Instant::now();
        commit(&format!("single/{number}"), 1);
        start.elapsed()
    });
    limit("redb alone", grouped, single.collect())
}
