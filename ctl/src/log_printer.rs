//! Prints the lines of several logs, each line whole and with its task, and reports what is
//! missing.

use std::collections::{BTreeMap, BTreeSet};

use api::table::some_of;
use base::Timestamp;

use crate::failure::Failure;
use crate::log::{Line, LogUpdate};
use crate::{output, terminal};

/// Most bytes that are printed at once.
const PRINTED_BYTES: usize = 64 * 1024;
/// Most empty logs that are named.
const SILENT_MAX: usize = 5;
/// The column of names does not become wider than this.
const WIDTH_MAX: usize = 40;

/// The attempt that a log belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Of {
    /// The task.
    pub task: String,
    /// Its uid: after a task was deleted, another may have its name.
    pub uid: String,
    /// Its attempt.
    pub attempt: u32,
}

impl Of {
    /// The label before a line. It contains the attempt if that is not the first.
    fn label(&self) -> String {
        let task = output::printable(&self.task);
        if self.attempt == 1 { task } else { format!("{task}#{}", self.attempt) }
    }

    fn words(&self) -> String {
        format!("{} attempt {}", output::printable(&self.task), self.attempt)
    }
}

/// Prints what logs say.
#[derive(Debug)]
pub struct Printer {
    timestamps: bool,
    with_names: bool,
    width: usize,
    /// Text that was not printed yet.
    held: Vec<u8>,
    /// The log whose unfinished line is at the end of the printed text.
    open: Option<Of>,
    /// The log whose line was printed last.
    last: Option<Of>,
    /// Logs with missing lines before the next one, and since when, if any line was printed before.
    gaps: BTreeMap<Of, Option<Timestamp>>,
    /// Logs of which something was printed.
    heard: BTreeSet<Of>,
    /// Logs that ended without a line.
    silent: Vec<Of>,
    is_incomplete: bool,
}

impl Printer {
    /// Nothing is printed yet.
    pub fn new(timestamps: bool, with_names: bool) -> Self {
        Self {
            timestamps,
            with_names,
            width: 0,
            held: Vec::new(),
            open: None,
            last: None,
            gaps: BTreeMap::new(),
            heard: BTreeSet::new(),
            silent: Vec::new(),
            is_incomplete: false,
        }
    }

    /// Widens the column of names if necessary.
    pub fn make_room(&mut self, of: &Of) {
        let label = of.label();
        self.width = self.width.max(label.chars().count().min(WIDTH_MAX));
    }

