//! Biases of integer products: those that have no place among the integers of their channel keep their values, in every
//! product that has a bias, and one that is a column, a row or a number is broadcast by the rule of the standard.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use optc::{Compiler, Method, Options, Quantizer, Tensor, Val};
use optc_ir::{Graph, parse_with, run};
use optc_tensor::Random;

/// A product with a bias, its text but for the operands, and the shapes of its operands and result.
struct Layer {
    name: &'static str,
    op: &'static str,
    attributes: &'static str,
    x: &'static [usize],
    w: &'static [usize],
    y: &'static [usize],
}

const LAYERS: [Layer; 5] = [
    Layer { name: "conv1d", op: "nn.conv", attributes: "", x: &[2, 4, 9], w: &[8, 4, 3], y: &[2, 8, 7] },
    Layer { name: "conv2d", op: "nn.conv", attributes: "", x: &[2, 4, 8, 8], w: &[8, 4, 3, 3], y: &[2, 8, 6, 6] },
    Layer { name: "pointwise", op: "nn.conv", attributes: "", x: &[2, 4, 5, 5], w: &[8, 4, 1, 1], y: &[2, 8, 5, 5] },
    Layer {
        name: "depthwise",
        op: "nn.conv",
        attributes: " {groups = 8}",
        x: &[2, 8, 8, 8],
        w: &[8, 1, 3, 3],
        y: &[2, 8, 6, 6],
    },
    Layer { name: "gemm", op: "nn.gemm", attributes: " {trans_b = true}", x: &[5, 16], w: &[8, 16], y: &[5, 8] },
];

/// Channels of weights that are next to nothing, as batch norms with tiny factors leave them.
const DEAD: [usize; 2] = [2, 5];

fn tensor_type(shape: &[usize], dtype: &str) -> String {
    let dims: String = shape.iter().map(|n| format!("{n}x")).collect();
    format!("tensor<{dims}{dtype}>")
}

fn floats(shape: &[usize], random: &mut Random, by: f32) -> Vec<f32> {
    (0..shape.iter().product()).map(|_| by * random.real(-1.0, 1.0) as f32).collect()
}

fn biases() -> Vec<f32> {
    (0..8).map(|i| 0.5 + 1.5 * i as f32 / 7.0).collect()
}

fn parsed(text: &str, constants: Vec<(&str, Tensor)>) -> Graph {
    parse_with(text, &constants.into_iter().map(|(name, t)| (name.to_owned(), t)).collect()).unwrap()
}

fn compiled(graph: Graph, x: &Val) -> Vec<f64> {
    let model = Compiler::default().compile_graph(graph).unwrap();
    model.session().run_values(std::slice::from_ref(x)).unwrap()[0].as_tensor().unwrap().to_f64_vec()
}

fn interpreted(graph: &Graph, x: &Val) -> Vec<f64> {
    run(graph, std::slice::from_ref(x)).unwrap()[0].as_tensor().unwrap().to_f64_vec()
}

/// A quantized layer whose bias is float, and the weights of two of its channels `tiny` times as large.
fn pairs(layer: &Layer, tiny: f32, random: &mut Random) -> Graph {
    let Layer { op, attributes, x, w, y, .. } = layer;
    let (tx, tw, ty) = (tensor_type(x, "f32"), tensor_type(w, "f32"), tensor_type(y, "f32"));
    let (qx, qw, qy) = (tensor_type(x, "u8"), tensor_type(w, "i8"), tensor_type(y, "u8"));
    let text = format!(
        "func @pairs(%x: {tx}) {{
  %sx = tensor.const {{value = dense<[0.02]> : tensor<f32>}} : tensor<f32>
  %sy = tensor.const {{value = dense<[0.05]> : tensor<f32>}} : tensor<f32>
  %z = tensor.const {{value = dense<[128]> : tensor<u8>}} : tensor<u8>
  %wq = tensor.const {{value = @wq}} : {qw}
  %sw = tensor.const {{value = @sw}} : tensor<8xf32>
  %b = tensor.const {{value = @b}} : tensor<8xf32>
  %0 = quant.quantize %x, %sx, %z {{to = u8}} : {qx}
  %1 = quant.dequantize %0, %sx, %z : {tx}
  %2 = quant.dequantize %wq, %sw {{axis = 0}} : {tw}
  %3 = {op} %1, %2, %b{attributes} : {ty}
  %4 = quant.quantize %3, %sy, %z {{to = u8}} : {qy}
  %5 = quant.dequantize %4, %sy, %z : {ty}
  return %5 as \"y\"
}}"
    );
    let q: Vec<i8> = (0..w.iter().product()).map(|_| random.real(-127.0, 127.0) as i8).collect();
    let scales: Vec<f32> = (0..8).map(|i| if DEAD.contains(&i) { tiny } else { 1.0 } * 2e-3).collect();
    let constants = vec![
        ("wq", Tensor::from_slice(w, &q).unwrap()),
        ("sw", Tensor::from_slice(&[8], &scales).unwrap()),
        ("b", Tensor::from_slice(&[8], &biases()).unwrap()),
    ];
    parsed(&text, constants)
}

