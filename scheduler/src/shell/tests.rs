//! The loop with a minimal simulated apiserver, on virtual time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use api::batch::{Batch, BatchResponse, GroupResult};
use api::resource_version::ResourceVersion;
use api::status::Why;
use api::task::transition;
use api::watch::INITIAL_EVENTS_END;
use api::{Kind as _, Task};
use bytes::Bytes;
use client::Body;
use expect_test::{Expect, expect};
use http::{Request, Response, StatusCode};
use http_body_util::{Full, StreamBody};
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::world;

/// How long a test waits for a line, in virtual time.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// What happens to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is carried out, and the answer is lost.
    LostAnswer,
    /// It is refused.
    Refuse,
    /// Another leads.
    Depose,
}

/// A minimal apiserver that changes tasks by the real transitions.
#[derive(Debug, Default)]
struct Server {
    tasks: Vec<Task>,
    /// Lines of the watch that were not sent yet.
    lines: VecDeque<String>,
    revision: u64,
    faults: VecDeque<Fault>,
    /// What was written, with the results.
    journal: Vec<String>,
    lease: Option<Value>,
}

#[derive(Debug, Clone, Default)]
struct Cluster {
    /// Guards the server for one request.
    server: Arc<Mutex<Server>>,
    news: Arc<Notify>,
    written: Arc<Notify>,
}

fn wire<K: api::Kind>(object: &K, revision: u64) -> Value {
    let mut object = object.clone();
    object.meta_mut().resource_version = Some(ResourceVersion::after(revision).to_string());
    serde_json::to_value(object).unwrap()
}

impl Server {
    fn event(&mut self, kind: &str, object: &Value) {
        self.lines.push_back(format!("{}\n", json!({ "type": kind, "object": object })));
    }

    fn put(&mut self, line: &str) {
        self.revision += 1;
        let revision = self.revision;
        let object = match world::change(line) {
            Change::Node(node) => wire(&*node, revision),
            Change::TaskTemplate(template) => wire(&*template, revision),
            Change::PartitionSet(set) => wire(&*set, revision),
            Change::Task(task) => {
                self.tasks.retain(|old| old.name() != task.name());
                self.tasks.push(Task::clone(&task));
                wire(&*task, revision)
            }
            Change::NodeGone(_)
            | Change::TaskGone(_)
            | Change::TaskTemplateGone(_)
            | Change::PartitionSetGone(_) => panic!("not a line of this world: {line}"),
        };
        self.event("ADDED", &object);
    }

    fn initial_end(&mut self) {
        let version = ResourceVersion::after(self.revision).to_string();
        let notes = json!({ INITIAL_EVENTS_END: "true" });
        let metadata = json!({ "resourceVersion": version, "annotations": notes });
        let bookmark = json!({ "kind": "Task", "apiVersion": "v1", "metadata": metadata });
        self.event("BOOKMARK", &bookmark);
    }

    fn change(&mut self, op: &Op) -> GroupResult {
        let Op::Task { key, attempt, change, .. } = op else { panic!("no write of ours: {op:?}") };
        let place = self.tasks.iter().position(|task| task.key() == *key).unwrap();
        let what = if let TaskChange::Bind { node } = change {
            format!("{} -> {node}", key.name)
        } else if let TaskChange::Unschedulable { message } = change {
            format!("{}: {message}", key.name)
        } else {
            panic!("no write of ours: {change:?}")
        };
        let task = self.tasks[place].clone();
        match transition::apply(&task, *attempt, change, Timestamp::UNIX_EPOCH) {
            Ok(transition::Applied::Changed(next)) => {
                self.journal.push(what);
                self.revision += 1;
                let object = wire(&*next, self.revision);
                self.tasks[place] = *next;
                self.event("MODIFIED", &object);
                GroupResult::Done
            }
            Ok(transition::Applied::Already) => {
                self.journal.push(format!("{what} (again)"));
                GroupResult::Done
            }
            Err(refusal) => {
                self.journal.push(format!("{what} (refused)"));
                GroupResult::refused(Why::Conflict, refusal.to_string())
            }
        }
    }

