//! The attributes of a sliding window, shared by convolution and pooling.

use optc_ir::{Dim, Value};

use crate::mapping::{MapError, NodeCx};

/// Strides, dilations and resolved pads of a sliding window.
pub(super) struct WindowAttrs {
    pub strides: Vec<i64>,
    pub dilations: Vec<i64>,
    pub pads: Vec<i64>,
    /// Whether `auto_pad` gave the pads.
    pub auto: bool,
}

/// A list attribute with one entry for each of `len`, or `default` for each.
pub(super) fn list(cx: &NodeCx, name: &str, len: usize, default: i64) -> Result<Vec<i64>, MapError> {
    match cx.attrs.ints(name)? {
        Some(v) if v.len() == len => Ok(v),
        Some(v) => Err(MapError::Invalid(format!("`{name}` has {} entries, expected {len}", v.len()))),
        None => Ok(vec![default; len]),
    }
}

/// The extents of `kernel_shape`.
pub(super) fn kernel_shape(cx: &NodeCx) -> Result<Vec<i64>, MapError> {
    let missing = || MapError::Invalid("attribute `kernel_shape` is missing".to_owned());
    cx.attrs.ints("kernel_shape")?.ok_or_else(missing)
}

/// The extents of the window of weights `w`: what `kernel_shape` says, if it does, and what the weights have.
pub(super) fn weights_kernel(cx: &NodeCx, w: Value) -> Result<Vec<i64>, MapError> {
    let weights = cx.ty(w).as_tensor().and_then(|t| t.shape.as_deref()).and_then(|s| s.get(2..));
    let extents: Option<Vec<i64>> = weights.and_then(|s| s.iter().map(|d| d.known().map(|n| n as i64)).collect());
    match (cx.attrs.ints("kernel_shape")?, extents) {
        (Some(k), Some(e)) if k != e => {
            Err(MapError::Invalid(format!("`kernel_shape` is {k:?}, but the weights' window is {e:?}")))
        }
        (Some(k), _) => Ok(k),
        (None, Some(e)) => Ok(e),
        (None, None) => Err(MapError::Open("the shape of the weights is not known".to_owned())),
    }
}

/// Reads the attributes of a window of extents `kernel` over `x`.
pub(super) fn window(cx: &NodeCx, x: Value, kernel: &[i64]) -> Result<WindowAttrs, MapError> {
    let n = kernel.len();
    let (strides, dilations) = (list(cx, "strides", n, 1)?, list(cx, "dilations", n, 1)?);
    let auto = cx.attrs.string_or("auto_pad", "NOTSET")?;
    let given = list(cx, "pads", 2 * n, 0)?;
    let positive = |v: &[i64]| v.iter().all(|v| (1..1 << 31).contains(v));
    if !positive(&strides) || !positive(&dilations) || !positive(kernel) {
        return Err(MapError::Invalid("strides, dilations and kernel extents must be positive".to_owned()));
    }
    let pads = match auto.as_str() {
        "NOTSET" | "" => given,
        "VALID" => vec![0; 2 * n],
        "SAME_UPPER" | "SAME_LOWER" => same_pads(cx, x, kernel, &strides, &dilations, auto == "SAME_LOWER")?,
        other => return Err(MapError::Invalid(format!("`auto_pad` is \"{other}\""))),
    };
    Ok(WindowAttrs { strides, dilations, pads, auto: !matches!(auto.as_str(), "NOTSET" | "") })
}

/// Pads that make each result extent `ceil(extent / stride)`; the odd one goes to the end, or to the begin for `lower`.
fn same_pads(
    cx: &NodeCx,
    x: Value,
    kernel: &[i64],
    strides: &[i64],
    dilations: &[i64],
    lower: bool,
) -> Result<Vec<i64>, MapError> {
    let dims = cx.ty(x).as_tensor().and_then(|t| t.shape.as_deref()).unwrap_or_default();
    let mut pads = vec![0; 2 * kernel.len()];
    for (d, &k) in kernel.iter().enumerate() {
        let span = (k - 1).saturating_mul(dilations[d]).saturating_add(1);
        let total = match dims.get(d + 2).and_then(Dim::known).and_then(|n| i64::try_from(n).ok()) {
            Some(n) => ((n.max(1) - 1) / strides[d] * strides[d]).saturating_add(span).saturating_sub(n.max(1)),
            None if strides[d] == 1 => span - 1,
            None => return Err(MapError::Open("`auto_pad` needs known spatial extents".to_owned())),
        };
        (pads[d], pads[d + kernel.len()]) = halves(total.max(0), lower);
    }
    Ok(pads)
}

/// `total` in two halves; the odd one goes to the first for `lower`.
pub(super) fn halves(total: i64, lower: bool) -> (i64, i64) {
    let (less, more) = (total / 2, total - total / 2);
    if lower { (more, less) } else { (less, more) }
}
