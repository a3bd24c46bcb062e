//! The log of a task's attempt, from the agent that ran it or is running it.

use std::sync::Arc;
use std::time::Duration;

use api::log::Position;
use api::status::{Refusal, Why};
use api::verb::Verb;
use api::{Kind as _, Task};
use axum::body::Body;
use base::Timestamp;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use http_body_util::BodyExt as _;

use super::extract::{Answer, Call, ObjectPath};
use super::query::{Query, bad};
use super::{agents, read};
use crate::Server;

/// How many logs may be read through an apiserver at the same time. Each of them may buffer data
/// between the agent and the client.
pub(crate) const LOGS_MAX: usize = 1_000;

/// The log of a task's attempt.
pub(super) async fn log(call: Call, place: ObjectPath, query: Query) -> Answer {
    let server = &*call.server;
    let asked = asked(&query, server.clock.now())?;
    let task = task(server, &place).await?;
    if !query.uid.is_empty() && query.uid != task.uid() {
        let message = format!(
            "task {:?} was deleted, and its log with it; another task has its name now",
            task.name()
        );
        return Err(Refusal::new(Why::NotFound, message).into());
    }
    let (attempt, restart) = container_of(&task, &query)?;
    let node = node_of(&task, attempt)?;
    let slot = Arc::clone(&server.log_places).try_acquire_owned().map_err(|_| {
        let message = format!(
            "this apiserver already serves {LOGS_MAX} log requests; try again later, or ask another one"
        );
        Refusal::new(Why::Busy, message)
    })?;
    let restart = restart.map(|restart| format!("&restart={restart}")).unwrap_or_default();
    let path = format!("/logs/{}/{attempt}?{asked}{restart}", task.uid());
    let on_behalf = call.on_behalf(Verb::Get, &place);
    let answer = agents::ask(server, &on_behalf, node, Request::new(Body::empty()), &path).await?;
    // The slot is taken until the body has ended or is dropped.
    let body = |body: Body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &slot;
            frame
        }))
    };
    let mut answer = answer.map(body);
    if !query.records {
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    Ok(answer)
}

/// The request for the agent. Invalid parameters are refused here.
fn asked(query: &Query, now: Timestamp) -> Result<String, Refusal> {
    let mut asked = format!(
        "follow={}&timestamps={}&records={}",
        query.follow, query.timestamps, query.records,
    );
    if let Some(lines) = query.tail_lines {
        asked.push_str(&format!("&tailLines={lines}"));
    }
    if let Some(bytes) = query.limit_bytes {
        if bytes == 0 {
            return Err(bad("limitBytes: must be at least 1"));
        }
        asked.push_str(&format!("&limitBytes={bytes}"));
    }
    if let Some(since) = since(query, now)? {
        asked.push_str(&format!("&sinceTime={since}"));
    }
    if !query.after.is_empty() {
        let after: Position =
            query.after.parse().map_err(|error| bad(format!("after: {error}")))?;
        asked.push_str(&format!("&after={after}"));
    }
    Ok(asked)
}

fn since(query: &Query, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
    match (query.since_time.as_str(), query.since_seconds) {
        ("", None) => Ok(None),
        ("", Some(seconds)) => {
            let since = now.saturating_sub(Duration::from_secs(seconds));
            // A time before the epoch means from the beginning.
            Ok(Some(since.unwrap_or(Timestamp::UNIX_EPOCH)))
        }
        (time, None) => time.parse().map(Some).map_err(|_| {
            bad(format!("sinceTime: invalid time {time:?}; write for example 2026-11-21T10:00:00Z"))
        }),
        (_, Some(_)) => Err(bad("sinceTime and sinceSeconds are mutually exclusive")),
    }
}

/// The current state of the task that a path stands for.
pub(super) async fn task(server: &Server, place: &ObjectPath) -> Result<Task, Refusal> {
    let entry = read::one(server, place).await?;
    serde_json::from_slice(&entry.wire)
        .map_err(|error| Refusal::new(Why::Internal, error.to_string()))
}

/// The attempt whose log is requested, and the restart number of its container if that is not the
/// newest one.
fn container_of(task: &Task, query: &Query) -> Result<(u32, Option<u32>), Refusal> {
    // The current attempt of a task may have no node yet, and so no log. The one before it has.
    let newest = query.attempt.unwrap_or_else(|| task.newest_attempt_with_a_node());
    if !query.previous {
        return Ok((newest, None));
    }
    // What was restarted in place has an earlier container in the same attempt.
    if let Some(restart) = task.container_before(newest) {
        return Ok((newest, Some(restart)));
    }
    let earlier = task.status.attempts.iter().rev().map(|past| past.attempt);
    let before = earlier.filter(|attempt| *attempt < newest).max();
    before.map(|attempt| (attempt, None)).ok_or_else(|| {
        let message = format!("task {:?} has no attempt before attempt {newest}", task.name());
        Refusal::new(Why::NotFound, message)
    })
}

