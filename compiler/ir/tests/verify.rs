//! Invariants that no text breaks: what the graph's own functions can do to it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use optc_ir::{Encoding, Graph, TensorType, Unsound, Value, Verified, parse, verify};
use optc_tensor::DType;

/// Two ops, one after the other.
fn chain() -> Graph {
    let text = "func @f(%x: tensor<2x3xf32>) {
      %0 = math.relu %x : tensor<2x3xf32>
      %1 = math.neg %0 : tensor<2x3xf32>
      return %1 as \"y\"
    }";
    parse(text).unwrap()
}

/// The rules that a changed [`chain`] breaks.
fn broken(change: impl Fn(&mut Graph, [Value; 2])) -> Vec<&'static str> {
    let mut graph = chain();
    let last = graph.outputs[0].value;
    let first = graph.operand(last.node, 0).unwrap();
    change(&mut graph, [first, last]);
    verify(&graph).into_iter().map(|f| f.rule).collect()
}

#[test]
fn v1_a_cycle() {
    assert_eq!(broken(|g, [first, last]| g.set_operand(first.node, 0, Some(last))), ["V1"]);
}

#[test]
fn v2_what_is_gone() {
    let removed = broken(|g, [first, _]| {
        g.remove(first.node);
    });
    assert_eq!(removed, ["V2"]);
    assert_eq!(broken(|g, [_, last]| g.outputs.replace(last, Value { result: 1, ..last })), ["V2"]);
}

#[test]
fn v8_a_layout_of_another_rank() {
    let nhwc = TensorType::fixed(DType::F32, &[2, 3]).with_encoding(Encoding::Nhwc);
    let change = |g: &mut Graph, [first, _]: [Value; 2]| g.node_mut(first.node).results[0].ty = nhwc.clone().into();
    assert_eq!(broken(change), ["V8", "V4"]);
}

#[test]
fn v9_an_operand_that_is_no_use() {
    let change = |g: &mut Graph, [first, last]: [Value; 2]| {
        let x = g.operand(first.node, 0);
        g.node_mut(last.node).operands[0] = x;
    };
    assert_eq!(broken(change), ["V9"]);
}

#[test]
fn what_is_declared_beyond_what_follows_is_not_proven() {
    let text = "func @f(%x: tensor<6xf32>, %shape: tensor<2xi64>) {
      %0 = tensor.reshape %x, %shape : tensor<2x3xf32>
      %1 = math.relu %0 : tensor<?x?xf32>
      %2 = math.relu %0 : tensor<2x3xf32>
      return %0 as \"a\", %1 as \"b\", %2 as \"c\"
    }";
    let graph = Verified::new(parse(text).unwrap()).unwrap();
    let proven: Vec<bool> = graph.outputs.iter().map(|o| graph.is_proven(o.value.node)).collect();
    assert_eq!(proven, [false, true, true]);
}

#[test]
fn what_is_wrong_is_listed_with_the_nodes() {
    let text = "func @f(%x: tensor<2xf32>) {
      %0 = math.relu %x : tensor<3xf32> loc(\"layer1/relu\")
      return %0 as \"y\"
    }";
    let error: Unsound = Verified::new(parse(text).unwrap()).unwrap_err();
    let message = "the graph is not sound:\n  \
                   V4: `math.relu` at layer1/relu gives tensor<2xf32>, declared tensor<3xf32>";
    assert_eq!(error.to_string(), message);
    assert_eq!(Verified::new(chain()).unwrap().into_graph().len(), 3);
}
