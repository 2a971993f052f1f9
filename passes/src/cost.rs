//! What passes ask of a cost model. The compiler hands one in that is fitted to the machine; without one, [`Reference`]
//! decides, the same everywhere.

pub use optc_types::{CostModel, Numbers, Product};

/// A model of no machine in particular: a sparse multiply-add costs half as much again as a dense one, in
/// blocks of one row three times as much; bfloat16 takes half the time.
#[derive(Clone, Copy, Debug)]
pub struct Reference;

impl CostModel for Reference {
    fn dense(&self, p: &Product) -> f64 {
        share(p.numbers) * (p.cols * p.depth * p.rows) as f64
    }

    fn sparse(&self, p: &Product, (rows, cols): (usize, usize), blocks: usize) -> f64 {
        if p.numbers == Numbers::Floats && cols > 1 {
            return f64::INFINITY;
        }
        let each = if rows == 1 { 3.0 } else { 1.5 * rows as f64 };
        // Several columns at once take less than one after the other.
        let columns = if cols == 1 { 1.0 } else { 0.7 * cols as f64 };
        (each * columns * blocks as f64 + (p.cols.div_ceil(rows)) as f64) * p.rows as f64
            + self.copy(p.staged_bytes as u64)
    }

    fn depthwise(&self, results: usize, taps: usize, numbers: Numbers) -> f64 {
        share(numbers) * (results * taps) as f64
    }

    fn copy(&self, bytes: u64) -> f64 {
        bytes as f64
    }

    fn most_plane_taps(&self) -> usize {
        usize::MAX
    }
}

/// The time of a dense product in the model of no machine, by that of as many multiply-adds.
fn share(numbers: Numbers) -> f64 {
    if numbers == Numbers::Halves { 0.5 } else { 1.0 }
}
