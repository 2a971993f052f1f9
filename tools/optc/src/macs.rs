//! Multiply-adds of contractions, from static shapes.
//!
//! This counts `nn.conv`, `nn.conv_transpose`, `nn.gemm`, `math.matmul` and the recurrent layers, those in fused
//! regions included. The body of a loop counts once: how often it runs is known only at run time. What is left open
//! or is of another kind counts as nothing; contractions whose shapes are open are counted apart.

use optc_ir::{Graph, Node, Type};

/// What a graph multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Macs {
    /// Multiply-adds of the contractions whose shapes are known.
    pub known: u64,
    /// How many contractions have open shapes.
    pub open: usize,
}

/// The multiply-adds of one run of `graph`.
pub fn of(graph: &Graph) -> Macs {
    let mut total = Macs::default();
    for id in graph.ids() {
        let node = graph.node(id);
        for inner in node.regions.iter().map(of) {
            total.known = total.known.saturating_add(inner.known);
            total.open += inner.open;
        }
        if CONTRACTIONS.contains(&node.op.name()) {
            match of_node(graph, node) {
                Some(n) => total.known = total.known.saturating_add(n),
                None => total.open += 1,
            }
        }
    }
    total
}

const CONTRACTIONS: &[&str] =
    &["nn.conv", "nn.conv_transpose", "nn.gemm", "math.matmul", "nn.lstm", "nn.gru", "nn.rnn"];

fn of_node(graph: &Graph, node: &Node) -> Option<u64> {
    let shape = |ty: &Type| ty.as_tensor()?.static_shape();
    let operand = |slot: usize| shape(graph.ty((*node.operands.get(slot)?)?));
    let count = |dims: &[usize]| dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
    let result = shape(&node.results.first()?.ty)?;
    match node.op.name() {
        // Each element of the result sums over the channels of a group and the window.
        "nn.conv" => count(&result)?.checked_mul(count(operand(1)?.get(1..)?)?),
        // Each element of the operand is spread over the channels of a group and the window.
        "nn.conv_transpose" => count(&operand(0)?)?.checked_mul(count(operand(1)?.get(1..)?)?),
        // The summed extent is what the operands have besides the result's rows and columns.
        "nn.gemm" => count(&operand(0)?)?.checked_mul(*result.last()? as u64),
        "math.matmul" => count(&result)?.checked_mul(*operand(0)?.last()? as u64),
        // The weights of both products meet every row of every step.
        _ => {
            let x = operand(0)?;
            let weights = count(&operand(1)?)?.checked_add(count(&operand(2)?)?)?;
            count(x.get(..2)?)?.checked_mul(weights)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn macs(text: &str) -> Macs {
        of(&optc_ir::parse(text).unwrap())
    }

    #[test]
    fn convolutions_and_products_are_counted() {
        let conv = "func @f(%x: tensor<1x8x10x10xf32>, %w: tensor<4x2x3x3xf32>) {\n  \
                    %0 = nn.conv %x, %w {groups = 4} : tensor<1x4x8x8xf32>\n  return %0 as \"y\"\n}";
        assert_eq!(macs(conv), Macs { known: 4 * 64 * 18, open: 0 });
        let product = "func @f(%x: tensor<5x2x3xf32>, %w: tensor<3x4xf32>) {\n  %0 = math.matmul %x, %w : \
                       tensor<5x2x4xf32>\n  return %0 as \"y\"\n}";
        assert_eq!(macs(product), Macs { known: 120, open: 0 });
    }

    #[test]
    fn open_shapes_are_counted_apart() {
        let product = "func @f(%x: tensor<Nx3xf32>, %w: tensor<3x4xf32>) {\n  %0 = math.matmul %x, %w : \
                       tensor<Nx4xf32>\n  return %0 as \"y\"\n}";
        assert_eq!(macs(product), Macs { known: 0, open: 1 });
    }
}