/// The node on which an attempt ran or is running.
pub(super) fn node_of(task: &Task, attempt: u32) -> Result<&str, Refusal> {
    let past = || task.status.attempts.iter().find(|past| past.attempt == attempt);
    let node = if attempt == task.spec.attempt {
        task.node()
    } else {
        past().and_then(|past| past.node_name.as_deref())
    };
    node.ok_or_else(|| {
        let name = task.name();
        let is_known = attempt == task.spec.attempt || past().is_some();
        let message = if attempt > task.spec.attempt {
            format!("task {name:?} has no attempt {attempt}; its newest is {}", task.spec.attempt)
        } else if !is_known {
            format!("attempt {attempt} of task {name:?} is no longer known: only the last attempts are kept")
        } else if let Some(why) = task.unschedulable().filter(|_| attempt == task.spec.attempt) {
            format!("attempt {attempt} of task {name:?} has not started: no node fits: {why}")
        } else {
            format!(
                "attempt {attempt} of task {name:?} has not started: the task is {}",
                task.phase()
            )
        };
        Refusal::new(Why::NotFound, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::asks::Asks;

    fn read(query: &str) -> Result<String, String> {
        let query = Query::parse(&format!("/log?{query}").parse().unwrap(), Asks::Log);
        let now = "2026-11-21T10:00:30Z".parse().unwrap();
        let asked = query.and_then(|query| asked(&query, now));
        asked.map_err(|status| status.message)
    }

    #[test]
    fn what_is_asked_reaches_the_agent_in_one_form() {
        let plain = "follow=false&timestamps=false&records=false";
        assert_eq!(read("").unwrap(), plain);
        assert_eq!(
            read("follow=1&timestamps=true&records=true&after=5.6&tailLines=3&limitBytes=9"),
            Ok("follow=true&timestamps=true&records=true&tailLines=3&limitBytes=9&after=5.6"
                .to_owned())
        );
        let since = format!("{plain}&sinceTime=2026-11-21T10:00:00Z");
        for same in ["sinceSeconds=30", "sinceTime=2026-11-21T11:00:00%2B01:00"] {
            assert_eq!(read(same).as_ref(), Ok(&since), "{same}");
        }
        assert!(read(&format!("sinceSeconds={}", u64::MAX)).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (wrong, why) in [
            ("after=x", "position"),
            ("sinceTime=x", "invalid time"),
            ("sinceTime=2026-11-21T10:00:00Z&sinceSeconds=1", "mutually exclusive"),
            ("limitBytes=0", "at least 1"),
            ("tailLines=-1", "invalid number"),
        ] {
            let told = read(wrong).unwrap_err();
            assert!(told.contains(why), "{wrong}: {told}");
        }
    }

    #[test]
    fn why_an_attempt_has_no_log_is_said() {
        let task = |spec: serde_json::Value, attempts: serde_json::Value| -> Task {
            serde_json::from_value(serde_json::json!({
                "metadata": { "name": "a-0" }, "spec": spec, "status": { "attempts": attempts },
            }))
            .unwrap()
        };
        let why = |task: &Task, attempt| {
            node_of(task, attempt).map(str::to_owned).map_err(|it| it.message)
        };
        let spec = serde_json::json!({
            "template": "a", "attempt": 3,
            "unschedulable": { "attempt": 3, "message": "0 of 3 nodes: 3 full" },
        });
        let past = |attempt| serde_json::json!({ "attempt": attempt, "nodeName": "n2", "phase": "Failed" });
        let waiting = task(spec.clone(), [past(2)].into_iter().collect());
        assert_eq!(why(&waiting, 2), Ok("n2".to_owned()));
        for (attempt, text) in [(1, "no longer known"), (3, "0 of 3 nodes"), (4, "newest is 3")] {
            let told = why(&waiting, attempt).unwrap_err();
            assert!(told.contains(text), "{told}");
        }
        let query =
            |text: &str| Query::parse(&format!("/log?{text}").parse().unwrap(), Asks::Log).unwrap();
        let attempt_of = |task: &Task, text| container_of(task, &query(text)).map(|it| it.0);
        assert_eq!(attempt_of(&waiting, ""), Ok(2), "attempt 3 has no node yet");
        assert_eq!(attempt_of(&waiting, "attempt=3&previous=true"), Ok(2));
        let told = attempt_of(&waiting, "previous=true").unwrap_err().message;
        assert!(
            told.ends_with("no attempt before attempt 2"),
            "attempt 2 is shown without: {told}"
        );
        let waiting = task(spec, [past(1), past(2)].into_iter().collect());
        assert_eq!(attempt_of(&waiting, "previous=true"), Ok(1));
        assert!(attempt_of(&waiting, "attempt=1&previous=true").is_err());
        let binding = serde_json::json!({ "node": "n1", "attempt": 3, "number": 1, "at": "2026-01-01T00:00:00Z" });
        let mut restarted = waiting;
        restarted.spec.binding = serde_json::from_value(binding).unwrap();
        restarted.status = serde_json::from_value(serde_json::json!({
            "attempt": 3, "binding": 1, "state": "Running", "restarts": 2, "attempts": [past(2)],
        }))
        .unwrap();
        let container_of = |text| container_of(&restarted, &query(text));
        assert_eq!(container_of(""), Ok((3, None)));
        assert_eq!(container_of("previous=true"), Ok((3, Some(1))));
        assert!(container_of("attempt=2&previous=true").is_err());
        let pending = task(serde_json::json!({ "template": "a" }), serde_json::json!([]));
        assert!(why(&pending, 1).unwrap_err().contains("Pending"));
    }
}
