//! How the rows of a picture pass through the scratch: blocks of rows of the result, and for each the rows of the
//! source that it needs.

use std::ops::Range;

use crate::window::Axis;

/// Equal blocks one below the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockRun {
    /// The first of them.
    pub first: RowBlock,
    /// How many there are; each begins as many rows further as it has.
    pub blocks: usize,
}

/// Some rows of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowBlock {
    /// Which ones.
    pub out: Range<usize>,
    /// The rows of the source under their windows, from the start of the scratch on.
    pub rows: Range<usize>,
    /// The first of them that is new; those above are there from the block before.
    pub new: usize,
    /// Where in the scratch the block before has its row `rows.start`.
    pub was_at: usize,
}

impl RowBlock {
    /// The axis as the block sees it.
    pub(super) fn axis(&self, whole: &Axis) -> Axis {
        let (size, out) = (self.rows.len(), self.out.len());
        let before = self.rows.start + whole.pads[0] - self.out.start * whole.stride;
        let end = (out - 1) * whole.stride + whole.reach();
        Axis { size, out, pads: [before, end.saturating_sub(before + size)], ..*whole }
    }

    /// Rows that are kept from the block before.
    pub(super) fn kept(&self) -> usize {
        self.new - self.rows.start
    }

    /// What is the same in all blocks of a run.
    fn shape(&self, axis: &Axis) -> (Axis, usize, usize, usize) {
        let below = self.new + axis.pads[0] + axis.kernel * axis.dilation - self.out.start * axis.stride;
        (self.axis(axis), self.kept(), if self.kept() > 0 { self.was_at } else { 0 }, below)
    }
}

/// Source rows under the windows of rows `out` of the result; there is one under each.
fn rows(axis: &Axis, out: &Range<usize>) -> Range<usize> {
    let end = (out.end - 1) * axis.stride + axis.reach();
    (out.start * axis.stride).saturating_sub(axis.pads[0])..(end - axis.pads[0].min(end)).min(axis.size)
}

/// Cuts rows `band` of the result into blocks of `high` rows; nothing is there before the first.
pub(super) fn runs(axis: &Axis, band: Range<usize>, high: usize) -> Vec<BlockRun> {
    let mut runs: Vec<BlockRun> = Vec::new();
    let mut before = 0..0;
    for start in band.clone().step_by(high) {
        let out = start..band.end.min(start + high);
        let rows = rows(axis, &out);
        let new = rows.start.max(before.end.min(rows.end));
        let block = RowBlock { out, new, was_at: rows.start.saturating_sub(before.start), rows: rows.clone() };
        before = rows;
        match runs.last_mut() {
            Some(run) if run.first.shape(axis) == block.shape(axis) => run.blocks += 1,
            _ => runs.push(BlockRun { first: block, blocks: 1 }),
        }
    }
    runs
}

/// The most source rows that a block of `high` rows needs, wherever a band begins.
pub(super) fn tallest(axis: &Axis, high: usize) -> usize {
    ((high - 1) * axis.stride + axis.reach()).min(axis.size)
}
