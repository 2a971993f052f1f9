//! The kernel families: which function lowers an op that has kernels of its own.
//!
//! What computes an op is a fact of its declaration. Ops that say [`ComputedBy::Family`] have a row here: one that is
//! missing, and one too many, does not compile.

use optc_ir::{ComputedBy, Op, Semantics, same_name};
use optc_types::ReasonCode;

use super::attention::attention;
use super::conv::conv;
use super::conv_transpose::conv_transpose;
use super::cx::Cx;
use super::dynamic::{dynamic_lstm, dynamic_quantize};
use super::matmul::{gemm, matmul};
use super::pool::pool;
use super::product::{quant_matmul, quant_sum};
use super::quant_conv::quant_conv;
use super::recurrent::{gru, lstm, rnn};
use super::rotary::rotary_embedding;
use super::{Declined, Lowered, Site, elementwise, fold, gather, mapped, movement};

/// Makes the dispatch, and the list of the ops that it knows: `Op(binding) => lowering` each.
macro_rules! families {
    ($cx:ident, $op:ident, $site:ident: $($Op:ident($bound:pat) => $lowered:expr,)*) => {
        /// Lowers an op of a family.
        fn family($cx: &mut Cx, $op: &Op, $site: &Site) -> Lowered {
            match $op {
                $(Op::$Op($bound) => $lowered,)*
                other => unreachable!("`{}` is of no family", other.name()),
            }
        }

        /// The ops that have a row.
        const ROWS: &[&str] = &[$(stringify!($Op)),*];
    };
}

families! { cx, op, site:
    MatMul(op) => matmul(cx, op, site),
    Gemm(op) => gemm(cx, op, site),
    Conv(op) => conv(cx, op, site),
    QuantConv(op) => quant_conv(cx, op, site),
    QuantMatMul(op) => quant_matmul(cx, op, site),
    DynamicQuantize(op) => dynamic_quantize(cx, op, site),
    DynamicLstm(op) => dynamic_lstm(cx, op, site),
    QuantSum(op) => quant_sum(cx, op, site),
    ConvTranspose(op) => conv_transpose(cx, op, site),
    Attention(op) => attention(cx, op, site),
    RotaryEmbedding(op) => rotary_embedding(cx, op, site),
    ArgReduce(op) => fold::arg_reduce(cx, op, site),
    Pool(op) => pool(cx, op, site),
    BatchNorm(op) => elementwise::batch_norm(cx, op, site),
    Lstm(op) => lstm(cx, op, site),
    Gru(op) => gru(cx, op, site),
    Rnn(op) => rnn(cx, op, site),
    Reduce(_) => fold::op(cx, op, site),
    Softmax(_) => fold::op(cx, op, site),
    LpNorm(_) => fold::op(cx, op, site),
    LayerNorm(_) => fold::op(cx, op, site),
    RmsNorm(_) => fold::op(cx, op, site),
    GroupNorm(_) => fold::op(cx, op, site),
    ConvertLayout(_) => movement::op(cx, op, site),
    Concat(_) => movement::op(cx, op, site),
    Pad(_) => movement::op(cx, op, site),
    Transpose(_) => movement::op(cx, op, site),
    Expand(_) => movement::op(cx, op, site),
    Slice(_) => movement::op(cx, op, site),
    Split(_) => movement::op(cx, op, site),
    Gather(op) => gather::op(cx, op, site),
    Tile(_) => mapped::op(cx, op, site),
    Resize(_) => mapped::op(cx, op, site),
    ScatterNd(_) => mapped::op(cx, op, site),
}

/// Lowers an op that is not a view of its operand.
pub(super) fn op(cx: &mut Cx, op: &Op, site: &Site) -> Lowered {
    match op.facts().computed_by {
        ComputedBy::Expression => elementwise::op(cx, op, site),
        ComputedBy::Family => family(cx, op, site),
        ComputedBy::View => Err(Declined::new(ReasonCode::Layout, "its operand is no view of a buffer")),
        ComputedBy::Host(reason) => Err(Declined::new(ReasonCode::NoKernel, reason)),
    }
}

const fn has_row(op: &str) -> bool {
    let mut i = 0;
    while i < ROWS.len() && !same_name(ROWS[i], op) {
        i += 1;
    }
    i < ROWS.len()
}

/// Refuses to compile where the rows are not those of the ops that say that they have a family.
macro_rules! rows_are_complete {
    ($($Op:ident in $module:ident,)*) => {
        const _: () = {
            $(assert!(
                matches!(<optc_ir::ops::$module::$Op>::FACTS.op.computed_by, ComputedBy::Family)
                    == has_row(stringify!($Op)),
                concat!("`", stringify!($Op), "` says that it has kernels of its own and has no row in `families!`, ",
                    "or has a row and does not say so")
            );)*
        };
    };
}
optc_ir::for_each_op!(rows_are_complete);
