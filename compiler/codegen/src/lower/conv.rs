//! Dense convolutions over NHWC.

use optc_ir::ops::nn::Conv;
use optc_ir::{Encoding, TensorType};

use super::contract::{Call, Placed, collapse, only_f32};
use super::{Declined, Lowered, Lowering, Site, View};
use crate::contract::{self, Operand, packed_len};
use crate::expr::Expr;

impl Lowering {
    pub(super) fn conv(&mut self, op: &Conv, site: &Site) -> Lowered {
        let dst = site.result()?.clone();
        only_f32(&dst)?;
        if dst.is_empty() {
            return Err(Declined::new("an empty convolution"));
        }
        if dst.is(Encoding::Nhwc) {
            return self.conv_nhwc(op, site, &dst);
        }
        // The result is wanted plain: computed with channels last, then turned around.
        let ty = TensorType::fixed(dst.dtype, &dst.shape).with_encoding(Encoding::Nhwc);
        let at = self.temp(4 * dst.len());
        let last = View::dense(at, &ty).ok_or_else(|| Declined::new("a convolution of rank below 3"))?;
        self.conv_nhwc(op, site, &last)?;
        super::movement::copy(self, &last, &dst, &site.loc)
    }

    fn conv_nhwc(&mut self, op: &Conv, site: &Site, dst: &View) -> Lowered {
        let x = self.view_in(site.operand(0)?, Encoding::Nhwc)?;
        let weights = self.constant(site.operand(1)?).cloned();
        let weights = weights.ok_or_else(|| Declined::new("the weights are not constant"))?;
        let w = weights.as_slice::<f32>().map_err(|e| Declined::new(e.to_string()))?;
        let problem = problem(op, &x.shape, weights.shape(), &dst.shape)?;
        let nr = self.nr();
        let len = packed_len_of(&problem, nr);
        let mut packed = Vec::with_capacity(len * problem.groups);
        for group in 0..problem.groups {
            let from = problem.group_weights(group);
            let to = problem.group_weights(group + 1);
            let last = problem.to_channels_last(w.get(from..to).ok_or_else(|| Declined::new("too few weights"))?);
            packed.extend(contract::pack_b(&last, &problem.pack(), nr));
        }
        let packed =
            optc_tensor::Tensor::from_slice(&[packed.len()], &packed).map_err(|e| Declined::new(e.to_string()))?;
        let b = self.add_constant(packed);
        let mut epilogue = site.epilogue.clone();
        if let Some(bias) = site.optional(2) {
            let bias = self.view(bias)?;
            only_f32(&bias)?;
            let mut shape = vec![1; dst.shape.len()];
            shape[1] = dst.shape[1];
            let wide = bias.reshaped(&shape).and_then(|v| v.broadcast(&dst.shape));
            epilogue.operands.push(wide.ok_or_else(|| Declined::new("a bias that is not one value a channel"))?);
            let sum = Expr::Operand(0).plus(Expr::Operand(epilogue.operands.len()));
            epilogue.expr = epilogue.expr.with_operand(0, &sum);
        }
        let mut operands = Vec::new();
        for view in &epilogue.operands {
            operands.push(placed(view, problem.filters)?);
        }
        let call = Call {
            contract: contract::conv(&problem, nr),
            a: x.at,
            b,
            dst: dst.at,
            operands,
            epilogue: epilogue.expr,
            loc: site.loc.clone(),
        };
        self.contract(call, None);
        Ok(())
    }
}

fn packed_len_of(c: &contract::Conv, nr: usize) -> usize {
    let p = c.pack();
    packed_len(p.taps, p.k, p.n, nr)
}

/// An operand of the epilogue by group, pixel and filter.
fn placed(view: &View, filters: usize) -> Result<Placed, Declined> {
    only_f32(view)?;
    let rows: Vec<(usize, i64)> =
        (0..view.shape.len()).filter(|&d| d != 1).map(|d| (view.shape[d], view.strides[d])).collect();
    let row =
        collapse(&rows).ok_or_else(|| Declined::new("an operand of the epilogue lies otherwise than the result"))?;
    let col = if view.shape[1] == 1 { 0 } else { view.strides[1] };
    let operand = Operand {
        bytes: view.span_bytes(),
        batch_stride: 4 * col * filters as i64,
        row_stride: 4 * row,
        col_stride: 4 * col,
    };
    Ok(Placed { operand, at: view.at })
}

/// The geometry of a convolution with one or two spatial axes.
fn problem(op: &Conv, x: &[usize], w: &[usize], y: &[usize]) -> Result<contract::Conv, Declined> {
    let axes = x.len() - 2;
    if axes == 0 || axes > 2 {
        return Err(Declined::new(format!("{axes} spatial axes")));
    }
    let at = |v: &[i64], i: usize, default: usize| v.get(i).map_or(default, |&n| n as usize);
    let pair = |v: &dyn Fn(usize) -> usize, none: usize| if axes == 1 { [none, v(0)] } else { [v(0), v(1)] };
    let groups = usize::try_from(op.groups).map_err(|_| Declined::new("no groups"))?;
    Ok(contract::Conv {
        batch: x[0],
        size: pair(&|i| x[2 + i], 1),
        channels: w[1],
        filters: w[0] / groups,
        groups,
        kernel: pair(&|i| w[2 + i], 1),
        strides: pair(&|i| at(&op.strides, i, 1), 1),
        dilations: pair(&|i| at(&op.dilations, i, 1), 1),
        pads: pair(&|i| at(&op.pads, i, 0), 0),
        out: pair(&|i| y[2 + i], 1),
    })
}
