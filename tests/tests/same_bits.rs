//! The same bits everywhere: quantized networks, and the float ops that stand between integers, on every instruction
//! set of the machine, for any batch and number of threads.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use optc::{Compiler, Model, Options, Quantizer, Tensor, Val};
use optc_ir::Graph;
use optc_tests::data;

const PIXELS: usize = 28 * 28;

fn options(isa: &str, threads: usize) -> Options {
    Options { isa: Some(isa.to_owned()), threads, ..Options::default() }
}

/// The bits of the first result.
fn bits(model: &Model, input: &Val) -> Vec<u8> {
    let values = model.session().run_values(std::slice::from_ref(input)).unwrap();
    values[0].as_tensor().unwrap().bytes().to_vec()
}

fn pictures(n: usize) -> Val {
    let all = data::array("fashion_100.npz", "input").unwrap();
    Tensor::from_slice(&[n, 1, 28, 28], &all.as_slice::<f32>().unwrap()[..n * PIXELS]).unwrap().into()
}

/// Quantized as `optc quantize` does it for a target: products for which integers are slower there stay in float.
fn quantized(name: &str) -> Graph {
    let graph = optc_onnx::import_file(&data::testdata(&format!("{name}.onnx"))).unwrap();
    let options = Options { target: Some("avx512-vnni".to_owned()), ..Options::default() };
    let mut quantizer = Quantizer::new(graph, &options, &[]).unwrap();
    quantizer.observe(&[pictures(20)]).unwrap();
    quantizer.finish(optc::Method::MinMax).unwrap().graph
}

#[test]
fn a_quantized_network_gives_the_same_bits_on_every_row_thread_count_and_batch() {
    for name in optc_tests::networks::ALL {
        let graph = quantized(name);
        let mut expected: Option<Vec<u8>> = None;
        for isa in optc_testing::isas() {
            for threads in [1, 2] {
                let model = Compiler::new(options(isa.name, threads)).compile_graph(graph.clone()).unwrap();
                for batch in [7, 1] {
                    let found = bits(&model, &pictures(batch));
                    let expected = expected.get_or_insert_with(|| found.clone());
                    let same = found == expected[..found.len()];
                    assert!(same, "{name} on {}, {threads} threads, batch {batch}", isa.name);
                }
            }
        }
    }
}

/// Float ops as they stand between integers: of lines of `n` elements, along and across them.
fn between(n: usize) -> Graph {
    let text = format!(
        "func @f(%x: tensor<3x{n}x5xf32>) {{
           %t = tensor.transpose %x {{perm = [0, 2, 1]}} : tensor<3x5x{n}xf32>
           %one = tensor.const {{value = @w}} : tensor<{n}xf32>
           %a = nn.layer_norm %t, %one, %one {{axis = -1, epsilon = 1e-05}} : tensor<3x5x{n}xf32>
           %b = nn.softmax %t {{axis = -1}} : tensor<3x5x{n}xf32>
           %c = math.gelu %t : tensor<3x5x{n}xf32>
           %d = math.reduce %t {{axes = [2], kind = \"mean\"}} : tensor<3x5x1xf32>
           %e = math.reduce %x {{axes = [1], kind = \"l2\"}} : tensor<3x1x5xf32>
           %et = tensor.transpose %e {{perm = [0, 2, 1]}} : tensor<3x5x1xf32>
           %f = nn.softmax %x {{axis = 1, log = true}} : tensor<3x{n}x5xf32>
           %ft = tensor.transpose %f {{perm = [0, 2, 1]}} : tensor<3x5x{n}xf32>
           %g = math.reduce %t {{axes = [0, 2], kind = \"log_sum_exp\"}} : tensor<1x5x1xf32>
           %h = math.reduce %t {{axes = [2], kind = \"prod\"}} : tensor<3x5x1xf32>
           %0 = math.add %a, %b : tensor<3x5x{n}xf32>
           %1 = math.add %0, %c : tensor<3x5x{n}xf32>
           %2 = math.add %1, %ft : tensor<3x5x{n}xf32>
           %3 = tensor.concat %2, %d, %et, %h {{axis = 2}} : tensor<3x5x{m}xf32>
           return %3 as \"y\", %g as \"z\"
         }}",
        m = n + 3
    );
    let wave = (0..n).map(|i| 1.0 + (i as f32 * 0.3).sin()).collect::<Vec<_>>();
    let weights = [("w".to_owned(), Tensor::from_slice(&[n], &wave).unwrap())].into_iter().collect();
    optc_ir::parse_with(&text, &weights).unwrap()
}

#[test]
fn float_ops_between_integers_have_one_order_on_every_row() {
    for n in (1..=70).chain([96, 127, 200, 768]) {
        let graph = between(n);
        let wave = |i: usize| (i as f32 * 0.37).sin() * 3.0 + (i as f32 * 0.011).cos();
        let values = (0..15 * n).map(wave).collect::<Vec<_>>();
        let input: Val = Tensor::from_slice(&[3, n, 5], &values).unwrap().into();
        let mut expected: Option<Vec<Vec<u8>>> = None;
        for isa in optc_testing::isas() {
            let model = Compiler::new(options(isa.name, 1)).compile_graph(graph.clone()).unwrap();
            let values = model.session().run_values(std::slice::from_ref(&input)).unwrap();
            let found: Vec<_> = values.iter().map(|v| v.as_tensor().unwrap().bytes().to_vec()).collect();
            let expected = expected.get_or_insert_with(|| found.clone());
            assert!(found == *expected, "lines of {n} on {}", isa.name);
        }
    }
}
