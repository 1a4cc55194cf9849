use std::collections::HashMap;
use std::ops::{Index, IndexMut, Range};

use bytes::Bytes;

use super::lane::Lane;
use super::model::LaneId;

/// The lanes by index, and by partition and key. A lane that is over leaves its place to another.
#[derive(Debug, Default)]
pub(super) struct LaneTable {
    lanes: Vec<Lane>,
    free: Vec<u32>,
    by_key: HashMap<LaneKey, u32>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LaneKey {
    partition: u32,
    key: Bytes,
}

impl LaneTable {
    /// The lane of a key, which is made if there is none.
    pub(super) fn lane_of(&mut self, partition: u32, key: &Bytes) -> u32 {
        let lane_key = LaneKey { partition, key: key.clone() };
        if let Some(index) = self.by_key.get(&lane_key) {
            return *index;
        }
        let index = self.new_lane(partition);
        self[index].key = Some(key.clone());
        self.by_key.insert(lane_key, index);
        index
    }

    /// A lane without a key.
    pub(super) fn new_lane(&mut self, partition: u32) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.lanes.push(Lane::default());
            // Bounded by credit, and by the memory that the lanes themselves need.
            (self.lanes.len() - 1) as u32
        });
        let lane = &mut self[index];
        lane.partition = partition;
        lane.is_free = false;
        index
    }

    pub(super) fn id(&self, index: u32) -> LaneId {
        LaneId { index, generation: self[index].generation }
    }

    pub(super) fn find(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.lanes.get_mut(id.index()).filter(|lane| lane.generation == id.generation)
    }

    /// Removes a lane that is over.
    pub(super) fn remove(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        if let Some(key) = lane.key.take() {
            self.by_key.remove(&LaneKey { partition: lane.partition, key });
        }
        lane.clear();
        self.free.push(index);
    }

    pub(super) fn indices(&self) -> Range<u32> {
        0..self.lanes.len() as u32
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    /// Whether no lane is in use.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.lanes.len()
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.by_key.len()
    }
}

impl Index<u32> for LaneTable {
    type Output = Lane;

    fn index(&self, index: u32) -> &Lane {
        &self.lanes[index as usize]
    }
}

impl IndexMut<u32> for LaneTable {
    fn index_mut(&mut self, index: u32) -> &mut Lane {
        &mut self.lanes[index as usize]
    }
}
