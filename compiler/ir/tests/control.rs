//! Control flow: regions run, their types are inferred, and what does not fit is refused.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
use optc_ir::{Graph, Val, infer_types, parse, print, run, verify};
use optc_tensor::Tensor;

/// Parses, infers and verifies a text, and checks that it prints and parses back to itself.
fn sound(text: &str) -> Graph {
    let mut graph = parse(text).unwrap();
    infer_types(&mut graph).unwrap();
    assert_eq!(verify(&graph), []);
    let printed = print(&graph).text;
    assert_eq!(print(&parse(&printed).unwrap()).text, printed);
    graph
}

fn refused(text: &str, message: &str) {
    let error = infer_types(&mut parse(text).unwrap()).unwrap_err().to_string();
    assert!(error.contains(message), "{error}");
}

fn floats(shape: &[usize], values: &[f32]) -> Val {
    Tensor::from_slice(shape, values).unwrap().into()
}

fn tensor(value: &Val) -> (Vec<usize>, Vec<f64>) {
    let t = value.as_tensor().unwrap();
    (t.shape().to_vec(), t.to_f64_vec())
}

const BRANCH: &str = r#"func @main(%c: tensor<bool>, %x: tensor<1x3xf32>) {
  %0 = cf.if %c, %x : tensor<*xf32> region
  func @then(%x: tensor<1x3xf32>) { %0 = math.neg %x : tensor<1x3xf32> return %0 as "y" }
  region
  func @else(%x: tensor<1x3xf32>) { %0 = tensor.squeeze %x : tensor<3xf32> return %0 as "y" }
  return %0 as "y"
}"#;

#[test]
fn a_branch_is_chosen_and_the_result_covers_both() {
    let graph = sound(BRANCH);
    assert_eq!(graph.ty(graph.outputs[0].value).to_string(), "tensor<*xf32>");
    let x = floats(&[1, 3], &[1.0, 2.0, 3.0]);
    let run = |c: bool| run(&graph, &[Tensor::from_bools(&[], &[c]).unwrap().into(), x.clone()]).unwrap();
    assert_eq!(tensor(&run(true)[0]), (vec![1, 3], vec![-1.0, -2.0, -3.0]));
    assert_eq!(tensor(&run(false)[0]), (vec![3], vec![1.0, 2.0, 3.0]));
}

#[test]
fn if_c1_to_c3() {
    refused(
        &BRANCH
            .replacen("func @else(%x: tensor<1x3xf32>)", "func @else()", 1)
            .replace("tensor.squeeze %x", "tensor.const {value = dense<[1]> : tensor<i64>}")
            .replace("tensor<3xf32> return", "tensor<i64> return"),
        "(C1)",
    );
    refused(&BRANCH.replacen("%c: tensor<bool>", "%c: tensor<2xbool>", 1), "(C2)");
    refused(&BRANCH.replace("tensor.squeeze %x : tensor<3xf32>", "tensor.shape %x : tensor<2xi64>"), "(C3)");
}

/// The second branch takes one row away where there is only one.
#[test]
fn a_branch_that_refuses_the_shapes_fails_when_it_runs() {
    let graph = sound(
        r#"func @main(%c: tensor<bool>, %x: tensor<2x3xf32>) {
  %0 = cf.if %c, %x : tensor<*xf32> region
  func @then(%x: tensor<2x3xf32>) { %0 = math.neg %x : tensor<2x3xf32> return %0 as "y" }
  region
  func @else(%x: tensor<?x3xf32>) {
    %0 = tensor.const {value = dense<[0]> : tensor<1xi64>} : tensor<1xi64>
    %1 = tensor.squeeze %x, %0 : tensor<3xf32>
    return %1 as "y"
  }
  return %0 as "y"
}"#,
    );
    let x = floats(&[2, 3], &[1.0; 6]);
    let run = |c: bool| run(&graph, &[Tensor::from_bools(&[], &[c]).unwrap().into(), x.clone()]);
    assert_eq!(tensor(&run(true).unwrap()[0]), (vec![2, 3], vec![-1.0; 6]));
    assert!(run(false).unwrap_err().to_string().contains("(C1)"));
}

/// Each trip doubles `%v` in length and gives the trip's number.
const LOOP: &str = r#"func @main(%n: tensor<i64>, %c: tensor<bool>, %v: tensor<1xf32>, %k: tensor<f32>) {
  %0, %1 = cf.loop %n, %c, %v, %k {carried = 1} : tensor<?xf32>, tensor<?xi64> region
  func @body(%i: tensor<i64>, %go: tensor<bool>, %v: tensor<?xf32>, %k: tensor<f32>) {
    %0 = math.add %v, %k : tensor<?xf32>
    %1 = tensor.concat %v, %0 {axis = 0} : tensor<?xf32>
    return %go as "go", %1 as "v", %i as "i"
  }
  return %0 as "v", %1 as "i"
}"#;

#[test]
fn a_loop_carries_values_whose_shape_grows() {
    let graph = sound(LOOP);
    let trips = |n: i64, c: bool| {
        let c = Tensor::from_bools(&[], &[c]).unwrap().into();
        let results = run(&graph, &[Tensor::scalar(n).into(), c, floats(&[1], &[1.0]), floats(&[], &[10.0])]).unwrap();
        (tensor(&results[0]), tensor(&results[1]))
    };
    assert_eq!(trips(2, true), ((vec![4], vec![1.0, 11.0, 11.0, 21.0]), (vec![2], vec![0.0, 1.0])));
    assert_eq!(trips(0, true), ((vec![1], vec![1.0]), (vec![0], vec![])));
    assert_eq!(trips(5, false), ((vec![1], vec![1.0]), (vec![0], vec![])));
}

