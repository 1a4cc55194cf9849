use std::fmt;

use uuid::Uuid;

/// Where new ids come from, and with them all that is left to chance. Simulations bring their own.
pub trait Ids: fmt::Debug + Send + Sync {
    /// An id that nobody has: a UUID of version 7, random but for the time in it.
    fn fresh(&self) -> Uuid;
}

/// The system's clock and its randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    fn fresh(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// From 0 up to 1: the random part of a fresh id.
pub(crate) fn random(ids: &dyn Ids) -> f64 {
    const BITS: u64 = 53;
    (seed(ids) & ((1 << BITS) - 1)) as f64 / (1u64 << BITS) as f64
}

/// The number that feeds the random numbers of a run.
pub(crate) fn seed_of(run: &str) -> u64 {
    Uuid::parse_str(run).unwrap_or_default().as_u64_pair().1
}

/// The random part of a fresh id.
pub(crate) fn seed(ids: &dyn Ids) -> u64 {
    ids.fresh().as_u64_pair().1
}
