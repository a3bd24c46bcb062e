//! What an agent may say of an attempt: bounds that it keeps, and to which the apiserver cuts what
//! comes.
//!
//! # Invariants
//!
//! * [`Report::bounded`] of any report whatsoever has no [`Report::problem`]: an end that an engine
//!   told can always be stored, and no task waits for ever for an end that was refused.

use super::transition::Report;

/// Longest reason, in characters: one word.
pub const REASON_CHARS_MAX: usize = 64;
/// Longest message, in characters: what an engine or a program said last.
pub const MESSAGE_CHARS_MAX: usize = 4_096;
/// Longest boot id, in characters: a UUID has 36.
pub const BOOT_ID_CHARS_MAX: usize = 64;
/// Most ports, and the longest name of one: a template has fewer.
pub const PORTS_MAX: usize = 1_000;
/// See [`PORTS_MAX`].
pub const PORT_NAME_CHARS_MAX: usize = 63;

/// What stands before why the apiserver refused the first form of a report.
const WAS_REFUSED: &str = "the agent's report was refused";

/// `text`, or as much of its beginning as fits into `chars_max` characters, with the number of
/// characters that were left out.
pub fn shortened(text: &str, chars_max: usize) -> String {
    let chars = text.chars().count();
    if chars <= chars_max {
        return text.to_owned();
    }
    // More than the sentence that is added is long, whatever the number in it.
    let kept = chars_max.saturating_sub(48);
    let beginning: String = text.chars().take(kept).collect();
    let ending = format!("... ({} more characters)", chars - kept);
    beginning.chars().chain(ending.chars()).take(chars_max).collect()
}

impl Report {
    /// The same within its bounds: what is too long is cut, and says so.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let cut = |text: &mut String, chars_max| *text = shortened(text, chars_max);
        self.reason.iter_mut().for_each(|reason| cut(reason, REASON_CHARS_MAX));
        self.message.iter_mut().for_each(|message| cut(message, MESSAGE_CHARS_MAX));
        cut(&mut self.boot_id, BOOT_ID_CHARS_MAX);
        self.ports.retain(|name, _| name.chars().count() <= PORT_NAME_CHARS_MAX);
        while self.ports.len() > PORTS_MAX {
            self.ports.pop_last();
        }
        self
    }

    /// What is beyond its bounds, if anything.
    #[cfg(test)]
    fn problem(&self) -> Option<String> {
        let texts = [
            ("bootId", Some(&self.boot_id), BOOT_ID_CHARS_MAX),
            ("reason", self.reason.as_ref(), REASON_CHARS_MAX),
            ("message", self.message.as_ref(), MESSAGE_CHARS_MAX),
        ];
        let names = self.ports.keys().map(|name| ("ports", Some(name), PORT_NAME_CHARS_MAX));
        for (field, text, chars_max) in texts.into_iter().chain(names) {
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

    /// The least that tells the same state, after this was refused because of `why`; nothing where
    /// this is that least one already.
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
            restarts: 0,
            exit_code: self.exit_code,
            reason: self.reason.clone(),
            message: Some(message),
            started_at: None,
            finished_at: self.finished_at,
            ports: std::collections::BTreeMap::new(),
        };
        Some(least.bounded())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::task::ReportState;

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

    #[test]
    fn what_is_cut_says_how_much() {
        let text = "a".repeat(5_000);
        let cut = shortened(&text, MESSAGE_CHARS_MAX);
        assert!(cut.ends_with("a... (952 more characters)"), "{cut}");
        assert!(cut.chars().count() <= MESSAGE_CHARS_MAX);
        assert_eq!(shortened("short", 10), "short");
    }
}
