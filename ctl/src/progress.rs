//! The progress display of a wait: at a terminal a line that changes, otherwise a line from time to
//! time. Pure.
//!
//! # Invariants
//!
//! * If few objects are awaited, each change of a phase is printed. The first phases of a new
//!   object are printed only if they last.
//! * What changes often, such as a number of tasks, is printed from time to time, and the last line
//!   shows the latest state.
//! * For many objects, one line is printed from time to time.

use std::collections::BTreeMap;

use crate::target::Target;

/// Up to this many objects have lines of their own.
const FEW: usize = 8;

/// An object with its namespace.
pub type NamespacedTarget = (String, Target);

/// The state of all objects whose outcome is not certain.
#[derive(Debug, Default)]
pub struct Progress {
    /// Number of awaited objects.
    all: usize,
    open: BTreeMap<NamespacedTarget, ObjectState>,
}

#[derive(Debug, Default)]
struct ObjectState {
    /// Empty before its controller has handled it.
    phase: String,
    text: String,
    /// The text that was printed last; empty before.
    told: String,
}

impl ObjectState {
    fn line(&self, target: &Target) -> String {
        format!("{target}: {}", self.text)
    }

    /// Whether there is anything to print. That its controller has not handled it yet is printed
    /// only if it lasts.
    fn is_known(&self) -> bool {
        !self.phase.is_empty() || self.text == self.told
    }
}

/// The phases of a new object.
const FLEETING: [&str; 2] = ["", "Pending"];

impl Progress {
    /// Nothing is known yet of `all` objects.
    pub fn of(all: usize) -> Self {
        Self { all, open: BTreeMap::new() }
    }

    /// Updates the state of an object. Returns a line if it has to be printed at once.
    pub fn see(&mut self, key: NamespacedTarget, (phase, text): (&str, &str)) -> Option<String> {
        let line = format!("{}: {text}", key.1);
        let standing = self.open.entry(key).or_default();
        let is_news = standing.phase != phase && !FLEETING.contains(&phase);
        (standing.phase, standing.text) = (phase.to_owned(), text.to_owned());
        if !is_news || self.all > FEW || standing.text == standing.told {
            return None;
        }
        text.clone_into(&mut standing.told);
        Some(line)
    }

    /// The outcome of an object is certain.
    pub fn forget(&mut self, key: &NamespacedTarget) {
        self.open.remove(key);
    }

    /// The lines for all states that differ from what was printed last, to be printed from time to
    /// time.
    pub fn due(&mut self) -> Vec<String> {
        let is_news = |standing: &ObjectState| standing.text != standing.told;
        let news = self.open.iter().filter(|(_, standing)| is_news(standing));
        let lines: Vec<String> =
            news.take(FEW + 1).map(|((_, target), standing)| standing.line(target)).collect();
        for standing in self.open.values_mut() {
            standing.told.clone_from(&standing.text);
        }
        if lines.len() > FEW { vec![self.line()] } else { lines }
    }

    /// The state of all objects on one line, which the terminal cuts; empty if there is nothing to
    /// show yet.
    pub fn line(&self) -> String {
        let known = || self.open.iter().filter(|(_, standing)| standing.is_known());
        let each: Vec<String> =
            known().take(FEW).map(|((_, target), it)| it.line(target)).collect();
        if each.is_empty() {
            return String::new();
        }
        let more = known().count().saturating_sub(FEW);
        let more = if more == 0 { String::new() } else { format!("; and {more} more") };
        let standings = format!("{}{more}", each.join("; "));
        let certain = self.all.saturating_sub(self.open.len());
        if self.all == 1 {
            standings
        } else {
            format!("{certain} of {} done; {standings}", self.all)
        }
    }
}

#[cfg(test)]
mod tests {
    use api::KindId;

    use super::*;

    fn key(name: &str) -> NamespacedTarget {
        ("default".to_owned(), Target::new(KindId::Job, name))
    }

    #[test]
    fn a_phase_is_told_at_once_and_numbers_once_in_a_while() {
        let mut progress = Progress::of(1);
        let mut see = |phase: &str, text: &str| progress.see(key("a"), (phase, text));
        assert_eq!(see("", "waiting for the job controller"), None);
        assert_eq!(see("Pending", "Pending"), None);
        assert_eq!(see("Pending", "Pending: 0 of 3 nodes"), None);
        assert_eq!(progress.due(), ["job/a: Pending: 0 of 3 nodes"], "why is not lost");
        assert_eq!(progress.due(), [""; 0]);
        let mut see = |phase: &str, text: &str| progress.see(key("a"), (phase, text));
        assert_eq!(see("Running", "Running, 0 of 9").as_deref(), Some("job/a: Running, 0 of 9"));
        for succeeded in 1..9 {
            assert_eq!(see("Running", &format!("Running, {succeeded} of 9")), None);
        }
        assert_eq!(progress.due(), ["job/a: Running, 8 of 9"]);
        progress.forget(&key("a"));
        assert_eq!(progress.due(), [""; 0]);
    }

    #[test]
    fn of_many_objects_one_line_tells() {
        let all = 10_000;
        let mut progress = Progress::of(all);
        for phase in ["Pending", "Running"] {
            for number in 0..all {
                assert_eq!(progress.see(key(&format!("j-{number}")), (phase, phase)), None);
            }
        }
        let lines = progress.due();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("0 of 10000 done; job/j-0: Running; "), "{lines:?}");
        assert!(lines[0].ends_with("; and 9992 more"), "{lines:?}");
        assert_eq!(progress.due(), [""; 0]);
        for number in 8..all {
            progress.forget(&key(&format!("j-{number}")));
        }
        let told = progress.see(key("j-1"), ("Running", "Running, 3 of 8"));
        assert_eq!(told, None, "it is told with the next");
        assert_eq!(progress.due(), ["job/j-1: Running, 3 of 8"]);
    }

    #[test]
    fn what_its_controller_has_not_seen_is_told_only_if_it_stays_so() {
        let mut progress = Progress::of(2);
        let waits = ("", "waiting for the job controller");
        assert_eq!(progress.see(key("a"), waits), None);
        assert_eq!(progress.line(), "", "there is nothing to say yet");
        assert_eq!(
            progress.see(key("b"), ("Running", "Running")).as_deref(),
            Some("job/b: Running")
        );
        assert_eq!(progress.line(), "0 of 2 done; job/b: Running");
        assert_eq!(progress.due(), ["job/a: waiting for the job controller"]);
        assert_eq!(
            progress.line(),
            "0 of 2 done; job/a: waiting for the job controller; job/b: Running"
        );
        assert_eq!(
            progress.see(key("a"), ("Running", "Running")).as_deref(),
            Some("job/a: Running")
        );
    }

    #[test]
    fn how_far_it_has_come_is_a_line() {
        let mut progress = Progress::of(1);
        let _told = progress.see(key("a"), ("Running", "Running"));
        assert_eq!(progress.line(), "job/a: Running");
        let mut progress = Progress::of(3);
        for (name, phase) in [("b", "Pending"), ("a", "Running")] {
            let _told = progress.see(key(name), (phase, phase));
        }
        assert_eq!(progress.line(), "1 of 3 done; job/a: Running; job/b: Pending");
    }
}
