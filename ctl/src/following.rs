//! A watch that survives broken connections and restarts of the server.

use std::time::Duration;

use api::resource_version::ResourceVersion;
use api::status::Why;
use api::watch::WatchEventType;
use client::{Client, Error, Lines, RawEvent};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::connection::Query;
use crate::outage::next_wait;

/// Longest wait between two attempts to connect.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// The server sends at least a bookmark every 5 seconds. If nothing arrives for this long, it hangs
/// or cannot be reached.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Follows a query.
#[derive(Debug)]
pub struct Following {
    client: Client,
    query: Query,
    /// Everything up to here was seen.
    version: ResourceVersion,
    lines: Option<Lines>,
    /// When something was last received on this connection.
    heard_at: Instant,
    /// How long to wait before the next attempt to connect; `None` once a connection has delivered
    /// something.
    wait: Option<Duration>,
    told: bool,
}

/// The next event of a followed query.
#[derive(Debug)]
pub enum Seen {
    /// An object has changed; it is a table if tables are followed.
    Change(WatchEventType, Value),
    /// The server is lost and is being tried again; the reason. Reported once for each loss.
    Broken(String),
    /// The server is back.
    Back,
    /// The server is there, but the events since the last one are no longer kept: list again, and
    /// continue from there ([`Following::resume`]).
    Missed,
}

impl Following {
    /// Follows `query` from the resourceVersion `version`.
    pub fn new(client: &Client, query: Query, version: &str) -> Self {
        let version = version.parse().unwrap_or_default();
        let (client, heard_at) = (client.clone(), Instant::now());
        Self { client, query, version, lines: None, heard_at, wait: None, told: false }
    }

