//! The side of workflows: the runner that owns instances, and their turns.

pub(crate) mod beginning;
pub(crate) mod by_instance;
pub(crate) mod delay_cancellation;
pub(crate) mod effects;
pub(crate) mod end_signals;
pub(crate) mod history_limits;
pub(crate) mod instance;
pub(crate) mod listeners;
pub(crate) mod retention;
pub(crate) mod runner;
pub(crate) mod steps;
pub(crate) mod turn;
pub(crate) mod update_waiters;
