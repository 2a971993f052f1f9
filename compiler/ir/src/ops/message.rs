//! Tensors in messages.

use optc_tensor::Tensor;

use crate::TensorType;

/// Elements that a message shows.
const SHOWN: usize = 8;

/// The type of a tensor.
pub(crate) fn type_of(t: &Tensor) -> TensorType {
    TensorType::fixed(t.dtype(), t.shape())
}

/// The first elements of a tensor of numbers, and its type where it has another number of elements than one.
pub(crate) fn shown(t: &Tensor) -> String {
    let values: Vec<String> = match t.dtype() {
        d if d.is_real() => t.to_f64_vec().iter().take(SHOWN).map(f64::to_string).collect(),
        _ => t.to_i64_vec().iter().take(SHOWN).map(i64::to_string).collect(),
    };
    match &values[..] {
        [only] => only.clone(),
        few => format!("[{}{}] ({})", few.join(", "), if t.len() > SHOWN { ", …" } else { "" }, type_of(t)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_shown_as_numbers() {
        let ints = |v: &[i64]| shown(&Tensor::from_slice(&[v.len()], v).unwrap());
        assert_eq!((ints(&[9]), ints(&[])), ("9".to_owned(), "[] (tensor<0xi64>)".to_owned()));
        assert_eq!(ints(&[1; 9]), "[1, 1, 1, 1, 1, 1, 1, 1, …] (tensor<9xi64>)");
        assert_eq!(shown(&Tensor::scalar(0.5f32)), "0.5");
    }
}
