//! Products of one or two columns: as dot products where they are long enough, as contractions else, with the
//! interpreter's results on every instruction set.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::HashMap;

use optc::{Compiler, Decision, Options, Tensor, Val};
use optc_tests::compare;

/// `O2` without blocks of weights, which some rows would take for some of these.
const PASSES: &str = "clean-up,recompose,clean-up,assign-layout{to=nhwc},fuse,schedule";

fn wave(shape: &[usize], step: f32) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * step).sin()).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

/// Runs a graph of one input on every row; whether its product is a fold.
fn check(text: &str, input: &Tensor, weights: &[(&str, Tensor)]) -> bool {
    let weights = weights.iter().map(|(name, t)| ((*name).to_owned(), t.clone())).collect();
    let graph = optc_ir::parse_with(text, &weights).unwrap();
    let input: Val = input.clone().into();
    let expected = optc_ir::run(&graph, std::slice::from_ref(&input)).unwrap().remove(0);
    let mut folds = HashMap::new();
    for isa in optc_testing::isas() {
        let options = Options { isa: Some(isa.name.to_owned()), passes: PASSES.to_owned(), ..Options::default() };
        let model = Compiler::new(options).compile_graph(graph.clone()).unwrap();
        let found = model.session().run_values(std::slice::from_ref(&input)).unwrap().remove(0);
        let difference = compare::difference(&found, &expected);
        assert!(difference.is_none(), "{text} on {}: {difference:?}", isa.name);
        let plan = model.plan_for(&[input.ty()]).unwrap();
        let fold =
            |d: &Decision| matches!(d, Decision::Kernel { names } if names.iter().any(|n| n.starts_with("fold")));
        folds.insert(isa.name, plan.report.iter().any(|node| node.product.is_some() && fold(&node.decision)));
    }
    let first = folds.values().next().copied().unwrap();
    assert!(folds.values().all(|&fold| fold == first), "the order of sums depends on the row: {folds:?}");
    first
}

/// A convolution of `filters` by `channels` and a kernel over columns, with a bias and an activation.
fn conv(channels: usize, filters: usize, [rows, columns]: [usize; 2], attributes: &str, out: [usize; 2]) -> bool {
    let ty = format!("tensor<2x{filters}x{}x{}xf32>", out[0], out[1]);
    let text = format!(
        "func @f(%x: tensor<2x{channels}x9x211xf32>) {{
           %w = tensor.const {{value = @w}} : tensor<{filters}x{channels}x{rows}x{columns}xf32>
           %b = tensor.const {{value = @b}} : tensor<{filters}xf32>
           %0 = nn.conv %x, %w, %b {{{attributes}}} : {ty}
           %1 = math.sigmoid %0 : {ty}
           return %1 as \"y\"
         }}"
    );
    let weights = [("w", wave(&[filters, channels, rows, columns], 0.7)), ("b", wave(&[filters], 0.3))];
    check(&text, &wave(&[2, channels, 9, 211], 0.37), &weights)
}

#[test]
fn convolutions_of_few_filters_and_long_sums_are_dot_products() {
    assert!(conv(1, 1, [1, 100], "strides = [1, 2]", [9, 56]));
    assert!(conv(1, 2, [1, 131], "", [9, 81]));
    assert!(conv(3, 1, [2, 33], "strides = [3, 5]", [3, 36]));
    assert!(conv(70, 1, [1, 1], "", [9, 211]));
    assert!(conv(67, 1, [3, 2], "dilations = [2, 3], strides = [2, 1]", [3, 208]));
    assert!(conv(80, 2, [2, 2], "", [8, 210]));
}

#[test]
fn other_convolutions_are_contractions() {
    assert!(!conv(1, 3, [1, 100], "strides = [1, 2]", [9, 56]), "three filters");
    assert!(!conv(1, 1, [1, 63], "", [9, 149]), "short sums");
    assert!(!conv(1, 2, [1, 127], "", [9, 85]), "sums too short for two filters");
    assert!(!conv(1, 1, [1, 101], "pads = [0, 50, 0, 50]", [9, 211]), "padding");
    assert!(!conv(8, 1, [9, 8], "dilations = [1, 2]", [1, 197]), "what is summed lies apart");
}

#[test]
fn matrices_of_one_or_two_columns_are_dot_products() {
    for (m, k, n) in
        [(1, 64, 1), (5, 65, 1), (7, 200, 1), (33, 128, 2), (4, 131, 2), (3, 70, 2), (9, 50, 1), (2, 300, 3)]
    {
        for (weights, by) in [(format!("{k}x{n}"), ""), (format!("{n}x{k}"), ", trans_b = true")] {
            let text = format!(
                "func @f(%x: tensor<{m}x{k}xf32>) {{
                   %w = tensor.const {{value = @w}} : tensor<{weights}xf32>
                   %c = tensor.const {{value = @c}} : tensor<{n}xf32>
                   %0 = nn.gemm %x, %w, %c {{alpha = 0.5{by}}} : tensor<{m}x{n}xf32>
                   %1 = math.tanh %0 : tensor<{m}x{n}xf32>
                   return %1 as \"y\"
                 }}"
            );
            let shape = if by.is_empty() { [k, n] } else { [n, k] };
            let folds = check(&text, &wave(&[m, k], 0.37), &[("w", wave(&shape, 0.7)), ("c", wave(&[n], 0.3))]);
            assert_eq!(folds, n <= 2 && k >= 64 * n, "{m}x{k}x{n}");
        }
    }
}
