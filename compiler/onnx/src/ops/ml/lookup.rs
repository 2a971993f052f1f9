//! Tables of labels and categories.

use optc_ir::ops::{ml, tensor};
use optc_ir::{Const, Value};
use optc_tensor::{DType, Tensor};

use super::invalid;
use crate::mapping::{MapError, NodeCx};
use crate::ops::Mapped;

/// Keys and values come as lists of strings, integers or floats, or as tensors.
pub(super) fn label_encoder(cx: &mut NodeCx) -> Mapped {
    let keys = labels(cx, "keys")?.ok_or_else(|| invalid("the keys are missing"))?;
    let values = labels(cx, "values")?.ok_or_else(|| invalid("the values are missing"))?;
    let default = default_label(cx, values.dtype())?;
    let x = cx.input(0)?;
    Ok(vec![cx.emit1(ml::Lookup { keys: Const(keys), values: Const(values), default: Const(default) }, &[x])?])
}

fn labels(cx: &NodeCx, what: &str) -> Result<Option<Tensor>, MapError> {
    if let Some(t) = cx.tensor_attribute(&format!("{what}_tensor"))? {
        return Ok(Some(t));
    }
    if let Some(v) = cx.attrs.strings(&format!("{what}_strings"))? {
        return Ok(Some(Tensor::from_strings(&[v.len()], v)?));
    }
    if let Some(v) = cx.attrs.ints(&format!("{what}_int64s"))? {
        return Ok(Some(Tensor::from_slice(&[v.len()], &v)?));
    }
    let floats = cx.attrs.floats(&format!("{what}_floats"))?;
    Ok(floats.map(|v| Tensor::from_slice(&[v.len()], &v)).transpose()?)
}

/// What stands for labels that are not among the keys: one element of `dtype`.
fn default_label(cx: &NodeCx, dtype: DType) -> Result<Tensor, MapError> {
    let (text, int) = (cx.attrs.string_or("default_string", "_Unused")?, cx.attrs.int_or("default_int64", -1)?);
    let float = cx.attrs.float_or("default_float", -0.0)?;
    if let Some(t) = cx.tensor_attribute("default_tensor")? {
        return Ok(t);
    }
    Ok(match dtype {
        DType::Str => Tensor::from_strings(&[], vec![text])?,
        d if d.is_real() => Tensor::from_f64(d, &[], &[f64::from(float)])?,
        d => Tensor::from_i64(d, &[], &[int])?,
    })
}

/// Strings to integers or back: the categories are given once, as two lists.
pub(super) fn category_mapper(cx: &mut NodeCx) -> Mapped {
    let missing = |name: &str| invalid(format!("attribute `{name}` is missing"));
    let strings = cx.attrs.strings("cats_strings")?.ok_or_else(|| missing("cats_strings"))?;
    let ints = cx.attrs.ints("cats_int64s")?.ok_or_else(|| missing("cats_int64s"))?;
    if strings.len() != ints.len() {
        return Err(invalid(format!("there are {} strings and {} integers", strings.len(), ints.len())));
    }
    let (text, int) = (cx.attrs.string_or("default_string", "_Unused")?, cx.attrs.int_or("default_int64", -1)?);
    let x = cx.input(0)?;
    let strings = Const(Tensor::from_strings(&[strings.len()], strings)?);
    let ints = Const(Tensor::from_slice(&[ints.len()], &ints)?);
    let op = match cx.dtype(x)? {
        DType::Str => ml::Lookup { keys: strings, values: ints, default: Const(Tensor::scalar(int)) },
        _ => ml::Lookup { keys: ints, values: strings, default: Const(Tensor::from_strings(&[], vec![text])?) },
    };
    Ok(vec![cx.emit1(op, &[x])?])
}

/// A row of zeros with a one at the place of the category, for each element. Where there must be one, what is no
/// category points behind the table of rows, which is an error when it is gathered.
pub(super) fn one_hot_encoder(cx: &mut NodeCx) -> Mapped {
    let (ints, strings) = (cx.attrs.ints("cats_int64s")?, cx.attrs.strings("cats_strings")?);
    let zeros = cx.attrs.flag("zeros", true)?;
    let x = cx.input(0)?;
    let text = cx.dtype(x)? == DType::Str;
    let keys = match (ints.filter(|v| !v.is_empty()), strings.filter(|v| !v.is_empty())) {
        (Some(v), None) if !text => Tensor::from_slice(&[v.len()], &v)?,
        (None, Some(v)) if text => Tensor::from_strings(&[v.len()], v)?,
        (Some(_), None) => return Err(invalid("the operand has strings, the categories are integers")),
        (None, Some(_)) => return Err(invalid("the operand has numbers, the categories are strings")),
        _ => return Err(invalid("expected one of `cats_int64s` and `cats_strings`")),
    };
    let n = keys.len();
    let x = if text { x } else { super::cast(cx, x, DType::I64)? };
    let place = place_of(cx, keys, x)?;
    let mut table = vec![0f32; (n + usize::from(zeros)) * n];
    (0..n).for_each(|i| table[i * n + i] = 1.0);
    let table = cx.constant(Tensor::from_slice(&[n + usize::from(zeros), n], &table)?);
    Ok(vec![cx.emit1(tensor::Gather { axis: 0 }, &[table, place])?])
}

/// The place of each element of `x` among the keys, or their number. The last of equal keys counts.
fn place_of(cx: &mut NodeCx, keys: Tensor, x: Value) -> Result<Value, MapError> {
    let n = keys.len();
    let order: Vec<i64> = (0..n as i64).rev().collect();
    let keys = match keys.strings() {
        Ok(strings) => Tensor::from_strings(&[n], strings.iter().rev().cloned().collect())?,
        Err(_) => Tensor::from_slice(&[n], &keys.to_i64_vec().into_iter().rev().collect::<Vec<_>>())?,
    };
    let (values, default) = (Tensor::from_slice(&[n], &order)?, Tensor::scalar(n as i64));
    cx.emit1(ml::Lookup { keys: Const(keys), values: Const(values), default: Const(default) }, &[x])
}
