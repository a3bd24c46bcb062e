//! The completion record: which indexes of a job's run have ended for good, and how.
//!
//! Two bits for each index, in chunks of 8,192 indexes, stored under the job's uid and the run. An
//! end that is recorded is never changed. The create of a task is guarded on its bit, so that no
//! index runs again after its end was recorded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::kind::KindId;
use crate::metadata;
use crate::object::{Definition, Kind as _, Object};
use crate::resource::{Column, Resource, column};
use crate::table::age;
use crate::violation::Violation;

/// Indexes in one chunk.
pub const CHUNK_INDEXES: u32 = 8192;
const BYTES: usize = CHUNK_INDEXES as usize / 4;

/// How an index ended for good.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum End {
    /// The task succeeded.
    Succeeded,
    /// The task failed and is not tried again.
    Failed,
    /// The task was stopped on purpose.
    Cancelled,
}

/// The ends of 8,192 indexes of one run. Its name is `<run>.<chunk>`; in the place of a namespace
/// its key has the job's uid.
pub type CompletionChunk = Object<CompletionChunkDefinition>;

/// Makes [`CompletionChunk`] a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionChunkDefinition;

impl Definition for CompletionChunkDefinition {
    const ID: KindId = KindId::CompletionChunk;
    type Spec = CompletionChunkSpec;
    type Status = CompletionChunkStatus;
}

/// Which chunk it is, and its bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompletionChunkSpec {
    /// The job's uid.
    pub job: String,
    /// The run.
    pub run: u32,
    /// Number of the chunk: index / 8,192.
    pub chunk: u32,
    /// How each index of the chunk ended.
    pub bits: Bits,
}

/// Empty: the whole content of a chunk is in its spec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CompletionChunkStatus {}

impl CompletionChunk {
    /// An empty chunk.
    pub fn empty(job_uid: &str, run: u32, chunk: u32) -> Self {
        let spec =
            CompletionChunkSpec { job: job_uid.to_owned(), run, chunk, bits: Bits::default() };
        Self::new(job_uid, &chunk_name(run, chunk), spec)
    }

    /// The indexes of this chunk that have ended, with how.
    pub fn ends(&self) -> impl Iterator<Item = (u32, End)> {
        // Saturating: a damaged chunk with a huge number must not make a reader panic. Valid chunks
        // never reach the last number.
        let base = self.spec.chunk.saturating_mul(CHUNK_INDEXES);
        self.spec.bits.iter().map(move |(place, end)| (base.saturating_add(place), end))
    }

    /// The uid of the job that it belongs to.
    pub fn job_uid(&self) -> &str {
        self.namespace()
    }
}

impl Resource for CompletionChunk {
    fn validate(&self) -> Vec<Violation> {
        metadata::validate(KindId::CompletionChunk, &self.metadata)
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                column("NAME"),
                column("SUCCEEDED"),
                column("FAILED"),
                column("CANCELLED"),
                column("AGE"),
            ]
        }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let ended = |how: End| self.ends().filter(|(_, end)| *end == how).count().to_string();
        let counts = [End::Succeeded, End::Failed, End::Cancelled].map(ended);
        let mut cells = vec![self.name().to_owned()];
        cells.extend(counts);
        cells.push(age(self.created(), now));
        cells
    }
}

/// The name of a chunk.
pub fn chunk_name(run: u32, chunk: u32) -> String {
    format!("{run}.{chunk}")
}

/// The chunk that holds an index, and the position of the index in it.
pub fn place_of(index: u32) -> (u32, u32) {
    (index / CHUNK_INDEXES, index % CHUNK_INDEXES)
}

/// Two bits for each of 8,192 positions. On the wire they are base64 without trailing zeros.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bits(Vec<u8>);

impl Bits {
    /// How the index at position `place` ended; nothing if it has not.
    pub fn get(&self, place: u32) -> Option<End> {
        let (byte, shift) = Self::position(place);
        match self.0.get(byte).map_or(0, |bits| bits >> shift & 0b11) {
            1 => Some(End::Succeeded),
            2 => Some(End::Failed),
            3 => Some(End::Cancelled),
            _ => None,
        }
    }

    /// Records an end unless one is recorded already. Returns whether `end` is what is recorded
    /// now.
    pub fn set(&mut self, place: u32, end: End) -> bool {
        debug_assert!(place < CHUNK_INDEXES, "a place is within its chunk");
        if let Some(before) = self.get(place) {
            return before == end;
        }
        let (byte, shift) = Self::position(place);
        if self.0.len() <= byte {
            self.0.resize(byte + 1, 0);
        }
        let code = match end {
            End::Succeeded => 1,
            End::Failed => 2,
            End::Cancelled => 3,
        };
        self.0[byte] |= code << shift;
        true
    }

