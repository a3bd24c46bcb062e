//! A client that writes through all faults, and remembers what it was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::Kind as _;
use api::core::ConfigMap;
use api::status::Why;
use base::Rng;
use client::{Client, DeletePropagation, Error, ListOptions};
use serde_json::json;

/// Objects that are written at the same time.
const OBJECTS: u64 = 4;

/// What was written and read, in order. Clones are the same memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Vec<Entry>>>);

/// One call, about the ConfigMap `name`. Its value is a number; nothing is that it is not there.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Wrote { name: String, value: Option<u64>, answer: Answer },
    Read { name: String, value: Option<u64> },
}

/// How a write was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It happened.
    Done,
    /// It did not happen.
    NotDone,
    /// It may have happened, or was not answered yet.
    Unknown,
}

impl Ledger {
    pub(crate) fn read<T>(&self, read: impl FnOnce(&[Entry]) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, entry: Entry) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// Makes a call that writes; how it was answered.
    async fn write<T>(
        &self,
        name: &str,
        value: Option<u64>,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Answer {
        // Until it is answered, it may have happened.
        self.add(Entry::Wrote { name: name.to_owned(), value, answer: Answer::Unknown });
        let answered = match call.await {
            Ok(_) => Answer::Done,
            Err(Error::Refused(refusal)) if refusal.why == Why::Unknown => Answer::Unknown,
            Err(Error::Unavailable(_) | Error::Refused(_)) => Answer::NotDone,
            Err(Error::Unknown(_) | Error::Malformed(_)) => Answer::Unknown,
        };
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Entry::Wrote { answer, .. }) = entries.last_mut() {
            *answer = answered;
        }
        answered
    }
}

/// The value of a ConfigMap of the writer's.
pub(crate) fn value_of(object: &ConfigMap) -> Option<u64> {
    object.data.as_ref()?.get("value")?.parse().ok()
}

/// Writes and reads for ever, one call after the other.
pub(crate) async fn write(client: Client, rng: Rng, ledger: Ledger) {
    let api = client.api::<ConfigMap>("default");
    // How often the object of each number was removed: a name is never used again, since a create
    // that is late might still make it.
    let mut generations: BTreeMap<u64, u64> = BTreeMap::new();
    // Names that a create may still make.
    let mut doubtful = BTreeSet::new();
    for value in 1.. {
        tokio::time::sleep(Duration::from_millis(rng.below(500))).await;
        let number = rng.below(OBJECTS);
        let generation = generations.entry(number).or_default();
        let name = format!("note-{number}-{generation}");
        let reads_at_once = rng.chance(500);
        match rng.below(10) {
            0 if !doubtful.contains(&name) => {
                let call = api.delete(&name, DeletePropagation::Background);
                ledger.write(&name, None, call).await;
                *generation += 1;
            }
            1..=3 => read(&client, &rng, &name, &ledger).await,
            _ => {
                let patch = json!({ "data": { "value": value.to_string() } });
                let call = api.merge_patch(&name, &patch);
                let answer = ledger.write(&name, Some(value), call).await;
                if reads_at_once {
                    read(&client, &rng, &name, &ledger).await;
                }
                if answer != Answer::NotDone {
                    continue;
                }
                let object: ConfigMap = serde_json::from_value(json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": { "name": name, "namespace": "default" },
                    "data": { "value": value.to_string() },
                }))
                .unwrap();
                let answer = ledger.write(&name, Some(value), api.create(&object)).await;
                if answer == Answer::Unknown {
                    doubtful.insert(name);
                }
            }
        }
    }
}

/// Reads the object, or a list that it is in.
async fn read(client: &Client, rng: &Rng, name: &str, ledger: &Ledger) {
    let api = client.api::<ConfigMap>("default");
    let found = if rng.chance(500) {
        api.find(name).await
    } else {
        let listed = api.list(&ListOptions::default()).await;
        listed.map(|listed| listed.items.into_iter().find(|object| object.name() == name))
    };
    if let Ok(found) = found {
        let value = found.as_ref().and_then(value_of);
        ledger.add(Entry::Read { name: name.to_owned(), value });
    }
}
