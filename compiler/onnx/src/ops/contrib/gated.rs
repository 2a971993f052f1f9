//! Gates, normalisations and states of models with linear attention.

use optc_ir::Value;
use optc_ir::ops::{math, nn, tensor};
use optc_ir::{Const, Real};
use optc_tensor::{DType, Tensor};

use super::{MICROSOFT, refuse_flags, refuse_inputs, refuse_outputs, reshaped};
use crate::mapping::{MapError, NodeCx};
use crate::ops::attention::{causal_conv, linear_attention};
use crate::ops::norm::scalar_like;
use crate::ops::{Mapped, Table, rank_of};

pub(crate) const TABLE: Table = &[
    (MICROSOFT, "BranchwiseRMSNorm", branch_norm),
    (MICROSOFT, "CausalConvWithState", |cx| {
        let ours = ["state_update_capacity", "state_window", "state_length", "input_channel_offset", "input_channels"];
        refuse_flags(cx, &ours)?;
        refuse_outputs(cx, &[(2, "state_update")])?;
        for (name, only) in [("channels_last", 0), ("dilation", 1), ("ndim", 1), ("state_channels_last", -1)] {
            let value = cx.attrs.int_or(name, only)?;
            if value != only {
                return Err(MapError::Unsupported(format!("`{name}` is {value}, supported is {only}")));
            }
        }
        causal_conv(cx)
    }),
    (MICROSOFT, "GatedAdd", |cx| {
        refuse_inputs(cx, &[(3, "gate_weight")])?;
        let (x, y, gate) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
        let product = cx.emit1(math::Mul {}, &[y, gate])?;
        Ok(vec![cx.emit1(math::Add {}, &[x, product])?])
    }),
    (MICROSOFT, "GatedRMSNorm", gated_norm),
    (MICROSOFT, "LinearAttention", |cx| {
        refuse_flags(cx, &["state_window"])?;
        linear_attention(cx)
    }),
    (MICROSOFT, "LinearAttentionGate", attention_gate),
    (MICROSOFT, "ScaledSiLU", |cx| {
        let x = cx.input(0)?;
        let alpha = cx.attrs.float_or("alpha", 1.0)?;
        let scale = match cx.optional(1) {
            Some(scale) => {
                let scale = reshaped(cx, scale, &[])?;
                let to = cx.dtype(x)?;
                cx.emit1(math::Cast { to }, &[scale])?
            }
            None => scalar_like(cx, x, alpha.into())?,
        };
        let scaled = cx.emit1(math::Mul {}, &[x, scale])?;
        Ok(vec![cx.emit1(math::Swish { alpha: Real(1.0) }, &[scaled])?])
    }),
];

/// The extents that stay: all but the last, as a reshape takes them.
fn kept(cx: &NodeCx, x: Value) -> Result<Vec<i64>, MapError> {
    Ok(vec![0; rank_of(cx, x)?.saturating_sub(1)])
}

/// Each group of as many elements as there are scales is normalised, then gated.
fn gated_norm(cx: &mut NodeCx) -> Mapped {
    let epsilon = Real(cx.attrs.float_or("epsilon", 1e-5)?);
    let activation = cx.attrs.string_or("activation", "silu")?;
    let (x, scale, gate) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let kept = kept(cx, x)?;
    let size = super::rotary::last_extent(cx, scale, "`scale`")?;
    let groups = reshaped(cx, x, &[&kept[..], &[-1, size]].concat())?;
    let y = cx.emit1(nn::RmsNorm { axis: -1, epsilon }, &[groups, scale])?;
    let y = reshaped(cx, y, &[&kept[..], &[-1]].concat())?;
    let gate = match activation.as_str() {
        "silu" | "swish" => cx.emit1(math::Swish { alpha: Real(1.0) }, &[gate])?,
        "sigmoid" => cx.emit1(math::Sigmoid {}, &[gate])?,
        other => return Err(MapError::Invalid(format!("there is no activation \"{other}\""))),
    };
    Ok(vec![cx.emit1(math::Mul {}, &[y, gate])?])
}

/// Each branch, which may lie beside others in the last axis, is normalised by itself; a scale is for one or for all.
fn branch_norm(cx: &mut NodeCx) -> Mapped {
    let epsilon = Real(cx.attrs.float_or("epsilon", 1e-5)?);
    let (x, scale, branches) = (cx.input(0)?, cx.optional(1), cx.attrs.int_or("num_branches", 0)?);
    let kept = kept(cx, x)?;
    let grouped = match branches {
        1.. => reshaped(cx, x, &[&kept[..], &[branches, -1]].concat())?,
        _ => x,
    };
    let size = super::rotary::last_extent(cx, grouped, "a branch")?;
    let one = Tensor::from_f64(cx.dtype(x)?, &[1], &[1.0])?;
    let count = crate::ops::attention::list(cx, &[size])?;
    let ones = cx.emit1(tensor::Fill { value: Const(one) }, &[count])?;
    let mut y = cx.emit1(nn::RmsNorm { axis: -1, epsilon }, &[grouped, ones])?;
    if let Some(scale) = scale {
        let extent = |scale: Value| cx.ty(scale).as_tensor().and_then(|t| t.static_shape());
        let shape = extent(scale).ok_or_else(|| MapError::Unsupported("the shape of `scale` is not known".into()))?;
        let rows = if shape == [size as usize] { scale } else { reshaped(cx, scale, &[-1, size])? };
        y = cx.emit1(math::Mul {}, &[y, rows])?;
    }
    if branches > 0 {
        y = reshaped(cx, y, &[&kept[..], &[-1]].concat())?;
    }
    Ok(vec![y])
}

/// How much of the state of each head stays, and how much of it is replaced.
fn attention_gate(cx: &mut NodeCx) -> Mapped {
    let (a, bias, scale, to) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, DType::F32);
    let dtype = cx.dtype(a)?;
    let wide = cx.emit1(math::Cast { to }, &[a])?;
    let sum = cx.emit1(math::Add {}, &[wide, bias])?;
    let soft = cx.emit1(math::Softplus {}, &[sum])?;
    let decay = cx.emit1(math::Mul {}, &[soft, scale])?;
    let mut results = vec![cx.emit1(math::Cast { to: dtype }, &[decay])?];
    if let Some(b) = cx.optional(3) {
        results.push(cx.emit1(math::Sigmoid {}, &[b])?);
    }
    Ok(results)
}
