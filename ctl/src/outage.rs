//! The loss of the server, as noticed by all watches and requests of one command, and reported
//! once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long the server must be lost before that is reported: a restart usually takes less.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// The first wait before the next try.
const WAIT_FIRST: Duration = Duration::from_millis(100);

/// The wait before the next try after a wait of `before`: twice as long, up to `max`.
pub fn next_wait(before: Option<Duration>, max: Duration) -> Duration {
    before.map_or(WAIT_FIRST, |before| (before * 2).min(max))
}

/// Which watches and requests of one command have lost the server. A command may have several,
/// which all break at the same time, and the user should be told once.
#[derive(Debug, Clone)]
pub struct Outage {
    server: Arc<str>,
    missing: watch::Sender<Missing>,
}

#[derive(Debug, Clone, Default)]
struct Missing {
    /// Number of broken ones.
    count: usize,
    /// Since when any is broken, and why.
    lost: Option<(Instant, String)>,
    /// Since when none is broken any more; `None` if none ever was.
    back: Option<Instant>,
    /// Whether the server has ever answered.
    has_answered: bool,
}

/// For how long the server has been lost, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Which server.
    pub server: String,
    /// For how long, in whole seconds.
    pub for_secs: u64,
    /// Why it did not answer at first.
    pub why: String,
}

impl Outage {
    /// Nothing is known of the server yet.
    pub fn new(server: &str) -> Self {
        Self { server: server.into(), missing: watch::Sender::default() }
    }

    /// A handle for one watch or request.
    pub fn link(&self) -> Link {
        Link { outage: self.clone(), is_broken: false }
    }

    /// The server has answered.
    pub fn answered(&self) {
        self.missing
            .send_if_modified(|missing| !std::mem::replace(&mut missing.has_answered, true));
    }

    /// Whether the server has answered anything so far.
    pub fn has_answered(&self) -> bool {
        self.missing.borrow().has_answered
    }

    /// Whether the server is lost.
    pub fn is_on(&self) -> bool {
        self.missing.borrow().count > 0
    }

    /// The loss; nothing if the server is there.
    pub fn lost(&self) -> Option<Lost> {
        let missing = self.missing.borrow();
        let (since, why) = missing.lost.as_ref()?;
        let server = self.server.to_string();
        Some(Lost { server, for_secs: since.elapsed().as_secs(), why: why.clone() })
    }

    fn begins(&self, since: Instant, why: &str) {
        self.missing.send_modify(|missing| {
            missing.count += 1;
            missing.lost.get_or_insert_with(|| (since, why.to_owned()));
        });
    }

    fn ends(&self) {
        self.missing.send_modify(|missing| {
            missing.count = missing.count.saturating_sub(1);
            if missing.count == 0 {
                (missing.lost, missing.back) = (None, Some(Instant::now()));
            }
        });
    }

    /// Resolves once the server has been there again for this long.
    pub async fn is_over_for(&self, lasting: Duration) {
        let mut news = self.missing.subscribe();
        loop {
            let Missing { count, back, .. } = news.borrow_and_update().clone();
            let over = async {
                match back.filter(|_| count == 0) {
                    Some(back) => tokio::time::sleep_until(back + lasting).await,
                    None if count == 0 => (),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = news.changed() => (),
                () = over => return,
            }
        }
    }

    /// Reports when the server has been lost for a while, and when it is back, while the command
    /// runs. Must be polled beside the command.
    pub async fn tell(&self, say: impl Fn(&str)) -> Infallible {
        let mut news = self.missing.subscribe();
        // Never ends by itself: the sender is in `self`.
        loop {
            drop(news.wait_for(|missing| missing.count > 0).await);
            let is_back = |missing: &Missing| missing.count == 0;
            if tokio::time::timeout(TOLD_AFTER, news.wait_for(is_back)).await.is_ok() {
                continue;
            }
            let why = self.lost().map(|lost| lost.why).unwrap_or_default();
            let server = &self.server;
            say(&format!("lost {server}: {why}; trying again"));
            drop(news.wait_for(is_back).await);
            say(&format!("{server} is back"));
        }
    }
}

/// The state of one watch or request. When it is dropped, it does not count as broken any more.
#[derive(Debug)]
pub struct Link {
    outage: Outage,
    is_broken: bool,
}

impl Link {
    /// It broke, or is not answered.
    pub fn broken(&mut self, why: &str) {
        self.broken_since(Instant::now(), why);
    }

    /// It is not answered, and was sent at `since`.
    pub fn broken_since(&mut self, since: Instant, why: &str) {
        if !std::mem::replace(&mut self.is_broken, true) {
            self.outage.begins(since, why);
        }
    }

    /// The server has answered it.
    pub fn back(&mut self) {
        if std::mem::take(&mut self.is_broken) {
            self.outage.ends();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.back();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_outage_that_lasts_is_told_once_whatever_breaks_by_it() {
        let outage = Outage::new("http://h:1");
        let told = RefCell::new(Vec::new());
        let began = Instant::now();
        let events = async {
            let (mut one, mut other) = (outage.link(), outage.link());
            // A restart that nobody needs to know of.
            one.broken("refused");
            tokio::time::sleep(SECOND).await;
            one.back();
            tokio::time::sleep(3 * SECOND).await;
            for link in [&mut one, &mut other] {
                link.broken("refused");
                link.broken("reset");
            }
            tokio::time::sleep(3 * SECOND).await;
            one.back();
            tokio::time::sleep(SECOND).await;
            assert!(outage.is_on(), "the other one is broken");
            other.back();
            tokio::time::sleep(SECOND).await;
            other.broken("again");
            tokio::time::sleep(3 * SECOND).await;
        };
        let tell = outage.tell(|line| {
            told.borrow_mut().push(format!("{}s {line}", began.elapsed().as_secs()));
        });
        tokio::select! {
            () = events => (),
            never = tell => match never {},
        }
        let expected = [
            "6s lost http://h:1: refused; trying again",
            "8s http://h:1 is back",
            "11s lost http://h:1: again; trying again",
        ];
        assert_eq!(*told.borrow(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_it_is_lost_and_why_is_known() {
        let outage = Outage::new("http://h:1");
        let mut link = outage.link();
        assert_eq!(outage.lost(), None);
        link.broken("refused");
        tokio::time::sleep(20 * SECOND).await;
        let lost = outage.lost().unwrap();
        assert_eq!((lost.for_secs, lost.why.as_str()), (20, "refused"));
        drop(link);
        assert_eq!(outage.lost(), None, "nobody follows it any more");
        assert!(!outage.is_on());
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_over_when_the_server_has_been_back_for_a_while() {
        let outage = Outage::new("http://h:1");
        outage.is_over_for(SECOND).await;
        outage.begins(Instant::now(), "refused");
        let began = Instant::now();
        let events = async {
            for is_back in [true, false, true] {
                tokio::time::sleep(SECOND / 2).await;
                if is_back {
                    outage.ends();
                } else {
                    outage.begins(Instant::now(), "refused");
                }
            }
        };
        tokio::join!(events, outage.is_over_for(SECOND));
        assert_eq!(began.elapsed(), SECOND / 2 * 5);
    }
}
