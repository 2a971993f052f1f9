//! Values against their reference.

use optc::Val;
use optc_tensor::{Difference, Tolerance};

/// How `found` differs from `expected` by more than the [`Tolerance`] of its dtype; `None` where it does not.
pub fn difference(found: &Val, expected: &Val) -> Option<String> {
    match (found, expected) {
        (Val::Tensor(a), Val::Tensor(b)) => {
            let Tolerance { rtol, atol } = Tolerance::of(a.dtype());
            match Difference::between(a, b, rtol, atol) {
                None => Some(format!("found {a:?}, expected {b:?}")),
                Some(d) if d.within_tolerance() => None,
                Some(d) => Some(format!("off by {:.3e}: found {a:?}, expected {b:?}", d.max_abs)),
            }
        }
        (Val::Seq(_, a), Val::Seq(_, b)) if a.len() == b.len() => a.iter().zip(b).find_map(|(a, b)| difference(a, b)),
        (Val::Opt(_, None), Val::Opt(_, None)) => None,
        (Val::Opt(_, Some(a)), Val::Opt(_, Some(b))) => difference(a, b),
        _ => Some(format!("found {found:?}, expected {expected:?}")),
    }
}
