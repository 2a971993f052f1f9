//! Constants as kernels read them, made once for all programs of a model.
//!
//! A constant that is packed is known by what it is made from, as [`WeakTensor`]s, and by its recipe, which says all
//! else: who asks for the same gets the same bytes, in this program and in others that are lowered with the same store.
//! The store keeps neither the sources nor what was made of them: what no program holds any more is freed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use optc_tensor::{Tensor, WeakTensor};

/// Packed constants that programs share. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct PackedConstants(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    packed: HashMap<Key, WeakTensor>,
    /// Entries that there may be before those that are gone are looked for.
    room: usize,
}

/// What a constant is made from, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    of: Vec<WeakTensor>,
    recipe: String,
}

impl Key {
    /// None where a constant has no bytes.
    fn new(of: &[&Tensor], recipe: &str) -> Option<Key> {
        Some(Key { of: of.iter().map(|t| t.downgrade()).collect::<Option<_>>()?, recipe: recipe.to_owned() })
    }

    fn is_alive(&self) -> bool {
        self.of.iter().all(WeakTensor::is_alive)
    }
}

/// Entries that are kept without a look.
const FEW: usize = 64;

impl PackedConstants {
    /// What `make` makes of constants: what was made before and is still held by a program, where there is such. Those
    /// who ask for the same at once may both make it; all get one of them.
    ///
    /// # Errors
    /// As `make`.
    pub(super) fn get_or_make<E>(
        &self,
        of: &[&Tensor],
        recipe: &str,
        make: impl FnOnce() -> Result<Tensor, E>,
    ) -> Result<Tensor, E> {
        let Some(key) = Key::new(of, recipe) else { return make() };
        if let Some(known) = self.state().get(&key) {
            return Ok(known);
        }
        let made = make()?;
        let mut state = self.state();
        if let Some(known) = state.get(&key) {
            return Ok(known);
        }
        state.tidy();
        if let Some(weak) = made.downgrade() {
            state.packed.insert(key, weak);
        }
        Ok(made)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn get(&self, key: &Key) -> Option<Tensor> {
        self.packed.get(key)?.upgrade()
    }

    /// Forgets what is gone, whenever there is twice as much as was left the last time.
    fn tidy(&mut self) {
        if self.packed.len() >= self.room.max(FEW) {
            self.packed.retain(|key, made| made.is_alive() && key.is_alive());
            self.room = 2 * self.packed.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(value: f32) -> Tensor {
        Tensor::from_slice(&[2], &[value; 2]).expect("two floats")
    }

    /// What the store makes of `of` by this recipe, if it makes anything.
    fn made(store: &PackedConstants, of: &[&Tensor], recipe: &str) -> (Tensor, bool) {
        let mut new = false;
        let tensor = store.get_or_make::<()>(of, recipe, || {
            new = true;
            Ok(floats(7.0))
        });
        (tensor.expect("nothing fails"), new)
    }

    #[test]
    fn the_same_of_the_same_is_made_once() {
        let (store, a, b) = (PackedConstants::default(), floats(1.0), floats(1.0));
        let (first, new) = made(&store, &[&a], "strips");
        assert!(new);
        let (second, new) = made(&store.clone(), &[&a.clone()], "strips");
        assert!(!new && second.shares_bytes(&first));
        assert!(made(&store, &[&a], "pairs").1, "another recipe");
        assert!(made(&store, &[&b], "strips").1, "another constant with the same values");
        assert!(made(&store, &[&a, &b], "strips").1, "of two");
    }

    #[test]
    fn what_nobody_holds_is_made_again() {
        let (store, a) = (PackedConstants::default(), floats(1.0));
        drop(made(&store, &[&a], "strips"));
        assert!(made(&store, &[&a], "strips").1);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let (store, a) = (PackedConstants::default(), floats(1.0));
        let (kept, _) = made(&store, &[&a], "kept");
        for i in 0..10 * FEW {
            made(&store, &[&a], &i.to_string());
        }
        let entries = store.state().packed.len();
        assert!(entries <= 2 * FEW, "{entries}");
        assert!(made(&store, &[&a], "kept").0.shares_bytes(&kept));
    }
}
