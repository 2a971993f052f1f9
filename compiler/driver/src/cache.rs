//! A bounded cache that drops what was used longest ago, and one that several threads share, of which one makes what
//! all wait for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counters of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Look-ups that found something.
    pub hits: usize,
    /// Look-ups that did not, or that had to wait until it was made.
    pub misses: usize,
    /// Entries that made room for others.
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

/// A cache for several threads. What a thread asks for and does not find, it makes; others that ask for the same
/// meanwhile wait for it, and those that ask for something else do not.
#[derive(Debug)]
pub(crate) struct Shared<K, V>(Mutex<State<K, V>>);

#[derive(Debug)]
struct State<K, V> {
    made: Lru<K, V>,
    /// What is being made; whoever makes it holds the lock.
    pending: Vec<(K, Cell<V>)>,
}

type Cell<V> = Arc<Mutex<Option<V>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: PartialEq + Clone, V: Clone> Shared<K, V> {
    /// A cache of at most `capacity` entries (one at least).
    pub fn new(capacity: usize) -> Self {
        Shared(Mutex::new(State { made: Lru::new(capacity), pending: Vec::new() }))
    }

    /// The value under `key`, made by `make` where it is not there. What fails or panics is not kept: the next thread
    /// that waits tries on its own.
    ///
    /// # Errors
    /// As `make`.
    pub fn get_or_make<E>(&self, key: &K, make: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        let turn = match self.turn(key) {
            Ok(made) => return Ok(made),
            Err(turn) => turn,
        };
        let mut cell = locked(&turn.cell);
        if let Some(made) = &*cell {
            return Ok(made.clone());
        }
        let value = make()?;
        *cell = Some(value.clone());
        let mut state = locked(&self.0);
        state.made.insert(key.clone(), value.clone());
        state.pending.retain(|(k, _)| k != key);
        Ok(value)
    }

    /// What is there, or a place among those that wait for it.
    fn turn<'a>(&'a self, key: &'a K) -> Result<V, Turn<'a, K, V>> {
        let mut state = locked(&self.0);
        if let Some(value) = state.made.get(key) {
            return Ok(value.clone());
        }
        let cell = match state.pending.iter().find(|(k, _)| k == key) {
            Some((_, cell)) => cell.clone(),
            None => {
                let cell = Cell::default();
                state.pending.push((key.clone(), cell.clone()));
                cell
            }
        };
        Err(Turn { cache: self, key, cell })
    }

    /// Puts a value under a key that is not there.
    pub fn insert(&self, key: K, value: V) {
        locked(&self.0).made.insert(key, value);
    }

    /// All values.
    pub fn values(&self) -> Vec<V> {
        locked(&self.0).made.values().cloned().collect()
    }

    /// The counters.
    pub fn stats(&self) -> CacheStats {
        locked(&self.0).made.stats()
    }
}

/// A thread that makes a value, or waits for one. The last one to leave empty-handed removes the pending entry.
struct Turn<'a, K: PartialEq, V> {
    cache: &'a Shared<K, V>,
    key: &'a K,
    cell: Cell<V>,
}

impl<K: PartialEq, V> Drop for Turn<'_, K, V> {
    fn drop(&mut self) {
        let mut state = locked(&self.cache.0);
        // New ones are made under the lock alone: two are the entry's and this one.
        let last = Arc::strong_count(&self.cell) == 2;
        state.pending.retain(|(key, cell)| !(last && key == self.key && Arc::ptr_eq(cell, &self.cell)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// Eight threads that ask at once; what they got.
    fn eight<E: Send>(
        cache: &Shared<u32, u32>,
        make: impl Fn(usize) -> Result<u32, E> + Sync,
    ) -> Vec<std::thread::Result<Result<u32, E>>> {
        let (barrier, make) = (Barrier::new(8), &make);
        std::thread::scope(|scope| {
            let ask = |_| {
                scope.spawn(|| {
                    barrier.wait();
                    cache.get_or_make(&7, || make(7))
                })
            };
            let threads: Vec<_> = (0..8).map(ask).collect();
            threads.into_iter().map(|t| t.join()).collect()
        })
    }

    #[test]
    fn one_of_the_threads_that_ask_at_once_makes_it() {
        let (cache, made) = (Shared::new(4), AtomicUsize::new(0));
        let got = eight::<()>(&cache, |_| {
            std::thread::sleep(Duration::from_millis(20));
            Ok(made.fetch_add(1, Ordering::SeqCst) as u32)
        });
        assert!(got.into_iter().all(|v| v.unwrap() == Ok(0)));
        assert_eq!((made.into_inner(), cache.values().len()), (1, 1));
        assert!(locked(&cache.0).pending.is_empty());
    }

    #[test]
    fn other_keys_do_not_wait() {
        let cache: Shared<u32, u32> = Shared::new(4);
        let inner = cache.get_or_make(&1, || cache.get_or_make(&2, || Ok::<_, ()>(20)).map(|v| v + 1));
        assert_eq!((inner, cache.values()), (Ok(21), vec![20, 21]));
    }

    #[test]
    fn what_fails_or_panics_is_not_kept_and_the_next_one_tries() {
        let (cache, tried) = (Shared::new(4), AtomicUsize::new(0));
        let got = eight(&cache, |_| match tried.fetch_add(1, Ordering::SeqCst) {
            0 => Err("failed"),
            1 => panic!("one thread panics, the others must not"),
            n => Ok(n as u32),
        });
        let got: Vec<Option<Result<u32, &str>>> = got.into_iter().map(Result::ok).collect();
        let count = |wanted: Option<Result<u32, &str>>| got.iter().filter(|g| **g == wanted).count();
        assert_eq!((count(None), count(Some(Err("failed"))), count(Some(Ok(2)))), (1, 1, 6));
        assert!(locked(&cache.0).pending.is_empty());
        assert_eq!((tried.into_inner(), cache.get_or_make(&8, || Err(()))), (3, Err(())));
        assert!(locked(&cache.0).pending.is_empty());
    }

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
