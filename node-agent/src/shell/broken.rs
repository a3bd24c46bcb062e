//! A test engine in which every call panics, except removals that are given a duration.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::template::ProbeKind;
use futures_util::FutureExt as _;
use futures_util::stream::{BoxStream, StreamExt as _};
use jiff::Timestamp;

use crate::engine::{
    Answer, Container, ContainerSpec, ContainerState, Engine, EngineEvent, Exec, Identity,
    LogOptions, LogStream, NodeFacts, PullProgress, Reach, Signal, Started, Usage,
};

/// Panics whatever it is asked.
#[derive(Debug, Default)]
pub(super) struct Broken {
    /// Removals take this long and are counted when they are done.
    pub(super) removes: Option<(Duration, Arc<AtomicUsize>)>,
}

fn broken<'a, T>() -> Answer<'a, T> {
    async { panic!("on purpose") }.boxed()
}

impl Engine for Broken {
    fn info(&self) -> Answer<'_, NodeFacts> {
        broken()
    }

    fn list(&self) -> Answer<'_, Vec<Container>> {
        broken()
    }

    fn inspect<'a>(&'a self, _: &'a Identity) -> Answer<'a, Option<ContainerState>> {
        broken()
    }

    fn create_and_start<'a>(&'a self, _: &'a ContainerSpec) -> Answer<'a, Started> {
        broken()
    }

    fn pull<'a>(&'a self, _: &'a str, _: &'a PullProgress) -> Answer<'a, ()> {
        broken()
    }

    fn signal<'a>(&'a self, _: &'a Identity, _: Signal) -> Answer<'a, ()> {
        broken()
    }

    fn remove<'a>(&'a self, _: &'a Identity) -> Answer<'a, ()> {
        let Some((time, ended)) = self.removes.clone() else { return broken() };
        async move {
            tokio::time::sleep(time).await;
            ended.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        .boxed()
    }

    fn logs<'a>(&'a self, _: &'a Identity, _: LogOptions) -> Answer<'a, LogStream> {
        broken()
    }

    fn prune_logs(&self, _: Timestamp) -> Answer<'_, ()> {
        broken()
    }

    fn usage(&self) -> Answer<'_, Usage> {
        broken()
    }

    fn exec<'a>(&'a self, _: &'a Identity, _: &'a api::exec::ExecRequest) -> Answer<'a, Exec> {
        broken()
    }

    fn reach<'a>(&'a self, _: &'a Identity, _: ProbeKind) -> Answer<'a, Reach> {
        broken()
    }

    fn events(&self) -> BoxStream<'static, EngineEvent> {
        futures_util::stream::pending().boxed()
    }

    fn images(&self) -> Answer<'_, Vec<String>> {
        broken()
    }
}
