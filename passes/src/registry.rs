//! What passes there are: those of this crate, and those of whoever adds some.
//!
//! ```
//! use optc_ir::Graph;
//! use optc_passes::{Numerics, OptionError, PassArguments, Pass, PassCx, PassError, Registry};
//!
//! struct Nothing;
//!
//! impl Pass for Nothing {
//!     const NAME: &'static str = "nothing";
//!     const SUMMARY: &'static str = "leaves the graph as it is";
//!     const NUMERICS: Numerics = Numerics::BitExact;
//!
//!     fn from_options(_: &mut PassArguments) -> Result<Nothing, OptionError> {
//!         Ok(Nothing)
//!     }
//!
//!     fn run(&self, _: &mut Graph, _: &mut PassCx) -> Result<(), PassError> {
//!         Ok(())
//!     }
//! }
//!
//! let registry = Registry::standard().with::<Nothing>();
//! assert_eq!(registry.parse("nothing,dce").unwrap().passes().count(), 2);
//! ```

use std::fmt;

use optc_ir::Graph;

use crate::assign_layout::AssignLayout;
use crate::calibrate::Calibrate;
use crate::canonicalize::Canonicalize;
use crate::cse::Cse;
use crate::dce::Dce;
use crate::decompose::Decompose;
use crate::defer_open_shapes::DeferOpenShapes;
use crate::fold_batch_norm::FoldBatchNorm;
use crate::fold_constants::FoldConstants;
use crate::fold_quant::FoldQuant;
use crate::fuse::Fuse;
use crate::infer_types::InferTypes;
use crate::insert_fake_quant::InsertFakeQuant;
use crate::merge_products::MergeProducts;
use crate::prune::Prune;
use crate::recompose::Recompose;
use crate::schedule::ScheduleOps;
use crate::simplify_algebra::SimplifyAlgebra;
use crate::specialize_shapes::SpecializeShapes;
use crate::store_halves::StoreHalves;
use crate::to_bcsr::ToBcsr;
use crate::to_bf16::ToBf16;
use crate::widen::Widen;
use crate::{NamedPipeline, Numerics, OptionError, PIPELINES, Pass, PassArguments, PassCx, PassError};

/// A pass with its options set.
pub(crate) type RunFn = Box<dyn Fn(&mut Graph, &mut PassCx) -> Result<(), PassError> + Send + Sync>;

/// What is known of a pass.
#[derive(Clone, Copy)]
pub struct PassInfo {
    /// The name in pipelines.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// What it may do to results.
    pub numerics: Numerics,
    make: fn(&mut PassArguments) -> Result<RunFn, OptionError>,
}

impl PassInfo {
    fn of<P: Pass + Send + Sync + 'static>() -> PassInfo {
        let make = |options: &mut PassArguments| -> Result<RunFn, OptionError> {
            let pass = P::from_options(options)?;
            Ok(Box::new(move |graph, cx| pass.run(graph, cx)))
        };
        PassInfo { name: P::NAME, summary: P::SUMMARY, numerics: P::NUMERICS, make }
    }

    /// The pass with these options.
    pub(crate) fn make(&self, options: &mut PassArguments) -> Result<RunFn, OptionError> {
        let run = (self.make)(options)?;
        match options.0.keys().next() {
            None => Ok(run),
            Some(key) => Err(OptionError { key: key.clone(), reason: "is not an option of this pass".to_owned() }),
        }
    }
}

/// The passes and the named pipelines that texts of pipelines may name.
#[derive(Clone)]
pub struct Registry {
    passes: Vec<PassInfo>,
    pipelines: Vec<NamedPipeline>,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::standard()
    }
}

impl Registry {
    /// The passes of this crate and its named pipelines.
    pub fn standard() -> Registry {
        Registry { passes: vec![], pipelines: PIPELINES.to_vec() }
            .with::<InferTypes>()
            .with::<SpecializeShapes>()
            .with::<Widen>()
            .with::<FoldConstants>()
            .with::<Decompose>()
            .with::<Canonicalize>()
            .with::<Cse>()
            .with::<FoldBatchNorm>()
            .with::<InsertFakeQuant>()
            .with::<Calibrate>()
            .with::<FoldQuant>()
            .with::<Recompose>()
            .with::<MergeProducts>()
            .with::<SimplifyAlgebra>()
            .with::<DeferOpenShapes>()
            .with::<Prune>()
            .with::<ToBcsr>()
            .with::<AssignLayout>()
            .with::<Fuse>()
            .with::<ToBf16>()
            .with::<StoreHalves>()
            .with::<ScheduleOps>()
            .with::<Dce>()
    }

    /// The same with another pass: it has a name in pipelines, and is checked, counted and timed like all others. One
    /// of the same name is replaced.
    #[must_use]
    pub fn with<P: Pass + Send + Sync + 'static>(mut self) -> Registry {
        self.passes.retain(|known| known.name != P::NAME);
        self.passes.push(PassInfo::of::<P>());
        self
    }

    /// The same with another named pipeline, in which those before it may be named. One of the same name is replaced.
    #[must_use]
    pub fn with_pipeline(mut self, pipeline: NamedPipeline) -> Registry {
        self.pipelines.retain(|known| known.name != pipeline.name);
        self.pipelines.push(pipeline);
        self
    }

    /// The passes, in the order in which they were added.
    pub fn passes(&self) -> &[PassInfo] {
        &self.passes
    }

    /// The named pipelines; each names only passes and those before it.
    pub fn pipelines(&self) -> &[NamedPipeline] {
        &self.pipelines
    }

    /// The pass called `name`.
    pub(crate) fn find(&self, name: &str) -> Option<&PassInfo> {
        self.passes.iter().find(|pass| pass.name == name)
    }
}

/// By the names of what is in it.
impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pipelines = self.pipelines.iter().map(|pipeline| pipeline.name);
        f.debug_list().entries(self.passes.iter().map(|pass| pass.name)).entries(pipelines).finish()
    }
}

/// By the names of its passes, and its pipelines.
impl PartialEq for Registry {
    fn eq(&self, other: &Registry) -> bool {
        let names = |registry: &Registry| registry.passes.iter().map(|pass| pass.name).collect::<Vec<_>>();
        names(self) == names(other) && self.pipelines == other.pipelines
    }
}

impl Eq for Registry {}