    /// The positions that have ended, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, End)> {
        let places = u32::try_from(self.0.len() * 4).unwrap_or(CHUNK_INDEXES);
        (0..places).filter_map(|place| Some((place, self.get(place)?)))
    }

    /// How many of the positions before `limit` have ended in each way. It reads every byte of the
    /// chunk.
    pub fn counts(&self, limit: u32) -> EndCounts {
        let (whole, rest) = (limit / 4, limit % 4);
        let whole = usize::try_from(whole).unwrap_or(usize::MAX);
        let mut counts = EndCounts::default();
        for byte in self.0.iter().take(whole) {
            counts.add_byte(*byte);
        }
        if let Some(byte) = self.0.get(whole) {
            counts.add_byte(byte & !(u8::MAX << (rest * 2)));
        }
        counts
    }

    fn position(place: u32) -> (usize, u32) {
        (usize::try_from(place / 4).unwrap_or(usize::MAX), place % 4 * 2)
    }
}

/// How many indexes have ended, by how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndCounts {
    /// Succeeded.
    pub succeeded: u32,
    /// Failed and not tried again.
    pub failed: u32,
    /// Stopped on purpose.
    pub cancelled: u32,
}

impl EndCounts {
    /// All of them.
    pub fn total(self) -> u32 {
        self.succeeded + self.failed + self.cancelled
    }

    /// Counts one more.
    pub fn add(&mut self, end: End) {
        match end {
            End::Succeeded => self.succeeded += 1,
            End::Failed => self.failed += 1,
            End::Cancelled => self.cancelled += 1,
        }
    }

    /// Counts the four positions of one byte.
    fn add_byte(&mut self, byte: u8) {
        let (low, high) = (byte & 0x55, byte >> 1 & 0x55);
        self.succeeded += (low & !high).count_ones();
        self.failed += (high & !low).count_ones();
        self.cancelled += (low & high).count_ones();
    }
}

impl std::ops::AddAssign for EndCounts {
    fn add_assign(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
    }
}

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(de::Error::custom)?;
        if bytes.len() > BYTES {
            return Err(de::Error::custom("more than 8192 places"));
        }
        Ok(Self(bytes))
    }
}

impl JsonSchema for Bits {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bits".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "byte" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_stays() {
        let mut bits = Bits::default();
        assert!(bits.set(8191, End::Succeeded));
        assert!(bits.set(5, End::Failed));
        assert!(!bits.set(5, End::Succeeded), "an end is final");
        assert_eq!(bits.get(5), Some(End::Failed));
        assert_eq!(bits.get(4), None);
        let json = serde_json::to_string(&bits).unwrap();
        assert_eq!(serde_json::from_str::<Bits>(&json).unwrap(), bits);
        assert_eq!(bits.iter().collect::<Vec<_>>(), [(5, End::Failed), (8191, End::Succeeded)]);
    }

    /// A chunk far beyond all that there are is in an old store, or was written by hand.
    #[test]
    fn no_index_follows_the_last_number() {
        let mut chunk = CompletionChunk::empty("uid", 1, u32::MAX);
        chunk.spec.bits.set(0, End::Succeeded);
        chunk.spec.bits.set(8191, End::Failed);
        let ends: Vec<_> = chunk.ends().collect();
        assert_eq!(ends, [(u32::MAX, End::Succeeded), (u32::MAX, End::Failed)]);
        let mut last = CompletionChunk::empty("uid", 1, u32::MAX / CHUNK_INDEXES);
        last.spec.bits.set(8191, End::Failed);
        assert_eq!(last.ends().collect::<Vec<_>>(), [(u32::MAX, End::Failed)]);
    }

    #[test]
    fn ends_are_counted_up_to_a_limit() {
        let mut bits = Bits::default();
        for (place, end) in [(0, End::Succeeded), (5, End::Failed), (6, End::Cancelled)] {
            bits.set(place, end);
        }
        for limit in 0..=12 {
            let mut wanted = EndCounts::default();
            bits.iter().filter(|(place, _)| *place < limit).for_each(|(_, end)| wanted.add(end));
            assert_eq!(bits.counts(limit), wanted, "before {limit}");
        }
    }
}
