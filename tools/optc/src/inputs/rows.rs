//! Rows of tensors along their leading axis: taking some, and putting parts together again.

use optc_ir::Val;
use optc_tensor::{DType, Tensor};

use crate::exit::{CommandError, Exit, Outcome};

/// How many rows all of these have; `None` where they differ or have none.
pub fn count(values: &[Val]) -> Option<usize> {
    let mut counts = values.iter().map(|v| v.as_tensor()?.shape().first().copied());
    let first = counts.next()??;
    counts.all(|n| n == Some(first)).then_some(first)
}

/// Rows `from..to` (or up to the last).
///
/// # Errors
/// The value has no rows, or is not a tensor.
pub fn slice(value: &Val, from: usize, to: usize) -> Outcome<Val> {
    let no_rows = || CommandError::new(Exit::Run, format!("{} has no rows to take", value.ty()));
    let t = value.as_tensor().filter(|t| t.rank() > 0).ok_or_else(no_rows)?;
    let row: usize = t.shape()[1..].iter().product();
    let to = to.min(t.shape()[0]);
    let from = from.min(to);
    let mut shape = t.shape().to_vec();
    shape[0] = to - from;
    let elements = from * row..to * row;
    let part = match t.dtype() {
        DType::Str => Tensor::from_strings(&shape, t.strings()?[elements].to_vec())?,
        DType::F4E2M1FN => Tensor::from_f64(t.dtype(), &shape, &t.to_f64_vec()[elements])?,
        dtype if dtype.is_packed() => Tensor::from_i64(dtype, &shape, &t.to_i64_vec()[elements])?,
        dtype => {
            let width = dtype.bits() / 8;
            Tensor::from_bytes(dtype, &shape, &t.bytes()[elements.start * width..elements.end * width])?
        }
    };
    Ok(part.into())
}

/// The parts one below the other. `rows` says how many rows each part must have.
///
/// # Errors
/// A part is not a tensor of that many rows, or differs from the others in dtype or further dims.
pub fn concat(name: &str, parts: &[Val], rows: &[usize]) -> Outcome<Val> {
    let refuse = |found: &Val, rows: usize| {
        let message = format!("output `{name}` is {} for {rows} rows of input: it cannot be run in parts", found.ty());
        CommandError::new(Exit::Run, message)
    };
    let mut tensors: Vec<&Tensor> = vec![];
    for (part, &n) in parts.iter().zip(rows) {
        let t = part.as_tensor().filter(|t| t.shape().first() == Some(&n)).ok_or_else(|| refuse(part, n))?;
        let like_first = tensors.first().is_none_or(|f| f.dtype() == t.dtype() && f.shape()[1..] == t.shape()[1..]);
        if !like_first || t.dtype() == DType::Str || t.dtype().is_packed() {
            return Err(refuse(part, n));
        }
        tensors.push(t);
    }
    let first = tensors.first().ok_or_else(|| CommandError::new(Exit::Run, "there are no rows to run".to_owned()))?;
    let mut shape = first.shape().to_vec();
    shape[0] = rows.iter().sum();
    let bytes: Vec<&[u8]> = tensors.iter().map(|t| t.bytes()).collect();
    Ok(Tensor::from_bytes(first.dtype(), &shape, &bytes.concat())?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(rows: usize) -> Val {
        let values: Vec<f32> = (0..rows * 3).map(|i| i as f32).collect();
        Tensor::from_slice(&[rows, 3], &values).unwrap().into()
    }

    #[test]
    fn parts_put_together_are_the_whole() {
        let whole = tensor(5);
        let parts = [(0, 2), (2, 4), (4, 6)].map(|(from, to)| slice(&whole, from, to).unwrap());
        assert_eq!(concat("y", &parts, &[2, 2, 1]).unwrap(), whole);
        assert!(concat("y", &parts, &[2, 2, 2]).is_err());
        let nibbles: Val = Tensor::from_i64(DType::I4, &[3, 1], &[1, -2, 3]).unwrap().into();
        let last = slice(&nibbles, 1, 3).unwrap();
        assert_eq!(last.as_tensor().unwrap().to_i64_vec(), [-2, 3]);
    }

    #[test]
    fn rows_are_counted_where_all_agree() {
        assert_eq!(count(&[tensor(5), tensor(5)]), Some(5));
        assert_eq!(count(&[tensor(5), tensor(4)]), None);
        assert_eq!(count(&[Tensor::scalar(1f32).into()]), None);
        assert!(slice(&Tensor::scalar(1f32).into(), 0, 1).is_err());
    }
}
