//! Tests a reader beside a writer that makes any number of steps between two looks of the reader.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use proptest::prelude::*;

use super::tests::rest;
use super::*;
use crate::engine::logs::{LOG_FILES, rotated};

/// Lines after which a file is full.
const LINES_PER_FILE: usize = 2;

/// A writer that can be stopped in the middle of a rotation, as a reader may find it: each line,
/// each rename and each creation of a file is one step.
#[derive(Debug)]
struct Steps {
    path: PathBuf,
    written: usize,
    lines: usize,
    /// The file number that a rotation frees next.
    rotates: Option<u32>,
    /// How many steps are made before each look.
    schedule: VecDeque<usize>,
}

impl Steps {
    fn new(path: PathBuf, first: usize, schedule: Vec<usize>) -> Self {
        let schedule = schedule.into();
        let mut steps = Self { path, written: 0, lines: 0, rotates: None, schedule };
        (0..first).for_each(|_| steps.step());
        steps
    }

    fn step(&mut self) {
        match self.rotates {
            None if self.lines < LINES_PER_FILE => self.write(),
            None => self.rotates = Some(LOG_FILES - 1),
            Some(0) => {
                File::create(&self.path).unwrap();
                (self.lines, self.rotates) = (0, None);
            }
            Some(number) => {
                let (from, to) = (rotated(&self.path, number - 1), rotated(&self.path, number));
                if from.exists() {
                    fs::rename(from, to).unwrap();
                }
                self.rotates = Some(number - 1);
            }
        }
    }

    fn write(&mut self) {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).unwrap();
        let (number, nanos) = (self.written, self.written + 1);
        let line = format!("1970-01-01T00:00:00.{nanos:09}Z stdout F line number {number}\n");
        file.write_all(line.as_bytes()).unwrap();
        self.written += 1;
        self.lines += 1;
    }

    /// What the writer does before a look.
    fn before_look(&mut self) {
        let steps = self.schedule.pop_front().unwrap_or(0);
        (0..steps).for_each(|_| self.step());
    }
}

#[derive(Debug, Clone)]
struct Rotating(Rc<RefCell<Steps>>);

impl Names for Rotating {
    fn open(&self, path: &Path) -> io::Result<Option<File>> {
        self.0.borrow_mut().before_look();
        OnDisk.open(path)
    }

    fn inode(&self, path: &Path) -> io::Result<Option<u64>> {
        self.0.borrow_mut().before_look();
        OnDisk.inode(path)
    }
}

/// Steps before each look: mostly few or none, sometimes several rotations.
fn schedule() -> impl Strategy<Value = Vec<usize>> {
    let steps =
        prop_oneof![6 => Just(0_usize), 3 => 1_usize..4, 2 => 8_usize..12, 1 => 12_usize..60];
    prop::collection::vec(steps, 0..120)
}

#[test]
fn two_rotations_within_a_scan_put_no_newer_file_before_an_older_one() {
    // The steps of one rotation with the lines before it, and of two.
    let (one, two) = (LINES_PER_FILE + 9, 2 * (LINES_PER_FILE + 9));
    for steps in [one, two, 3 * one] {
        for look in 0..40 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.log");
            let writer = Steps::new(path.clone(), 2 * one + LINES_PER_FILE, Vec::new());
            let steps_of = Rc::new(RefCell::new(writer));
            let names = Rotating(Rc::clone(&steps_of));
            let files = LogFiles { places: vec![path], names };
            // It reads the second newest file first, and then the one that is listed after it.
            let options = LogOptions { tail: Some(2 * LINES_PER_FILE), ..LogOptions::default() };
            let mut reader = Reader::begin(files, options).unwrap();
            let first = steps_of.borrow().written - 2 * LINES_PER_FILE;
            let mut schedule = vec![0; look];
            schedule.push(steps);
            steps_of.borrow_mut().schedule = schedule.into();
            let mut seen = rest(&mut reader).0;
            seen.extend(rest(&mut reader).0);
            let written = steps_of.borrow().written;
            let expected: Vec<_> = (first..written).map(Some).collect();
            assert_eq!(seen, expected, "{steps} steps before look {look}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn rotations_between_any_two_looks_repeat_lose_and_reorder_nothing(
        first in 0_usize..140,
        schedule in schedule(),
        tail in prop_oneof![Just(None), (0_usize..20).prop_map(Some)],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let steps = Rc::new(RefCell::new(Steps::new(path.clone(), first, schedule)));
        let files = LogFiles { places: vec![path], names: Rotating(Rc::clone(&steps)) };
        let mut reader = Reader::begin(files, LogOptions { tail, ..LogOptions::default() }).unwrap();
        let mut seen = Vec::new();
        loop {
            let (lines, _) = rest(&mut reader);
            let has_ended = steps.borrow().schedule.is_empty();
            if lines.is_empty() && has_ended {
                break;
            }
            seen.extend(lines);
        }
        let steps = steps.borrow();
        let mut next = if tail.is_some() { None } else { Some(0) };
        for line in &seen {
            match line {
                // If every file is in use when reading begins, older ones may have existed. That
                // cannot be known, so a gap is reported.
                None => {
                    let is_full = rotated(&steps.path, LOG_FILES - 1).exists();
                    prop_assert!(is_full, "a gap, and no file can be gone: {seen:?}");
                    next = None;
                }
                Some(number) => {
                    prop_assert!(next.is_none_or(|next| next == *number), "{next:?}: {seen:?}");
                    next = Some(number + 1);
                }
            }
        }
        let numbers: Vec<usize> = seen.iter().flatten().copied().collect();
        prop_assert!(numbers.is_sorted(), "{seen:?}");
        if tail != Some(0) && steps.written > 0 {
            let is_whole = numbers.last() == Some(&(steps.written - 1));
            prop_assert!(is_whole, "{} lines were written: {seen:?}", steps.written);
        }
    }
}
