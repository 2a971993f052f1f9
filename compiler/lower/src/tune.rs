//! Choice points: where there are several ways to make the same kernel, and which was taken.
//!
//! Every point has a key, the shape of what is computed, and options as text, the machine's choice first. A [`Tuning`]
//! names options that were measured to be faster; lowering takes those and reports the points to whoever measures; the
//! kernel steps that a point decides name it.

use std::collections::BTreeMap;

/// Options to take, by the key of the point. An option that does not exist is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning(pub BTreeMap<String, String>);

/// A point whose steps are still being emitted: its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open(pub usize);
