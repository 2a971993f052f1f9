//! What a machine says of products: in which forms it computes them, and how long each takes.
//!
//! Passes choose between forms of a layer before kernels exist, lowering chooses between kernels, pruning and reports
//! show both: all ask one [`Machine`].

use std::fmt;

use crate::{Nanos, Numbers, Product, Reason};

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// All multiply-adds; channels last, where there are pixels.
    Dense,
    /// A convolution of each channel by itself with pixels side by side, besides the dense form with the channels last.
    Planes,
    /// A 3x3 convolution by Winograd's minimal filtering (Lavin and Gray 2016), in tiles of this many rows and columns
    /// of the result: fewer multiply-adds, more rounding.
    Filtered {
        /// Rows and columns of a tile.
        outputs: usize,
    },
    /// Weights in blocks, of which those that are all zero are left out.
    Sparse {
        /// Rows and columns of a block.
        block: (usize, usize),
        /// Blocks that are not all zero.
        blocks: usize,
    },
}

/// A change of how a layer is computed: one is made where the new form takes less than the [margin](Machine::margin) of
/// the old one's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// From dense weights to blocks.
    ToSparse,
    /// From `f32` to 8-bit integers.
    ToBytes,
    /// From `f32` to bfloat16.
    ToHalves,
    /// From the direct sum of a 3x3 convolution to filtering.
    ToFiltered,
}

/// A machine, as those who choose between forms see it. Times are estimates.
pub trait Machine: fmt::Debug + Send + Sync {
    /// Why a product has no kernel in a form; none where it has one.
    fn declines(&self, product: &Product, form: Form) -> Option<Reason>;

    /// The time of a product in a form; [`Nanos::NEVER`] where it is declined.
    fn time(&self, product: &Product, form: Form) -> Nanos;

    /// The time of a copy of this many bytes into another layout.
    fn copy(&self, bytes: u64) -> Nanos;

    /// The share of the time before a change below which the change is made: estimates err by about the rest.
    fn margin(&self, change: Change) -> f64;

    /// Whether a change from one time to another is worth it.
    fn pays(&self, change: Change, before: Nanos, after: Nanos) -> bool {
        after < self.margin(change) * before
    }

    /// The dense form that is taken, and its time: the direct sum, unless filtering is faster by its margin.
    fn densest(&self, product: &Product) -> (Form, Nanos) {
        let direct = (Form::Dense, self.time(product, Form::Dense));
        if product.three_by_three.is_none() || product.numbers != Numbers::Floats {
            return direct;
        }
        let filtered = FILTERED.map(|outputs| Form::Filtered { outputs }).map(|form| (form, self.time(product, form)));
        let best = filtered.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(direct);
        if self.pays(Change::ToFiltered, direct.1, best.1) { best } else { direct }
    }
}

/// Rows and columns of the tiles of filtered convolutions.
const FILTERED: [usize; 2] = [2, 4];
