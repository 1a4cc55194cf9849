use partitura_broker::Message;

/// A topic's partition, as the broker has it.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) messages: Vec<Stored>,
    /// How far the owner has read in its term.
    pub(super) cursor: usize,
    /// How many messages were there when the term began.
    pub(super) old: usize,
}

/// A message of a topic.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) message: Message,
    pub(super) settled: bool,
    /// It was delivered before.
    pub(super) delivered: bool,
}

impl Stored {
    pub(super) fn new(message: Message) -> Self {
        Self { message, settled: false, delivered: false }
    }
}
