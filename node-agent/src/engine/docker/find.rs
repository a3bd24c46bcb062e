//! Finds the containers of a task by their labels and ids, never by their names.
//!
//! # Invariants
//!
//! * A container belongs to an identity because its labels say so. We choose its name when we
//!   create it, but anybody may change it (`docker rename`).
//! * Docker's ids that are remembered here only save a search. Each is inspected, and its labels
//!   are compared, before it is used.
//! * Several containers may have the labels of one identity, because of a person or of an earlier
//!   bug. All of them are stopped and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{DockerEngine, INSPECTS_MAX, observe, ours};
use crate::engine::{
    Container, ContainerState, EngineError, Identity, LABEL_ATTEMPT, LABEL_UID, Reason,
};

/// Most containers with the labels of one identity that are looked at. Normally there is one.
const TWINS_MAX: usize = 8;

/// A container that was found and is ours.
pub(super) struct Found {
    /// Docker's id. Later calls use it, so that they cannot reach another container that has taken
    /// the name.
    pub(super) id: String,
    pub(super) inspected: ContainerInspectResponse,
}

type ByIdentity = BTreeMap<Identity, BTreeSet<String>>;

/// Docker's ids by identity, as far as they are known.
#[derive(Debug, Clone, Default)]
pub(super) struct Ids(
    /// Guards the map for one operation. `None` until all containers have been listed once.
    Arc<Mutex<Option<ByIdentity>>>,
);

impl Ids {
    fn lock(&self) -> MutexGuard<'_, Option<ByIdentity>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn are_complete(&self) -> bool {
        self.lock().is_some()
    }

    fn of(&self, identity: &Identity) -> BTreeSet<String> {
        let ids = self.lock();
        ids.as_ref().and_then(|ids| ids.get(identity)).cloned().unwrap_or_default()
    }

    pub(super) fn add(&self, identity: &Identity, id: &str) {
        if let Some(ids) = self.lock().as_mut() {
            ids.entry(identity.clone()).or_default().insert(id.to_owned());
        }
    }

    pub(super) fn remove(&self, id: &str) {
        if let Some(ids) = self.lock().as_mut() {
            ids.retain(|_, of| {
                of.remove(id);
                !of.is_empty()
            });
        }
    }

    /// Replaces the ids by those of a list. Containers that were created while it was read are
    /// kept.
    fn learn(&self, listed: ByIdentity) {
        let mut ids = self.lock();
        let known = ids.get_or_insert_default();
        for (identity, of) in listed {
            known.entry(identity).or_default().extend(of);
        }
    }
}

impl DockerEngine {
    /// All containers with this identity, the oldest first; `Gone` if there is none.
    pub(super) async fn find(&self, identity: &Identity) -> Result<Vec<Found>, EngineError> {
        let known = self.inspect_all(identity, self.ids.of(identity)).await?;
        if !known.is_empty() {
            return Ok(known);
        }
        let found = self.search(identity).await?;
        if found.is_empty() { Err(EngineError::Gone) } else { Ok(found) }
    }

    /// Searches by labels.
    async fn search(&self, identity: &Identity) -> Result<Vec<Found>, EngineError> {
        let mut labels = ours(&self.config.scope);
        labels.push(format!("{LABEL_UID}={}", identity.uid()));
        labels.push(format!("{LABEL_ATTEMPT}={}", identity.attempt()));
        // One attempt may have several containers. The labels that distinguish them were not set by
        // earlier versions, so the engine cannot filter by them; we do it here.
        let listed = self.summaries_with(labels).await?.into_iter();
        let is_it = |summary: &ContainerSummary| {
            let labels = summary.labels.as_ref();
            let label = |key: &str| labels?.get(key).map(String::as_str);
            self.config.scope.identity_in(label).as_ref() == Some(identity)
        };
        let ids = listed.filter(is_it).filter_map(|summary| summary.id).take(TWINS_MAX);
        let found = self.inspect_all(identity, ids).await?;
        found.iter().for_each(|found| self.ids.add(identity, &found.id));
        Ok(found)
    }

