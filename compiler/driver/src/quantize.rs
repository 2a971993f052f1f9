//! Post-training quantization: a graph is marked, run on samples, and given ranges.
//!
//! ```no_run
//! # fn quantized(graph: optc_ir::Graph, samples: Vec<Vec<optc::Val>>) -> Result<optc::Model, optc::Error> {
//! let mut quantizer = optc::Quantizer::new(graph, &optc::Options::default(), &[])?;
//! for sample in &samples {
//!     quantizer.observe(sample)?;
//! }
//! let quantized = quantizer.finish(optc::Method::MinMax)?;
//! let model = optc::Compiler::default().compile_graph(quantized.graph)?;
//! # Ok(model)
//! # }
//! ```

use optc_ir::ops::quant::FakeQuant;
use optc_ir::{Dim, Graph, NodeId, Op, TensorType, Type, Val};
use optc_passes::calibrate::{Calibrator, Method, Ranges, apply, observed};
use optc_passes::insert_fake_quant::insert;
use optc_passes::{Layer, PassCx};
use optc_tensor::ConstantFacts;

use crate::passes::run_passes;
use crate::{Compiler, Error, Integers, Options, Session, Times};

/// What is done before marks are set: what folds into weights must be in them.
const PREPARE: &str = "clean-up,fold-batch-norm,clean-up";

/// What became of a product.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedLayer {
    /// The ONNX node.
    pub name: String,
    /// The op.
    pub op: &'static str,
    /// Whether it computes with integers.
    pub int8: bool,
    /// Why.
    pub reason: String,
    /// The range of its activations.
    pub range: Option<[f32; 2]>,
    /// The ratio of signal to quantization error of activations and weights together, in decibels.
    pub sqnr: Option<f64>,
    /// Estimated seconds in both forms, with open dims as 1.
    pub times: Option<Times>,
}

/// A quantized graph and how it came about.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The graph with pairs of quantizations; weights are integers. Export it, or compile it with `O2`.
    pub graph: Graph,
    /// All products, in order.
    pub layers: Vec<QuantizedLayer>,
    /// The ranges of the marks.
    pub ranges: Ranges,
}

/// Quantizes a graph; see the module.
#[derive(Debug)]
pub struct Quantizer {
    graph: Graph,
    layers: Vec<(NodeId, QuantizedLayer)>,
    names: Vec<String>,
    session: Session,
    calibrator: Calibrator,
}

impl Quantizer {
    /// Marks the products of a graph, but for the ONNX nodes in `skip` and, unless [`Options::integers`] says
    /// otherwise, those that integers make slower on the target of `options`, and compiles it for calibration, which
    /// runs on this machine.
    ///
    /// # Errors
    /// Passes or compilation fail, or weights are not finite.
    pub fn new(mut graph: Graph, options: &Options, skip: &[String]) -> Result<Quantizer, Error> {
        let _memory = options.memory.enter();
        run_passes(&mut graph, PREPARE, options, &options.any_target()?, &ConstantFacts::default())?;
        let layers = decide(&graph, options, skip)?;
        let stored = |id: NodeId| stores(&graph, id) && !asked(&graph, id, skip);
        let float: Vec<NodeId> = layers.iter().filter(|(id, l)| !l.int8 && !stored(*id)).map(|(id, _)| *id).collect();
        insert(&mut graph, &|_, id| float.contains(&id), &mut PassCx::default())?;
        let (probe, names) = observed(&graph);
        let session = Compiler::new(options.here()).compile_graph(probe)?.session();
        Ok(Quantizer { graph, layers, names, session, calibrator: Calibrator::default() })
    }

    /// The session that samples are run in: its model has the inputs of the graph.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Runs a sample and takes note of the marked values.
    ///
    /// # Errors
    /// The sample does not fit the inputs, or a value is not finite.
    pub fn observe(&mut self, sample: &[Val]) -> Result<(), Error> {
        let values = self.session.run_values(sample)?;
        for (name, value) in self.names.iter().zip(&values[values.len() - self.names.len()..]) {
            if let Some(t) = value.as_tensor() {
                self.calibrator.observe(name, t)?;
            }
        }
        Ok(())
    }

    /// The quantized graph, with ranges by a method.
    ///
    /// # Errors
    /// Nothing was observed.
    pub fn finish(self, method: Method) -> Result<Quantized, Error> {
        let ranges = self.calibrator.ranges(method);
        self.with_ranges(ranges)
    }

    /// The quantized graph with ranges that were found before.
    ///
    /// # Errors
    /// A mark has no range.
    pub fn with_ranges(mut self, ranges: Ranges) -> Result<Quantized, Error> {
        let usable = |[low, high]: &[f32; 2]| low.is_finite() && high.is_finite() && low <= high;
        let bad = self.names.iter().find(|name| !ranges.get(*name).is_some_and(usable));
        if let Some(name) = bad {
            return Err(Error::Range { name: name.clone() });
        }
        apply(&mut self.graph, &ranges, &mut PassCx::default());
        let mut layers = vec![];
        for (id, mut layer) in self.layers {
            if layer.int8 {
                measure(&self.graph, id, &self.calibrator, &mut layer);
            }
            layers.push(layer);
        }
        let mut graph = self.graph;
        crate::passes::run_pipeline(&mut graph, "fold-quant{to=pairs},cse,dce")?;
        Ok(Quantized { graph, layers, ranges })
    }
}

