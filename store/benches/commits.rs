//! How many durable commits a second the embedded store does, each of one 1 KiB value, by how many
//! callers wait at once. Prints a table; what a disk sync costs on the machine decides it.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::time::Duration;

use base::Tasks;
use bytes::Bytes;
use futures_util::future::join_all;
use store::{Embedded, Expectation, Group, Outcome, Store};
use tokio::time::Instant;

const SECONDS: u64 = 3;

async fn commits_per_second(callers: usize) -> u64 {
    let dir = tempfile::tempdir().expect("a directory for the store");
    let tasks = Tasks::new("store");
    let store = Embedded::open(dir.path(), &tasks.spawner()).expect("the store opens");
    let value = Bytes::from(vec![0x5a; 1024]);
    let start = Instant::now();
    let caller = async |caller: usize| {
        let mut done = 0;
        while start.elapsed() < Duration::from_secs(SECONDS) {
            // Each key is put twice: half of the commits create, half replace.
            let key = format!("/bench/{caller}/{}", done / 2);
            let group = Group::default().put(key, Expectation::Any, value.clone());
            let outcomes = store.commit(vec![group]).await;
            assert!(outcomes.iter().all(Outcome::is_done));
            done += 1;
        }
        done
    };
    let done: u64 = join_all((0..callers).map(caller)).await.into_iter().sum();
    tasks.stop().await;
    done / SECONDS
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("{:>8}  {:>9}", "callers", "commits/s");
    for callers in [1, 64, 1000] {
        println!("{callers:>8}  {:>9}", commits_per_second(callers).await);
    }
}
