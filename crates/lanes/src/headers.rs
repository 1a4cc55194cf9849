//! The names of the headers that this crate writes. All of them begin with `partitura-`.

/// On a dead letter: why, in a few words.
pub const DEAD_REASON: &str = "partitura-dead-reason";
/// On a dead letter: the last error, where there was one.
pub const DEAD_ERROR: &str = "partitura-dead-error";
/// On a dead letter: how often it was run, in decimal.
pub const DEAD_ATTEMPTS: &str = "partitura-dead-attempts";
/// On a dead letter: the topic it came from.
pub const DEAD_TOPIC: &str = "partitura-dead-topic";
/// On a dead letter: the partition it came from, in decimal.
pub const DEAD_PARTITION: &str = "partitura-dead-partition";
/// On a dead letter: the subscription that gave it up.
pub const DEAD_SUBSCRIPTION: &str = "partitura-dead-subscription";
/// On a dead letter: when, in milliseconds since the Unix epoch.
pub const DEAD_AT: &str = "partitura-dead-at";
/// On a dead letter: the id of the original message, which is also its own.
pub const DEAD_ID: &str = "partitura-dead-id";
/// On a message that was redriven, and on its dead letter should it fail again: how often, in decimal.
pub const REDRIVEN: &str = "partitura-redriven";
/// On a parked message: its place and state for its lane, as `place attempts term retry-at topic`.
pub const PARKED: &str = "partitura-parked";
/// On a parked message that may have ended a process: how often its process was lost, in decimal, and ` begins` if
/// it runs when it comes.
pub const SUSPECT: &str = "partitura-suspect";
/// On a message that only shows how far a reader has come; its value names the reader.
pub const MARKER: &str = "partitura-marker";
/// The media type of the payload, as in HTTP.
pub const CONTENT_TYPE: &str = "content-type";

/// The headers of a dead letter in addition to those of its message, without [`REDRIVEN`].
pub(crate) const DEAD: [&str; 8] =
    [DEAD_REASON, DEAD_ERROR, DEAD_ATTEMPTS, DEAD_TOPIC, DEAD_PARTITION, DEAD_SUBSCRIPTION, DEAD_AT, DEAD_ID];
