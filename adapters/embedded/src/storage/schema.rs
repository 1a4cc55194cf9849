/// The application id in the header of our files: "Ptra".
pub(crate) const APPLICATION_ID: u32 = 0x5074_7261;
/// The version of the format, in the header's user version.
pub(crate) const FORMAT: u32 = 1;

/// `message.seq` grows for ever, so that the table is written at its end and emptied from its beginning. `value` is a
/// table in the order of writing with an index beside it rather than a tree in the order of keys: appending rows of
/// many instances dirties one page instead of one each (docs/adr/0003-sqlite-for-the-embedded-broker.md).
pub(super) const SCHEMA: &str = "
    CREATE TABLE topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
                        partitions INTEGER);
    CREATE TABLE subscription (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE subscription_topic (subscription INTEGER NOT NULL REFERENCES subscription,
                        topic INTEGER NOT NULL REFERENCES topic, first_queue INTEGER NOT NULL,
                        PRIMARY KEY (subscription, topic)) WITHOUT ROWID;
    CREATE TABLE message (seq INTEGER PRIMARY KEY, queue INTEGER NOT NULL, ready_at INTEGER NOT NULL,
                        delayed INTEGER NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL);
    CREATE TABLE space (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE value (id INTEGER PRIMARY KEY, space INTEGER NOT NULL, key BLOB NOT NULL,
                        version INTEGER NOT NULL, value BLOB NOT NULL);
    CREATE UNIQUE INDEX value_key ON value (space, key);";

/// A message as a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) seq: u64,
    pub(crate) queue: u32,
    /// The time at which it joins its queue, in milliseconds: that of publishing, or the later one before which it must
    /// not come.
    pub(crate) ready_at: u64,
    /// Whether it had to wait when it was published.
    pub(crate) delayed: bool,
    /// The size that counts against credit, in bytes.
    pub(crate) size: u32,
}
