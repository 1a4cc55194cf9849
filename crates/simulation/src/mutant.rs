use std::fmt;
use std::str::FromStr;

/// A deliberate bug of the world below the engine, which the simulation has to find.
///
/// The engine knows nothing of them: each takes away something that the engine may rely on, as a broken engine would by
/// not asking for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Fence off: what a write expects is not looked at.
    FenceOff,
    /// Settle before commit: what is delivered counts as settled.
    SettleAtDelivery,
    /// A settlement is taken by its slot, whichever owner and term it belongs to.
    StaleTokens,
    /// Rows of the outbox are not written.
    OutboxLost,
    /// Dedupe off: a message has another id each time it is delivered.
    DedupeOff,
    /// A turn is not one write: its last value may be missing after a failure.
    TornWrite,
    /// One message in a hundred is confirmed and not stored.
    LostPublish,
    /// Messages of one key overtake each other.
    KeyReordered,
    /// What was unsettled when its owner went away does not come again.
    NoRedelivery,
    /// Reads come from a copy that lags behind.
    StaleReads,
    /// A transaction publishes and settles, and writes its values on another day.
    TornUnit,
    /// Nobody looks after steps: the messages that would have it done are not stored. As the engine was, once.
    StepsForgotten,
    /// Nobody tries a stopped instance again: the messages that would have it done are not stored. As the engine was.
    StopsForgotten,
    /// What a run asked for comes back to whichever run has its id by then: what a replaced one began gets through.
    RunsConfused,
    /// The markers of versions are not kept.
    VersionsForgotten,
    /// A question is recorded as if it were a signal.
    QueriesRecorded,
    /// A consumer does not hear that partitions were taken from it: what it keeps of them is out of date when they come
    /// back.
    LossUntold,
    /// Summaries are read as they were one write before, histories as they are.
    TornReads,
    /// The time before which a timer must not fire is ignored.
    TimersEarly,
    /// Rows of the outbox are never removed: the next owner of a partition sends all of them again. As the engine did.
    OutboxKept,
    /// The result of one step in five is lost.
    StepResultsLost,
    /// What a consumer settled last before it left is delivered again.
    FlushForgotten,
    /// One task in a hundred is asked for twice.
    TasksDoubled,
    /// The children of a run are not kept beside its history.
    ChildrenForgotten,
}

impl Mutant {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::FenceOff,
        Self::SettleAtDelivery,
        Self::StaleTokens,
        Self::OutboxLost,
        Self::DedupeOff,
        Self::TornWrite,
        Self::LostPublish,
        Self::KeyReordered,
        Self::NoRedelivery,
        Self::StaleReads,
        Self::TornUnit,
        Self::StepsForgotten,
        Self::StopsForgotten,
        Self::RunsConfused,
        Self::VersionsForgotten,
        Self::QueriesRecorded,
        Self::LossUntold,
        Self::TornReads,
        Self::TimersEarly,
        Self::OutboxKept,
        Self::StepResultsLost,
        Self::FlushForgotten,
        Self::TasksDoubled,
        Self::ChildrenForgotten,
    ];

    /// As the command line names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FenceOff => "fence-off",
            Self::SettleAtDelivery => "settle-at-delivery",
            Self::StaleTokens => "stale-tokens",
            Self::OutboxLost => "outbox-lost",
            Self::DedupeOff => "dedupe-off",
            Self::TornWrite => "torn-write",
            Self::LostPublish => "lost-publish",
            Self::KeyReordered => "key-reordered",
            Self::NoRedelivery => "no-redelivery",
            Self::StaleReads => "stale-reads",
            Self::TornUnit => "torn-unit",
            Self::StepsForgotten => "steps-forgotten",
            Self::StopsForgotten => "stops-forgotten",
            Self::RunsConfused => "runs-confused",
            Self::VersionsForgotten => "versions-forgotten",
            Self::QueriesRecorded => "queries-recorded",
            Self::LossUntold => "loss-untold",
            Self::TornReads => "torn-reads",
            Self::TimersEarly => "timers-early",
            Self::OutboxKept => "outbox-kept",
            Self::StepResultsLost => "step-results-lost",
            Self::FlushForgotten => "flush-forgotten",
            Self::TasksDoubled => "tasks-doubled",
            Self::ChildrenForgotten => "children-forgotten",
        }
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mutant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.iter().map(|mutant| mutant.name()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().copied().find(|mutant| mutant.name() == name);
        found.ok_or_else(|| format!("no mutant is called {name}; there are {}", known()))
    }
}
