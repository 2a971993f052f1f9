//! `prune`: set the weights that matter least to zero.
//!
//! ```optc
//! // passes: prune{sparsity=0.5,block=2x1,spare=none}
//! given %x: tensor<1x2x4x4xf32>
//! %0 = tensor.const {value = dense<[1.0, 0.5, 2.0, -0.25]> : tensor<2x2x1x1xf32>} : tensor<2x2x1x1xf32>
//! %1 = nn.conv %x, %0 : tensor<1x2x4x4xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<1x2x4x4xf32>
//! %0 = tensor.const {value = dense<[1.0, 0.0, 2.0, 0.0]> : tensor<2x2x1x1xf32>, zeros = 2} : tensor<2x2x1x1xf32>
//! %1 = nn.conv %x, %0 : tensor<1x2x4x4xf32>
//! ```
//!
//! Why: zeros need not be stored, and kernels leave blocks of them out (`to-bcsr`).
//!
//! Which weights go is a *saliency* (a number for each weight, [`saliency`]) averaged over a *structure* (blocks of
//! rows, which are output channels, by columns) and cut off by a *budget* (how many blocks of each layer go,
//! [`budget`]). The first and the last layer and grouped convolutions, which have few weights, are spared.
//!
//! With calibration samples ([`prune_on_samples`]; a pipeline has none) each layer's remaining weights are then
//! fitted to what the layer gave before, on the inputs that the pruned layers before it give ([`reconstruct`]), and
//! biases and batch normalisations are corrected ([`correct`]): no labels are needed.
//!
//! The mask is the zeros themselves: a constant counts those that were pruned in `zeros`, passes carry the count along,
//! and the verifier (V7) checks it. Expects batch normalisations unfolded, to re-estimate them; folded ones are biases
//! like others.

mod budget;
mod calibration;
mod correct;
mod error;
mod evaluate;
mod part;
mod reconstruct;
mod rows;
mod saliency;
mod segments;
mod walk;

use std::str::FromStr;

use optc_ir::{Const, Graph, NodeId, Op};

use crate::choice::{UnknownChoice, choose};
use crate::weighted::Weighted;
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};
pub use budget::Budget;
pub use calibration::Calibration;
pub use error::{CalibrationError, LayerError, PruneError, RowError, SampleError};
pub use evaluate::Evaluate;
use saliency::Evidence;
pub use saliency::Saliency;

/// Rows and columns that are kept or dropped together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockShape {
    /// Output channels.
    pub rows: usize,
    /// Input channels, or taps, side by side.
    pub cols: usize,
}

/// The longest side of a block.
const MAX_BLOCK: usize = 64;

/// A text that is not a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockShapeError {
    /// A side is out of range.
    #[error("`{0}` is out of range: both sides of a block are 1 to {MAX_BLOCK}")]
    Range(String),
    /// It is not two numbers.
    #[error("`{0}` is not a block like `4x1`")]
    Text(String),
}

impl FromStr for BlockShape {
    type Err = BlockShapeError;

    fn from_str(text: &str) -> Result<BlockShape, BlockShapeError> {
        let sides = text.split_once('x').and_then(|(r, c)| Some((r.parse().ok()?, c.parse().ok()?)));
        match sides {
            Some((rows @ 1..=MAX_BLOCK, cols @ 1..=MAX_BLOCK)) => Ok(BlockShape { rows, cols }),
            Some(_) => Err(BlockShapeError::Range(text.to_owned())),
            None => Err(BlockShapeError::Text(text.to_owned())),
        }
    }
}

impl std::fmt::Display for BlockShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.rows, self.cols)
    }
}

/// Layers that keep all their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spare {
    /// The first and the last one: few weights, and much depends on them.
    #[default]
    Ends,
    /// None.
    None,
}

impl FromStr for Spare {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Spare, UnknownChoice> {
        choose(text, &[("ends", Spare::Ends), ("none", Spare::None)])
    }
}

