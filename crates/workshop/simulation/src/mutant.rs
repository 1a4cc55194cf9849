use std::fmt;
use std::str::FromStr;

/// A deliberate bug of the world below the engine, which the simulation has to find.
///
/// The engine does not know them. Each removes a promise on which the engine relies. The effect is that of an engine
/// which does not ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Fence off: the expectation of a write is not checked.
    FenceOff,
    /// Settle before commit: a delivery counts as settled at once.
    SettleAtDelivery,
    /// A settlement is accepted by its slot, for any owner and term.
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
    /// Messages that were unsettled when their owner left do not come again.
    NoRedelivery,
    /// Reads come from a copy that lags behind.
    StaleReads,
    /// A transaction publishes and settles, but does not write its values.
    TornUnit,
    /// Steps are not watched: the messages for it are not stored. The engine once had this bug.
    StepsForgotten,
    /// A stopped instance is not tried again: the messages for it are not stored. The engine once had this bug.
    StopsForgotten,
    /// A result goes to the present run of its id, also if an earlier run asked for it: results of a replaced run are
    /// accepted.
    RunsConfused,
    /// The markers of versions are not kept.
    VersionsForgotten,
    /// A question is recorded as if it were a signal.
    QueriesRecorded,
    /// A consumer is not told that partitions were taken from it: its state of them is out of date when they come back.
    LossUntold,
    /// Summaries are read without their last write, histories with it.
    TornReads,
    /// The due time of a timer is ignored.
    TimersEarly,
    /// Rows of the outbox are never removed: the next owner of a partition sends all of them again. The engine once had
    /// this bug.
    OutboxKept,
    /// The result of one step in five is lost.
    StepResultsLost,
    /// The last message that a consumer settled before it left is delivered again.
    FlushForgotten,
    /// One task in a hundred is asked for twice.
    TasksDoubled,
    /// The children of a run are not kept beside its history.
    ChildrenForgotten,
    /// A run that continues as new does not keep the signals that no code has received.
    SignalsLeftBehind,
    /// The row of a task is not kept, which knows its latest attempt and its delegation.
    DelegationsForgotten,
    /// A batch gives its answers to the wrong calls.
    AnswersMixedUp,
    /// One update in twenty is applied twice: its copy has another id.
    UpdatesAppliedTwice,
    /// A row by which an instance is found is not removed once the instance stands elsewhere.
    IndexForgotten,
    /// A start that a schedule asks for comes a second time, as one that begins anew what has ended.
    ScheduleStartsTwice,
    /// The due time of a start is ignored.
    StartsEarly,
    /// The number of crashes of a task or a turn is not kept. The engine once had no such number.
    CrashesForgotten,
    /// A crash of a task or a turn counts twice.
    CrashesDoubled,
    /// A question for the outcome of a delayed start does not wait behind the start. The client once had this bug.
    QuestionsAhead,
    /// Histories of instances that are deleted are not removed.
    DeletedHalf,
    /// The tasks of an instance that is deleted come again.
    DeletedTasksAgain,
    /// A deleted instance is not tried again: what the broker has refused of it stays. The engine once had this bug.
    LastWordsForgotten,
    /// A message that was set aside stays so when the next owner of its outbox has sent it. The engine once had this
    /// bug.
    AsideKept,
    /// Events are refused that are larger than half of what the broker says to take.
    EventsTooLarge,
    /// Tasks are refused that are larger than half of what the broker says to take.
    TasksTooLarge,
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
        Self::SignalsLeftBehind,
        Self::DelegationsForgotten,
        Self::AnswersMixedUp,
        Self::UpdatesAppliedTwice,
        Self::IndexForgotten,
        Self::ScheduleStartsTwice,
        Self::StartsEarly,
        Self::CrashesForgotten,
        Self::CrashesDoubled,
        Self::QuestionsAhead,
        Self::DeletedHalf,
        Self::DeletedTasksAgain,
        Self::LastWordsForgotten,
        Self::AsideKept,
        Self::EventsTooLarge,
        Self::TasksTooLarge,
    ];

    /// The name on the command line.
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
            Self::SignalsLeftBehind => "signals-left-behind",
            Self::DelegationsForgotten => "delegations-forgotten",
            Self::AnswersMixedUp => "answers-mixed-up",
            Self::UpdatesAppliedTwice => "updates-applied-twice",
            Self::IndexForgotten => "index-forgotten",
            Self::ScheduleStartsTwice => "schedule-starts-twice",
            Self::StartsEarly => "starts-early",
            Self::CrashesForgotten => "crashes-forgotten",
            Self::CrashesDoubled => "crashes-doubled",
            Self::QuestionsAhead => "questions-ahead",
            Self::DeletedHalf => "deleted-half",
            Self::DeletedTasksAgain => "deleted-tasks-again",
            Self::LastWordsForgotten => "last-words-forgotten",
            Self::AsideKept => "aside-kept",
            Self::EventsTooLarge => "events-too-large",
            Self::TasksTooLarge => "tasks-too-large",
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
