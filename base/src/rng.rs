//! Randomness from one seed.

use std::sync::{Arc, Mutex, PoisonError};

/// A source of random numbers. Clones draw from the same sequence; [`Rng::fork`] begins an
/// independent one, so that a new component in a simulation does not change what the others draw.
#[derive(Debug, Clone)]
pub struct Rng(
    /// Guards the generator for one draw.
    Arc<Mutex<fastrand::Rng>>,
);

impl Rng {
    /// A generator with a random seed.
    pub fn from_machine() -> Self {
        Self::of(fastrand::Rng::new())
    }

    /// A generator that gives the same sequence for the same seed on every machine.
    pub fn seeded(seed: u64) -> Self {
        Self::of(fastrand::Rng::with_seed(seed))
    }

    fn of(rng: fastrand::Rng) -> Self {
        Self(Arc::new(Mutex::new(rng)))
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An independent sequence. It depends only on this generator's seed, on how much was drawn
    /// from it, and on `name`.
    pub fn fork(&self, name: &str) -> Self {
        let salt = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self::seeded(self.draw(|rng| rng.u64(..)) ^ salt)
    }

    /// Any `u64`.
    pub fn next_u64(&self) -> u64 {
        self.draw(|rng| rng.u64(..))
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.draw(|rng| rng.u64(..bound)) }
    }

    /// True with a probability of `per_mille` in a thousand.
    pub fn chance(&self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of `items` with equal probability; nothing if there are none.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> Option<&'a T> {
        let index = self.below(items.len() as u64);
        usize::try_from(index).ok().and_then(|index| items.get(index))
    }

    /// A version 4 UUID, the form of every `metadata.uid`.
    pub fn uuid(&self) -> String {
        let bytes = self.draw(|rng| rng.u128(..)).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same() {
        let (a, b) = (Rng::seeded(7), Rng::seeded(7));
        assert_eq!(a.uuid(), b.uuid());
        assert_eq!(a.fork("x").next_u64(), b.fork("x").next_u64());
        assert_ne!(a.fork("x").next_u64(), b.fork("y").next_u64());
    }
}
