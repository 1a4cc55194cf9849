//! The state of the lanes of one consumer: a machine without I/O, clock or runtime.
//!
//! Each event is a call of a method of [`Core`]. The work that it makes necessary is taken out afterwards: batches to
//! run one by one, and everything else as one value, [`Actions`]. Time is given with every call.
//!
//! The state is divided into parts, each with fields of its own: lanes, schedule, early messages, partitions with their
//! markers, parked messages, suspects, work under way. The transitions, in the files below, use the parts by their
//! methods.
//!
//! # Invariants
//! 1. Of a lane at most one batch is under way.
//! 2. A token is settled after its message was done, or after another copy of the message was confirmed; and once.
//! 3. A lane runs in the order: running messages, parked messages (by place), messages from the topic.
//! 4. Nothing of a partition is begun while it is being learned or revoked.
//! 5. A message that may have ended a process is begun after the broker confirmed a note that it begins.

mod early;
mod lane;
mod markers;
mod model;
mod outcome;
mod ownership;
mod parked;
mod parking;
mod partitions;
mod random;
mod ranges;
mod running;
mod schedule;
mod state;
mod suspecting;
mod suspects;
mod suspicion;
mod table;
mod wire;
mod work;

pub(crate) use self::model::{Actions, Burial, Death, LaneId, Marker, Move, Moved, Now, Parking, Settings, Start};
pub(crate) use self::state::Core;
#[cfg(any(test, fuzzing))]
pub(crate) use self::wire::read_labels;
pub(crate) use self::wire::unplaced;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
