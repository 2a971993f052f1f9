//! A bounded cache that drops what was used longest ago.

/// Counters of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Look-ups that found something.
    pub hits: usize,
    /// Look-ups that did not.
    pub misses: usize,
    /// Entries that made place for others.
    pub evictions: usize,
}

/// Keys and values, the one used last at the end. Made for a handful of entries: look-ups are linear.
#[derive(Debug)]
pub(crate) struct Lru<K, V> {
    entries: Vec<(K, V)>,
    capacity: usize,
    stats: CacheStats,
}

impl<K: PartialEq, V> Lru<K, V> {
    /// A cache of at most `capacity` entries (one at least).
    pub fn new(capacity: usize) -> Self {
        Lru { entries: Vec::new(), capacity: capacity.max(1), stats: CacheStats::default() }
    }

    /// The value under `key`, which counts as used now.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let Some(at) = self.entries.iter().position(|(k, _)| k == key) else {
            self.stats.misses += 1;
            return None;
        };
        self.stats.hits += 1;
        let entry = self.entries.remove(at);
        self.entries.push(entry);
        self.entries.last_mut().map(|(_, v)| v)
    }

    /// Puts a value under a key that is not there.
    pub fn insert(&mut self, key: K, value: V) {
        if self.entries.len() >= self.capacity {
            self.entries.remove(0);
            self.stats.evictions += 1;
        }
        self.entries.push((key, value));
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, v)| v)
    }

    /// The counters.
    pub fn stats(&self) -> CacheStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_used_longest_ago_goes_first() {
        let mut cache = Lru::new(2);
        cache.insert(1, "a");
        cache.insert(2, "b");
        assert_eq!(cache.get(&1), Some(&mut "a"));
        cache.insert(3, "c");
        assert_eq!(cache.get(&2), None);
        assert_eq!((cache.get(&1).is_some(), cache.get(&3).is_some()), (true, true));
        assert_eq!(cache.stats(), CacheStats { hits: 3, misses: 1, evictions: 1 });
    }
}
