//! Questions to an instance, which change nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Execution;
use crate::failure::panic_message;
use crate::{Payload, QueryError, UpdateRefusal};

impl Execution {
    /// Asks the instance's state, without changing anything. Ended instances answer too.
    ///
    /// # Errors
    /// [`QueryError`]; a panic of the query's code is one of them and does no harm.
    pub fn query(&self, name: &str, args: &Payload) -> Result<Payload, QueryError> {
        catch_unwind(AssertUnwindSafe(|| self.instance.query(name, args)))
            .unwrap_or_else(|panic| Err(QueryError::Panicked(panic_message(&*panic))))
    }

    /// Asks the validator of an update whether it may be recorded and [applied](Execution::apply).
    ///
    /// # Errors
    /// [`UpdateRefusal`]; a panic of the validator is one of them and does no harm.
    pub fn check_update(&self, name: &str, args: &Payload) -> Result<(), UpdateRefusal> {
        catch_unwind(AssertUnwindSafe(|| self.instance.check_update(name, args)))
            .unwrap_or_else(|panic| Err(UpdateRefusal::Panicked(panic_message(&*panic))))
    }

    /// Whether a signal with this message id was applied before; [`apply`](Execution::apply) ignores a second one.
    pub fn has_seen_message(&self, message_id: &str) -> bool {
        self.seen_messages.get(message_id).is_some()
    }

    /// The run that has had an update with this id: this one, or one before it. [`apply`](Execution::apply) ignores a
    /// second one.
    pub fn had_update(&self, id: &str) -> Option<&str> {
        self.seen_updates.get(id).map(String::as_str)
    }
}