    /// Continues from another resourceVersion.
    pub fn resume(&mut self, version: &str) {
        self.version = version.parse().unwrap_or_default();
        self.lines = None;
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// The server refuses the watch.
    pub async fn next(&mut self) -> Result<Seen, Error> {
        loop {
            let Some(lines) = self.lines.as_mut() else {
                if let Some(seen) = self.connect().await? {
                    return Ok(seen);
                }
                continue;
            };
            let heard = match timeout_at(self.heard_at + SILENCE_MAX, lines.next()).await {
                Ok(Ok(Some(line))) => event(&line),
                // Servers end watches from time to time, and when they stop. Another request shows
                // whether the server is still there.
                Ok(Ok(None) | Err(Error::Unavailable(_) | Error::Unknown(_))) => {
                    self.lines = None;
                    continue;
                }
                Ok(Err(error)) => Err(error),
                Err(_elapsed) => {
                    let silence = format!("it has said nothing for {}s", SILENCE_MAX.as_secs());
                    Err(Error::Unavailable(silence.into()))
                }
            };
            match heard {
                Ok((version, seen)) => {
                    (self.heard_at, self.wait) = (Instant::now(), None);
                    self.version = self.version.max(version);
                    if let Some((kind, object)) = seen {
                        return Ok(Seen::Change(kind, object));
                    }
                }
                Err(error) => {
                    self.lines = None;
                    return self.broken(error);
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<Option<Seen>, Error> {
        if let Some(wait) = self.wait {
            tokio::time::sleep(wait).await;
        }
        // A server that ends every watch at once must not get requests all the time.
        self.wait = Some(next_wait(self.wait, WAIT_MAX));
        let path = format!(
            "{}&watch=true&allowWatchBookmarks=true&resourceVersion={}",
            self.query.path(),
            self.version
        );
        match self.client.stream(&path).await {
            Ok(response) => {
                self.lines = Some(Lines::new(response.into_body()));
                self.heard_at = Instant::now();
                Ok(std::mem::take(&mut self.told).then_some(Seen::Back))
            }
            Err(error) => {
                let told = self.told;
                let seen = self.broken(error)?;
                let again = told && matches!(seen, Seen::Broken(_));
                Ok((!again).then_some(seen))
            }
        }
    }

    /// Decides whether an error is temporary.
    fn broken(&mut self, error: Error) -> Result<Seen, Error> {
        match error {
            Error::Unavailable(source) | Error::Unknown(source) => {
                self.told = true;
                Ok(Seen::Broken(client::cause(source.as_ref())))
            }
            Error::Refused(ref refusal) => match refusal.why {
                Why::Expired => {
                    self.told = false;
                    Ok(Seen::Missed)
                }
                Why::Busy | Why::Unavailable | Why::Full | Why::Late | Why::Unknown => {
                    self.told = true;
                    Ok(Seen::Broken(refusal.message.clone()))
                }
                Why::Mistaken(_)
                | Why::Invalid
                | Why::TooLarge
                | Why::Forbidden
                | Why::NotFound
                | Why::Exists
                | Why::Conflict
                | Why::Contended
                | Why::Deposed
                | Why::Internal => Err(error),
            },
            Error::Malformed(_) => Err(error),
        }
    }
}

/// The resourceVersion of a line of a watch, and the change, if it is one.
type WatchLine = (ResourceVersion, Option<(WatchEventType, Value)>);

fn event(line: &[u8]) -> Result<WatchLine, Error> {
    let malformed = |error: serde_json::Error| Error::Malformed(Box::new(error));
    let event: RawEvent<'_> = serde_json::from_slice(line).map_err(malformed)?;
    let text = event.object.get();
    if event.kind == WatchEventType::Error {
        return Err(Error::of_event(text));
    }
    let object: Value = serde_json::from_str(text).map_err(malformed)?;
    let version = version_of(&object).unwrap_or_default();
    let change = (event.kind != WatchEventType::Bookmark).then_some((event.kind, object));
    Ok((version, change))
}

/// The resourceVersion of an object or of a table's row.
fn version_of(object: &Value) -> Option<ResourceVersion> {
    let of_row = || &object["rows"][0]["object"]["metadata"]["resourceVersion"];
    let version = object["metadata"]["resourceVersion"].as_str().filter(|it| !it.is_empty());
    version.or_else(|| of_row().as_str())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use api::KindId;
    use bytes::Bytes;
    use client::{ListOptions, transport};
    use futures_util::{StreamExt as _, stream};
    use http::{Request, Response, StatusCode};
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};
    use tower::service_fn;

    use super::*;

    /// A server that gives these answers in order and records the requests.
    fn server(answers: &[(u16, &str)]) -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: Vec<(u16, String)> =
            answers.iter().map(|(code, body)| (*code, (*body).to_owned())).collect();
        let log = Arc::clone(&asked);
        let service = service_fn(move |request: Request<Bytes>| {
            let mut log = log.lock().unwrap();
            let (code, body) = answers[log.len()].clone();
            let query = request.uri().query().unwrap_or_default().to_owned();
            log.push(query.split('&').next_back().unwrap_or_default().to_owned());
            let mut response = Response::new(Full::new(Bytes::from(body)));
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            async { Ok::<_, Infallible>(response) }
        });
        (Client::new(transport(service)), asked)
    }

    async fn seen(following: &mut Following) -> String {
        match following.next().await {
            Ok(Seen::Change(kind, object)) => format!("{kind:?} {}", object["metadata"]["name"]),
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("error: {error}"),
        }
    }

    fn follow(client: &Client) -> Following {
        let options = ListOptions::default();
        let query = Query { kind: KindId::Job, namespace: "a".to_owned(), options };
        Following::new(client, query, "5")
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_watch_goes_on_from_what_it_saw() {
        let line = |name: &str, version: u32| {
            format!(
                r#"{{"type":"ADDED","object":{{"metadata":{{"name":"{name}","resourceVersion":"{version}"}}}}}}"#
            )
        };
        let mark = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#;
        let (client, asked) = server(&[
            (200, &format!("{}\n{mark}\n{{\"type", line("x", 7))),
            (503, "busy"),
            (503, "busy"),
            (200, &format!("{}\n", line("y", 12))),
            (200, &format!("{}\n", line("z", 13))),
        ]);
        let mut following = follow(&client);
        assert_eq!(seen(&mut following).await, "Added \"x\"");
        assert!(seen(&mut following).await.starts_with("Broken"));
        assert_eq!(seen(&mut following).await, "Back");
        assert_eq!(seen(&mut following).await, "Added \"y\"");
        assert_eq!(seen(&mut following).await, "Added \"z\"", "an end is no break");
        let versions = ["5", "9", "9", "9", "12"].map(|it| format!("resourceVersion={it}"));
        assert_eq!(*asked.lock().unwrap(), versions);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_lost_again_after_it_had_asked_for_a_new_list_is_told_of_again() {
        let gone = r#"{"kind":"Status","code":410,"reason":"Expired"}"#;
        let cut = "{\"type";
        let busy = (503, "busy");
        let (client, _) = server(&[(200, cut), busy, (410, gone), (200, cut), busy, (200, cut)]);
        let mut following = follow(&client);
        let mut told = Vec::new();
        for _ in 0..4 {
            let seen = seen(&mut following).await;
            if seen == "Missed" {
                following.resume("20");
            }
            told.push(seen.split('(').next().unwrap().to_owned());
        }
        assert_eq!(told, ["Broken", "Missed", "Broken", "Back"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_point_that_is_no_longer_kept_asks_for_a_new_list() {
        let gone = r#"{"kind":"Status","code":410,"reason":"Expired"}"#;
        let event = format!(r#"{{"type":"ERROR","object":{gone}}}"#);
        let (client, asked) = server(&[
            (410, gone),
            (200, &format!("{event}\n")),
            (403, r#"{"code":403,"message":"no"}"#),
        ]);
        let mut following = follow(&client);
        assert_eq!(seen(&mut following).await, "Missed");
        following.resume("20");
        assert_eq!(seen(&mut following).await, "Missed");
        following.resume("30");
        assert_eq!(seen(&mut following).await, "error: no");
        let versions = ["5", "20", "30"].map(|it| format!("resourceVersion={it}"));
        assert_eq!(*asked.lock().unwrap(), versions);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_lost() {
        // It sends one line and then nothing.
        let line = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#;
        let service = service_fn(move |_: Request<Bytes>| {
            let first = Frame::data(Bytes::from(format!("{line}\n")));
            let first = stream::iter([Ok::<_, Infallible>(first)]);
            let body = StreamBody::new(first.chain(stream::pending()));
            async { Ok::<_, Infallible>(Response::new(body)) }
        });
        let mut following = follow(&Client::new(transport(service)));
        let began = Instant::now();
        let silent = "Broken(\"it has said nothing for 15s\")";
        assert_eq!(seen(&mut following).await, silent);
        assert_eq!(began.elapsed(), SILENCE_MAX);
        assert_eq!(seen(&mut following).await, "Back");
        // Frequent calls must not extend the time limit.
        while timeout_at(Instant::now() + WAIT_MAX, following.next()).await.is_err() {}
        assert!(began.elapsed() < SILENCE_MAX * 2 + WAIT_MAX * 2);
    }
}