#[test]
fn a_parameter_whose_shape_grows_loses_its_extent() {
    let narrow = LOOP.replace("%v: tensor<?xf32>", "%v: tensor<1xf32>");
    let graph = sound(&narrow);
    let node = graph.outputs[0].value.node;
    let region = &graph.node(node).regions[0];
    let types: Vec<_> = region.inputs().map(|v| region.ty(v).to_string()).collect();
    assert_eq!(types, ["tensor<i64>", "tensor<bool>", "tensor<?xf32>", "tensor<f32>"]);
}

#[test]
fn counted_loops_have_static_stacks() {
    let counted = LOOP.replace("%n: tensor<i64>, ", "").replace(
        "{\n  %0, %1 = cf.loop %n, %c,",
        "{\n  %9 = tensor.const {value = dense<[3]> : tensor<i64>} : tensor<i64>\n  %0, %1 = cf.loop %9, _,",
    );
    let graph = sound(&counted);
    assert_eq!(graph.ty(graph.outputs[1].value).to_string(), "tensor<3xi64>");
}

/// Where there are more trips than a loop may make, nobody waits for the first.
#[test]
fn too_many_trips_are_refused_before_the_first() {
    let long = "%9 = tensor.const {value = dense<[16777217]> : tensor<i64>} : tensor<i64>";
    let counted = LOOP.replace("{\n  %0, %1 = cf.loop %n, %c,", &format!("{{\n  {long}\n  %0, %1 = cf.loop %9, _,"));
    refused(&counted, "the loop makes 16777217 trips, expected at most 16777216");
    let graph = sound(&LOOP.replace("cf.loop %n, %c,", "cf.loop %n, _,"));
    let inputs = [
        Tensor::scalar(i64::MAX).into(),
        Tensor::from_bools(&[], &[true]).unwrap().into(),
        floats(&[1], &[1.0]), // doubles with each trip: no machine makes many
        floats(&[], &[10.0]),
    ];
    assert!(run(&graph, &inputs).unwrap_err().to_string().contains("(C5)"));
}

#[test]
fn loop_c1_to_c5() {
    refused(&LOOP.replace("carried = 1", "carried = 3"), "(C1)");
    refused(&LOOP.replace("%n: tensor<i64>", "%n: tensor<f32>"), "(C2)");
    refused(&LOOP.replace("carried = 1", "carried = 9223372036854775807"), "carried values, but 4 operands");
    refused(&LOOP.replace("%1 as \"v\", %i", "%i as \"v\", %i"), "(C3)");
    refused(&LOOP.replace("cf.loop %n, %c", "cf.loop _, _"), "(C5)");
    let growing =
        LOOP.replace("%i as \"i\"\n", "%1 as \"i\"\n").replace("tensor<?xi64> region", "tensor<?x?xf32> region");
    let graph = sound(&growing);
    let c = Tensor::from_bools(&[], &[true]).unwrap().into();
    let error = run(&graph, &[Tensor::scalar(2i64).into(), c, floats(&[1], &[1.0]), floats(&[], &[1.0])]).unwrap_err();
    assert!(error.to_string().contains("(C4)"), "{error}");
}

/// A running sum over the columns of `%x` from the right, stacked as columns.
const SCAN: &str = r#"func @main(%s: tensor<2xf32>, %x: tensor<2x3xf32>, %k: tensor<f32>) {
  %0, %1 = cf.scan %s, %x, %k {input_axes = [1], input_reversed = [1], output_axes = [-1], scanned = 1, states = 1}
    : tensor<2xf32>, tensor<2x3xf32> region
  func @body(%s: tensor<2xf32>, %e: tensor<2xf32>, %k: tensor<f32>) {
    %0 = math.add %s, %e : tensor<2xf32>
    %1 = math.mul %0, %k : tensor<2xf32>
    return %0 as "s", %1 as "y"
  }
  return %0 as "s", %1 as "y"
}"#;

#[test]
fn a_scan_reads_and_stacks_along_its_axes() {
    let graph = sound(SCAN);
    let x = floats(&[2, 3], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
    let results = run(&graph, &[floats(&[2], &[0.0, 0.0]), x, floats(&[], &[2.0])]).unwrap();
    assert_eq!(tensor(&results[0]), (vec![2], vec![6.0, 60.0]));
    assert_eq!(tensor(&results[1]), (vec![2, 3], vec![6.0, 10.0, 12.0, 60.0, 100.0, 120.0]));
}

#[test]
fn scan_c1_to_c5() {
    refused(&SCAN.replace("states = 1", "states = 7"), "(C1)");
    refused(&SCAN.replace("scanned = 1", "scanned = 0"), "(C5)");
    refused(
        &SCAN
            .replace("return %0 as \"s\", %1 as \"y\"\n  }", "return %k as \"s\", %s as \"y\"\n }")
            .replace("%k: tensor<f32>", "%k: tensor<i64>")
            .replace("math.mul %0, %k", "math.mul %0, %s"),
        "(C3)",
    );
}
