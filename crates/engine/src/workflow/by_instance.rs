//! Maps of the instances that were used last.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::wire::names::InstanceKey;

/// Values of instances, up to a number; the one that was not used for the longest time goes first.
pub(crate) type ByInstance<T> = LruCache<InstanceKey, T>;

/// Returns an empty map that grows with what is put into it. [`LruCache::new`] would allocate all of it at once, for
/// every workflow of a process.
pub(crate) fn at_most<T>(instances: NonZeroUsize) -> ByInstance<T> {
    let mut map = LruCache::unbounded();
    map.resize(instances);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let key = |id: &str| InstanceKey { workflow: "w".into(), id: id.into() };
        let mut map = at_most(NonZeroUsize::MIN);
        map.put(key("a"), ());
        map.put(key("b"), ());
        assert_eq!(map.iter().map(|(key, ())| &*key.id).collect::<Vec<_>>(), ["b"]);
    }
}
