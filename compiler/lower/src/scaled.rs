//! Right operands of products that are stored as integers with scales: they are packed as they are, and the product
//! dequantizes them.

use optc_ir::ops::quant::Dequantize;
use optc_ir::{Op, Value};
use optc_kernels::contract::{Contract, Scaled, ScaledIntegers};
use optc_kernels::fold::suits_dots;
use optc_tensor::{DType, Tensor};
use optc_types::steps::BufRef;

use super::Declined;
use super::cx::Cx;

/// A matrix `[k, n]` of integers.
pub(super) struct ScaledRight {
    pub k: usize,
    pub n: usize,
    pub scaled: Scaled,
    values: Tensor,
    /// The integers, the scales, and the zero points if there are any.
    sources: Vec<Tensor>,
    /// Elements from one row and from one column to the next.
    strides: [usize; 2],
    scales: Vec<f32>,
    zeros: Vec<i32>,
    /// Scales from one group and from one column to the next.
    scale_strides: [usize; 2],
}

/// A stored right operand as a product reads it; `None` where it reads `f32`.
pub(super) fn scaled_right(cx: &Cx, value: Value, transposed: bool) -> Option<ScaledRight> {
    let stored = cx.places.stored(value)?;
    let Op::Dequantize(op) = &stored.op else { return None };
    let operand = |slot: usize| stored.operands.get(slot).and_then(Option::as_ref);
    scaled(op, operand(0)?, operand(1)?, operand(2), transposed)
}

fn scaled(
    op: &Dequantize,
    values: &Tensor,
    scale: &Tensor,
    zero: Option<&Tensor>,
    transposed: bool,
) -> Option<ScaledRight> {
    let &[first, second] = values.shape() else { return None };
    let (along_k, strides) = if transposed { (1, [1, second]) } else { (0, [second, 1]) };
    let (k, n) = if transposed { (second, first) } else { (first, second) };
    // Dot products read floats: which products they are must not depend on the rows.
    if op.to != DType::F32 || k * n == 0 || suits_dots(n, k) {
        return None;
    }
    let axis = usize::try_from(if op.axis < 0 { op.axis + 2 } else { op.axis }).ok()?;
    let (group, scale_strides) = match (usize::try_from(op.block).ok()?, scale.len()) {
        (0, 1) => (k, [0, 0]),
        (0, _) if axis != along_k => (k, [0, 1]),
        (block, _) if block > 0 && axis == along_k => {
            (block.min(k), if transposed { [1, k.div_ceil(block)] } else { [n, 1] })
        }
        _ => return None,
    };
    let nibbles = matches!(values.dtype(), DType::I4 | DType::U4) && (group == k || group.is_multiple_of(2));
    let bias = bias(values.dtype(), nibbles)?;
    let zeros = match zero {
        Some(zero) => zero.to_i64_vec().into_iter().map(|z| z as i32 + bias).collect(),
        None => vec![bias; scale.len()],
    };
    let one = zeros.first().copied().filter(|first| zeros.iter().all(|z| z == first));
    let scaled = Scaled { nibbles, group, zero: one };
    let scales = scale.to_f64_vec().into_iter().map(|s| s as f32).collect();
    let sources = [Some(values), Some(scale), zero].into_iter().flatten().cloned().collect();
    Some(ScaledRight { k, n, scaled, values: values.clone(), sources, strides, scales, zeros, scale_strides })
}

/// What is added to integers of a dtype so that they are kept.
fn bias(dtype: DType, nibbles: bool) -> Option<i32> {
    match dtype {
        DType::I4 if nibbles => Some(8),
        DType::I4 | DType::U4 | DType::I8 => Some(0),
        DType::U8 => Some(-128),
        _ => None,
    }
}

impl ScaledRight {
    /// Adds its strips for a product.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn pack(&self, cx: &mut Cx, c: &Contract) -> Result<BufRef, Declined> {
        let lanes = cx.target.isa.lanes();
        let Scaled { nibbles, group, .. } = self.scaled;
        let bits = if nibbles { 4 } else { 8 };
        let [of_k, of_n] = self.strides;
        let recipe = format!(
            "operand 1, {} x {}, {of_k} and {of_n} apart, {bits} bits in groups of {group}, in strips of {lanes}",
            self.k, self.n
        );
        let sources: Vec<&Tensor> = self.sources.iter().collect();
        cx.packed(&sources, recipe, || self.packed(c.b_bytes(lanes), lanes))
    }

    fn packed(&self, bytes_packed: usize, lanes: usize) -> Result<Tensor, Declined> {
        let mut packed = Tensor::zeros(DType::U8, &[bytes_packed])?;
        let dtype = self.values.dtype();
        let bias = bias(dtype, self.scaled.nibbles).unwrap_or(0);
        let bytes = self.values.bytes();
        let value = |k: usize, n: usize| {
            let i = k * self.strides[0] + n * self.strides[1];
            bias + match dtype {
                DType::I8 => i32::from(bytes[i] as i8),
                DType::U8 => i32::from(bytes[i]),
                _ => {
                    let nibble = bytes[i / 2] >> (4 * (i % 2)) & 15;
                    if dtype == DType::I4 { i32::from((nibble << 4) as i8 >> 4) } else { i32::from(nibble) }
                }
            }
        };
        let of_group = |group: usize, n: usize| group * self.scale_strides[0] + n * self.scale_strides[1];
        let scale = |group: usize, n: usize| self.scales[of_group(group, n)];
        let zero = |group: usize, n: usize| self.zeros[of_group(group, n)] as f32;
        self.scaled.pack(&ScaledIntegers { k: self.k, n: self.n, value, scale, zero }, lanes, packed.as_mut_slice()?);
        Ok(packed)
    }
}
