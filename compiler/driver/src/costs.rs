//! The cost model of the code generator, as passes ask for it.

use std::sync::Arc;

use optc_codegen::cost::{Costs, Numbers, Product};
use optc_codegen::lower::Target;
use optc_passes::cost::{self, CostModel};

#[derive(Debug)]
struct Fitted(Costs);

/// Estimates for a target.
pub(crate) fn fitted(target: &Target) -> Arc<dyn CostModel> {
    Arc::new(Fitted(Costs::of(target.isa)))
}

fn product(p: &cost::Product) -> Product {
    let cost::Product { m, k, n, staged_bytes, three_by_three, numbers } = *p;
    Product { m, k, n, staged_bytes, three_by_three, numbers: self::numbers(numbers) }
}

fn numbers(of: cost::Numbers) -> Numbers {
    match of {
        cost::Numbers::Floats => Numbers::Floats,
        cost::Numbers::Bytes => Numbers::Bytes,
        cost::Numbers::Halves => Numbers::Halves,
    }
}

impl CostModel for Fitted {
    fn dense(&self, p: &cost::Product) -> f64 {
        self.0.dense(&product(p))
    }

    fn sparse(&self, p: &cost::Product, block: (usize, usize), blocks: usize) -> f64 {
        self.0.sparse(&product(p), block, blocks)
    }

    fn depthwise(&self, results: usize, taps: usize, numbers: cost::Numbers) -> f64 {
        self.0.depthwise(results, taps, self::numbers(numbers))
    }

    fn copy(&self, bytes: u64) -> f64 {
        self.0.copy(bytes as usize)
    }
}
