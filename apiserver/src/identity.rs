//! The identity of the cluster in a store, and the store's epoch. Both are made on the first start,
//! or by a restore.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::Timestamp;
use api::cluster::Cluster;
use base::Rng;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::{Change, Expectation, Group, Guard, Outcome, ReadError, Revision, Store, Write};
use tracing::warn;

use crate::{StartError, keys};

/// What an apiserver knows about its cluster.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) cluster: Cluster,
    pub(crate) restored: Option<Restored>,
    /// Set once the cluster was seen to be confirmed; it then stays confirmed.
    confirmed: AtomicBool,
}

/// The restore that began this epoch of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Restored {
    /// The id of the restore.
    pub(crate) restore: String,
    /// When it was made.
    pub(crate) at: Timestamp,
    /// When the backup was taken.
    pub(crate) backup_taken_at: Timestamp,
    /// The revisions of this epoch are greater than this one.
    pub(crate) began_after: u64,
}

impl Identity {
    /// Reads the identity of the cluster. Makes a new one if the store is new.
    pub(crate) async fn read_or_make(store: &dyn Store, rng: &Rng) -> Result<Self, StartError> {
        let id = value_or_make(store, keys::CLUSTER, rng.uuid()).await?;
        let epoch = value_or_make(store, keys::EPOCH, "1".to_owned()).await?;
        let epoch = epoch
            .parse()
            .map_err(|_| StartError::Incompatible(format!("invalid epoch {epoch:?}")))?;
        let restored = match text(store, keys::RESTORED).await? {
            Some(json) => Some(parse(&json)?),
            None => None,
        };
        if let Some(Restored { began_after, .. }) = &restored
            && store.revision().await.map_err(StartError::Store)? <= Revision(*began_after)
        {
            // This handle was opened before the restore, and counts revisions differently.
            let why = "the store was restored while this process was starting; start it again";
            return Err(StartError::Incompatible(why.to_owned()));
        }
        let restore = restored.as_ref().map(|it| it.restore.clone()).unwrap_or_default();
        let confirmed = AtomicBool::new(restored.is_none());
        Ok(Self { cluster: Cluster { id, epoch, restore }, restored, confirmed })
    }

    /// Whether agents may work for this cluster.
    pub(crate) async fn is_confirmed(&self, store: &dyn Store) -> Result<bool, ReadError> {
        if self.confirmed.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let found = store.get(keys::CONFIRMED).await?;
        let is = found.is_some_and(|it| *it.value == *self.cluster.epoch.to_string().as_bytes());
        self.confirmed.store(is, Ordering::Relaxed);
        Ok(is)
    }

    /// The write that confirms the cluster.
    pub(crate) fn confirmation(&self) -> Group {
        let epoch = self.cluster.epoch.to_string();
        Group::default().guard(keys::EPOCH, Expectation::Value(epoch.clone().into())).put(
            keys::CONFIRMED,
            Expectation::Any,
            epoch,
        )
    }
}

fn parse(json: &str) -> Result<Restored, StartError> {
    let unreadable = |error| StartError::Incompatible(format!("{}: {error}", keys::RESTORED));
    serde_json::from_str(json).map_err(unreadable)
}

async fn text(store: &dyn Store, key: &str) -> Result<Option<String>, StartError> {
    let Some(record) = store.get(key).await.map_err(StartError::Store)? else { return Ok(None) };
    let text = String::from_utf8(record.value.to_vec());
    text.map(Some).map_err(|_| StartError::Incompatible(format!("{key} is not text")))
}

/// Returns the value of a key, after writing `value` there if it was empty.
async fn value_or_make(store: &dyn Store, key: &str, value: String) -> Result<String, StartError> {
    loop {
        if text(store, keys::RESTORING).await?.is_some() {
            return Err(StartError::Restoring);
        }
        if let Some(found) = text(store, key).await? {
            return Ok(found);
        }
        make(store, key, Bytes::from(value.clone())).await?;
    }
}

/// Writes a key, unless it exists or the store is being restored.
pub(crate) async fn make(store: &dyn Store, key: &str, value: Bytes) -> Result<(), StartError> {
    // Read first: a full store accepts no write, not even one that would change nothing. It must
    // still be possible to start an apiserver on it, since only deletes free space.
    if store.get(key).await.map_err(StartError::Store)?.is_some() {
        return Ok(());
    }
    let change = Change::Put { value, lease: None };
    let group = Group {
        guards: vec![Guard { key: keys::RESTORING.into(), expect: Expectation::Absent }],
        writes: vec![Write { key: key.into(), expect: Expectation::Absent, change }],
    };
    match store.commit(vec![group]).await.pop() {
        Some(Outcome::Done { .. } | Outcome::Refused { .. }) => Ok(()),
        Some(Outcome::Invalid(why)) => Err(StartError::Incompatible(why)),
        Some(Outcome::Full(why)) => Err(StartError::Full(why)),
        // The read that follows will show what happened.
        Some(Outcome::Unknown) | None => {
            warn!(key, "the store did not confirm a write; checking whether it was made");
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        }
    }
}
