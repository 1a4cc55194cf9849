use serde::{Deserialize, Serialize};

/// The longest id of an instance, in bytes.
pub const MAX_ID: usize = 512;

/// A text cannot be the id of an instance: it is empty, longer than [`MAX_ID`], or has control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{id:?} cannot be the id of a workflow: {problem}; use 1 to {MAX_ID} bytes of printable text")]
pub struct InvalidId {
    /// Its beginning.
    id: String,
    problem: String,
}

/// Checks that a text can be the id of an instance.
///
/// # Errors
/// [`InvalidId`] says what is wrong.
pub fn check_id(id: &str) -> Result<(), InvalidId> {
    let problem = if id.is_empty() {
        "it is empty".to_owned()
    } else if id.len() > MAX_ID {
        format!("it has {} bytes", id.len())
    } else if id.contains(char::is_control) {
        "it contains a control character".to_owned()
    } else {
        return Ok(());
    };
    Err(InvalidId { id: id.chars().take(64).collect(), problem })
}
