//! The one list of passes.

use optc_ir::Graph;

use crate::{Numerics, OptionError, Options, Pass, PassCx, PassError};

/// A pass with its options set.
pub(crate) type RunFn = Box<dyn Fn(&mut Graph, &mut PassCx) -> Result<(), PassError> + Send + Sync>;

/// What `optc passes` shows of a pass.
pub struct PassInfo {
    /// The name in pipelines.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// What it may do to results.
    pub numerics: Numerics,
    make: fn(&mut Options) -> Result<RunFn, OptionError>,
}

impl PassInfo {
    /// The pass with these options.
    pub(crate) fn make(&self, options: &mut Options) -> Result<RunFn, OptionError> {
        let run = (self.make)(options)?;
        match options.0.keys().next() {
            None => Ok(run),
            Some(key) => Err(OptionError { key: key.clone(), reason: "is not an option of this pass".to_owned() }),
        }
    }
}

fn make<P: Pass + Send + Sync + 'static>(options: &mut Options) -> Result<RunFn, OptionError> {
    let pass = P::from_options(options)?;
    Ok(Box::new(move |graph, cx| pass.run(graph, cx)))
}

macro_rules! pass_list {
    ($($Pass:ty: $summary:literal;)*) => {
        /// Every pass.
        static PASSES: &[PassInfo] = &[$(PassInfo {
            name: <$Pass>::NAME,
            summary: $summary,
            numerics: <$Pass>::NUMERICS,
            make: make::<$Pass>,
        }),*];
    };
}

pass_list! {
    crate::infer_types::InferTypes: "recompute every type from the inputs' types and the constants";
    crate::specialize_shapes::SpecializeShapes: "give inputs concrete shapes: `{x=1x3x224x224;...}`";
    crate::fold_constants::FoldConstants: "compute now what depends on constants and known shapes alone";
    crate::canonicalize::Canonicalize: "choose one spelling: drop identities, merge chains, constants to the right";
    crate::cse::Cse: "compute equal things once";
    crate::fold_batch_norm::FoldBatchNorm: "put factors and summands per channel into weights and biases";
    crate::insert_fake_quant::InsertFakeQuant: "mark what products read for quantization: `{skip=conv1|fc}`";
    crate::calibrate::Calibrate: "give marks the ranges of their values on seeded inputs: `{method=percentile,percentile=99.9,samples=4}`";
    crate::fold_quant::FoldQuant: "compute with integers what stands between quantizations, or only split fake ones: `{to=pairs}`";
    crate::recompose::Recompose: "find normalisations and activations that are spelled out in many ops";
    crate::simplify_algebra::SimplifyAlgebra: "move transposes, reshapes and scales to where they cost least";
    crate::prune::Prune: "set the least salient weights to zero: `{sparsity=0.5,block=4x1,budget=uniform|global,saliency=magnitude,spare=ends|none}`";
    crate::to_bcsr::ToBcsr: "encode weights of many zeros as blocks where their kernels are faster: `{margin=0.85}`";
    crate::assign_layout::AssignLayout: "choose layouts for the fewest bytes moved: `{to=nhwc}`, or `{to=plain}` to forget them";
    crate::fuse::Fuse: "make one kernel of a producer and the elementwise ops behind it, or of a tree of elementwise ops";
    crate::to_bf16::ToBf16: "compute products with constant weights in bfloat16 where that is faster: `{layers=faster|all}`; before `fuse`";
    crate::schedule::Schedule: "choose an order of the ops in which fewer bytes are alive at once";
    crate::dce::Dce: "drop what no output needs";
}

/// Every pass, in the order of the list.
pub fn list() -> &'static [PassInfo] {
    PASSES
}

/// The pass called `name`.
pub(crate) fn find(name: &str) -> Option<&'static PassInfo> {
    PASSES.iter().find(|p| p.name == name)
}