    /// Whether any text waits to be printed.
    pub fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// Prints the waiting text.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() { Ok(()) } else { terminal::print_bytes(&held) }
    }

    /// Takes in an update of a log.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn heard(&mut self, of: &Of, heard: LogUpdate) -> Result<(), Failure> {
        match heard {
            LogUpdate::Line(line) => {
                self.note_heard(of);
                self.tell_gap(of, Some(line.time))?;
                self.tell_attempt(of)?;
                self.print(of, &line);
                if self.held.len() < PRINTED_BYTES { Ok(()) } else { self.flush() }
            }
            LogUpdate::Gap(since) => {
                self.note_heard(of);
                self.gaps.entry(of.clone()).or_insert(since);
                Ok(())
            }
            LogUpdate::End => {
                if !self.heard.remove(of) {
                    self.silent.push(of.clone());
                }
                self.end_line(of);
                self.tell_gap(of, None)
            }
            LogUpdate::Broken(why) => {
                self.tell(&format!("lost the log of {}: {why}; trying again", of.words()))
            }
            LogUpdate::Back => self.tell(&format!("the log of {} is back", of.words())),
            LogUpdate::Failed(error) => self.failed(of, &Failure::new(error.to_string())),
        }
    }

    fn note_heard(&mut self, of: &Of) {
        if !self.heard.contains(of) {
            self.heard.insert(of.clone());
        }
    }

    /// Reports which logs were empty.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn tell_silent(&mut self) -> Result<(), Failure> {
        let silent = std::mem::take(&mut self.silent);
        if silent.is_empty() { Ok(()) } else { self.tell(&nothing_printed(&silent)) }
    }

    /// The rest of a log cannot be read.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn failed(&mut self, of: &Of, failure: &Failure) -> Result<(), Failure> {
        self.end_line(of);
        self.is_incomplete = true;
        self.tell(&unread(of, failure))
    }

    /// A log pauses because the node of its task is lost; the failure says what to do.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn lost(&mut self, of: &Of, failure: &Failure) -> Result<(), Failure> {
        self.end_line(of);
        self.tell(&unread(of, failure))
    }

    /// An attempt has no log because its program never ran.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn did_not_start(&mut self, of: &Of, why: &str) -> Result<(), Failure> {
        self.tell(&format!("{} did not start {}", of.words(), output::printable(why)))
    }

    /// This log and `others` more wait, because `shown` others are being printed.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn wait(&mut self, first: &Of, others: usize, shown: usize) -> Result<(), Failure> {
        self.tell(&waiting(first, others, shown))
    }

    /// Prints everything that is left.
    ///
    /// # Errors
    /// Stdout cannot be written, or not everything could be read.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.flush()?;
        if self.is_incomplete {
            let failure = Failure::new("some of the output is missing");
            return Err(failure.hint("the lines above say what and why"));
        }
        Ok(())
    }

    /// Prints a message between the lines.
    fn tell(&mut self, text: &str) -> Result<(), Failure> {
        self.flush()?;
        terminal::note(text);
        Ok(())
    }

    fn tell_gap(&mut self, of: &Of, until: Option<Timestamp>) -> Result<(), Failure> {
        let Some(since) = self.gaps.remove(of) else { return Ok(()) };
        self.end_line(of);
        // A log may begin later than its task. If a log has no other gap, that is worth no message.
        self.is_incomplete |= since.is_some() || until.is_none();
        self.tell(&gap(of, since, until))
    }

    /// Without names before the lines, another attempt is announced once.
    fn tell_attempt(&mut self, of: &Of) -> Result<(), Failure> {
        let is_other = self.last.as_ref().is_some_and(|last| last != of);
        if is_other || self.last.is_none() {
            self.last = Some(of.clone());
        }
        if is_other && !self.with_names {
            return self.tell(&format!("-- {}", of.words()));
        }
        Ok(())
    }

    fn print(&mut self, of: &Of, line: &Line) {
        let is_open = self.open.as_ref() == Some(of);
        if line.starts || !is_open {
            self.break_line();
            if self.with_names {
                let (label, width) = (of.label(), self.width);
                self.held.extend_from_slice(format!("{label:width$} | ").as_bytes());
            }
            if self.timestamps {
                self.held.extend_from_slice(format!("{:.9} ", line.time).as_bytes());
            }
        }
        self.held.extend_from_slice(&line.bytes);
        self.open = (!line.bytes.ends_with(b"\n")).then(|| of.clone());
    }

    /// Ends an unfinished line of a log.
    fn end_line(&mut self, of: &Of) {
        if self.open.as_ref() == Some(of) {
            self.break_line();
        }
    }

    fn break_line(&mut self) {
        if self.open.take().is_some() {
            self.held.push(b'\n');
        }
    }
}

/// Why the rest of a log is missing, as a line among those of other logs.
fn unread(of: &Of, failure: &Failure) -> String {
    let (words, Failure { message, hint, .. }) = (of.words(), failure);
    // Some failures name the log themselves, and what can be read instead.
    match hint {
        Some(hint) if message.contains(&words) => format!("{message} ({hint})"),
        _ => format!("{words}: {message}"),
    }
}

fn nothing_printed(silent: &[Of]) -> String {
    format!("{} printed nothing.", some_of(silent.iter().map(Of::words), SILENT_MAX))
}

fn gap(of: &Of, since: Option<Timestamp>, until: Option<Timestamp>) -> String {
    let of = of.words();
    let kept = "a node keeps the newest 64 MiB of a log, and nothing while its disk is full or after \
                what writes the log was killed";
    match (since, until) {
        (None, Some(until)) => {
            format!("{of}: lines before {until:.3} are no longer there ({kept})")
        }
        (Some(since), Some(until)) => {
            format!("{of}: lines between {since:.3} and {until:.3} are missing ({kept})")
        }
        (None, None) => format!("{of}: its lines are no longer there ({kept})"),
        (Some(since), None) => format!("{of}: lines after {since:.3} are missing ({kept})"),
    }
}

