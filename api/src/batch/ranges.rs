//! A set of indexes as ranges: a thousand tasks of a job are a few numbers.

use serde::{Deserialize, Serialize};

/// Indexes, written as the first of each range and how many it holds: `[[0, 99], [120, 1]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(Vec<(u32, u32)>);

impl FromIterator<u32> for Ranges {
    /// Neighbours that come in order share a range.
    fn from_iter<I: IntoIterator<Item = u32>>(indexes: I) -> Self {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for index in indexes {
            match ranges.last_mut() {
                Some((first, count)) if first.checked_add(*count) == Some(index) => *count += 1,
                _ => ranges.push((index, 1)),
            }
        }
        Self(ranges)
    }
}

impl Ranges {
    /// How many indexes it holds, at most: a range ends with the greatest number there is.
    pub fn count(&self) -> usize {
        let counts = self.0.iter().map(|(_, count)| usize::try_from(*count).unwrap_or(usize::MAX));
        counts.fold(0, usize::saturating_add)
    }

    /// Each index, in the order of the ranges.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let range = |(first, count): &(u32, u32)| {
            (*first..=u32::MAX).take(usize::try_from(*count).unwrap_or(usize::MAX))
        };
        self.0.iter().flat_map(range)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, to_string};

    use super::*;

    #[test]
    fn neighbours_share_a_range() {
        let ranges: Ranges = [0, 1, 2, 7, 5, 6].into_iter().collect();
        assert_eq!(to_string(&ranges).unwrap(), "[[0,3],[7,1],[5,2]]");
        assert_eq!(from_str::<Ranges>("[[0,3],[7,1],[5,2]]").unwrap(), ranges);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [0, 1, 2, 7, 5, 6]);
        assert_eq!(ranges.count(), 6);
    }

    #[test]
    fn what_anybody_may_send_ends() {
        let ranges: Ranges = from_str("[[4294967294,4294967295],[3,0]]").unwrap();
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [u32::MAX - 1, u32::MAX]);
        let most = "[[0,4294967295],[0,4294967295]]";
        assert_eq!(from_str::<Ranges>(most).unwrap().count(), 2 * 4_294_967_295);
        let ranges: Ranges = [u32::MAX, 0].into_iter().collect();
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [u32::MAX, 0]);
    }
}
