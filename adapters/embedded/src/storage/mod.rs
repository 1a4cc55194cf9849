//! The data on the disk, and all statements for it.

mod batch;
mod connection;
mod read;
mod schema;

pub(crate) use batch::Batch;
pub(crate) use connection::{Checkpoints, Storage};
pub(crate) use read::{Reader, bodies, count, get, messages, scan};
pub(crate) use schema::{APPLICATION_ID, FORMAT, Row};
