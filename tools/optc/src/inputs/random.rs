//! Seeded random inputs. The same seed gives the same values everywhere.

use optc::ValueInfo;
use optc_ir::{Dim, TensorType, Type, Val};
use optc_tensor::{DType, Memory, Random, Tensor, element_count};

use crate::exit::{CommandError, Exit, Outcome};

/// One value for each input.
///
/// # Errors
/// An input is not a tensor of numbers, its rank is unknown, or it is too large.
pub fn values(infos: &[ValueInfo], seed: u64) -> Outcome<Vec<Val>> {
    let mut random = Random::new(seed);
    infos.iter().map(|info| Ok(value(info, &mut random)?.into())).collect()
}

/// The input's type with its open dims set to 1.
///
/// # Errors
/// The input is not a tensor, or its rank is unknown.
pub fn closed(info: &ValueInfo) -> Outcome<TensorType> {
    let Type::Tensor(t) = &info.ty else {
        return Err(cannot(info, "values of this type cannot be made up: give them with --input"));
    };
    let dims = t.shape.as_ref().ok_or_else(|| cannot(info, "its rank is unknown: give its dims with --shape"))?;
    let shape: Vec<usize> = dims.iter().map(|d| d.known().unwrap_or(1)).collect();
    if dims.iter().any(|d| !matches!(d, Dim::Known(_))) {
        super::say_closed(info, &shape);
    }
    Ok(TensorType::fixed(t.dtype, &shape))
}

fn value(info: &ValueInfo, random: &mut Random) -> Outcome<Tensor> {
    let ty = closed(info)?;
    let shape = ty.static_shape().unwrap_or_default();
    let too_large = || cannot(info, "it is too large to be made up");
    let n = element_count(&shape).ok_or_else(too_large)?;
    // The numbers are made in 64 bits before they become a tensor.
    let _numbers = Memory::current().claim(n.saturating_mul(8)).map_err(|e| cannot(info, &e.to_string()))?;
    match ty.dtype {
        DType::Str => Err(cannot(info, "strings cannot be made up: give them with --input")),
        d if d.is_real() => {
            let values: Vec<f64> = (0..n).map(|_| random.normal()).collect();
            Ok(Tensor::from_f64(d, &shape, &values)?)
        }
        // 0 or 1: safe as indices, lengths and masks.
        d => {
            let values: Vec<i64> = (0..n).map(|_| (random.bits() >> 63) as i64).collect();
            Ok(Tensor::from_i64(d, &shape, &values)?)
        }
    }
}

fn cannot(info: &ValueInfo, why: &str) -> CommandError {
    CommandError::new(Exit::Run, format!("input `{}` is {}: {why}", info.name, info.ty))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(ty: Type) -> ValueInfo {
        ValueInfo { name: "x".into(), ty }
    }

    #[test]
    fn floats_are_normal_and_the_seed_decides() {
        let x = [info(TensorType::fixed(DType::F32, &[10_000]).into())];
        let a = values(&x, 3).unwrap();
        assert_eq!(a, values(&x, 3).unwrap());
        assert_ne!(a, values(&x, 4).unwrap());
        let v = a[0].as_tensor().unwrap().to_f64_vec();
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        let variance = v.iter().map(|x| x * x).sum::<f64>() / v.len() as f64;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn integers_are_small_and_open_dims_are_one() {
        let ids = TensorType::new(DType::I64, vec![Dim::Named("N".into()), Dim::Known(64)]);
        let made = values(&[info(ids.into())], 0).unwrap();
        let t = made[0].as_tensor().unwrap();
        assert_eq!(t.shape(), [1, 64]);
        let v = t.to_i64_vec();
        assert!(v.contains(&0) && v.contains(&1) && v.iter().all(|x| (0..=1).contains(x)));
    }

    #[test]
    fn what_cannot_be_made_up_is_an_error() {
        for ty in [
            TensorType::unranked(DType::F32).into(),
            TensorType::fixed(DType::Str, &[2]).into(),
            TensorType::fixed(DType::F32, &[1 << 40, 1 << 40]).into(),
            Type::Sequence(Box::new(TensorType::unranked(DType::F32).into())),
        ] {
            assert_eq!(values(&[info(ty)], 0).unwrap_err().exit, Exit::Run);
        }
    }
}
