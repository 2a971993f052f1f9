//! The random numbers of a run: which seed it has, and how often each op has drawn.
//!
//! Like the [account of memory](crate::Memory), they belong to a scope of one thread, so that what runs deep inside of
//! a model (a region of a loop, an op on the host) sees them. Two runs with one seed draw the same numbers.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::Philox;

/// What a run has drawn so far.
#[derive(Debug, Default)]
struct Drawn {
    seed: u64,
    /// How often each key has drawn.
    times: HashMap<u64, u64>,
}

thread_local! {
    static CURRENT: RefCell<Option<Drawn>> = const { RefCell::new(None) };
}

/// The random numbers of this thread's run.
#[derive(Debug)]
pub struct Draws;

impl Draws {
    /// Begins a run with this seed, until the result is dropped; inside of another run, that one goes on.
    pub fn enter(seed: u64) -> DrawsScope {
        let outermost = CURRENT.with_borrow_mut(|current| {
            let outermost = current.is_none();
            current.get_or_insert_with(|| Drawn { seed, ..Drawn::default() });
            outermost
        });
        DrawsScope { outermost, not_send: std::marker::PhantomData }
    }

    /// The numbers for the next evaluation of the op with this key; outside of a run, for the first one of seed 0.
    pub fn next(key: u64) -> Philox {
        CURRENT.with_borrow_mut(|current| match current {
            Some(Drawn { seed, times }) => {
                let time = times.entry(key).or_default();
                *time += 1;
                Philox::new(key ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), *time - 1)
            }
            None => Philox::new(key, 0),
        })
    }
}

/// The scope of a run: see [`Draws::enter`].
#[must_use = "the run lasts until this is dropped"]
#[derive(Debug)]
pub struct DrawsScope {
    outermost: bool,
    /// It must be dropped on the thread that made it.
    not_send: std::marker::PhantomData<*const ()>,
}

impl Drop for DrawsScope {
    fn drop(&mut self) {
        if self.outermost {
            CURRENT.set(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_and_the_next_one_begins_again() {
        let first = |key: u64| Draws::next(key).block(0);
        let run = |seed: u64| {
            let _run = Draws::enter(seed);
            let _inside = Draws::enter(seed + 1);
            [first(1), first(2), first(1)]
        };
        let [a, b, c] = run(0);
        assert!(a != b && a != c && b != c);
        assert_eq!(run(0), [a, b, c]);
        assert_ne!(run(1), [a, b, c]);
        assert_eq!(first(1), a);
        assert_eq!(first(1), a, "outside of a run nothing is counted");
    }
}
