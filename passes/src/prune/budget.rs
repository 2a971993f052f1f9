//! How many weights go, and which: the distribution over layers, and the blocks of one.

use std::str::FromStr;

use optc_ir::Graph;

use super::saliency::{Evidence, Saliency};
use super::{BlockShape, LayerPlan, PruneOptions, Verdict};
use crate::choice::{UnknownChoice, choose};
use crate::weighted::Weighted;

/// How the share that goes is spread over the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Budget {
    /// Every layer loses the same share.
    #[default]
    Uniform,
    /// One threshold for all layers, on the magnitude of a block relative to the mean of its layer: layers whose
    /// weights are more unequal lose more.
    Global,
}

impl FromStr for Budget {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Budget, UnknownChoice> {
        choose(text, &[("uniform", Budget::Uniform), ("global", Budget::Global)])
    }
}

/// The most that one layer loses under a global threshold: a layer without weights gives nothing.
const MOST: f64 = 0.98;

/// Sets the share of each layer that is pruned; those with a share of their own keep it.
pub(super) fn spread(g: &Graph, options: &PruneOptions, layers: &mut [LayerPlan]) {
    if options.budget == Budget::Uniform {
        return;
    }
    let named = |plan: &LayerPlan| {
        options.layers.iter().any(|(name, _)| plan.name == *name || g.node(plan.layer.node).loc.contains(name))
    };
    let taking: Vec<usize> =
        (0..layers.len()).filter(|&i| layers[i].verdict == Verdict::Pruned && !named(&layers[i])).collect();
    let scores: Vec<Vec<f64>> = taking.iter().map(|&i| relative(g, &layers[i].layer, options)).collect();
    let mut all: Vec<f64> = scores.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let Some(&threshold) = all.get((all.len() as f64 * options.sparsity) as usize) else { return };
    for (&i, scores) in taking.iter().zip(&scores) {
        let below = scores.iter().filter(|&&s| s < threshold).count();
        layers[i].share = (below as f64 / scores.len().max(1) as f64).min(MOST);
    }
}

/// The magnitudes of a layer's blocks relative to their mean.
fn relative(g: &Graph, layer: &Weighted, options: &PruneOptions) -> Vec<f64> {
    let evidence = Evidence { weights: &layer.matrix(g), cols: layer.cols, energy: None };
    let scores = Saliency::magnitude().scores(&evidence);
    let sums = block_scores(&scores, layer, options.block);
    let mean = sums.iter().sum::<f64>() / sums.len().max(1) as f64;
    sums.iter().map(|s| s / mean.max(f64::MIN_POSITIVE)).collect()
}

/// Blocks along the columns.
fn across(layer: &Weighted, block: BlockShape) -> usize {
    layer.cols.div_ceil(block.cols)
}

/// The block of element `i`.
fn block_of(i: usize, layer: &Weighted, block: BlockShape) -> usize {
    i / layer.cols / block.rows * across(layer, block) + i % layer.cols / block.cols
}

/// The mean saliency of each block; those at the edges may have fewer elements.
fn block_scores(scores: &[f64], layer: &Weighted, block: BlockShape) -> Vec<f64> {
    let n = layer.rows.div_ceil(block.rows) * across(layer, block);
    let (mut sums, mut counts) = (vec![0.0; n], vec![0u32; n]);
    for (i, score) in scores.iter().enumerate() {
        let at = block_of(i, layer, block);
        sums[at] += score;
        counts[at] += 1;
    }
    sums.iter().zip(&counts).map(|(s, &n)| s / f64::from(n.max(1))).collect()
}

/// Which weights of a layer stay when `share` of its blocks go, the least salient first; equal ones in their order.
pub(super) fn mask(scores: &[f64], layer: &Weighted, block: BlockShape, share: f64) -> Vec<bool> {
    let sums = block_scores(scores, layer, block);
    let mut order: Vec<usize> = (0..sums.len()).collect();
    order.sort_by(|&a, &b| sums[a].total_cmp(&sums[b]).then(a.cmp(&b)));
    let mut keep = vec![true; sums.len()];
    let going = ((sums.len() as f64 * share).round() as usize).min(sums.len());
    order[..going].iter().for_each(|&b| keep[b] = false);
    (0..scores.len()).map(|i| keep[block_of(i, layer, block)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_ir::{NodeId, Value};

    fn layer(rows: usize, cols: usize) -> Weighted {
        let node = NodeId::new(0);
        Weighted { node, weights: Value { node, result: 0 }, rows, cols, transposed: false, groups: 1 }
    }

    #[test]
    fn whole_blocks_go() {
        let scores = [9.0, 1.0, 8.0, 1.0, 0.5, 7.0];
        let keep = mask(&scores, &layer(3, 2), BlockShape { rows: 2, cols: 1 }, 0.5);
        // Blocks: (9, 8), (1, 1), (0.5), (7).
        assert_eq!(keep, [true, false, true, false, false, true]);
        assert!(mask(&scores, &layer(3, 2), BlockShape { rows: 1, cols: 1 }, 0.0).iter().all(|k| *k));
        let keep = mask(&scores, &layer(3, 2), BlockShape { rows: 1, cols: 2 }, 0.67);
        assert_eq!(keep, [true, true, false, false, false, false]);
    }
}
