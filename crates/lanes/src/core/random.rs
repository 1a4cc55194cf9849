use super::model::Now;

/// Chance, for jitter and for the numbers of terms.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number from 0 to below 1.
    pub(super) fn fraction(&mut self) -> f64 {
        // Marsaglia's xorshift64; jitter needs no more.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The number of a term of ownership, unique over all owners for all practical purposes.
    pub(super) fn term(&mut self, now: Now) -> u64 {
        let low = (self.fraction() * f64::from(u32::MAX)) as u64;
        (now.wall.as_millis() << 32) ^ low
    }
}