    fn batch(&mut self, batch: &Batch) -> Option<BatchResponse> {
        let is_bind = |op: &Op| matches!(op, Op::Task { change: TaskChange::Bind { .. }, .. });
        let binds = batch.groups.iter().flat_map(|group| &group.ops).any(is_bind);
        let fault = if binds { self.faults.pop_front() } else { None };
        let results = batch.groups.iter().map(|group| match fault {
            Some(Fault::Refuse) => GroupResult::refused(Why::Conflict, "on purpose"),
            Some(Fault::Depose) => GroupResult::refused(Why::Deposed, "on purpose"),
            Some(Fault::LostAnswer) | None => self.change(&group.ops[0]),
        });
        let results = results.collect();
        if let Some(fault) = fault {
            self.journal.push(format!("{fault:?}"));
        }
        let resource_version = ResourceVersion::after(self.revision);
        (fault != Some(Fault::LostAnswer)).then_some(BatchResponse { resource_version, results })
    }
}

impl Cluster {
    fn with<R>(&self, act: impl FnOnce(&mut Server) -> R) -> R {
        let result = act(&mut self.server.lock().unwrap());
        self.news.notify_waiters();
        self.written.notify_waiters();
        result
    }

    async fn answer(self, request: Request<Bytes>) -> Result<Response<Body>, Infallible> {
        let json = |status, value: &Value| {
            let body = Full::new(Bytes::from(value.to_string()));
            Response::builder().status(status).body(client::boxed_body(body)).unwrap()
        };
        let (path, body) = (request.uri().path().to_owned(), request.into_body());
        if path.ends_with("/watch") {
            return Ok(Response::new(self.watch()));
        }
        if path.ends_with("/batches") {
            let batch: Batch = serde_json::from_slice(&body).unwrap();
            return Ok(match self.with(|server| server.batch(&batch)) {
                Some(answer) => json(StatusCode::OK, &serde_json::to_value(answer).unwrap()),
                None => json(StatusCode::GATEWAY_TIMEOUT, &json!({})),
            });
        }
        Ok(self.with(|server| {
            if !body.is_empty() {
                let mut lease: Value = serde_json::from_slice(&body).unwrap();
                lease["metadata"]["resourceVersion"] = json!("1");
                server.lease = Some(lease);
            }
            match &server.lease {
                Some(lease) => json(StatusCode::OK, lease),
                None => json(StatusCode::NOT_FOUND, &json!({ "reason": "NotFound", "code": 404 })),
            }
        }))
    }

    fn watch(self) -> Body {
        self.with(|server| {
            server.journal.push("watch".to_owned());
            if server.journal.iter().filter(|line| *line == "watch").count() > 1 {
                // A new watch starts over: events that the old one did not read are dropped.
                server.lines.clear();
                for task in server.tasks.clone() {
                    let object = wire(&task, server.revision);
                    server.event("ADDED", &object);
                }
            }
            server.initial_end();
        });
        let frames = futures_util::stream::unfold(self, |cluster| async move {
            let line = cluster.line().await;
            let frame = http_body::Frame::data(Bytes::from(line));
            Some((Ok::<_, Infallible>(frame), cluster))
        });
        client::boxed_body(StreamBody::new(frames))
    }

    /// The next line of the watch.
    async fn line(&self) -> String {
        loop {
            let woken = self.news.notified();
            let line = self.server.lock().unwrap().lines.pop_front();
            if let Some(line) = line {
                return line;
            }
            woken.await;
        }
    }

