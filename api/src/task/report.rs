//! What an agent reports of an attempt, with the bounds of a report. The agent keeps to them, and
//! the apiserver cuts what exceeds them.
//!
//! # Invariants
//!
//! * [`Report::bounded`] of any report is within all bounds. So every end that an engine tells can
//!   be stored, and no task waits for ever for an end that was refused.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LastExit, PAST_MESSAGE_CHARS_MAX, ReportState};

/// Longest reason, in characters: one word.
pub const REASON_CHARS_MAX: usize = 64;
/// Longest message, in characters: what an engine or a program said last.
pub const MESSAGE_CHARS_MAX: usize = 4_096;
/// Longest boot id, in characters: a UUID has 36.
pub const BOOT_ID_CHARS_MAX: usize = 64;
/// Most ports. A template has fewer.
pub const PORTS_MAX: usize = 1_000;
/// Longest name of a port, in characters.
pub const PORT_NAME_CHARS_MAX: usize = 63;

/// The beginning of the message of a report whose first form the apiserver refused.
const WAS_REFUSED: &str = "the agent's report was refused";

/// `text`, or as much of its beginning as fits into `chars_max` characters, followed by how many
/// characters were left out.
pub fn shortened(text: &str, chars_max: usize) -> String {
    let chars = text.chars().count();
    if chars <= chars_max {
        return text.to_owned();
    }
    // 48 characters are enough for the added note, whatever number it contains.
    let kept = chars_max.saturating_sub(48);
    let beginning: String = text.chars().take(kept).collect();
    let ending = format!("... ({} more characters)", chars - kept);
    beginning.chars().chain(ending.chars()).take(chars_max).collect()
}

/// What an agent has observed of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// Number of the binding that it is about.
    pub binding: u32,
    /// The `bootId` of the agent.
    pub boot_id: String,
    /// State of the attempt.
    pub state: ReportState,
    /// Whether it is ready to serve. Default false.
    #[serde(default)]
    pub ready: bool,
    /// Number of restarts in place. Default 0.
    #[serde(default)]
    pub restarts: u32,
    /// Exit code of the process.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// Why it ended, one word of [`super::reason`]; while its container is about to be started
    /// again, why that waits.
    #[serde(default)]
    pub reason: Option<String>,
    /// Why it ended, or what delays its start or its stop, as a sentence.
    #[serde(default)]
    pub message: Option<String>,
    /// When the container started.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// Node ports by port name.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// How its container before this one ended. Only tasks that are restarted in place have one, so
    /// an apiserver that does not know this field is never sent it: apiservers are upgraded first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Box<LastExit>>,
    /// When its container is started again, if it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_at: Option<Timestamp>,
    /// Digest of the image that it runs. Only tasks that are restarted in place are told with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<Box<str>>,
}

/// Whether a text is the digest of an image: `sha256:` and 64 hexadecimal digits in lower case.
pub fn is_image_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    digits.len() == 64 && digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

impl Report {
    /// The names of its fields in JSON.
    pub const FIELDS: [&str; 14] = [
        "binding",
        "bootId",
        "state",
        "ready",
        "restarts",
        "exitCode",
        "reason",
        "message",
        "startedAt",
        "finishedAt",
        "ports",
        "lastExit",
        "restartAt",
        "imageDigest",
    ];