    async fn summaries_with(
        &self,
        labels: Vec<String>,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&[("label", labels)].into())
            .build();
        self.ask(self.docker.list_containers(Some(options))).await
    }

    /// The inspection of a container. If it fails (the container's files are damaged), the data of
    /// the list must be enough: one damaged container must not hide all others.
    async fn inspect_id(&self, id: &str) -> Result<ContainerInspectResponse, EngineError> {
        let error = match self.ask(self.docker.inspect_container(id, None)).await {
            Err(EngineError::Failed { message }) => message,
            other => return other,
        };
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&[("id", vec![id.to_owned()])].into())
            .build();
        let listed = self.ask(self.docker.list_containers(Some(options))).await?;
        let summary = listed.into_iter().next().ok_or(EngineError::Gone)?;
        Ok(observe::of_summary(summary, error, self.config.clock.now()))
    }

    /// Those of these containers that exist and have this identity.
    async fn inspect_all(
        &self,
        identity: &Identity,
        ids: impl IntoIterator<Item = String>,
    ) -> Result<Vec<Found>, EngineError> {
        let mut found = Vec::new();
        for id in ids {
            match self.inspect_id(&id).await {
                Ok(inspected) => found.extend(self.own(identity, inspected)),
                Err(EngineError::Gone) => {
                    self.ids.remove(&id);
                    self.memory.forget(&id);
                }
                Err(error) => return Err(error),
            }
        }
        found.sort_by(|a, b| a.inspected.created.cmp(&b.inspected.created));
        Ok(found)
    }

    fn own(&self, identity: &Identity, inspected: ContainerInspectResponse) -> Option<Found> {
        let is_ours = observe::identity(&inspected, &self.config.scope).as_ref() == Some(identity);
        let id = inspected.id.clone().filter(|_| is_ours)?;
        Some(Found { id, inspected })
    }

    /// The container that a create would create a second time; nothing if there is none. A new
    /// engine value lists all containers once; later it knows those it has created.
    pub(super) async fn find_made(
        &self,
        identity: &Identity,
    ) -> Result<Option<Found>, EngineError> {
        if !self.ids.are_complete() {
            self.list_ours().await?;
        }
        let made = self.inspect_all(identity, self.ids.of(identity)).await?;
        Ok(made.into_iter().next())
    }

    /// The container that has the name of `identity`, if it is ours.
    pub(super) async fn find_by_name(&self, identity: &Identity) -> Result<Found, EngineError> {
        let name = self.config.scope.container_name(identity);
        match self.ask(self.docker.inspect_container(&name, None)).await {
            Ok(inspected) => {
                let found = self.own(identity, inspected).ok_or_else(|| {
                    let message = format!("the container name {name} is used by a container that Heliox did not create; remove or rename it");
                    EngineError::refused(Reason::NameTaken, message)
                })?;
                self.ids.add(identity, &found.id);
                Ok(found)
            }
            // The container with the name was just being removed.
            Err(EngineError::Gone) => Err(EngineError::unavailable(format!(
                "the container name {name} was taken at the same moment"
            ))),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn list_ours(&self) -> Result<Vec<Container>, EngineError> {
        let scope = &self.config.scope;
        let listed = self.summaries_with(ours(scope)).await?;
        let ids: Vec<String> = listed.into_iter().filter_map(|summary| summary.id).collect();
        self.memory.keep(&ids.iter().cloned().collect());
        let inspect = |id: String| async move {
            match self.inspect_id(&id).await {
                Ok(inspected) => {
                    let identity = observe::identity(&inspected, scope);
                    Ok(identity.map(|identity| (identity, Found { id, inspected })))
                }
                // Removed after it was listed.
                Err(EngineError::Gone) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let inspected: Vec<Option<(Identity, Found)>> =
            stream::iter(ids).map(inspect).buffer_unordered(INSPECTS_MAX).try_collect().await?;
        let mut found: BTreeMap<Identity, Vec<Found>> = BTreeMap::new();
        for (identity, container) in inspected.into_iter().flatten() {
            found.entry(identity).or_default().push(container);
        }
        let ids = |of: &Vec<Found>| of.iter().map(|found| found.id.clone()).collect();
        self.ids.learn(found.iter().map(|(identity, of)| (identity.clone(), ids(of))).collect());
        let mut containers = Vec::new();
        for (identity, mut of) in found {
            of.sort_by(|a, b| a.inspected.created.cmp(&b.inspected.created));
            if let Some(state) = self.see_all(&identity, &of).await {
                containers.push(Container { identity, state });
            }
        }
        Ok(containers)
    }

    /// The common state of the containers of one identity: running while any of them runs.
    pub(super) async fn see_all(
        &self,
        identity: &Identity,
        found: &[Found],
    ) -> Option<ContainerState> {
        let mut seen: Option<ContainerState> = None;
        for container in found {
            let state = self.see(identity, &container.inspected).await;
            let runs = matches!(state, Some(ContainerState::Running { .. }));
            let ran = matches!(seen, Some(ContainerState::Running { .. }));
            if seen.is_none() || (runs && !ran) {
                seen = state;
            }
        }
        seen
    }
}
