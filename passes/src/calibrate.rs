//! `calibrate`: give the marks of `insert-fake-quant` the ranges that their values have.
//!
//! ```optc
//! // passes: calibrate{samples=1}
//! given %x: tensor<1x2xf32>
//! %0 = quant.fake_quant %x {name = "x"} : tensor<1x2xf32>
//! %1 = math.relu %0 : tensor<1x2xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<1x2xf32>
//! %0 = quant.fake_quant %x {high = [0.98312706], low = [0.2662463], name = "x"} : tensor<1x2xf32>
//! %1 = math.relu %0 : tensor<1x2xf32>
//! ```
//!
//! A [`Calibrator`] is shown the values of every mark that has no range, as many times as there are samples, and keeps
//! an [`Observer`] of each: the extremes and a histogram, however many values there were. Ranges are the extremes
//! (`method=minmax`), or hold the share `percentile` of the values (`method=percentile`). They are kept by the marks'
//! names, so that they can be written down and given again.
//!
//! As a pass it makes the values itself, by the interpreter on `samples` seeded inputs: good for trying things out, not
//! for accuracy. Whoever has real samples and a compiled model calls [`observed`], shows a [`Calibrator`] what comes,
//! and [`apply`]s its ranges. Ranges that are there already stay. NaN and infinities are an error that names the mark.

mod observer;

use std::collections::BTreeMap;

use indexmap::IndexMap;
use optc_ir::ops::quant::FakeQuant;
use optc_ir::{Graph, NodeId, Output, Real, Value, run};
use optc_tensor::Tensor;

use crate::seeded;
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};
pub use observer::{Method, Observer};

/// Lower and upper end of the values of each mark, by its name.
pub type Ranges = BTreeMap<String, [f32; 2]>;

/// See the module.
pub struct Calibrate {
    method: Method,
    samples: u64,
    seed: u64,
}

impl Pass for Calibrate {
    const NAME: &'static str = "calibrate";
    const SUMMARY: &'static str = "give marks the ranges of their values on seeded inputs: \
        `{method=percentile,percentile=99.9,samples=4}`";
    const NUMERICS: Numerics = Numerics::Approximates { rtol: 0.1 };

    fn from_options(options: &mut PassArguments) -> Result<Calibrate, OptionError> {
        let percentile = options.take("percentile", 99.99)?;
        let method = match options.take("method", "minmax".to_owned())?.as_str() {
            "minmax" => Method::MinMax,
            "percentile" if percentile > 50.0 && percentile <= 100.0 => Method::Percentile(percentile),
            other => {
                let reason = format!("`{other}` is not `minmax`, or `percentile` of more than 50 and at most 100");
                return Err(OptionError { key: "method".to_owned(), reason });
            }
        };
        Ok(Calibrate { method, samples: options.take("samples", 4)?, seed: options.take("seed", seeded_start())? })
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        let (probe, names) = observed(graph);
        if names.is_empty() || self.samples == 0 {
            return Ok(());
        }
        let mut calibrator = Calibrator::default();
        for sample in 0..self.samples {
            let Some(inputs) = seeded::inputs(&probe, self.seed.wrapping_add(sample)) else { return Ok(()) };
            let values = run(&probe, &inputs)?;
            for (name, value) in names.iter().zip(&values[values.len() - names.len()..]) {
                if let Some(t) = value.as_tensor() {
                    calibrator.observe(name, t)?;
                }
            }
        }
        apply(graph, &calibrator.ranges(self.method), cx);
        Ok(())
    }
}

/// The seed that checks of numerics use, so that they see values within the ranges.
fn seeded_start() -> u64 {
    seeded::SEED
}

/// The marks of a graph that have no range yet.
fn open(graph: &Graph) -> Vec<(NodeId, String, Value)> {
    let order = graph.topological_order().unwrap_or_default();
    let mark = |id: NodeId| {
        let op = graph.op::<FakeQuant>(id).filter(|op| !op.is_calibrated())?;
        Some((id, op.name.clone(), graph.operand(id, 0)?))
    };
    order.into_iter().filter_map(mark).collect()
}

/// The graph with the values of the marks that have no range as further outputs after its own, and the marks' names in
/// that order.
pub fn observed(graph: &Graph) -> (Graph, Vec<String>) {
    let mut probe = graph.clone();
    let mut names = vec![];
    for (_, name, value) in open(graph) {
        probe.outputs.push(Output { name: format!("observed {}", names.len()), value });
        names.push(name);
    }
    (probe, names)
}

/// Gives the marks of a graph the ranges of their names; returns how many there were.
pub fn apply(graph: &mut Graph, ranges: &Ranges, cx: &mut PassCx) -> usize {
    let mut given = 0;
    for (id, name, _) in open(graph) {
        let Some(&[low, high]) = ranges.get(&name) else { continue };
        if !cx.permit("range") {
            break;
        }
        if let optc_ir::Op::FakeQuant(op) = &mut graph.node_mut(id).op {
            (op.low, op.high) = (vec![Real(low)], vec![Real(high)]);
            given += 1;
        }
    }
    given
}

/// Observers by the marks' names.
#[derive(Debug, Clone, Default)]
pub struct Calibrator {
    observers: IndexMap<String, Observer>,
}

impl Calibrator {
    /// Takes note of some values of a mark.
    ///
    /// # Errors
    /// A value is not finite, or the tensor is not `f32`.
    pub fn observe(&mut self, name: &str, values: &Tensor) -> Result<(), PassError> {
        let bad = |reason: String| PassError::Data { reason };
        let values = values.as_slice::<f32>().map_err(|e| bad(format!("`{name}`: {e}")))?;
        if let Some(v) = values.iter().find(|v| !v.is_finite()) {
            return Err(bad(format!("a value of `{name}` is {v}: calibration needs finite values")));
        }
        self.observers.entry(name.to_owned()).or_default().observe(values);
        Ok(())
    }

    /// What was observed of each mark.
    pub fn observers(&self) -> impl Iterator<Item = (&str, &Observer)> {
        self.observers.iter().map(|(name, observer)| (name.as_str(), observer))
    }

    /// The ranges of all marks that had a value.
    pub fn ranges(&self, method: Method) -> Ranges {
        let range = |(name, o): (&String, &Observer)| Some((name.clone(), o.range(method)?));
        self.observers.iter().filter_map(range).collect()
    }
}