/// How a graph is pruned.
#[derive(Debug, Clone, PartialEq)]
pub struct PruneOptions {
    /// The share of the weights that goes, of those layers that are not spared: 0 or more, below 1.
    pub sparsity: f64,
    /// What is kept or dropped together.
    pub block: BlockShape,
    /// How the share is spread over the layers.
    pub budget: Budget,
    /// What tells the weights that matter.
    pub saliency: Saliency,
    /// Which layers stay as they are.
    pub spare: Spare,
    /// Shares of their own for layers, by the name of an ONNX node.
    pub layers: Vec<(String, f64)>,
}

impl PruneOptions {
    /// Uniform magnitude pruning by `sparsity` in `block`s.
    ///
    /// # Errors
    /// The share is out of range.
    pub fn new(sparsity: f64, block: BlockShape) -> Result<PruneOptions, PruneError> {
        let options = PruneOptions {
            sparsity,
            block,
            budget: Budget::default(),
            saliency: Saliency::default(),
            spare: Spare::default(),
            layers: vec![],
        };
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), PruneError> {
        let shares = std::iter::once(self.sparsity).chain(self.layers.iter().map(|l| l.1));
        match shares.into_iter().find(|share| !(0.0..1.0).contains(share)) {
            Some(share) => Err(PruneError::Sparsity(share)),
            None => Ok(()),
        }
    }
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Weights were set to zero.
    Pruned,
    /// It is left as it was, and why.
    Spared(&'static str),
}

/// One layer of the report.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerReport {
    /// The ONNX node.
    pub name: String,
    /// Output channels.
    pub rows: usize,
    /// Weights of an output channel.
    pub cols: usize,
    /// Weights that are zero now.
    pub zeros: usize,
    /// What became of it.
    pub verdict: Verdict,
}

/// Sets weights of a graph to zero. Layers in regions are left alone.
///
/// # Errors
/// Options are out of range, or weights are shared or not finite.
pub fn prune(g: &mut Graph, options: &PruneOptions) -> Result<Vec<LayerReport>, PruneError> {
    let layers = plans(g, options)?;
    for plan in layers.iter().filter(|l| l.verdict == Verdict::Pruned) {
        let mut matrix = plan.layer.matrix(g);
        let evidence = Evidence { weights: &matrix, cols: plan.layer.cols, energy: None };
        let keep = budget::mask(&options.saliency.scores(&evidence), &plan.layer, options.block, plan.share);
        clear(&mut matrix, &keep);
        set_weights(g, &plan.layer, &matrix, &keep);
    }
    Ok(reports(g, layers))
}

/// The same, and fits what is left to what the graph gives on samples.
///
/// # Errors
/// As [`prune`], or the samples do not fit, or a layer cannot be run on them.
pub fn prune_on_samples<E: Evaluate>(
    g: &mut Graph,
    options: &PruneOptions,
    samples: &Calibration<E>,
) -> Result<Vec<LayerReport>, CalibrationError<E::Error>> {
    let layers = plans(g, options)?;
    samples.check(g)?;
    walk::walk(g, options, &layers, samples)?;
    Ok(reports(g, layers))
}

/// What is to become of each layer.
fn plans(g: &Graph, options: &PruneOptions) -> Result<Vec<LayerPlan>, PruneError> {
    options.check()?;
    let mut layers = layers(g, options)?;
    budget::spread(g, options, &mut layers);
    Ok(layers)
}

fn reports(g: &Graph, layers: Vec<LayerPlan>) -> Vec<LayerReport> {
    layers.into_iter().map(|plan| plan.report(g)).collect()
}

/// Sets the weights that are not kept to zero.
fn clear(matrix: &mut [f32], keep: &[bool]) {
    matrix.iter_mut().zip(keep).filter(|(_, keep)| !**keep).for_each(|(w, _)| *w = 0.0);
}

/// A layer and what is to become of it.
#[derive(Debug, Clone)]
pub(crate) struct LayerPlan {
    pub layer: Weighted,
    pub name: String,
    /// The share of blocks that goes.
    pub share: f64,
    pub verdict: Verdict,
}

