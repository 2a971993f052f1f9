//! `ai.onnx.ml`: classical machine learning.
//!
//! What is not arithmetic, tables and trees is composed of ops of tensors. Where the standard says less than a result
//! needs, such as which scores a classifier of two classes gives, it is what ONNX Runtime computes.

mod features;
mod linear;
mod lookup;
mod maps;
mod scores;
mod svm;
mod tree_ensemble;
mod trees;

use optc_ir::ops::{math, nn, tensor};
use optc_ir::{Real, Value};
use optc_tensor::{DType, Tensor};

use super::{Table, rank_of};
use crate::mapping::{MapError, NodeCx};

pub(crate) use maps::ZIP_MAP;
pub(crate) use tree_ensemble::onnx_tree_word;
pub(crate) use trees::onnx_tree_mode;

pub(crate) const TABLE: Table = &[
    ("ai.onnx.ml", "ArrayFeatureExtractor", features::extractor),
    ("ai.onnx.ml", "Binarizer", features::binarizer),
    ("ai.onnx.ml", "CategoryMapper", lookup::category_mapper),
    ("ai.onnx.ml", "FeatureVectorizer", features::vectorizer),
    ("ai.onnx.ml", "Imputer", features::imputer),
    ("ai.onnx.ml", "LabelEncoder", lookup::label_encoder),
    ("ai.onnx.ml", "LinearClassifier", linear::classifier),
    ("ai.onnx.ml", "LinearRegressor", linear::regressor),
    ("ai.onnx.ml", "Normalizer", features::normalizer),
    ("ai.onnx.ml", "OneHotEncoder", lookup::one_hot_encoder),
    ("ai.onnx.ml", "SVMClassifier", svm::classifier),
    ("ai.onnx.ml", "SVMRegressor", svm::regressor),
    ("ai.onnx.ml", "Scaler", features::scaler),
    ("ai.onnx.ml", "TreeEnsemble", trees::ensemble),
    ("ai.onnx.ml", "TreeEnsembleClassifier", tree_ensemble::classifier),
    ("ai.onnx.ml", "TreeEnsembleRegressor", tree_ensemble::regressor),
    ("ai.onnx.ml", ZIP_MAP, maps::zip_map),
    ("com.microsoft", "CDist", linear::distances),
];

fn invalid(reason: impl Into<String>) -> MapError {
    MapError::Invalid(reason.into())
}

fn missing(name: &str) -> MapError {
    invalid(format!("attribute `{name}` is missing"))
}

/// The attribute, which must have an element.
fn floats(cx: &NodeCx, name: &str) -> Result<Vec<f32>, MapError> {
    cx.attrs.floats(name)?.filter(|v| !v.is_empty()).ok_or_else(|| missing(name))
}

/// A constant vector.
fn vector(cx: &mut NodeCx, values: &[f32]) -> Result<Value, MapError> {
    Ok(cx.constant(Tensor::from_slice(&[values.len()], values)?))
}

/// A constant of one element.
fn scalar(cx: &mut NodeCx, dtype: DType, value: f64) -> Result<Value, MapError> {
    Ok(cx.constant(Tensor::from_f64(dtype, &[], &[value])?))
}

/// The value in another dtype.
fn cast(cx: &mut NodeCx, x: Value, to: DType) -> Result<Value, MapError> {
    if cx.dtype(x)? == to { Ok(x) } else { cx.emit1(math::Cast { to }, &[x]) }
}

/// Input 0 with a row for each sample: a vector is one of them.
fn samples(cx: &mut NodeCx) -> Result<Value, MapError> {
    let x = cx.input(0)?;
    match rank_of(cx, x)? {
        1 => {
            let axes = cx.constant(Tensor::from_slice(&[1], &[0i64])?);
            cx.emit1(tensor::Unsqueeze {}, &[x, axes])
        }
        2 => Ok(x),
        rank => Err(invalid(format!("the operand has {rank} dims, expected a row for each sample"))),
    }
}

/// The same in `f32`.
fn float_samples(cx: &mut NodeCx) -> Result<Value, MapError> {
    let x = samples(cx)?;
    cast(cx, x, DType::F32)
}

/// `alpha · x · wᵀ + c`, where `w` has these rows, all in `f32`.
fn product(cx: &mut NodeCx, x: Value, w: &[f32], rows: usize, alpha: f32, c: &[f32]) -> Result<Value, MapError> {
    if rows == 0 || !w.len().is_multiple_of(rows) {
        return Err(invalid(format!("{} coefficients are not {rows} rows of one length", w.len())));
    }
    let features = w.len() / rows;
    let found = cx.ty(x).as_tensor().and_then(|t| t.shape.as_ref()?.get(1)?.known());
    if found.is_some_and(|found| found != features) {
        let found = found.unwrap_or_default();
        return Err(invalid(format!("the operand has {found} features, the coefficients are for {features}")));
    }
    let w = cx.constant(Tensor::from_slice(&[rows, features], w)?);
    let c = if c.iter().all(|&v| v == 0.0) { None } else { Some(vector(cx, c)?) };
    let gemm = nn::Gemm { alpha: Real(alpha), beta: Real(1.0), precision: DType::F32, trans_a: false, trans_b: true };
    let results = cx.emit(gemm, &[Some(x), Some(w), c])?;
    results.first().copied().ok_or_else(|| invalid("the op has no result"))
}