    /// The report with everything that is too long shortened, with a note of how much is missing.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let cut = |text: &mut String, chars_max| *text = shortened(text, chars_max);
        self.reason.iter_mut().for_each(|reason| cut(reason, REASON_CHARS_MAX));
        self.message.iter_mut().for_each(|message| cut(message, MESSAGE_CHARS_MAX));
        if let Some(last) = &mut self.last_exit {
            last.reason.iter_mut().for_each(|reason| cut(reason, REASON_CHARS_MAX));
            last.message.iter_mut().for_each(|message| cut(message, PAST_MESSAGE_CHARS_MAX));
        }
        // Part of a digest would be another image's.
        self.image_digest = self.image_digest.filter(|digest| is_image_digest(digest));
        cut(&mut self.boot_id, BOOT_ID_CHARS_MAX);
        self.ports.retain(|name, _| name.chars().count() <= PORT_NAME_CHARS_MAX);
        while self.ports.len() > PORTS_MAX {
            self.ports.pop_last();
        }
        self
    }

    /// The first bound that it exceeds.
    #[cfg(test)]
    fn problem(&self) -> Option<String> {
        let texts = [
            ("bootId", Some(&self.boot_id), BOOT_ID_CHARS_MAX),
            ("reason", self.reason.as_ref(), REASON_CHARS_MAX),
            ("message", self.message.as_ref(), MESSAGE_CHARS_MAX),
        ];
        let last = self.last_exit.as_ref().map(|last| {
            let message = ("lastExit.message", last.message.as_ref(), PAST_MESSAGE_CHARS_MAX);
            [("lastExit.reason", last.reason.as_ref(), REASON_CHARS_MAX), message]
        });
        let texts = texts.into_iter().chain(last.into_iter().flatten());
        let names = self.ports.keys().map(|name| ("ports", Some(name), PORT_NAME_CHARS_MAX));
        for (field, text, chars_max) in texts.chain(names) {
            let chars = text.map_or(0, |text| text.chars().count());
            if chars > chars_max {
                return Some(format!(
                    "{field}: {chars} characters; at most {chars_max} are allowed"
                ));
            }
        }
        let ports = self.ports.len();
        let why = || format!("ports: {ports} of them; at most {PORTS_MAX} are allowed");
        (ports > PORTS_MAX).then(why)
    }

    /// The smallest report of the same state, to be sent after this one was refused because of
    /// `why`; nothing if this is that report already.
    pub fn minimal(&self, why: &str) -> Option<Self> {
        if self.message.as_ref().is_some_and(|message| message.starts_with(WAS_REFUSED)) {
            return None;
        }
        let message = format!("{WAS_REFUSED}: {why}");
        let least = Self {
            binding: self.binding,
            boot_id: self.boot_id.clone(),
            state: self.state,
            ready: false,
            // Without it the report would be one of an earlier container.
            restarts: self.restarts,
            exit_code: self.exit_code,
            reason: self.reason.clone(),
            message: Some(message),
            started_at: None,
            finished_at: self.finished_at,
            ports: BTreeMap::new(),
            last_exit: None,
            restart_at: None,
            image_digest: None,
        };
        Some(least.bounded())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_report_can_be_bounded_and_told_at_its_least(
            texts in (".{0,80}", ".{0,20}", ".{0,100}"),
            repeated in 1_usize..500,
            ports in proptest::collection::btree_map(".{0,80}", any::<u16>(), 0..20),
            exit_code in any::<Option<i32>>(),
            at in any::<Option<i32>>(),
        ) {
            let at = at.and_then(|second| Timestamp::from_second(i64::from(second)).ok());
            let report = Report {
                binding: 1,
                boot_id: texts.0,
                state: ReportState::Failed,
                ready: true,
                restarts: 3,
                exit_code,
                reason: Some(texts.2),
                message: Some(texts.1.repeat(repeated)),
                started_at: at,
                // Clocks are set back: the end may come before the start.
                finished_at: Some(Timestamp::UNIX_EPOCH),
                ports,
                last_exit: at.map(|at| {
                    let message = Some("long ".repeat(repeated));
                    Box::new(LastExit { exit_code, reason: message.clone(), message, at })
                }),
                restart_at: at,
                image_digest: None,
            };
            let bounded = report.clone().bounded();
            prop_assert_eq!(bounded.problem(), None);
            if report.problem().is_none() {
                prop_assert_eq!(&bounded, &report);
            }
            let why = report.problem().unwrap_or_default().repeat(100);
            let least = bounded.minimal(&why).unwrap();
            prop_assert_eq!(least.problem(), None);
            prop_assert_eq!((least.state, least.exit_code), (bounded.state, bounded.exit_code));
            prop_assert_eq!(least.minimal("again"), None);
        }
    }

    /// An apiserver of an earlier version refuses a whole batch for a field that it does not know.
    #[test]
    fn only_a_task_that_is_restarted_in_place_is_reported_with_new_fields() {
        let read = |text: &str| serde_json::from_str::<Report>(text).unwrap();
        let mut report = read(r#"{"binding":1,"bootId":"b","state":"Running"}"#);
        let expected = concat!(
            r#"{"binding":1,"bootId":"b","state":"Running","ready":false,"restarts":0,"#,
            r#""exitCode":null,"reason":null,"message":null,"startedAt":null,"finishedAt":null,"#,
            r#""ports":{}}"#,
        );
        assert_eq!(serde_json::to_string(&report).unwrap(), expected);
        report.restart_at = Some(Timestamp::UNIX_EPOCH);
        report.last_exit = Some(Box::new(LastExit {
            exit_code: Some(1),
            reason: None,
            message: None,
            at: Timestamp::UNIX_EPOCH,
        }));
        let written = serde_json::to_string(&report).unwrap();
        let new = concat!(
            r#","lastExit":{"exitCode":1,"at":"1970-01-01T00:00:00Z"},"#,
            r#""restartAt":"1970-01-01T00:00:00Z"}"#,
        );
        assert_eq!(written, expected.replace("\"ports\":{}}", &format!("\"ports\":{{}}{new}")));
        assert_eq!(read(&written), report);
    }

    #[test]
    fn what_is_cut_says_how_much() {
        let text = "a".repeat(5_000);
        let cut = shortened(&text, MESSAGE_CHARS_MAX);
        assert!(cut.ends_with("a... (952 more characters)"), "{cut}");
        assert!(cut.chars().count() <= MESSAGE_CHARS_MAX);
        assert_eq!(shortened("short", 10), "short");
    }
}
