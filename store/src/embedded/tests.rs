//! What the embedded store does when its disk fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{ErrorChain, Tasks};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::Embedded;
use crate::{Expectation, Group, Outcome, ReadError, Revision, Store as _};

/// A disk that is full on demand.
#[derive(Debug)]
struct Disk {
    memory: InMemoryBackend,
    is_full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.memory.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.room()?;
        self.memory.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.memory.write(offset, data)
    }
}

fn put(key: &str) -> Vec<Group> {
    vec![Group::default().put(key, Expectation::Any, "x".to_owned())]
}

#[tokio::test]
async fn a_full_disk_ends_the_writer_with_its_reason_and_answers_nothing_as_done() {
    let is_full = Arc::new(AtomicBool::new(false));
    let disk = Disk { memory: InMemoryBackend::new(), is_full: Arc::clone(&is_full) };
    let tasks = Tasks::new("store");
    let store = Embedded::over(disk, &tasks.spawner()).unwrap();
    assert!(store.commit(put("/a")).await[0].is_done());
    let mut watch = store.watch("/", Revision(2)).await.unwrap();
    is_full.store(true, Ordering::Relaxed);
    assert_eq!(store.commit(put("/b")).await, [Outcome::Unknown]);
    // The owner of the writer learns of the failure and what to do without asking.
    let failure = ErrorChain(&tasks.failure().await).to_string();
    assert!(failure.contains("store writer failed"), "{failure}");
    assert!(failure.contains("If its disk is full, free some space"), "{failure}");
    // After the failure nothing is read as if it were current, even if the disk has room again.
    is_full.store(false, Ordering::Relaxed);
    assert!(matches!(store.get("/a").await, Err(ReadError::Unavailable(_))));
    assert!(matches!(store.revision().await, Err(ReadError::Unavailable(_))));
    assert!(matches!(watch.next().await, Err(ReadError::Unavailable(_))));
    assert_eq!(store.commit(put("/c")).await, [Outcome::Unknown]);
}
