//! The cost model of the code generator, as passes ask for it.

use std::sync::Arc;

use optc_kernel::target::Target;
use optc_kernels::cost::Costs;
use optc_types::CostModel;

/// Estimates for a target.
pub(crate) fn fitted(target: &Target) -> Arc<dyn CostModel> {
    Arc::new(Costs::of(target.isa))
}

#[cfg(test)]
mod tests {
    use optc_ir::Graph;
    use optc_kernel::target::Isa;

    /// Convolutions of a graph and the regions in it, and how many of them round their factors.
    fn convolutions(graph: &Graph) -> [usize; 2] {
        let of = |id| {
            let node = graph.node(id);
            let inner = node.regions.iter().map(convolutions).fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]]);
            match &node.op {
                optc_ir::Op::Conv(op) => {
                    [1 + inner[0], usize::from(op.precision == optc_tensor::DType::BF16) + inner[1]]
                }
                _ => inner,
            }
        };
        graph.ids().map(of).fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]])
    }

    #[test]
    fn convolutions_are_rounded_where_there_are_instructions() {
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/resnet8.onnx");
        for (isa, all) in [("amx", true), ("avx2", false), ("portable", false)] {
            let target = optc_emit::host::target().with_isa(Isa::by_name(isa).unwrap());
            let mut graph = optc_onnx::import_file(model.as_ref()).unwrap();
            let image = optc_ir::TensorType::fixed(optc_tensor::DType::F32, &[1, 1, 28, 28]);
            optc_passes::specialize(&mut graph, &[image.into()]).unwrap();
            let passes = optc_passes::bf16_pipeline("O2").unwrap();
            crate::compiler::run_passes(&mut graph, &passes, &crate::Options::default(), &target).unwrap();
            let [convs, rounded] = convolutions(&graph);
            assert_eq!(rounded, if all { convs } else { 0 }, "on {isa}, of {convs}");
        }
    }
}
