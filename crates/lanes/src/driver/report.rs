use crate::Outcome;
use crate::core::{LaneId, Marker, Moved};

/// The end of a task. Their number is bounded by the number of tasks.
#[derive(Debug)]
pub(super) enum Report {
    Finished { lane: LaneId, outcome: Outcome },
    Buried { lane: LaneId, confirmed: bool },
    Moved(Vec<Published<Moved>>),
    Marked(Vec<Published<Marker>>),
}

/// A message that was published, and whether the broker confirmed it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published<T> {
    pub(super) item: T,
    pub(super) confirmed: bool,
}
