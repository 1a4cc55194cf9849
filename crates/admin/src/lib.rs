//! The questions of an operator to Partitura: one set of answers for the page and the command.
//!
//! It is thin: instances come from [`Client::instances`](partitura_engine::Client::instances), which reads the store
//! directly. This crate adds only the code that both would have to write twice: what is known of a whole deployment,
//! [rows](rows()) of a history, limits, time-outs, and the audit record of every action.

mod action;
mod admin;
mod deployment;
mod error;
mod family;
mod instance;
mod letters;
mod overview;
mod pace;
mod pauses;
mod rows;
mod schedules;
mod search;
pub mod text;

pub use partitura_engine::{HistoryPage, InstanceCount, InstanceFilter};

pub use self::action::{Action, arguments};
pub use self::admin::Admin;
pub use self::deployment::{Topic, Working};
pub use self::error::AdminError;
pub use self::family::{Family, Member};
pub use self::instance::{Events, Instance, Wanted};
pub use self::letters::{Letter, Letterbox, Letters};
pub use self::overview::{Cause, Counts, Overview};
pub use self::pace::{Pace, Sample};
pub use self::rows::{Row, RowKind, RowState, is_failure, rows};
pub use self::schedules::ScheduleAction;
pub use self::search::{Listing, Search};
