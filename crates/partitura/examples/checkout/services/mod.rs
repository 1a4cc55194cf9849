//! The services of the shop's other departments: plain traits, plain implementations.
//!
//! They fail for good now and then, and now and then for a moment, as services do. Here that depends on the order and
//! the attempt alone, so that runs can be repeated.

pub mod inventory;
pub mod notifications;
pub mod payments;
pub mod shipping;

use std::io;

use partitura::{Retry, TaskContext, millis};
use serde::{Deserialize, Serialize};

use crate::chance;
use crate::orders::OrderId;

/// The policy that the traits state: again after 20 ms, then less and less often, for about two seconds and a half.
pub fn persistently() -> Retry {
    Retry::exponential().initial(millis(20)).max_attempts(8)
}

/// The service cannot answer just now; a later attempt may find it well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("unavailable: {0}")]
pub struct Unavailable(String);

impl From<io::Error> for Unavailable {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The weather between a service and its callers: now and then something does not get through.
///
/// Asked before the work, it loses the call; asked after it, the answer. The caller cannot tell, and tries again.
fn gets_through(what: &str, order: &OrderId) -> Result<(), Unavailable> {
    let attempt = TaskContext::current().map_or(1, |task| task.attempt());
    match chance::roll((what, order, attempt)) % 50 {
        0 => Err(Unavailable(format!("the {what} was lost"))),
        _ => Ok(()),
    }
}
