//! Values against their reference.

use optc::{DType, Val};
use optc_tensor::Difference;

/// The relative tolerance of bfloat16, whose values are 0.4 to 0.8 % apart: that of the standard's own runner.
const BF16: f64 = 1.0 / 64.0;

/// How `found` differs from `expected` by more than `atol + rtol · |expected|`; `None` where it does not.
pub fn difference(found: &Val, expected: &Val, rtol: f64, atol: f64) -> Option<String> {
    match (found, expected) {
        (Val::Tensor(a), Val::Tensor(b)) => match Difference::between(a, b, tolerance(a.dtype(), rtol), atol) {
            None => Some(format!("found {a:?}, expected {b:?}")),
            Some(d) if d.within_tolerance() => None,
            Some(d) => Some(format!("off by {:.3e}: found {a:?}, expected {b:?}", d.max_abs)),
        },
        (Val::Seq(_, a), Val::Seq(_, b)) if a.len() == b.len() => {
            a.iter().zip(b).find_map(|(a, b)| difference(a, b, rtol, atol))
        }
        (Val::Opt(_, None), Val::Opt(_, None)) => None,
        (Val::Opt(_, Some(a)), Val::Opt(_, Some(b))) => difference(a, b, rtol, atol),
        _ => Some(format!("found {found:?}, expected {expected:?}")),
    }
}

fn tolerance(dtype: DType, rtol: f64) -> f64 {
    if dtype == DType::BF16 { rtol.max(BF16) } else { rtol }
}
