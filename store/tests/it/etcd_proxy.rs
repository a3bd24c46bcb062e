//! Stands between a store and an etcd, and loses answers on demand.

use std::sync::Arc;

use base::{Spawner, Tasks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    answers_pass: bool,
    /// Grows when all connections are cut.
    cuts: u64,
}

/// A proxy; it ends when it is dropped.
pub(crate) struct Proxy {
    url: String,
    state: Arc<watch::Sender<State>>,
    _tasks: Tasks,
}

impl Proxy {
    /// Stands before the member at `url`.
    pub(crate) async fn before(url: &str) -> Self {
        let to = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(watch::Sender::new(State { answers_pass: true, cuts: 0 }));
        let tasks = Tasks::new("proxy");
        tasks.spawn("accept", accept(listener, to, Arc::clone(&state), tasks.spawner()));
        Self { url, state, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// From now on requests arrive, and nobody hears of it.
    pub(crate) fn swallow_answers(&self) {
        self.state.send_modify(|state| state.answers_pass = false);
    }

    /// Breaks all connections; those that come work again.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| {
            state.answers_pass = true;
            state.cuts += 1;
        });
    }
}

async fn accept(
    listener: TcpListener,
    to: String,
    state: Arc<watch::Sender<State>>,
    tasks: Spawner,
) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(&to).await else {
            continue;
        };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tasks.spawn("requests", pump(from_client, to_server, state.subscribe(), true));
        tasks.spawn("answers", pump(from_server, to_client, state.subscribe(), false));
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    always: bool,
) {
    let cuts = state.borrow().cuts;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            cut = state.wait_for(|state| state.cuts != cuts) => {
                drop(cut);
                return;
            }
            read = from.read(&mut buffer) => read,
        };
        let Ok(count @ 1..) = read else {
            return;
        };
        let passes = always || state.borrow().answers_pass;
        if passes && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
