//! How many durable commits a second a store does, each of one 1 KiB value, by how many callers
//! wait at once; then what a list of some of it costs. Prints a table. What a disk sync costs on
//! the machine decides it.
//!
//! `cargo bench -p store` tries the embedded store, `cargo bench -p store -- --etcd` an etcd that it
//! starts, and `-- --etcd URL,URL` one that runs (under the prefix `/bench`, which it leaves there).

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base::{Rng, Tasks};
use bytes::Bytes;
use futures_util::future::join_all;
use store::{Embedded, Etcd, EtcdConfig, Expectation, Group, List, Outcome, Store};
use tokio::time::Instant;

const SECONDS: u64 = 3;

/// What is measured.
#[derive(Clone)]
enum Subject {
    Embedded,
    /// Runs already.
    Etcd(Vec<String>),
}

/// An etcd of one member that ends with this.
struct Server(Child);

impl Server {
    fn start(dir: &Path) -> (Self, String) {
        let free = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            format!("http://{}", listener.local_addr().expect("it is bound"))
        };
        let (client, peer) = (free(), free());
        let child = Command::new("etcd")
            .args(["--data-dir", &dir.display().to_string(), "--log-level", "error"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts; if it is not installed: apt-get install etcd-server");
        (Self(child), client)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What cannot be killed has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn open(subject: &Subject, dir: &Path, tasks: &Tasks) -> Box<dyn Store> {
    match subject {
        Subject::Embedded => {
            Box::new(Embedded::open(dir, &tasks.spawner()).expect("the store opens"))
        }
        Subject::Etcd(endpoints) => {
            let namespace = format!("/bench{}", dir.display());
            let config = EtcdConfig { namespace, ..EtcdConfig::plain(endpoints.clone()) };
            let etcd = Etcd::connect(config, &Rng::from_machine(), &tasks.spawner()).await;
            Box::new(etcd.expect("etcd answers"))
        }
    }
}

/// Commits a second, and what a list of 10,000 of the records (or all) takes.
async fn measure(subject: &Subject, callers: usize) -> (u64, usize, Duration) {
    let dir = tempfile::tempdir().expect("a directory for the store");
    let tasks = Tasks::new("store");
    let store = open(subject, dir.path(), &tasks).await;
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
    let start = Instant::now();
    let list = List { prefix: "/bench/".into(), at: None, after: None, limit: 10_000 };
    let listed = store.list(list).await.expect("the list can be read").records.len();
    let took = start.elapsed();
    drop(store);
    tasks.stop().await;
    (done / SECONDS, listed, took)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let dir = tempfile::tempdir().expect("a directory for etcd");
    let etcd = arguments.iter().position(|argument| argument == "--etcd");
    let endpoints = etcd.and_then(|at| arguments.get(at + 1)).filter(|it| it.starts_with("http"));
    let (subject, _server) = match (etcd, endpoints) {
        (None, _) => (Subject::Embedded, None),
        (Some(_), Some(urls)) => {
            (Subject::Etcd(urls.split(',').map(str::to_owned).collect()), None)
        }
        (Some(_), None) => {
            let (server, url) = Server::start(dir.path());
            (Subject::Etcd(vec![url]), Some(server))
        }
    };
    println!("{:>8}  {:>9}  {:>7}  {:>7}", "callers", "commits/s", "listed", "list ms");
    for callers in [1, 64, 1000] {
        let (commits, listed, took) = measure(&subject, callers).await;
        println!("{callers:>8}  {commits:>9}  {listed:>7}  {:>7}", took.as_millis());
    }
}