#[test]
fn biases_beyond_the_integers_of_their_channel_keep_their_values() {
    let mut random = Random::new(11);
    for layer in &LAYERS {
        // The last of them is a denormal number times the scale of the input.
        for tiny in [1e-4, 1e-8, 1e-12, 1e-36] {
            let graph = pairs(layer, tiny, &mut random);
            let x: Val = Tensor::from_slice(layer.x, &floats(layer.x, &mut random, 1.0)).unwrap().into();
            let expected = interpreted(&graph, &x);
            for (f, e) in compiled(graph, &x).iter().zip(expected) {
                assert!((f - e).abs() < 0.0501, "{} with {tiny:e}: {f}, expected {e} within a step", layer.name);
            }
        }
    }
}

/// Decibels of a signal over what another one differs from it.
fn signal_to_noise(expected: &[f64], found: &[f64]) -> f64 {
    let power = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let noise = power(&mut expected.iter().zip(found).map(|(e, f)| e - f));
    10.0 * (power(&mut expected.iter().copied()) / noise).log10()
}

#[test]
fn nearly_dead_channels_and_tiny_inputs_are_quantized_and_the_report_is_right() {
    let mut random = Random::new(12);
    for layer in &LAYERS {
        for (of_weights, of_inputs) in [(1e-7, 1.0), (1e-12, 1.0), (1.0, 1e-9), (0.0, 1.0)] {
            let Layer { name, op, attributes, x, w, y } = layer;
            let (tx, tw, ty) = (tensor_type(x, "f32"), tensor_type(w, "f32"), tensor_type(y, "f32"));
            let text = format!(
                "func @layer(%x: {tx}) {{
  %w = tensor.const {{value = @w}} : {tw}
  %b = tensor.const {{value = @b}} : tensor<8xf32>
  %0 = {op} %x, %w, %b{attributes} : {ty} loc(\"layer\")
  %1 = math.relu %0 : {ty}
  return %1 as \"y\"
}}"
            );
            let per_channel = w.iter().product::<usize>() / 8;
            let mut weights = floats(w, &mut random, 0.2);
            for channel in DEAD {
                weights[channel * per_channel..][..per_channel].iter_mut().for_each(|w| *w *= of_weights);
            }
            let constants = vec![
                ("w", Tensor::from_slice(w, &weights).unwrap()),
                ("b", Tensor::from_slice(&[8], &biases()).unwrap()),
            ];
            let graph = parsed(&text, constants);
            let sample: Val = Tensor::from_slice(x, &floats(x, &mut random, of_inputs)).unwrap().into();
            let options = Options { integers: optc::Integers::Always, ..Options::default() };
            let mut quantizer = Quantizer::new(graph.clone(), &options, &[]).unwrap();
            quantizer.observe(std::slice::from_ref(&sample)).unwrap();
            let quantized = quantizer.finish(Method::MinMax).unwrap();
            let found = signal_to_noise(&interpreted(&graph, &sample), &compiled(quantized.graph, &sample));
            assert!(found > 38.0, "{name}, weights {of_weights:e}, inputs {of_inputs:e}: {found:.1} dB");
        }
    }
}

/// A product of as many rows as columns, with `c` of some shape.
fn gemm(shape: &[usize], random: &mut Random) -> Graph {
    let c = tensor_type(shape, "f32");
    let text = format!(
        "func @gemm(%x: tensor<6x32xf32>) {{
  %sx = tensor.const {{value = dense<[0.02]> : tensor<f32>}} : tensor<f32>
  %sy = tensor.const {{value = dense<[0.08]> : tensor<f32>}} : tensor<f32>
  %z = tensor.const {{value = dense<[128]> : tensor<u8>}} : tensor<u8>
  %wq = tensor.const {{value = @wq}} : tensor<32x6xi8>
  %sw = tensor.const {{value = dense<[0.001, 0.002, 0.003, 0.004, 0.003, 0.002]> : tensor<6xf32>}} : tensor<6xf32>
  %c = tensor.const {{value = @c}} : {c}
  %0 = quant.quantize %x, %sx, %z {{to = u8}} : tensor<6x32xu8>
  %1 = quant.dequantize %0, %sx, %z : tensor<6x32xf32>
  %2 = quant.dequantize %wq, %sw {{axis = 1}} : tensor<32x6xf32>
  %3 = nn.gemm %1, %2, %c : tensor<6x6xf32>
  %4 = quant.quantize %3, %sy, %z {{to = u8}} : tensor<6x6xu8>
  %5 = quant.dequantize %4, %sy, %z : tensor<6x6xf32>
  return %5 as \"y\"
}}"
    );
    let q: Vec<i8> = (0..32 * 6).map(|_| random.real(-127.0, 127.0) as i8).collect();
    let wq = Tensor::from_slice(&[32, 6], &q).unwrap();
    parsed(&text, vec![("wq", wq), ("c", Tensor::from_slice(shape, &floats(shape, random, 3.0)).unwrap())])
}

#[test]
fn what_is_added_to_a_product_is_broadcast_by_the_rule() {
    let mut random = Random::new(13);
    for shape in [&[6, 1][..], &[1, 6], &[6], &[6, 6], &[1, 1], &[1], &[]] {
        let graph = gemm(shape, &mut random);
        let x: Val = Tensor::from_slice(&[6, 32], &floats(&[6, 32], &mut random, 1.0)).unwrap().into();
        let expected = interpreted(&graph, &x);
        for (i, (f, e)) in compiled(graph, &x).iter().zip(expected).enumerate() {
            assert!((f - e).abs() < 0.0801, "{shape:?}: result {i} is {f}, expected {e} within a step");
        }
    }
}
