//! Seeded inputs, and the comparison of two graphs through the interpreter.

use std::collections::BTreeMap;

use optc_ir::{Dim, Graph, TensorType, Type, Val, run};
use optc_tensor::{DType, Random, Tensor, TensorError, element_count};

use crate::Numerics;

/// The seed that the manager uses.
pub(crate) const SEED: u64 = 1;

/// Inputs with more elements than this are not made up.
const MAX_ELEMENTS: usize = 1 << 24;

/// One value for each input of `graph`: floats in −2..2, integers 0 or 1 (so that they serve as indices), booleans.
/// Named and unknown extents are 2 or 3, equal names equal. `None` when an input has no rank, is not a tensor, or is
/// very large.
pub fn inputs(graph: &Graph, seed: u64) -> Option<Vec<Val>> {
    let mut random = Random::new(seed);
    let mut names = BTreeMap::new();
    graph.inputs().map(|v| input(graph.ty(v), &mut random, &mut names)).collect()
}

fn input(ty: &Type, random: &mut Random, names: &mut BTreeMap<String, usize>) -> Option<Val> {
    let Type::Tensor(TensorType { dtype, shape: Some(dims), .. }) = ty else { return None };
    let mut extent = |dim: &Dim| match dim {
        Dim::Known(n) => *n,
        Dim::Unknown => 2 + random.below(2),
        Dim::Named(name) => *names.entry(name.to_string()).or_insert_with(|| 2 + random.below(2)),
    };
    let shape: Vec<usize> = dims.iter().map(&mut extent).collect();
    let n = element_count(&shape).filter(|&n| n <= MAX_ELEMENTS)?;
    tensor(*dtype, &shape, n, random).ok().map(Val::Tensor)
}

fn tensor(dtype: DType, shape: &[usize], n: usize, random: &mut Random) -> Result<Tensor, TensorError> {
    if dtype == DType::Str {
        return Tensor::from_strings(shape, (0..n).map(|i| format!("s{i}")).collect());
    }
    if dtype.is_real() {
        let values: Vec<f64> = (0..n).map(|_| random.real(-2.0, 2.0)).collect();
        return Tensor::from_f64(dtype, shape, &values);
    }
    let values: Vec<i64> = (0..n).map(|_| random.below(2) as i64).collect();
    Tensor::from_i64(dtype, shape, &values)
}

/// How the results of `after` differ from those of `before` on seeded inputs beyond what `numerics` allows; `None`
/// where they do not, or where `before` does not run on such inputs.
pub fn difference(before: &Graph, after: &Graph, seed: u64, numerics: Numerics) -> Option<String> {
    // Inputs that `after` accepts serve `before` too: a pass may only make input types more concrete.
    let inputs = inputs(after, seed)?;
    let expected = run(before, &inputs).ok()?;
    let found = match run(after, &inputs) {
        Ok(found) => found,
        Err(error) => return Some(format!("the interpreter ran before, and now says: {error}")),
    };
    let named = after.outputs.iter().zip(found.iter().zip(&expected));
    named.into_iter().find_map(|(o, (f, e))| Some(format!("output `{}` {}", o.name, differs(f, e, numerics)?)))
}

fn differs(found: &Val, expected: &Val, numerics: Numerics) -> Option<String> {
    match (found, expected) {
        (Val::Tensor(f), Val::Tensor(e)) => tensors_differ(f, e, numerics),
        (Val::Seq(_, f), Val::Seq(_, e)) if f.len() == e.len() => {
            f.iter().zip(e).find_map(|(f, e)| differs(f, e, numerics))
        }
        (Val::Opt(_, Some(f)), Val::Opt(_, Some(e))) => differs(f, e, numerics),
        (f, e) => (f != e).then(|| format!("is {}, was {}", f.ty(), e.ty())),
    }
}

fn tensors_differ(found: &Tensor, expected: &Tensor, numerics: Numerics) -> Option<String> {
    let [is, was] = [found, expected].map(|t| TensorType::fixed(t.dtype(), t.shape()));
    if is != was {
        return Some(format!("is {is}, was {was}"));
    }
    if let (Ok(f), Ok(e)) = (found.strings(), expected.strings()) {
        let at = f.iter().zip(e).position(|(f, e)| f != e)?;
        return Some(format!("differs at element {at}: `{}` was `{}`", f[at], e[at]));
    }
    let (f, e) = (found.to_f64_vec(), expected.to_f64_vec());
    let finite = e.iter().filter(|v| v.is_finite());
    let largest = finite.fold(0.0f64, |m, v| m.max(v.abs()));
    let bound = if found.dtype().is_float() { numerics.tolerance() * largest.max(1e-3) } else { 0.0 };
    let near = |f: f64, e: f64| f == e || (f.is_nan() && e.is_nan()) || (f - e).abs() <= bound;
    let at = f.iter().zip(&e).position(|(&f, &e)| !near(f, e))?;
    Some(format!("differs at element {at}: {} was {} (allowed: {bound:.3e})", f[at], e[at]))
}
