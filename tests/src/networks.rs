//! The networks of `testdata`, for one picture of 28x28 pixels.

use anyhow::{Context, Result};
use optc::{Integers, Method, Options, Quantizer, Tensor, Val};
use optc_ir::Graph;

use crate::data;

/// All of them.
pub const ALL: [&str; 6] = ["mlp", "lenet", "resnet8", "mobilenetv2", "vit", "lstm"];

const PIXELS: usize = 28 * 28;

/// What they take: the first picture of Fashion-MNIST.
///
/// # Errors
/// The pictures cannot be read.
pub fn picture() -> Result<Val> {
    let pictures = data::array("fashion_100.npz", "input")?;
    let first = pictures.as_slice::<f32>()?.get(..PIXELS).context("there is no picture")?;
    Ok(Tensor::from_slice(&[1, 1, 28, 28], first)?.into())
}

/// A network that takes one picture.
///
/// # Errors
/// There is none of this name.
pub fn graph(name: &str) -> Result<Graph> {
    let mut graph = optc_onnx::import_file(&data::testdata(&format!("{name}.onnx")))?;
    optc_passes::specialize(&mut graph, &[picture()?.ty()])?;
    Ok(graph)
}

/// The same with all products quantized.
///
/// # Errors
/// As [`graph`].
pub fn quantized(name: &str) -> Result<Graph> {
    let options = Options { integers: Integers::Always, ..Options::default() };
    let mut quantizer = Quantizer::new(graph(name)?, &options, &[])?;
    quantizer.observe(&[picture()?])?;
    Ok(quantizer.finish(Method::MinMax)?.graph)
}