/// The products of a graph, and for each whether it is to compute with integers.
fn decide(graph: &Graph, options: &Options, skip: &[String]) -> Result<Vec<(NodeId, QuantizedLayer)>, Error> {
    let (machine, integers) = (options.profile.of(options.any_target()?.isa), options.integers);
    let mut closed = graph.clone();
    let types: Vec<Type> = graph.inputs().map(|v| closed_type(graph.ty(v))).collect();
    optc_passes::specialize(&mut closed, &types)?;
    let mut layers = vec![];
    for id in graph.topological_order().unwrap_or_default() {
        let node = graph.node(id);
        if !matches!(
            node.op,
            Op::Conv(_) | Op::MatMul(_) | Op::Gemm(_) | Op::ConvTranspose(_) | Op::Lstm(_) | Op::Gru(_) | Op::Rnn(_)
        ) {
            continue;
        }
        let times = Layer::of(&closed, id).map(|l| Times::new(|numbers| l.time(&machine, numbers)));
        let (int8, reason) = match (&node.op, asked(graph, id, skip), times) {
            (_, true, _) => (false, "it was asked to stay".to_owned()),
            (Op::ConvTranspose(_), ..) => (false, "it has no integer kernel".to_owned()),
            _ if stores(graph, id) => (false, "it has no integer kernel; its weights are stored in 8 bits".to_owned()),
            (_, _, Some(t)) if integers == Integers::Faster && !t.int8_pays(&machine) => {
                (false, "integers are not faster".to_owned())
            }
            (Op::Conv(_), ..) if graph.operand(id, 1).is_none_or(|w| graph.constant(w).is_none()) => {
                (false, "its weights are computed".to_owned())
            }
            (_, _, Some(t)) => (true, format!("{:.2} times as fast", t.f32 / t.int8)),
            (_, _, None) => (true, "its extents are not known".to_owned()),
        };
        let name = node.loc.first().cloned().unwrap_or_else(|| format!("node{}", id.index()));
        let op = node.op.name();
        layers.push((id, QuantizedLayer { name, op, int8, reason, range: None, sqnr: None, times }));
    }
    Ok(layers)
}

/// Whether a node computes with reals all the same when its weights are quantized.
fn stores(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id).op, Op::Lstm(_) | Op::Gru(_) | Op::Rnn(_))
}

/// Whether a node is to stay as it is.
fn asked(graph: &Graph, id: NodeId, skip: &[String]) -> bool {
    graph.node(id).loc.iter().any(|name| skip.contains(name))
}

/// A type with every open dim set to 1.
fn closed_type(ty: &Type) -> Type {
    match ty {
        Type::Tensor(t) => {
            let close = |d: &Dim| Dim::Known(d.known().unwrap_or(1));
            TensorType::of(t.dtype, t.shape.as_ref().map(|s| s.iter().map(close).collect())).into()
        }
        other => other.clone(),
    }
}

/// Fills in what is known of a quantized layer once its operands have ranges.
fn measure(graph: &Graph, id: NodeId, calibrator: &Calibrator, layer: &mut QuantizedLayer) {
    let mut noise = 0.0;
    for slot in 0..2 {
        let Some(value) = graph.operand(id, slot) else { continue };
        let Some(mark) = graph.op::<FakeQuant>(value.node) else {
            layer.int8 = false;
            layer.reason = "its operands cannot be quantized".to_owned();
            return;
        };
        let constant = graph.operand(value.node, 0).and_then(|v| graph.constant(v));
        let sqnr = match constant {
            Some(weights) => weights_sqnr(mark, weights),
            None => {
                let observer = calibrator.observers().find(|(name, _)| *name == mark.name);
                let range = [0, 0].map(|_| 0.0);
                let range = mark.low.first().zip(mark.high.first()).map_or(range, |(l, h)| [l.0, h.0]);
                layer.range.get_or_insert(range);
                observer.map(|(_, o)| o.sqnr(range, 255.0))
            }
        };
        noise += sqnr.map_or(0.0, |db| 10f64.powf(-db / 10.0));
    }
    layer.sqnr = (noise > 0.0).then(|| -10.0 * noise.log10()).filter(|db| db.is_finite());
}

/// The ratio for constant weights, exactly.
fn weights_sqnr(mark: &FakeQuant, weights: &optc_tensor::Tensor) -> Option<f64> {
    use optc_ir::{Args, Semantics};
    let quantized = mark.eval(&Args::plain(&[Some(weights.clone().into())])).ok()?;
    let quantized = quantized.first()?.as_tensor()?.to_f64_vec();
    let (mut signal, mut noise) = (0.0, 0.0);
    for (w, q) in weights.to_f64_vec().into_iter().zip(quantized) {
        signal += w * w;
        noise += (w - q) * (w - q);
    }
    (noise > 0.0 && signal > 0.0).then(|| 10.0 * (signal / noise).log10())
}
