//! Estimated times, as reports show them.

use optc_kernels::profile::Profile;
use optc_types::{Change, Machine, Nanos, Numbers, Product};

/// Estimated times of a product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// In `f32`.
    pub f32: Nanos,
    /// In 8-bit integers.
    pub int8: Nanos,
}

impl Times {
    /// Those that a function gives, which is asked for the time of each.
    pub(crate) fn new(time: impl Fn(Numbers) -> Nanos) -> Times {
        Times { f32: time(Numbers::Floats), int8: time(Numbers::Bytes) }
    }

    /// Those of a dense product.
    pub(crate) fn of(product: &Product, machine: &Profile) -> Times {
        Times::new(|numbers| machine.densest(&Product { numbers, ..*product }).1)
    }

    /// Whether integers are faster by the machine's margin.
    pub fn int8_pays(&self, machine: &dyn Machine) -> bool {
        machine.pays(Change::ToBytes, self.f32, self.int8)
    }
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
            let passes = optc_passes::bf16_pipeline(&optc_passes::Registry::standard(), "O2").unwrap();
            crate::passes::run_passes(&mut graph, &passes, &crate::Options::default(), &target, &Default::default())
                .unwrap();
            let [convs, rounded] = convolutions(&graph);
            assert_eq!(rounded, if all { convs } else { 0 }, "on {isa}, of {convs}");
        }
    }
}