impl LayerPlan {
    fn report(self, g: &Graph) -> LayerReport {
        let zeros = self.layer.zeros(g);
        LayerReport { name: self.name, rows: self.layer.rows, cols: self.layer.cols, zeros, verdict: self.verdict }
    }
}

/// The layers of a graph in their order, and which are spared.
fn layers(g: &Graph, options: &PruneOptions) -> Result<Vec<LayerPlan>, PruneError> {
    let order = g.topological_order().unwrap_or_default();
    let mut layers: Vec<LayerPlan> = order
        .into_iter()
        .filter_map(|id| Weighted::of(g, id))
        .map(|layer| {
            let verdict = if layer.groups > 1 { Verdict::Spared("grouped") } else { Verdict::Pruned };
            LayerPlan { name: name_of(g, layer.node), layer, share: options.sparsity, verdict }
        })
        .collect();
    let ends = [(0, "the first layer"), (layers.len().saturating_sub(1), "the last layer")];
    let spared = if options.spare == Spare::Ends && layers.len() > 2 { &ends[..] } else { &[] };
    for &(at, why) in spared {
        layers[at].verdict = Verdict::Spared(why);
    }
    for (name, share) in &options.layers {
        let named = layers.iter_mut().find(|l| l.name == *name || g.node(l.layer.node).loc.contains(name));
        let Some(named) = named else {
            let known = layers.iter().map(|l| l.name.clone()).collect();
            return Err(PruneError::NoLayer { name: name.clone(), known });
        };
        (named.share, named.verdict) = (*share, Verdict::Pruned);
    }
    for layer in layers.iter_mut().filter(|l| l.share == 0.0 && l.verdict == Verdict::Pruned) {
        layer.verdict = Verdict::Spared("by request");
    }
    for (i, plan) in layers.iter().enumerate().filter(|(_, l)| l.verdict == Verdict::Pruned) {
        if let Some(other) = layers.iter().enumerate().find(|(j, l)| *j != i && l.layer.weights == plan.layer.weights) {
            return Err(PruneError::Shared { layer: plan.name.clone(), other: other.1.name.clone() });
        }
        if plan.layer.matrix(g).iter().any(|w| !w.is_finite()) {
            return Err(PruneError::NotFinite { layer: plan.name.clone() });
        }
    }
    Ok(layers)
}

/// The ONNX node that an op came from, or its place.
pub(crate) fn name_of(g: &Graph, id: NodeId) -> String {
    g.node(id).loc.first().cloned().unwrap_or_else(|| format!("{}#{}", g.node(id).op.name(), id.index()))
}

/// Gives a layer new weights, of which those that are not kept are zero from now on.
pub(crate) fn set_weights(g: &mut Graph, layer: &Weighted, matrix: &[f32], keep: &[bool]) {
    let Some(tensor) = layer.tensor(g, matrix) else { return };
    if let Op::Constant(c) = &mut g.node_mut(layer.weights.node).op {
        c.value = Const(tensor);
        c.zeros = keep.iter().filter(|keep| !**keep).count() as i64;
    }
}

/// See the module.
pub struct Prune(PruneOptions);

impl Pass for Prune {
    const NAME: &'static str = "prune";
    const SUMMARY: &'static str = "set the least salient weights to zero: \
        `{sparsity=0.5,block=4x1,budget=uniform|global,saliency=magnitude,spare=ends|none}`";
    const NUMERICS: Numerics = Numerics::Changes;

    fn from_options(options: &mut PassArguments) -> Result<Prune, OptionError> {
        let sparsity = options.take("sparsity", 0.5)?;
        let prune = PruneOptions {
            sparsity,
            block: options.take("block", BlockShape { rows: 1, cols: 1 })?,
            budget: options.take("budget", Budget::default())?,
            saliency: options.take("saliency", Saliency::default())?,
            spare: options.take("spare", Spare::default())?,
            layers: vec![],
        };
        prune.check().map_err(|e| OptionError { key: "sparsity".to_owned(), reason: e.to_string() })?;
        Ok(Prune(prune))
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        if cx.permit("prune") {
            prune(graph, &self.0)?;
        }
        Ok(())
    }
}
