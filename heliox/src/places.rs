//! How many connections may be open at once, and for whom.
//!
//! # Invariants
//!
//! * A connection has its place for as long as its socket is open, also after it was upgraded: an
//!   agent's tunnel and a command's WebSocket count until they end.
//! * Clients in whatever number do not take the places of agents and of other parts of Heliox: those
//!   have places of their own. A client for whom no other place is left is told so (503), and its
//!   connection is closed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Connections that are open at once.
pub(crate) const CONNECTIONS_MAX: usize = 20_000;
/// File descriptors that are kept for all else: the store, the log, connections to etcd or Docker.
const OTHER_FILES: usize = 256;
/// Of so many places ...
const PARTS: usize = 4;
/// ... so many are only for agents and other parts of Heliox. With [`CONNECTIONS_MAX`] that makes
/// 15,000: 5,000 agents with a tunnel and two requests each.
const COMPONENT_PARTS: usize = 3;

/// How many connections may be open at once, given the process's limits as `/proc` shows them.
pub(crate) fn count(limits: &str) -> usize {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    let files = soft.and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX);
    // However low the limit is, half of it serves.
    files.saturating_sub(OTHER_FILES).max(files / 2).min(CONNECTIONS_MAX)
}

/// Who asks over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// An agent, a scheduler, controllers or another apiserver.
    Component,
    /// Anybody else.
    Client,
}

/// That there are no places left is told so often at most: strangers choose how often it is so.
const TELL_PERIOD: Duration = Duration::from_secs(10);

/// The places of one listener.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    anybody: Arc<Semaphore>,
    components: Arc<Semaphore>,
    /// Guards when it was last told that none is left; held to look and to set it.
    told: Arc<Mutex<Option<Instant>>>,
}

/// Which places a connection's place is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Anybody,
    Components,
}

/// The place of one connection. Clones are the same place, which is free again when the last of them
/// is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    places: Places,
    /// Guards where the connection sits; held to look or to move.
    held: Arc<Mutex<Held>>,
}

#[derive(Debug)]
struct Held {
    row: Row,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// As many for anybody.
    pub(crate) fn for_anybody(count: usize) -> Self {
        Self::new(count, 0)
    }

    /// As many in all, most of which are only for components.
    pub(crate) fn with_components(count: usize) -> Self {
        let components = count / PARTS * COMPONENT_PARTS;
        Self::new(count - components, components)
    }

    fn new(anybody: usize, components: usize) -> Self {
        let [anybody, components] = [anybody, components].map(|count| Semaphore::new(count).into());
        Self { anybody, components, told: Arc::default() }
    }

    /// Whether it is time to tell again that none is left.
    pub(crate) fn may_tell(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|at| at.elapsed() >= TELL_PERIOD);
        if is_due {
            *told = Some(Instant::now());
        }
        is_due
    }

    /// How many are free.
    pub(crate) fn free(&self) -> usize {
        self.anybody.available_permits() + self.components.available_permits()
    }

    /// Waits for a place. Who will ask over the connection is not known yet: any place will do.
    /// Nothing comes once nobody gives out places any more.
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

    /// Has the connection sit where who asks belongs. Whether it may be answered: a client sits on no
    /// place of a component, while a component sits wherever there is room.
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

/// A socket and its place. Whoever a connection was upgraded for holds both.
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
        // The only place for anybody is taken: whoever comes now has one of a component.
        let second = places.take().await.unwrap();
        assert!(!second.admits(Asker::Client), "it is told that there is no place");
        drop(second);
        let components = [places.take().await.unwrap(), places.take().await.unwrap()];
        assert!(components.iter().all(|place| place.admits(Asker::Component)));
        drop(client);
        // A component that came on a place for anybody moves on, and leaves that to clients.
        let third = places.take().await.unwrap();
        assert!(third.admits(Asker::Component));
        let client = places.take().await.unwrap();
        assert!(client.admits(Asker::Client));
        assert_eq!(places.free(), 0);
        // A connection over which both ask sits with those who asked last.
        assert!(client.admits(Asker::Component), "where there is room, that is");
        drop(third);
        assert!(client.admits(Asker::Component));
        assert!(places.take().await.unwrap().admits(Asker::Client));
    }
}
