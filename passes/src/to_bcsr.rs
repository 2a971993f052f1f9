//! `to-bcsr`: encode weights with many zeros as blocks, where a kernel that leaves the zeros out is faster.
//!
//! ```optc
//! given %x: tensor<1x2x4x4xf32>
//! %0 = tensor.const {value = dense<[1.0, 0.0, 2.0, 0.0]> : tensor<2x2x1x1xf32>} : tensor<2x2x1x1xf32>
//! %1 = nn.conv %x, %0 : tensor<1x2x4x4xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<1x2x4x4xf32>
//! %0 = tensor.const {value = dense<[1.0, 0.0, 2.0, 0.0]> : tensor<2x2x1x1xf32>} : tensor<2x2x1x1xf32, bcsr<2x1>>
//! %1 = nn.conv %x, %0 : tensor<1x2x4x4xf32>
//! ```
//!
//! Why: a block of zeros is neither loaded nor multiplied. Blocks are of 4, 2 or 1 output channels by one column, or by
//! four input channels where the weights are integers, whichever the machine says is fastest; the dense form stays
//! unless the sparse one takes at most `margin` of its time, which the machine knows where it is not given. Where
//! zeros come from does not matter: a pruned model from elsewhere is found as well.
//!
//! The encoding says only how the weights lie; it changes no result. Weights that several ops read are given to each
//! separately. Declines grouped convolutions, those of three axes, and open shapes. `assign-layout` takes an encoding
//! back where the conversions around a sparse convolution would cost more than it saves.

use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Encoding, Graph, Op, Type, Value};

use crate::machine::{Change, Form, Machine, Nanos};
use crate::matching::{has_one_use, pruned, result};
use crate::rewrite::for_each_region;
use crate::weighted::Weighted;
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// Rows and columns of a block that kernels may know; the machine says which they do.
const BLOCKS: [(u8, u8); 6] = [(4, 1), (2, 1), (1, 1), (4, 4), (2, 4), (1, 4)];

/// A convolution is a candidate up to this share of the dense form's time: `assign-layout` knows what its surroundings
/// save.
const CANDIDATE: f64 = 1.5;

/// See the module.
pub struct ToBcsr {
    /// The machine's own without it.
    margin: Option<f64>,
}

impl Pass for ToBcsr {
    const NAME: &'static str = "to-bcsr";
    const SUMMARY: &'static str = "encode weights of many zeros as blocks where their kernels are faster: \
        `{margin=0.85}`";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(options: &mut PassArguments) -> Result<ToBcsr, OptionError> {
        let margin = options.take_given("margin")?;
        match margin {
            Some(m) if !(0.0..=f64::MAX).contains(&m) => {
                Err(OptionError { key: "margin".to_owned(), reason: format!("{m} is negative or not a number") })
            }
            _ => Ok(ToBcsr { margin }),
        }
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        for id in graph.topological_order().unwrap_or_default() {
            let Some(layer) = Weighted::of(graph, id).or_else(|| Weighted::of_integers(graph, id)) else { continue };
            set_encoding(graph, layer.weights, Encoding::Plain);
            if let Some(block) = self.choose(graph, &layer, cx)
                && cx.permit("sparse")
            {
                let own = own_weights(graph, &layer);
                set_encoding(graph, own, Encoding::Bcsr { rows: block.0, cols: block.1 });
            }
        }
        for_each_region(graph, &mut |region| self.run(region, cx))
    }
}

impl ToBcsr {
    /// The fastest block, where it is faster than the dense form.
    fn choose(&self, g: &Graph, layer: &Weighted, cx: &PassCx) -> Option<(u8, u8)> {
        let spatial = g.constant(layer.weights)?.rank().saturating_sub(2);
        if layer.groups != 1 || spatial > 2 {
            return None;
        }
        let machine = cx.machine();
        let margin = self.margin.unwrap_or_else(|| machine.margin(Change::ToSparse));
        let dense = machine.densest(&layer.product(g, 1)?).1;
        // What surrounds a layer of one column a block may pay for it: that is weighed with the layouts.
        let limit = |(_, cols): (u8, u8)| if spatial > 0 && cols == 1 { margin.max(CANDIDATE) } else { margin };
        // With as few blocks as the weights that are not zero can fill: where that is too slow, blocks need not be
        // counted, which takes 2.5 ns a weight.
        let nonzero = layer.rows * layer.cols - layer.known_zeros(g, cx.facts());
        let fewest = |(rows, cols): (usize, usize)| Some(nonzero.div_ceil(rows * cols));
        let mut times = BLOCKS.iter().filter_map(|&block| time_of(g, layer, machine, block, &fewest));
        if !times.any(|(time, block)| time <= limit(block) * dense) {
            return None;
        }
        let counted = |block: (usize, usize)| layer.blocks(g, block);
        let times = BLOCKS.iter().filter_map(|&block| time_of(g, layer, machine, block, &counted));
        let (best, block) = times.min_by(|a, b| a.0.total_cmp(&b.0))?;
        (best <= limit(block) * dense).then_some(block)
    }
}

/// The time of a layer with blocks of a form, whose number `count` gives; `None` where no kernel has the form.
fn time_of(
    g: &Graph,
    layer: &Weighted,
    machine: &dyn Machine,
    (rows, cols): (u8, u8),
    count: &dyn Fn((usize, usize)) -> Option<usize>,
) -> Option<(Nanos, (u8, u8))> {
    let block = (usize::from(rows), usize::from(cols));
    let product = layer.product(g, block.1)?;
    let form = |blocks: usize| Form::Sparse { block, blocks };
    if machine.declines(&product, form(0)).is_some() {
        return None; // before blocks are counted
    }
    Some((machine.time(&product, form(count(block)?)), (rows, cols)))
}

/// A constant that only this layer reads: its weights, or a copy of them.
fn own_weights(g: &mut Graph, layer: &Weighted) -> Value {
    if has_one_use(g, layer.weights) {
        return layer.weights;
    }
    let (Some(t), ty) = (g.constant(layer.weights).cloned(), g.ty(layer.weights).clone()) else { return layer.weights };
    let own = result(g.add(Constant { value: Const(t), zeros: pruned(g, layer.weights) }, &[], vec![ty]));
    g.set_operand(layer.node, 1, Some(own));
    own
}

/// Sets how a constant lies.
pub(crate) fn set_encoding(g: &mut Graph, constant: Value, encoding: Encoding) {
    let node = g.node_mut(constant.node);
    if let (Op::Constant(_), Type::Tensor(t)) = (&node.op, &mut node.results[constant.result as usize].ty) {
        t.encoding = encoding;
    }
}
