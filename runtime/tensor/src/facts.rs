//! What was found out about constants, so that nobody looks twice: passes and lowering ask how many weights are zero,
//! for each op that reads them and for each set of input shapes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Tensor, WeakTensor};

/// Numbers that are known of constants. Clones are the same list; it keeps no constant.
#[derive(Debug, Clone, Default)]
pub struct ConstantFacts(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    facts: HashMap<(Vec<WeakTensor>, &'static str), f64>,
    /// Facts that there may be before those of constants that are gone are forgotten.
    room: usize,
}

/// Facts that are kept without a look.
const FEW: usize = 64;

impl ConstantFacts {
    /// A number that follows from these constants and from `what` alone; `find` finds it the first time.
    pub fn number(&self, of: &[&Tensor], what: &'static str, find: impl FnOnce() -> f64) -> f64 {
        let Some(of) = of.iter().map(|t| t.downgrade()).collect::<Option<Vec<_>>>() else { return find() };
        let key = (of, what);
        if let Some(&known) = self.known().facts.get(&key) {
            return known;
        }
        let number = find(); // others may look for other facts meanwhile
        let mut known = self.known();
        known.tidy();
        known.facts.insert(key, number);
        number
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Forgets what is gone, whenever there is twice as much as was left the last time.
    fn tidy(&mut self) {
        if self.facts.len() >= self.room.max(FEW) {
            self.facts.retain(|(of, _), _| of.iter().all(WeakTensor::is_alive));
            self.room = 2 * self.facts.len();
        }
    }
}

/// Elements whose hits are added up in 32 bits, which is what makes vectors of the loop.
const BLOCK: usize = 1 << 12;

/// How many elements are equal to one: at the speed of memory.
pub fn count<T: PartialEq>(elements: &[T], one: &T) -> usize {
    let block = |block: &[T]| block.iter().map(|element| u32::from(element == one)).sum::<u32>() as usize;
    elements.chunks(BLOCK).map(block).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_found_once_for_each_constant() {
        let facts = ConstantFacts::default();
        let [a, b] = [0u8, 0].map(|v| Tensor::from_slice(&[2], &[v, 1]).unwrap());
        let found = |of: &[&Tensor], what, number| facts.clone().number(of, what, || number);
        assert_eq!([found(&[&a], "zeros", 1.0), found(&[&a.clone()], "zeros", 2.0)], [1.0, 1.0]);
        let others = [found(&[&a], "ones", 3.0), found(&[&b], "zeros", 4.0), found(&[&a, &b], "zeros", 5.0)];
        assert_eq!(others, [3.0, 4.0, 5.0]);
    }

    #[test]
    fn elements_are_counted_over_all_blocks() {
        let floats: Vec<f32> = (0..2 * BLOCK + 3).map(|i| [0.0, 1.0, -0.0, f32::NAN][i % 4]).collect();
        assert_eq!(count(&floats, &0.0), BLOCK + 2);
        assert_eq!(count(&[3u8, 4, 3], &3), 2);
    }

    #[test]
    fn facts_of_what_is_gone_are_forgotten() {
        let facts = ConstantFacts::default();
        let kept = Tensor::scalar(7u8);
        facts.number(&[&kept], "zeros", || 1.0);
        for _ in 0..10 * FEW {
            facts.number(&[&Tensor::scalar(0u8)], "zeros", || 2.0);
        }
        assert!(facts.known().facts.len() <= 2 * FEW);
        assert_eq!(facts.number(&[&kept], "zeros", || 3.0), 1.0);
    }
}
