use partitura_engine::Ids;
use uuid::{Builder, Uuid};

use crate::world::World;

/// Ids from the seed, in the form of the system's ids.
impl Ids for World {
    fn fresh(&self) -> Uuid {
        let mut state = self.lock();
        let mut random = [0; 10];
        let (first, second) = (state.random.next(), state.random.next());
        random[..8].copy_from_slice(&first.to_be_bytes());
        random[8..].copy_from_slice(&second.to_be_bytes()[..2]);
        Builder::from_unix_timestamp_millis(state.wall().as_millis(), &random).into_uuid()
    }
}