fn waiting(first: &Of, others: usize, shown: usize) -> String {
    let task = output::printable(&first.task);
    let what = match others {
        0 => format!("the log of {} waits", first.words()),
        1 => format!("2 more logs wait, of {task} and 1 other"),
        _ => format!("{} more logs wait, of {task} and {others} others", others + 1),
    };
    format!(
        "{what}: {shown} are followed at once, the next when one of them ends; \
         to see one now: hctl logs -f task/{task}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_logs_wait_is_said_with_what_to_do() {
        let of = Of { task: "a-64".to_owned(), uid: String::new(), attempt: 1 };
        assert_eq!(
            waiting(&of, 35, 64),
            "36 more logs wait, of a-64 and 35 others: 64 are followed at once, the next when one of \
             them ends; to see one now: hctl logs -f task/a-64"
        );
        assert!(waiting(&of, 0, 64).starts_with("the log of a-64 attempt 1 waits: 64 are"));
    }

    #[test]
    fn a_log_that_cannot_be_read_is_named_once() {
        let of = of("a-1", 2);
        assert_eq!(unread(&of, &Failure::new("no").hint("try")), "a-1 attempt 2: no");
        let named = Failure::new("the log of a-1 attempt 2 cannot be read: node-b is silent");
        assert_eq!(
            unread(&of, &named.hint("attempt 3 runs on node-a instead")),
            "the log of a-1 attempt 2 cannot be read: node-b is silent (attempt 3 runs on node-a \
             instead)"
        );
    }

    fn line(text: &str, starts: bool) -> LogUpdate {
        let time = Timestamp::UNIX_EPOCH;
        LogUpdate::Line(Line { time, starts, bytes: text.as_bytes().to_vec() })
    }

    fn of(task: &str, attempt: u32) -> Of {
        Of { task: task.to_owned(), uid: String::new(), attempt }
    }

    fn printed(printer: &Printer) -> String {
        String::from_utf8(printer.held.clone()).unwrap()
    }

    #[test]
    fn names_are_padded_and_attempts_told_apart() {
        let mut printer = Printer::new(false, true);
        printer.make_room(&of("a-0", 1));
        printer.make_room(&of("a-10", 2));
        for (of, text) in [(of("a-0", 1), "one\n"), (of("a-10", 2), "two\n")] {
            printer.heard(&of, line(text, true)).unwrap();
        }
        assert_eq!(printed(&printer), "a-0    | one\na-10#2 | two\n");
    }

    #[test]
    fn lines_are_whole_whatever_comes_between() {
        let mut printer = Printer::new(true, true);
        let (a, b) = (of("a", 1), of("b", 1));
        printer.heard(&a, line("long", true)).unwrap();
        printer.heard(&a, line("er\n", false)).unwrap();
        printer.heard(&a, line("no end", true)).unwrap();
        printer.heard(&b, line("b\n", true)).unwrap();
        printer.heard(&a, line("of it", true)).unwrap();
        printer.heard(&a, LogUpdate::End).unwrap();
        let time = "1970-01-01T00:00:00.000000000Z";
        let expected =
            format!("a | {time} longer\na | {time} no end\nb | {time} b\na | {time} of it\n");
        assert_eq!(printed(&printer), expected);
    }

    #[test]
    fn what_is_missing_at_the_beginning_is_told_and_in_the_middle_is_a_failure() {
        let mut printer = Printer::new(false, false);
        let a = of("a", 1);
        printer.heard(&a, LogUpdate::Gap(None)).unwrap();
        printer.heard(&a, line("one\n", true)).unwrap();
        assert!(!printer.is_incomplete);
        printer.heard(&a, LogUpdate::Gap(Some(Timestamp::UNIX_EPOCH))).unwrap();
        printer.heard(&a, LogUpdate::End).unwrap();
        assert!(printer.finish().is_err());
        let until = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(
            gap(&a, until, until),
            "a attempt 1: lines between 1970-01-01T00:00:00.000Z and 1970-01-01T00:00:00.000Z are \
             missing (a node keeps the newest 64 MiB of a log, and nothing while its disk is full \
             or after what writes the log was killed)"
        );
        for (since, until, part) in [
            (None, until, "a attempt 1: lines before 1970-01-01T00:00:00.000Z are no longer there"),
            (None, None, "a attempt 1: its lines are no longer there"),
            (until, None, "a attempt 1: lines after 1970-01-01T00:00:00.000Z are missing"),
        ] {
            let words = gap(&a, since, until);
            assert!(words.starts_with(part) && words.contains("newest 64 MiB"), "{words}");
        }
    }

    #[test]
    fn logs_that_are_empty_are_known_by_name() {
        let mut printer = Printer::new(false, true);
        printer.heard(&of("a", 2), line("one\n", true)).unwrap();
        for name in ["a", "b", "c"] {
            printer.heard(&of(name, 2), LogUpdate::End).unwrap();
        }
        assert_eq!(nothing_printed(&printer.silent), "b attempt 2, c attempt 2 printed nothing.");
        let many: Vec<Of> = (0..7).map(|number| of(&format!("t-{number}"), 1)).collect();
        assert!(nothing_printed(&many).ends_with("t-4 attempt 1 and 2 more printed nothing."));
        printer.tell_silent().unwrap();
        assert!(printer.silent.is_empty());
    }

    #[test]
    fn a_log_of_which_nothing_is_there_is_a_failure() {
        let mut printer = Printer::new(false, false);
        let a = of("a", 1);
        printer.heard(&a, LogUpdate::Gap(None)).unwrap();
        printer.heard(&a, LogUpdate::End).unwrap();
        assert!(printer.finish().is_err());
    }

    #[test]
    fn a_log_that_cannot_be_had_is_a_failure() {
        let mut printer = Printer::new(false, true);
        printer.failed(&of("a", 1), &Failure::new("gone")).unwrap();
        assert!(printer.finish().is_err());
    }
}
