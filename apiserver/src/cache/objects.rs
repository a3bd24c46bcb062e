//! Objects by key, in order, of which a part can be read without looking at the rest.
//!
//! A page of a list tells how many objects follow it. A `BTreeMap` would have to walk over all of
//! them to know; here the sorted list is cut into runs, so that it takes adding up the runs' lengths.

use std::sync::Arc;

use store::Key;

use super::Entry;

/// Most objects of a run: moving as many pointers takes less than a microsecond.
const RUN_MAX: usize = 512;

/// Objects by key.
///
/// Invariant: keys grow within each run and from run to run; no run is empty.
#[derive(Debug, Default)]
pub(super) struct Objects {
    runs: Vec<Vec<(Key, Arc<Entry>)>>,
    len: usize,
}

/// Where an object is, or would be: behind the last of its run, if it is there that it would be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
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

    /// The first place whose key is not before what is sought: `is_before` holds of a key, and of all
    /// keys before that.
    fn seek(&self, is_before: impl Fn(&str) -> bool) -> Place {
        let after = self.runs.partition_point(|run| is_before(&run[0].0));
        let Some(run) = after.checked_sub(1) else { return Place { run: 0, at: 0 } };
        let at = self.runs[run].partition_point(|(key, _)| is_before(key));
        Place { run, at }
    }

    /// Where a key is; otherwise where it is to be put.
    fn find(&self, key: &str) -> Result<Place, Place> {
        let after = self.runs.partition_point(|run| &*run[0].0 <= key);
        let Some(run) = after.checked_sub(1) else { return Err(Place { run: 0, at: 0 }) };
        match self.runs[run].binary_search_by(|(there, _)| (**there).cmp(key)) {
            Ok(at) => Ok(Place { run, at }),
            Err(at) => Err(Place { run, at }),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        let Place { run, at } = self.find(key).ok()?;
        Some(&self.runs[run][at].1)
    }

    /// Puts an object; what was there before.
    pub(super) fn insert(&mut self, key: Key, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let Place { run, at } = match self.find(&key) {
            Ok(Place { run, at }) => {
                return Some(std::mem::replace(&mut self.runs[run][at].1, entry));
            }
            Err(place) => place,
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
            // Objects often come in the order of their names: then every run becomes full.
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

    /// Takes an object away.
    pub(super) fn remove(&mut self, key: &str) -> Option<Arc<Entry>> {
        let Place { run, at } = self.find(key).ok()?;
        let (_, before) = self.runs[run].remove(at);
        self.len -= 1;
        // Where little is left beside each other, it becomes one run; nothing is little, too.
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

    /// Those whose keys start with `prefix` and come after `after`.
    pub(super) fn within(&self, prefix: &str, after: Option<&str>) -> Within<'_> {
        let start = match after {
            Some(after) if after >= prefix => self.seek(|key| key <= after),
            _ => self.seek(|key| key < prefix),
        };
        let end = self.seek(|key| key < prefix || key.starts_with(prefix));
        // After the last of the prefix, or in another one's: nothing is left.
        let left = self.rank(end).saturating_sub(self.rank(start));
        Within { objects: self, next: start, left }
    }

    /// How many objects come before a place.
    fn rank(&self, place: Place) -> usize {
        self.runs[..place.run].iter().map(Vec::len).sum::<usize>() + place.at
    }
}

impl FromIterator<(Key, Arc<Entry>)> for Objects {
    fn from_iter<I: IntoIterator<Item = (Key, Arc<Entry>)>>(objects: I) -> Self {
        let mut all = Self::default();
        objects.into_iter().for_each(|(key, entry)| drop(all.insert(key, entry)));
        all
    }
}

/// Some objects, in order.
#[derive(Debug)]
pub(super) struct Within<'a> {
    objects: &'a Objects,
    next: Place,
    left: usize,
}

impl<'a> Iterator for Within<'a> {
    type Item = &'a Arc<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let Place { run, at } = self.next;
        if let Some((_, entry)) = self.objects.runs.get(run)?.get(at) {
            self.next.at += 1;
            return Some(entry);
        }
        // Behind the last of a run is the first of the next one.
        self.next = Place { run: run + 1, at: 1 };
        Some(&self.objects.runs.get(run + 1)?.first()?.1)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Within<'_> {}

#[cfg(test)]
mod tests;
