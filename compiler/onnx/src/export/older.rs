//! Ops whose inputs or attributes were others in older operator sets: each is written as the target has it, where its
//! operands allow that, and else as the first operator set that can say it.

use std::collections::HashMap;

use optc_ir::ops::nn::{CoordinateTransform, Interpolation, NearestMode};
use optc_ir::ops::tensor::PadMode;
use optc_ir::ops::{math, nn, tensor};
use optc_ir::{Graph, NodeId, Op, Real, TextEnum, Value};
use optc_tensor::{DType, Tensor};

use super::spelling::{OnnxSpelling, spell, spelled};
use super::{Exporter, Site};
use crate::Diagnostic;

/// The first element, as an attribute holds it.
fn first(tensor: &Tensor) -> Option<Real> {
    tensor.to_f64_vec().first().map(|&v| Real(v as f32))
}

fn bad(e: impl ToString) -> Diagnostic {
    Diagnostic::new("export", e.to_string())
}

impl Exporter {
    /// Whether operand `slot`, a shape, may hold a zero that the target cannot tell from one that means a copy.
    pub(super) fn has_zeros(&self, site: &Site, slot: usize) -> bool {
        self.target >= 14 || site.ints(slot).is_none_or(|shape| shape.contains(&0))
    }

    /// An op whose axes, of a tensor of the given rank, are an input since operator set 13 and were an attribute.
    pub(super) fn with_axes(
        &mut self,
        spelling: OnnxSpelling,
        site: &Site,
        rank: Option<usize>,
    ) -> Result<(), Diagnostic> {
        let (mut spelling, mut operands) = (spelling, site.operands.clone());
        if let Some(axes) = site.ints(1).filter(|_| self.target < 13) {
            spelling = spelling.ints("axes", &axes).axes_from_the_front(self.target, rank);
            operands.truncate(1);
        }
        self.write(spelling, operands, site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// A reduction over axes that are known, none for all: an input since operator set 18 (of sums 13), an attribute
    /// before.
    pub(super) fn reduction(
        &mut self,
        spelling: OnnxSpelling,
        x: String,
        axes: &[i64],
        rank: Option<usize>,
        results: Vec<String>,
        loc: &[String],
    ) -> Result<(), Diagnostic> {
        let since = if spelling.op == "ReduceSum" { 13 } else { 18 };
        let (spelling, operands) = match axes {
            [] => (spelling, vec![x]),
            axes if self.target < since => {
                (spelling.ints("axes", axes).axes_from_the_front(self.target, rank), vec![x])
            }
            axes => (spelling, vec![x, self.ints(axes)?]),
        };
        self.write(spelling, operands, results, loc);
        Ok(())
    }

    /// The bounds are inputs since operator set 10.
    pub(super) fn slice(&mut self, site: &Site) -> Result<(), Diagnostic> {
        let mut spelling = spelled!("Slice");
        let forward = site.operand(4).is_empty() || site.ints(4).is_some_and(|steps| steps.iter().all(|&s| s == 1));
        if let (true, Some(starts), Some(ends)) = (self.target < 10 && forward, site.ints(1), site.ints(2)) {
            spelling = spelling.ints("starts", &starts).ints("ends", &ends);
            if let Some(axes) = site.ints(3) {
                spelling = spelling.ints("axes", &axes).axes_from_the_front(self.target, site.rank(0));
            }
            if site.operand(3).is_empty() || site.ints(3).is_some() {
                self.write(spelling, vec![site.operand(0)], site.results.clone(), &site.node.loc);
                return Ok(());
            }
            spelling = spelled!("Slice");
        }
        self.write(spelling.since(10), site.operands.clone(), site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// The sizes are an input since operator set 13 and were an attribute; without them the parts are equal, and since
    /// operator set 18 their number is told.
    pub(super) fn split(&mut self, op: &tensor::Split, site: &Site) -> Result<(), Diagnostic> {
        let mut spelling = spelled!("Split").int_or("axis", op.axis, 0);
        let mut operands = vec![site.operand(0), site.operand(1)];
        let by = (!op.sizes.is_empty()).then(|| op.sizes.clone()).or_else(|| site.ints(1));
        match by {
            Some(sizes) if self.target < 13 => {
                spelling = spelling.ints("split", &sizes);
                operands.truncate(1);
            }
            Some(_) if !operands[1].is_empty() => {}
            Some(sizes) => operands[1] = self.ints(&sizes)?,
            None if operands[1].is_empty() && self.target < 18 => {
                spelling = spelling.since(if divides(op, site) { 1 } else { 18 });
            }
            None if operands[1].is_empty() => spelling = spelling.int("num_outputs", op.parts),
            None => {}
        }
        let spelling = spelling.axes_from_the_front(self.target, site.rank(0));
        self.write(spelling, operands, site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// Pads and value are inputs since operator set 11.
    pub(super) fn pad(&mut self, op: &tensor::Pad, site: &Site) -> Result<(), Diagnostic> {
        let [x, value, by, axes] = [0, 1, 2, 3].map(|slot| site.operand(slot));
        let mut spelling = spelled!("Pad").string("mode", op.mode.as_str());
        if op.mode == PadMode::Wrap {
            spelling = spelling.since(19);
        }
        let filled = if value.is_empty() { Some(Real(0.0)) } else { site.constant(1).and_then(first) };
        let pads = if by.is_empty() { Some(op.pads.clone()) } else { site.ints(2) };
        if let (true, Some(value), Some(pads)) = (self.target < 11 && axes.is_empty(), filled, pads) {
            let spelling = spelling.ints("pads", &pads).float("value", value);
            self.write(spelling, vec![x], site.results.clone(), &site.node.loc);
            return Ok(());
        }
        let pads = if by.is_empty() { self.ints(&op.pads)? } else { by };
        self.write(spelling.since(11), vec![x, pads, value, axes], site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// The bounds are inputs since operator set 11.
    pub(super) fn clip(&mut self, site: &Site) -> Result<(), Diagnostic> {
        let bound = |slot: usize, none: f32| match site.operand(slot).is_empty() {
            true => Some(Real(none)),
            false => site.constant(slot).and_then(first),
        };
        if let (true, Some(low), Some(high)) = (self.target < 11, bound(1, f32::MIN), bound(2, f32::MAX)) {
            let spelling = spelled!("Clip").float("min", low).float("max", high);
            self.write(spelling, vec![site.operand(0)], site.results.clone(), &site.node.loc);
            return Ok(());
        }
        self.write(spelled!("Clip").since(11), site.operands.clone(), site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// The number of elements is an input since operator set 10.
    pub(super) fn top_k(&mut self, op: &math::TopK, site: &Site) -> Result<(), Diagnostic> {
        let mut spelling = spelled!("TopK").int("axis", op.axis).int("largest", i64::from(op.largest));
        let mut operands = site.operands.clone();
        if let Some(&[k]) = site.ints(1).filter(|_| self.target < 10).as_deref() {
            spelling = spelling.int("k", k);
            operands.truncate(1);
        }
        let spelling = spelling.axes_from_the_front(self.target, site.rank(0));
        self.write(spelling, operands, site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// The axis is an input since operator set 20.
    pub(super) fn fourier(&mut self, op: &math::Dft, site: &Site) -> Result<(), Diagnostic> {
        let mut spelling = spelled!("DFT").flag("inverse", op.inverse).flag("onesided", op.onesided);
        let mut operands = site.operands.clone();
        if self.target < 20 {
            let last_but_one = site.operand(2).is_empty().then_some(-2);
            match site.ints(2).and_then(|axis| axis.first().copied()).or(last_but_one) {
                Some(axis) => {
                    let rank = site.rank(0).map_or(0, |rank| rank as i64);
                    let axis = if axis < 0 && rank > 0 { axis + rank } else { axis };
                    spelling = spelling.int("axis", axis).since(if axis < 0 { 20 } else { 17 });
                    operands.truncate(2);
                }
                None => spelling = spelling.since(20),
            }
        }
        self.write(spelling, operands, site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// The summand may be left out since operator set 11.
    pub(super) fn gemm(&mut self, op: &nn::Gemm, site: &Site) -> Result<(), Diagnostic> {
        let spelling = spelled!("Gemm")
            .float("alpha", op.alpha)
            .float("beta", op.beta)
            .flag("transA", op.trans_a)
            .flag("transB", op.trans_b);
        let mut operands = site.operands.clone();
        if site.operand(2).is_empty() && self.target < 11 {
            let dtype = site.tensor(0).map_or(DType::F32, |t| t.dtype);
            operands.truncate(2);
            operands.push(self.literal(&Tensor::zeros(dtype, &[1]).map_err(bad)?));
        }
        self.write(spelling, operands, site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// An op along one axis. Before operator set 13 it was along all axes from its own on, so that another one than the
    /// last has to be moved there.
    pub(super) fn along(&mut self, spelling: OnnxSpelling, axis: i64, site: &Site) -> Result<(), Diagnostic> {
        if self.target >= 13 {
            self.write(spelling.int("axis", axis), site.operands.clone(), site.results.clone(), &site.node.loc);
            return Ok(());
        }
        let Some(rank) = site.rank(0) else {
            let last = if axis == -1 { 11 } else { 13 };
            let spelling = spelling.int("axis", axis).since(last);
            self.write(spelling, site.operands.clone(), site.results.clone(), &site.node.loc);
            return Ok(());
        };
        let (axis, last) = (if axis < 0 { axis + rank as i64 } else { axis }, rank as i64 - 1);
        let spelling = spelling.int("axis", last);
        if axis == last {
            self.write(spelling, site.operands.clone(), site.results.clone(), &site.node.loc);
            return Ok(());
        }
        let mut perm: Vec<i64> = (0..rank as i64).collect();
        perm.swap(axis as usize, last as usize);
        let swap = || spell("Transpose").ints("perm", &perm);
        let swapped = self.step(swap(), vec![site.operand(0)], site);
        let y = self.step(spelling, vec![swapped], site);
        self.write(swap(), vec![y], site.results.clone(), &site.node.loc);
        Ok(())
    }

    /// Since operator set 11 with a choice of coordinates, since 10 with factors alone, before that `Upsample`.
    pub(super) fn resize(&mut self, op: &nn::Resize, site: &Site) -> Result<(), Diagnostic> {
        let [x, scales, sizes, region] = [0, 1, 2, 3].map(|slot| site.operand(slot));
        let factors = site.constant(1).map(Tensor::to_f64_vec);
        let enlarges = factors.as_ref().is_some_and(|f| f.iter().all(|&f| f >= 1.0));
        if self.target < 11 && is_simple(op, enlarges) && sizes.is_empty() {
            let spelling = if self.target == 10 { spelled!("Resize") } else { spelled!("Upsample") };
            let spelling = spelling.string("mode", op.mode.as_str());
            let (spelling, operands) = match (self.target, factors) {
                (..9, Some(factors)) => {
                    let factors: Vec<Real> = factors.iter().map(|&f| Real(f as f32)).collect();
                    (spelling.floats("scales", &factors), vec![x])
                }
                (9, _) if !enlarges => (spelling.since(10), vec![x, scales]),
                _ => (spelling, vec![x, scales]),
            };
            self.write(spelling, operands, site.results.clone(), &site.node.loc);
            return Ok(());
        }
        let mut operands = vec![x, region, scales, sizes];
        if self.target < 13 {
            for slot in [1, 2].into_iter().filter(|&slot| operands[slot].is_empty()).collect::<Vec<_>>() {
                operands[slot] = self.literal(&Tensor::from_slice::<f32>(&[0], &[]).map_err(bad)?);
            }
        }
        let spelling = resized(op, enlarges)?;
        self.write(spelling.since(11), operands, site.results.clone(), &site.node.loc);
        Ok(())
    }
}

/// Whether the parts of a split without sizes are equal for certain, as they had to be before operator set 18.
fn divides(op: &tensor::Split, site: &Site) -> bool {
    let extent = || {
        let t = site.tensor(0)?;
        let rank = t.rank()? as i64;
        let axis = usize::try_from(if op.axis < 0 { op.axis + rank } else { op.axis }).ok()?;
        t.shape.as_ref()?.get(axis)?.known()
    };
    // An extent that is not known was split so by the model, or fails as it did there.
    extent().is_none_or(|n| op.parts > 0 && n.is_multiple_of(op.parts as usize))
}

/// Whether a resampling is one of those before operator set 11. Their nearest element is the one below, but for factors
/// that make less of an axis.
fn is_simple(op: &nn::Resize, enlarges: bool) -> bool {
    let nearest = op.nearest == NearestMode::Simple || op.nearest == NearestMode::Floor && enlarges;
    let plain = op.axes.is_empty() && !op.antialias && op.coordinate == CoordinateTransform::Asymmetric;
    plain
        && match op.mode {
            Interpolation::Nearest => nearest,
            Interpolation::Linear => true,
            Interpolation::Cubic => false,
        }
}

fn resized(op: &nn::Resize, enlarges: bool) -> Result<OnnxSpelling, Diagnostic> {
    let nearest = match op.nearest {
        NearestMode::Simple if op.mode != Interpolation::Nearest => NearestMode::RoundPreferFloor, // has no effect
        NearestMode::Simple if enlarges => NearestMode::Floor,
        NearestMode::Simple => {
            let reason = "the rounding of the oldest Resize cannot be written since operator set 11";
            return Err(Diagnostic::unsupported("export", reason).hint("ask for operator set 10 with `--opset`"));
        }
        nearest => nearest,
    };
    let spelling = spell("Resize")
        .flag("antialias", op.antialias)
        .ints("axes", &op.axes)
        .string("coordinate_transformation_mode", op.coordinate.as_str())
        .float("cubic_coeff_a", op.cubic_a)
        .flag("exclude_outside", op.exclude_outside)
        .float("extrapolation_value", op.extrapolation)
        .string("keep_aspect_ratio_policy", op.aspect.as_str())
        .string("mode", op.mode.as_str())
        .string("nearest_mode", nearest.as_str());
    let newer = op.coordinate == CoordinateTransform::HalfPixelSymmetric;
    Ok(if newer { spelling.since(19) } else { spelling })
}

/// A softmax over all axes from one on, as it was before operator set 13: the importer writes it as the softmax of a
/// matrix, whose result gets the shape of the operand again.
pub(super) struct WholeSoftmax {
    pub(super) x: Value,
    pub(super) axis: i64,
    pub(super) log: bool,
    /// The nodes before the last one, which nothing else reads.
    pub(super) inside: Vec<NodeId>,
}

impl WholeSoftmax {
    pub(super) fn spell(&self) -> OnnxSpelling {
        spell(if self.log { "LogSoftmax" } else { "Softmax" }).int("axis", self.axis)
    }
}

/// Those of a graph, each by its last node.
pub(super) fn whole_softmaxes(graph: &Graph, order: &[NodeId]) -> HashMap<NodeId, WholeSoftmax> {
    order.iter().filter_map(|&id| Some((id, whole_softmax(graph, id)?))).collect()
}

/// The softmax that ends at the reshaping `id`.
fn whole_softmax(graph: &Graph, id: NodeId) -> Option<WholeSoftmax> {
    graph.op::<tensor::Reshape>(id)?;
    let (matrix, shape) = (graph.operand(id, 0)?, graph.operand(id, 1)?);
    let softmax = graph.op::<nn::Softmax>(matrix.node).filter(|op| op.axis == -1)?;
    let flat = graph.operand(matrix.node, 0)?;
    let axis = graph.op::<tensor::Flatten>(flat.node)?.axis;
    let x = graph.operand(flat.node, 0)?;
    let mut inside = vec![matrix.node, flat.node];
    match &graph.node(shape.node).op {
        Op::ShapeOf(of) if of.start == 0 && of.end == i64::MAX && graph.operand(shape.node, 0) == Some(x) => {
            inside.push(shape.node);
        }
        _ => {
            let fixed = graph.ty(x).as_tensor()?.static_shape()?;
            let shape = graph.constant(shape)?.to_i64_vec();
            shape.iter().copied().eq(fixed.iter().map(|&n| n as i64)).then_some(())?;
        }
    }
    let read_once = |v: Value| graph.each_use(v).len() == 1 && !graph.is_output(v);
    (read_once(matrix) && read_once(flat)).then_some(())?;
    inside.retain(|&node| read_once(Value { node, result: 0 }));
    Some(WholeSoftmax { x, axis, log: softmax.log, inside })
}
