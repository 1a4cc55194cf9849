//! The arguments about schedules.

use clap::{Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// List them, with their next times
    List,
    /// Where one stands
    Describe {
        /// The schedule's id
        id: String,
    },
    /// Start nothing more at its times
    Pause {
        /// The schedule's id
        id: String,
        /// Why: it is told to those who look
        #[arg(long, short)]
        reason: String,
    },
    /// Go on with its next time
    Resume {
        /// The schedule's id
        id: String,
    },
    /// Start an instance now
    Trigger {
        /// The schedule's id
        id: String,
    },
    /// Start the instances of a span of the past
    Backfill {
        /// The schedule's id
        id: String,
        /// The first moment: RFC 3339, or as long ago as 30s, 10m, 1h, 7d
        #[arg(long)]
        from: String,
        /// The last moment, in the same form [default: now]
        #[arg(long)]
        to: Option<String>,
        /// The policy for a time at which an earlier instance runs
        #[arg(long, value_enum, default_value_t)]
        overlap: OverlapAsked,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OverlapAsked {
    /// Leave the start out
    Skip,
    /// One start waits
    BufferOne,
    /// All starts wait, one after another
    #[default]
    BufferAll,
    /// Cancel the earlier instance first
    CancelOther,
    /// Terminate the earlier instance first
    TerminateOther,
    /// Start beside the earlier instance
    AllowAll,
}
