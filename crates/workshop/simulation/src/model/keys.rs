//! Versioned key-values.

use std::collections::BTreeMap;

use bytes::Bytes;
use partitura_broker::{Space, Version};

/// All stored values, by space and key.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) kept: BTreeMap<(Space, Bytes), (Version, Bytes)>,
    /// The write that a lagging copy does not have yet.
    pub(crate) latest: Option<(Space, Bytes)>,
    /// The summaries before their last write.
    pub(crate) before: BTreeMap<(Space, Bytes), (Version, Bytes)>,
}

impl Keys {
    pub(crate) fn space(&self, space: Space) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        let from = (space, Bytes::new());
        self.kept.range(from..).take_while(move |((s, _), _)| *s == space).map(|((_, key), (_, value))| (key, value))
    }
}
