//! Ops after shapes that depend on data run in kernels that are compiled for the shapes that they meet, and give what
//! the interpreter gives: for none, one, some and all rows, one set of shapes after the other and again.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc::{Compiler, Val};
use optc_ir::{Graph, parse};
use optc_tensor::{DType, Random, Tensor};
use optc_tests::compare::difference;

/// Rows that may be kept.
const ROWS: usize = 300;
/// How many are: more sets of shapes than are compiled.
const KEPT: [usize; 10] = [ROWS, 0, 1, 7, 128, 17, 299, ROWS, 7, 64];

fn floats(shape: &[usize], random: &mut Random) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.real(-1.0, 1.0) as f32).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

/// A graph of `%r: tensor<?x256xf32>`, the rows of `%x` that `%m` keeps.
fn graph(rest: &str) -> Graph {
    let rows = "%r = tensor.compress %x, %m : tensor<?x256xf32>";
    let inputs = format!("%m: tensor<{ROWS}xbool>, %x: tensor<{ROWS}x256xf32>, %w: tensor<256x64xf32>");
    parse(&format!("func @rows({inputs}) {{\n{rows}\n{rest}\n}}")).unwrap()
}

fn check(rest: &str) {
    let graph = graph(rest);
    let model = Compiler::default().compile_graph(graph.clone()).unwrap();
    let mut session = model.session();
    let mut random = Random::new(1);
    let (x, w) = (floats(&[ROWS, 256], &mut random), floats(&[256, 64], &mut random));
    for kept in KEPT {
        let mask: Vec<i64> = (0..ROWS).map(|i| i64::from((i * 7) % ROWS < kept)).collect();
        let mask = Tensor::from_i64(DType::Bool, &[ROWS], &mask).unwrap();
        let inputs: Vec<Val> = vec![mask.into(), x.clone().into(), w.clone().into()];
        let expected = optc_ir::run(&graph, &inputs).unwrap();
        let found = session.run_values(&inputs).unwrap();
        let wrong = found.iter().zip(&expected).find_map(|(a, b)| difference(a, b));
        assert!(wrong.is_none(), "{kept} rows: {}\n{rest}", wrong.unwrap());
    }
}

#[test]
fn products() {
    check("%0 = math.matmul %r, %w : tensor<?x64xf32>\nreturn %0 as \"y\"");
}

#[test]
fn rows_and_what_follows_them() {
    check(
        "%0 = nn.softmax %r : tensor<?x256xf32>\n%1 = math.add %0, %r : tensor<?x256xf32>\n\
         %2 = math.relu %1 : tensor<?x256xf32>\nreturn %2 as \"y\", %0 as \"p\"",
    );
}

#[test]
fn windows() {
    let shape = "%s = tensor.const {value = dense<[-1, 1, 16, 16]> : tensor<4xi64>} : tensor<4xi64>";
    let weights = "%k = tensor.const {value = dense<0.25> : tensor<3x1x3x3xf32>} : tensor<3x1x3x3xf32>";
    check(&format!(
        "{shape}\n{weights}\n%0 = tensor.reshape %r, %s : tensor<?x1x16x16xf32>\n\
         %1 = nn.conv %0, %k {{pads = [1, 1, 1, 1]}} : tensor<?x3x16x16xf32>\nreturn %1 as \"y\""
    ));
}

#[test]
fn one_after_the_other() {
    check(
        "%0 = math.reduce %r {axes = [1], keep_dims = false, kind = \"sum\"} : tensor<?xf32>\n\
         %z = tensor.const {value = dense<[0.0]> : tensor<f32>} : tensor<f32>\n\
         %1 = math.greater %0, %z : tensor<?xbool>\n%2 = tensor.compress %r, %1 : tensor<?x256xf32>\n\
         %3 = math.matmul %2, %w : tensor<?x64xf32>\nreturn %3 as \"y\", %1 as \"m\"",
    );
}
