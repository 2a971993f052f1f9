//! `simplify-algebra`: find the cheapest of many equal spellings, with transposes, reshapes, scales and quantizations
//! moved past other ops.
//!
//! ```optc
//! given %x: tensor<2x3x4xf32>
//! %0 = tensor.transpose %x {perm = [2, 0, 1]} : tensor<4x2x3xf32>
//! %1 = math.relu %0 : tensor<4x2x3xf32>
//! %2 = tensor.transpose %1 {perm = [1, 2, 0]} : tensor<2x3x4xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<2x3x4xf32>
//! %0 = math.relu %x : tensor<2x3x4xf32>
//! ```
//!
//! Equality saturation (Tate et al. 2009; Willsey et al., egg, 2021): the pure ops of a graph and everything that the
//! `rules` show to be equal go into an e-graph; then the cheapest spelling is taken out of it. So no rule has to know
//! whether moving an op pays here: pairs of rules that would undo each other are welcome.
//!
//! Costs are bytes, in `Algebra::own_cost`: an elementwise op costs what it writes, a transpose four times
//! as much, since it does not fuse, a reshape next to nothing, and what depends on constants alone nothing, since
//! `fold-constants` computes it. The graph changes only where the whole of it gets cheaper, each op counted once.
//!
//! Bounded by the number of rounds and of terms, not by time: the same graph gives the same result. A graph of more
//! than some thousand terms is gone through in pieces, in topological order; a piece knows nothing of what the others'
//! values are made of. Declines values without a concrete shape or with a layout of their own. Ops that stay keep their
//! locations, new ones get those of the ops whose values they compute, or whose work they do. Reassociates: products of
//! constants are rounded anew.

mod algebra;
mod cheapest;
mod extract;
mod quant;
mod rebuild;
mod rules;
mod saturate;
mod spelling;
mod terms;

use std::iter::Peekable;

use optc_ir::{Graph, NodeId};

use crate::rewrite::{for_each_region, remove_unused};
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};
use algebra::Algebra;
use extract::extract;
use saturate::saturate_once;

/// Rounds in which the rules are applied to all terms.
const ROUNDS: usize = 8;
/// Terms of a graph with which a piece ends: no model is known with as many elementwise ops in one place. With 5,000, a
/// term of a large graph took 1.5 times as long, since a piece did not fit into the caches.
const PIECE_TERMS: usize = 1_500;
/// Terms beyond which no round is begun on the last piece, which is the whole of most graphs.
const MAX_TERMS: usize = 10_000;
/// The same for the pieces before it: what a graph of many takes grows with the graph, not with this bound.
const MAX_PIECE_TERMS: usize = 2 * PIECE_TERMS;

/// See the module.
pub struct SimplifyAlgebra;

impl Pass for SimplifyAlgebra {
    const NAME: &'static str = "simplify-algebra";
    const SUMMARY: &'static str = "move transposes, reshapes and scales to where they cost least";
    const NUMERICS: Numerics = Numerics::Reassociates;

    fn from_options(_: &mut PassArguments) -> Result<SimplifyAlgebra, OptionError> {
        Ok(SimplifyAlgebra)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        let mut order = graph.topological_order().unwrap_or_default().into_iter().peekable();
        let mut changed = false;
        while order.peek().is_some() {
            let (algebra, round) = next_piece(graph, &mut order);
            // Without a first round that found something, each value has one spelling.
            changed |= round > 0 && extract(&algebra, graph, cx);
        }
        // At the end, since pieces name nodes: a root that another one's old spelling reads goes with that.
        if changed {
            for id in graph.ids().collect::<Vec<_>>() {
                if graph.get(id).is_some() {
                    remove_unused(graph, id);
                }
            }
        }
        for_each_region(graph, &mut |region| self.run(region, cx))
    }
}

/// The next piece of a graph with all that is found to be equal, and in how many rounds.
fn next_piece(graph: &Graph, order: &mut Peekable<impl Iterator<Item = NodeId>>) -> (Algebra, usize) {
    let mut algebra = Algebra::of_next(graph, order, PIECE_TERMS);
    let most = if order.peek().is_some() { MAX_PIECE_TERMS } else { MAX_TERMS };
    let mut round = 0;
    while round < ROUNDS && algebra.len() <= most && saturate_once(&mut algebra, MAX_TERMS) {
        round += 1;
    }
    if round == ROUNDS || algebra.len() > most {
        tracing::debug!(rounds = round, terms = algebra.len(), "`simplify-algebra` stops at its bound");
    }
    (algebra, round)
}

#[cfg(test)]
mod tests {
    use optc_ir::parse;

    use super::*;

    /// A chain of so many ops, each on the result of the one before and a constant of its own.
    fn chain(ops: &[&str], n: usize) -> Graph {
        let op = |i: usize| match ops[i % ops.len()] {
            "transpose" => format!("  %v{} = tensor.transpose %v{i} {{perm = [1, 0]}} : tensor<4x4xf32>\n", i + 1),
            op => format!(
                "  %c{i} = tensor.const {{value = dense<1.{:03}> : tensor<4x4xf32>}} : tensor<4x4xf32>
  %v{} = math.{op} %v{i}, %c{i} : tensor<4x4xf32>\n",
                i % 997,
                i + 1
            ),
        };
        let body: String = (0..n).map(op).collect();
        parse(&format!("func @chain(%v0: tensor<4x4xf32>) {{\n{body}  return %v{n} as \"y\"\n}}")).unwrap()
    }

    /// Terms of all pieces: what a graph takes grows with them.
    fn terms(graph: &Graph) -> usize {
        let mut order = graph.topological_order().unwrap().into_iter().peekable();
        let mut terms = 0;
        while order.peek().is_some() {
            terms += next_piece(graph, &mut order).0.len();
        }
        terms
    }

    #[test]
    fn what_long_chains_take_grows_with_their_length() {
        for ops in [&["add"][..], &["mul"], &["add", "mul"], &["add", "transpose"], &["mul", "add", "add", "transpose"]]
        {
            let [some, many] = [2_000, 8_000].map(|n| terms(&chain(ops, n)));
            assert!(some <= 20 * 2_000 && many <= 5 * some, "{ops:?}: {some} terms for 2,000 ops, {many} for 8,000");
        }
    }
}
