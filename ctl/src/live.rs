//! The objects of a query with their changes, as a stream.

use std::collections::VecDeque;

use api::watch::WatchEventType;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde_json::Value;

use crate::connection::{Connection, Query};
use crate::failure::Failure;
use crate::following::{Following, Seen};
use crate::outage::Link;

/// An event of an object.
#[derive(Debug)]
pub enum LiveEvent {
    /// It exists; its current state.
    There(Value),
    /// It is gone; its last state.
    Gone(Value),
}

/// The events of a query: first all existing objects, then changes. The stream ends with an error
/// only.
pub fn news(
    connection: &Connection,
    query: Query,
) -> BoxStream<'static, Result<LiveEvent, Failure>> {
    let listening = Listening {
        connection: connection.clone(),
        link: connection.link(),
        query,
        following: None,
        ready: VecDeque::new(),
        has_ended: false,
    };
    stream::unfold(listening, |mut listening| async move {
        if listening.has_ended {
            return None;
        }
        let next = listening.next().await;
        listening.has_ended = next.is_err();
        Some((next, listening))
    })
    .boxed()
}

struct Listening {
    connection: Connection,
    link: Link,
    query: Query,
    following: Option<Following>,
    ready: VecDeque<Value>,
    has_ended: bool,
}

impl Listening {
    async fn next(&mut self) -> Result<LiveEvent, Failure> {
        loop {
            if let Some(object) = self.ready.pop_front() {
                return Ok(LiveEvent::There(object));
            }
            let Some(following) = self.following.as_mut() else {
                self.list().await?;
                continue;
            };
            match following.next().await.map_err(|error| self.connection.failure(&error))? {
                Seen::Change(WatchEventType::Deleted, object) => {
                    return Ok(LiveEvent::Gone(object));
                }
                Seen::Change(_, object) => return Ok(LiveEvent::There(object)),
                Seen::Broken(why) => self.link.broken(&why),
                Seen::Back => self.link.back(),
                Seen::Missed => {
                    self.link.back();
                    self.following = None;
                }
            }
        }
    }

    async fn list(&mut self) -> Result<(), Failure> {
        let list = || self.connection.list(&self.query);
        let (objects, version) = self.connection.insist(list).await?;
        self.ready.extend(objects);
        let following = Following::new(self.connection.client(), self.query.clone(), &version);
        self.following = Some(following);
        Ok(())
    }
}
