//! A sorted map of objects that can be cut into pages without visiting the rest.
//! A page of a list says how many objects follow it. With a `BTreeMap` that would take a walk over
//! all of them. Here the sorted list is split into runs, so it takes adding up the lengths of the
//! runs.

use std::sync::Arc;

use store::Key;

use super::Entry;

/// The maximum number of objects in a run. Moving this many pointers takes less than a microsecond.
const RUN_MAX: usize = 512;

/// Objects sorted by key.
/// Invariant: keys increase within each run and from run to run, and no run is empty.
#[derive(Debug, Default)]
pub(super) struct Objects {
    runs: Vec<Vec<(Key, Arc<Entry>)>>,
    len: usize,
}

/// The position of an object, or the position to insert it at, which may be one past the end of a
/// run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    run: usize,
    at: usize,
}

impl Objects {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.runs.iter().flatten().map(|(_, entry)| entry)
    }

    /// The first position whose key `is_before` does not hold for. It must hold for all keys up to
    /// some point and for none after it.
    fn seek(&self, is_before: impl Fn(&str) -> bool) -> Position {
        let after = self.runs.partition_point(|run| is_before(&run[0].0));
        let Some(run) = after.checked_sub(1) else { return Position { run: 0, at: 0 } };
        let at = self.runs[run].partition_point(|(key, _)| is_before(key));
        Position { run, at }
    }

    /// The position of a key, or else the position to insert it at.
    fn find(&self, key: &str) -> Result<Position, Position> {
        let after = self.runs.partition_point(|run| &*run[0].0 <= key);
        let Some(run) = after.checked_sub(1) else { return Err(Position { run: 0, at: 0 }) };
        match self.runs[run].binary_search_by(|(there, _)| (**there).cmp(key)) {
            Ok(at) => Ok(Position { run, at }),
            Err(at) => Err(Position { run, at }),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        let Position { run, at } = self.find(key).ok()?;
        Some(&self.runs[run][at].1)
    }

    /// Inserts an object, and returns what it replaces.
    pub(super) fn insert(&mut self, key: Key, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let Position { run, at } = match self.find(&key) {
            Ok(Position { run, at }) => {
                return Some(std::mem::replace(&mut self.runs[run][at].1, entry));
            }
            Err(position) => position,
        };
        self.len += 1;
        let Some(objects) = self.runs.get_mut(run) else {
            self.runs.push(vec![(key, entry)]);
            return None;
        };
        if objects.len() < RUN_MAX {
            objects.insert(at, (key, entry));
            return None;
        }
        if at == objects.len() {
            // Objects often arrive in the order of their names. Starting a new run here lets every
            // run fill up.
            self.runs.insert(run + 1, vec![(key, entry)]);
            return None;
        }
        let mut second = objects.split_off(RUN_MAX / 2);
        match at.checked_sub(RUN_MAX / 2) {
            Some(at) => second.insert(at, (key, entry)),
            None => objects.insert(at, (key, entry)),
        }
        objects.shrink_to_fit();
        self.runs.insert(run + 1, second);
        None
    }

    /// Removes an object.
    pub(super) fn remove(&mut self, key: &str) -> Option<Arc<Entry>> {
        let Position { run, at } = self.find(key).ok()?;
        let (_, before) = self.runs[run].remove(at);
        self.len -= 1;
        // Merge this run with its neighbour if the two are small. An empty run is always merged
        // away.
        let left = self.runs[run].len();
        let joins = |other: &Vec<_>| left + other.len() <= RUN_MAX / 2;
        if left == 0 {
            self.runs.remove(run);
        } else if self.runs.get(run + 1).is_some_and(joins) {
            let next = self.runs.remove(run + 1);
            self.runs[run].extend(next);
        } else if let Some(previous) = run.checked_sub(1)
            && joins(&self.runs[previous])
        {
            let this = self.runs.remove(run);
            self.runs[previous].extend(this);
        }
        Some(before)
    }

    /// The objects whose keys start with `prefix` and come after `after`.
    pub(super) fn within(&self, prefix: &str, after: Option<&str>) -> Within<'_> {
        let start = match after {
            Some(after) if after >= prefix => self.seek(|key| key <= after),
            _ => self.seek(|key| key < prefix),
        };
        let end = self.seek(|key| key < prefix || key.starts_with(prefix));
        // `after` may lie past the prefix: then nothing is left.
        let left = self.rank(end).saturating_sub(self.rank(start));
        Within { objects: self, next: start, left }
    }

    /// The number of objects before a position.
    fn rank(&self, position: Position) -> usize {
        self.runs[..position.run].iter().map(Vec::len).sum::<usize>() + position.at
    }
}

impl FromIterator<(Key, Arc<Entry>)> for Objects {
    fn from_iter<I: IntoIterator<Item = (Key, Arc<Entry>)>>(objects: I) -> Self {
        let mut all = Self::default();
        objects.into_iter().for_each(|(key, entry)| drop(all.insert(key, entry)));
        all
    }
}

/// An iterator over objects in order.
#[derive(Debug)]
pub(super) struct Within<'a> {
    objects: &'a Objects,
    next: Position,
    left: usize,
}

impl<'a> Iterator for Within<'a> {
    type Item = &'a Arc<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let Position { run, at } = self.next;
        if let Some((_, entry)) = self.objects.runs.get(run)?.get(at) {
            self.next.at += 1;
            return Some(entry);
        }
        // Past the end of a run comes the first object of the next one.
        self.next = Position { run: run + 1, at: 1 };
        Some(&self.objects.runs.get(run + 1)?.first()?.1)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Within<'_> {}

#[cfg(test)]
mod tests;
