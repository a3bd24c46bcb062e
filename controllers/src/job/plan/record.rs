//! Reads the completion record of a run.

use std::collections::BTreeMap;

use api::CompletionChunk;
use api::completion::{Bits, CHUNK_INDEXES, End, EndCounts, place_of};

/// Which indexes of a run have ended for good, and how.
#[derive(Debug)]
pub(super) struct Record<'a>(BTreeMap<u32, &'a Bits>);

impl<'a> Record<'a> {
    /// The record of `run`.
    pub(super) fn of(chunks: &[&'a CompletionChunk], run: u32) -> Self {
        let of_run = chunks.iter().filter(|chunk| chunk.spec.run == run);
        Self(of_run.map(|chunk| (chunk.spec.chunk, &chunk.spec.bits)).collect())
    }

    /// How an index ended, if it has.
    pub(super) fn get(&self, index: u32) -> Option<End> {
        let (chunk, place) = place_of(index);
        self.0.get(&chunk)?.get(place)
    }

    /// How many of the indexes below `limit` have ended. Looks at each chunk once.
    pub(super) fn counts(&self, limit: u32) -> EndCounts {
        let mut counts = EndCounts::default();
        for (chunk, bits) in &self.0 {
            let before = limit.saturating_sub(chunk.saturating_mul(CHUNK_INDEXES));
            counts += bits.counts(before.min(CHUNK_INDEXES));
        }
        counts
    }

    /// The indexes below `limit` that have not ended, in order. Complete chunks are skipped as a
    /// whole.
    pub(super) fn missing(&self, limit: u32) -> impl Iterator<Item = u32> {
        let chunks = limit.div_ceil(CHUNK_INDEXES);
        (0..chunks).flat_map(move |chunk| {
            let base = chunk * CHUNK_INDEXES;
            let places = (limit - base).min(CHUNK_INDEXES);
            let bits = self.0.get(&chunk).copied();
            let full = bits.is_some_and(|bits| bits.counts(places).total() == places);
            let places = if full { 0 } else { places };
            (0..places)
                .filter(move |place| bits.is_none_or(|bits| bits.get(*place).is_none()))
                .map(move |place| base + place)
        })
    }
}
