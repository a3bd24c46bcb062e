//! A text, stored as what is different in it from another text.
//! Two versions of an object differ in their resource versions and in one or two fields. Kept this
//! way, the older one takes about a hundred bytes in place of a thousand.

/// How far to look, after two texts have begun to differ, for a place where they agree again at
/// the same distance: numbers and times are replaced by others of the same length.
const REPLACED_MAX: usize = 32;
/// For how many bytes they have to agree there.
const AGREED_MIN: usize = 16;
/// The maximum number of pieces, so that comparing two texts takes one pass.
const PIECES_MAX: usize = 8;
/// The number of bytes that are compared at once.
const STRIDE: usize = 32;

/// What is needed to make a text from another one.
#[derive(PartialEq, Eq)]
pub(super) struct Difference {
    pieces: Box<[Piece]>,
    /// The bytes that are only in this text.
    own: Box<[u8]>,
}

/// A part of the text: first some bytes that both texts have, then some that are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    /// The number of bytes to copy from the other text.
    same: u32,
    /// The number of bytes of the other text that are left out after that.
    skipped: u32,
    /// The number of this text's own bytes in their place.
    own: u32,
}

/// Leaves out the text, which may be of a Secret.
impl std::fmt::Debug for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Difference").field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

impl Difference {
    /// The difference that makes `text` from `other`. `None` if a text is 4 GiB long or longer.
    pub(super) fn of(text: &[u8], other: &[u8]) -> Option<Self> {
        let (mut pieces, mut own) = (Vec::new(), Vec::new());
        let (mut text, mut other) = (text, other);
        loop {
            let same = common_start(text, other);
            (text, other) = (&text[same..], &other[same..]);
            if text.is_empty() && other.is_empty() {
                break;
            }
            let replaced = replaced(text, other).filter(|_| pieces.len() + 1 < PIECES_MAX);
            let (skipped, kept) = replaced.map_or_else(
                || {
                    let end = common_end(text, other);
                    (other.len() - end, text.len() - end)
                },
                |length| (length, length),
            );
            let number = |length: usize| u32::try_from(length).ok();
            pieces.push(Piece {
                same: number(same)?,
                skipped: number(skipped)?,
                own: number(kept)?,
            });
            own.extend_from_slice(&text[..kept]);
            (text, other) = (&text[kept..], &other[skipped..]);
            if replaced.is_none() {
                // The rest is the same in both.
                break;
            }
        }
        Some(Self { pieces: pieces.into(), own: own.into() })
    }

    /// Makes the text from the other one. `None` if the other one is too short to be the one that
    /// this was made with.
    pub(super) fn applied_to(&self, other: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::with_capacity(other.len() + self.own.len());
        let (mut other, mut own) = (other, &*self.own);
        for piece in &self.pieces {
            let [same, skipped, kept] =
                [piece.same, piece.skipped, piece.own].map(|length| length as usize);
            let (copied, rest) = other.split_at_checked(same)?;
            text.extend_from_slice(copied);
            other = rest.get(skipped..)?;
            let (inserted, rest) = own.split_at_checked(kept)?;
            text.extend_from_slice(inserted);
            own = rest;
        }
        text.extend_from_slice(other);
        Some(text)
    }

    /// The memory that it takes, without the value itself.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.pieces) + self.own.len()
    }
}

/// The length of what both texts start with.
fn common_start(one: &[u8], two: &[u8]) -> usize {
    let strides = one.chunks_exact(STRIDE).zip(two.chunks_exact(STRIDE));
    let same = strides.take_while(|(one, two)| one == two).count() * STRIDE;
    let rest = one[same..].iter().zip(&two[same..]);
    same + rest.take_while(|(one, two)| one == two).count()
}

/// The length of what both texts end with.
fn common_end(one: &[u8], two: &[u8]) -> usize {
    let strides = one.rchunks_exact(STRIDE).zip(two.rchunks_exact(STRIDE));
    let same = strides.take_while(|(one, two)| one == two).count() * STRIDE;
    let rest = one[..one.len() - same].iter().rev().zip(two[..two.len() - same].iter().rev());
    same + rest.take_while(|(one, two)| one == two).count()
}

/// The number of bytes after which two texts that differ agree again, at the same distance.
fn replaced(one: &[u8], two: &[u8]) -> Option<usize> {
    (1..=REPLACED_MAX).find(|&length| {
        let after = length..length + AGREED_MIN;
        one.get(after.clone()).is_some_and(|agreed| two.get(after) == Some(agreed))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checked(text: &[u8], other: &[u8]) -> Difference {
        let difference = Difference::of(text, other).unwrap();
        assert_eq!(difference.applied_to(other).as_deref(), Some(text));
        difference
    }

    #[test]
    fn two_versions_of_a_task_differ_in_little() {
        let task = |version: &str, spec: &str, status: &str| {
            let meta = "namespace: default, name: made-by-a-job-17, owner: a job with a long name";
            let uid = "uid: 01890d5f-7a21-7bb0-8a3c-d1f0a2b3c4d5";
            format!(
                "{{meta: {meta}, version: {version}, {uid}, spec: template: t{spec}, status: {status}}}"
            )
        };
        let created = task("123904", "", "Pending");
        let bound = task("125952", ", binding: {node: n, at: 2026-01-01T00:00:00Z}", "Bound");
        let runs =
            task("126977", ", binding: {node: n, at: 2026-01-01T00:00:00Z}", "Running, by: x");
        for (older, newer) in [(&created, &bound), (&bound, &runs)] {
            let difference = checked(older.as_bytes(), newer.as_bytes());
            assert!(difference.own.len() < 40, "{difference:?}");
        }
    }

    #[test]
    fn equal_texts_and_empty_ones_have_a_difference_too() {
        for (text, other) in [("", ""), ("a", ""), ("", "a"), ("same", "same"), ("aa", "aaa")] {
            checked(text.as_bytes(), other.as_bytes());
        }
        assert_eq!(checked(b"same", b"same").bytes(), 0);
    }

    #[test]
    fn a_text_that_is_too_short_is_none_that_it_was_made_with() {
        let difference = checked(b"one two three", b"one 2 three");
        assert_eq!(difference.applied_to(b"one"), None);
    }

    /// Parts of texts, of which some are long enough for the two to be found to agree again.
    fn parts() -> impl Strategy<Value = Vec<String>> {
        let part = prop_oneof!["[ab]{0,3}", "[a-c]{16,70}", Just("0123456789".repeat(8))];
        prop::collection::vec(part, 0..12)
    }

    proptest! {
        #[test]
        fn a_text_is_made_again_from_its_difference(
            (parts, changes) in (parts(), prop::collection::vec((any::<usize>(), "[ab]{0,40}"), 0..12))
        ) {
            let mut changed = parts.clone();
            for (at, change) in changes {
                if !changed.is_empty() {
                    let at = at % changed.len();
                    changed[at] = change;
                }
            }
            let (text, other) = (parts.concat(), changed.concat());
            for (text, other) in [(&text, &other), (&other, &text)] {
                let difference = checked(text.as_bytes(), other.as_bytes());
                prop_assert!(difference.pieces.len() <= PIECES_MAX);
                prop_assert!(difference.own.len() <= text.len());
            }
        }
    }
}
