//! How many connections may be open at once, and for whom.
//!
//! # Invariants
//!
//! * A connection has its place while its socket is open, also after an upgrade: an agent's tunnel
//!   and a command's WebSocket count until they end.
//! * No number of clients can take the places of agents and other components, which have places of
//!   their own. A client for which no other place is left gets the answer 503, and its connection
//!   is closed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Most connections that are open at once.
pub(crate) const CONNECTIONS_MAX: usize = 20_000;
/// File descriptors that are left for everything else: the store, the log, connections to etcd or
/// Docker.
const OTHER_FILES: usize = 256;
/// The denominator of [`COMPONENT_PARTS`].
const PARTS: usize = 4;
/// Three of four places are only for agents and other components. With [`CONNECTIONS_MAX`] these
/// are 15,000: enough for 5,000 agents with a tunnel and two requests each.
const COMPONENT_PARTS: usize = 3;

/// How many connections may be open at once, given the process's limits as `/proc` shows them.
pub(crate) fn count(limits: &str) -> usize {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    let files = soft.and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX);
    // However low the limit is, half of it is used for connections.
    files.saturating_sub(OTHER_FILES).max(files / 2).min(CONNECTIONS_MAX)
}

/// Who sends requests on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// An agent, a scheduler, controllers or another apiserver.
    Component,
    /// Anybody else.
    Client,
}

/// How often the log may say that no place is left. Strangers can cause that at any rate.
const TELL_PERIOD: Duration = Duration::from_secs(10);

/// The places of one listener.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    anybody: Arc<Semaphore>,
    components: Arc<Semaphore>,
    /// Guards when it was last logged that no place is left.
    told: Arc<Mutex<Option<Instant>>>,
}

/// The kind of places that a place is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Anybody,
    Components,
}

/// The place of one connection. Clones are the same place, which becomes free when the last of them
/// is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    places: Places,
    /// Guards which kind of place it has, for one read or change.
    held: Arc<Mutex<Held>>,
}

#[derive(Debug)]
struct Held {
    row: Row,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// `count` places for anybody.
    pub(crate) fn for_anybody(count: usize) -> Self {
        Self::new(count, 0)
    }

    /// `count` places in all, most of which are only for components.
    pub(crate) fn with_components(count: usize) -> Self {
        let components = count / PARTS * COMPONENT_PARTS;
        Self::new(count - components, components)
    }

    fn new(anybody: usize, components: usize) -> Self {
        let [anybody, components] = [anybody, components].map(|count| Semaphore::new(count).into());
        Self { anybody, components, told: Arc::default() }
    }

    /// Whether it may be logged again that no place is left.
    pub(crate) fn may_tell(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|at| at.elapsed() >= TELL_PERIOD);
        if is_due {
            *told = Some(Instant::now());
        }
        is_due
    }

    /// Number of free places.
    pub(crate) fn free(&self) -> usize {
        self.anybody.available_permits() + self.components.available_permits()
    }

    /// Waits for a place of either kind, because it is not known yet who will use the connection.
    /// Nothing if no more places are given out.
    pub(crate) async fn take(&self) -> Option<Place> {
        let (row, permit) = tokio::select! {
            biased;
            permit = Arc::clone(&self.anybody).acquire_owned() => (Row::Anybody, permit),
            permit = Arc::clone(&self.components).acquire_owned() => (Row::Components, permit),
        };
        let held = Held { row, _permit: permit.ok()? };
        Some(Place { places: self.clone(), held: Arc::new(Mutex::new(held)) })
    }
}

impl Place {
    /// The places that it is one of.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Moves the connection to the kind of place that belongs to the asker. Returns whether
    /// requests may be answered: a client must not have a component's place, but a component may
    /// have any.
    pub(crate) fn admits(&self, asker: Asker) -> bool {
        let (row, free) = match asker {
            Asker::Client => (Row::Anybody, &self.places.anybody),
            Asker::Component => (Row::Components, &self.places.components),
        };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.row == row {
            return true;
        }
        match Arc::clone(free).try_acquire_owned() {
            Ok(permit) => {
                *held = Held { row, _permit: permit };
                true
            }
            Err(_none) => asker == Asker::Component,
        }
    }
}

/// A socket with its place. After an upgrade, whoever uses the connection holds both.
#[derive(Debug)]
pub(crate) struct Placed<S> {
    stream: S,
    place: Place,
}

impl<S> Placed<S> {
    pub(crate) fn new(stream: S, place: Place) -> Self {
        Self { stream, place }
    }

    /// Its place.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Placed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Placed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_all_else() {
        let limits = |soft: &str| format!("Limit  Soft\nMax open files  {soft}  524288  files\n");
        assert_eq!(count(&limits("1048576")), CONNECTIONS_MAX);
        assert_eq!(count(&limits("unlimited")), CONNECTIONS_MAX);
        assert_eq!(count(&limits("1024")), 768);
        assert_eq!(count(&limits("300")), 150);
        assert_eq!(count(""), CONNECTIONS_MAX);
    }

    #[tokio::test]
    async fn clients_do_not_take_the_places_of_components() {
        let places = Places::with_components(4);
        let client = places.take().await.unwrap();
        assert!(client.admits(Asker::Client));
        // The only place for anybody is taken, so the next connection gets a component's place.
        let second = places.take().await.unwrap();
        assert!(!second.admits(Asker::Client), "it is told that there is no place");
        drop(second);
        let components = [places.take().await.unwrap(), places.take().await.unwrap()];
        assert!(components.iter().all(|place| place.admits(Asker::Component)));
        drop(client);
        // A component on a place for anybody moves to one of its own and leaves that place to
        // clients.
        let third = places.take().await.unwrap();
        assert!(third.admits(Asker::Component));
        let client = places.take().await.unwrap();
        assert!(client.admits(Asker::Client));
        assert_eq!(places.free(), 0);
        // A connection that both use has the kind of place of whoever used it last.
        assert!(client.admits(Asker::Component), "where there is room, that is");
        drop(third);
        assert!(client.admits(Asker::Component));
        assert!(places.take().await.unwrap().admits(Asker::Client));
    }
}
