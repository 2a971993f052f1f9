//! `store-halves`: keep large constants of `f32` as halves, where each element is one.
//!
//! ```optc
//! // passes: store-halves{least=2}
//! given %x: tensor<2x2xf32>
//! %0 = tensor.const {value = dense<[1.0, 0.5, 2.0, -1.25]> : tensor<2x2xf32>} : tensor<2x2xf32>
//! %1 = math.matmul %x, %0 : tensor<2x2xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<2x2xf32>
//! %0 = tensor.const {value = dense<[1.0, 0.5, 2.0, -1.25]> : tensor<2x2xbf16>} : tensor<2x2xbf16>
//! %1 = math.cast %0 {to = f32} : tensor<2x2xf32>
//! %2 = math.matmul %x, %1 : tensor<2x2xf32>
//! ```
//!
//! Why: a model in half precision keeps its size in artifacts, though all passes before see `f32`. Lowering widens what
//! it packs, products keep the halves. Nothing is lost: the cast gives the same bits. Bfloat16 comes first, as it is
//! widened by a shift.
//!
//! Declines constants of fewer than `least` elements (1,024), in blocks, and with an element that is no half; most
//! others are found out by their first elements. Runs last but for `schedule`: other passes look for constants.

use optc_ir::ops::math::Cast;
use optc_ir::ops::tensor::Constant;
use optc_ir::{Const, Encoding, Graph, NodeId, Op, TensorType, Value};
use optc_tensor::{DType, Tensor, bf16, f16};

use crate::matching::tensor_type;
use crate::rewrite::for_each_region;
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// See the module.
pub struct StoreHalves {
    least: usize,
}

impl Pass for StoreHalves {
    const NAME: &'static str = "store-halves";
    const SUMMARY: &'static str = "keep large constants of `f32` as halves, where each element is one: `{least=N}`";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(options: &mut PassArguments) -> Result<StoreHalves, OptionError> {
        Ok(StoreHalves { least: options.take("least", 1 << 10)? })
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        for id in graph.ids().collect::<Vec<_>>() {
            if let Some((stored, zeros)) = self.halves(graph, id)
                && cx.permit("constant")
            {
                store(graph, id, stored, zeros);
            }
        }
        for_each_region(graph, &mut |region| self.run(region, cx))
    }
}

impl StoreHalves {
    /// A constant as halves, and how many of its elements were pruned.
    fn halves(&self, graph: &Graph, id: NodeId) -> Option<(Tensor, i64)> {
        let Op::Constant(Constant { value: Const(tensor), zeros }) = &graph.node(id).op else { return None };
        let ty = tensor_type(graph, Value { node: id, result: 0 })?;
        if tensor.len() < self.least || ty.encoding != Encoding::Plain || tensor.dtype() != DType::F32 {
            return None;
        }
        let all: &[f32] = tensor.as_slice().ok()?;
        let exact = |half: fn(f32) -> f32| all.iter().all(|&x| half(x).to_bits() == x.to_bits());
        let dtype = if exact(|x| bf16::from_f32(x).to_f32()) {
            DType::BF16
        } else if exact(|x| f16::from_f32(x).to_f32()) {
            DType::F16
        } else {
            return None;
        };
        let mut stored = Tensor::zeros(dtype, tensor.shape()).ok()?;
        match dtype {
            DType::BF16 => fill(stored.as_mut_slice().ok()?, all, bf16::from_f32),
            _ => fill(stored.as_mut_slice().ok()?, all, f16::from_f32),
        }
        Some((stored, *zeros))
    }
}

fn fill<H>(to: &mut [H], from: &[f32], half: fn(f32) -> H) {
    to.iter_mut().zip(from).for_each(|(to, &x)| *to = half(x));
}

/// Puts halves and a cast in the place of a constant.
fn store(graph: &mut Graph, id: NodeId, stored: Tensor, zeros: i64) {
    let (old, loc) = (Value { node: id, result: 0 }, graph.node(id).loc.clone());
    let ty = graph.ty(old).clone();
    let halves = TensorType::fixed(stored.dtype(), stored.shape());
    let constant = graph.add(Constant { value: Const(stored), zeros }, &[], vec![halves.into()]);
    let wide = graph.add(Cast { to: DType::F32 }, &[Some(Value { node: constant, result: 0 })], vec![ty]);
    for new in [constant, wide] {
        graph.node_mut(new).loc.clone_from(&loc);
    }
    graph.replace_uses(old, Value { node: wide, result: 0 });
    graph.remove(id);
}