    /// Waits until the journal has a line with this end, up to a bound in virtual time.
    async fn until(&self, end: &str) {
        let is_there = |server: &Server| server.journal.iter().any(|line| line.ends_with(end));
        let written = async {
            loop {
                let woken = self.written.notified();
                if is_there(&self.server.lock().unwrap()) {
                    return;
                }
                woken.await;
            }
        };
        let waited = tokio::time::timeout(WAIT_MAX, written).await;
        let journal = || self.server.lock().unwrap().journal.join("\n");
        assert!(waited.is_ok(), "no line ends with {end:?}:\n{}", journal());
    }

    fn start(&self) -> Tasks {
        let cluster = self.clone();
        let transport =
            client::transport(tower::service_fn(move |request| cluster.clone().answer(request)));
        let config = Config {
            client: Client::new(transport),
            clock: Clock::simulated(Timestamp::from_second(100).unwrap()),
            rng: Rng::seeded(1),
            health: Health::default(),
            metrics: Metrics::new(&Registry::new()).unwrap(),
            parsed: Parsed::default(),
        };
        let tasks = Tasks::new("test");
        tasks.spawn_part("scheduler", run(config, tasks.stop_signal()));
        tasks
    }

    fn check(&self, expect: &Expect) {
        expect.assert_eq(&(self.with(|server| server.journal.join("\n")) + "\n"));
    }
}

fn cluster(lines: &[&str]) -> Cluster {
    let cluster = Cluster::default();
    cluster.with(|server| lines.iter().for_each(|line| server.put(line)));
    cluster
}

#[tokio::test(start_paused = true)]
async fn tasks_are_bound_and_those_that_wait_are_told_why() {
    let cluster =
        cluster(&["node a cpu=1", "template t cpu=600m", "task web-0", "task web-1", "task web-2"]);
    let tasks = cluster.start();
    cluster.until("cpu < 600m").await;
    cluster.with(|server| server.put("node b cpu=1"));
    cluster.until("web-1 -> b").await;
    cluster.until("web-2: 0 of 2 nodes: 2 have cpu < 600m").await;
    tasks.stop().await;
    cluster.check(&expect![[r#"
        watch
        web-0 -> a
        web-1: 0 of 1 node: 1 has cpu < 600m
        web-2: 0 of 1 node: 1 has cpu < 600m
        web-1 -> b
        web-2: 0 of 2 nodes: 2 have cpu < 600m
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_binding_whose_answer_was_lost_is_asked_for_again() {
    let cluster = cluster(&["node a cpu=1", "template t cpu=600m", "task web-0"]);
    cluster.with(|server| server.faults.push_back(Fault::LostAnswer));
    let tasks = cluster.start();
    cluster.until("(again)").await;
    tasks.stop().await;
    cluster.check(&expect![[r#"
        watch
        web-0 -> a
        LostAnswer
        web-0 -> a (again)
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_binding_is_decided_again() {
    let cluster = cluster(&["node a cpu=1", "template t cpu=600m", "task web-0"]);
    cluster.with(|server| server.faults.push_back(Fault::Refuse));
    let tasks = cluster.start();
    cluster.until("web-0 -> a").await;
    tasks.stop().await;
    cluster.check(&expect![[r#"
        watch
        Refuse
        web-0 -> a
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_stands_again_and_reads_all_anew() {
    let cluster = cluster(&["node a cpu=1", "template t cpu=600m", "task web-0"]);
    cluster.with(|server| server.faults.push_back(Fault::Depose));
    let tasks = cluster.start();
    cluster.until("Depose").await;
    cluster.with(|server| server.lease = None);
    cluster.until("web-0: task template t not found").await;
    tasks.stop().await;
    cluster.check(&expect![[r#"
        watch
        Depose
        watch
        web-0: task template t not found
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_task_is_bound_when_its_time_comes() {
    let cluster = cluster(&["node a cpu=1", "template t", "task web-0 after=160"]);
    let start = Instant::now();
    let tasks = cluster.start();
    cluster.until("web-0 -> a").await;
    assert_eq!(start.elapsed().as_secs(), 60);
    tasks.stop().await;
}
