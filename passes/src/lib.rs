//! Rewrites of the graph, and the manager that runs them.
//!
//! A [`Pipeline`] is a list of passes, written as text: `infer-types,fold-constants,dce`. [`PassManager`] runs it,
//! times each pass, counts its rewrites and checks it where asked. A [`Registry`] names all passes, yours among them,
//! and the named pipelines `O0` to `O3`. Passes are optional: leaving any out makes a graph slower, never wrong.
//!
//! In: a graph and a pipeline. Out: a graph that means the same, as far as each pass says. Passes never read files, and
//! must not know ONNX or targets: they ask a machine what is faster. Start in `pipeline.rs`, then `pass.rs` and any
//! pass: the file of a pass is named after it, and begins with an example that is run.
#![forbid(unsafe_code)]

mod assign_layout;
mod batch;
pub mod calibrate;
mod canonicalize;
mod choice;
mod cse;
mod dce;
mod decompose;
mod defer_open_shapes;
mod fold_batch_norm;
mod fold_constants;
mod fold_quant;
mod fuse;
mod infer_types;
pub mod insert_fake_quant;
mod layer;
pub mod machine;
mod manager;
mod matching;
mod merge_products;
mod pass;
mod pipeline;
mod product;
mod prune;
mod recompose;
mod registry;
mod rewrite;
mod schedule;
pub mod seeded;
mod simplify_algebra;
mod specialize_shapes;
mod store_halves;
pub mod testing;
mod to_bcsr;
mod to_bf16;
mod weighted;
mod widen;

pub use batch::{Batched, NotBatched, batched};
pub use choice::UnknownChoice;
pub use layer::Layer;
pub use manager::{Failed, PassManager, PassOptions, PassReport, PipelineReport, VerifyEach};
pub use pass::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};
pub use pipeline::{NamedPipeline, PIPELINES, Pipeline};
pub use prune::{
    BlockShape, BlockShapeError, Budget, Calibration, CalibrationError, Evaluate, LayerError, LayerReport, PruneError,
    PruneOptions, RowError, Saliency, SampleError, Spare, Verdict, prune, prune_on_samples,
};
pub use registry::{PassInfo, Registry};
pub use rewrite::{Patch, Ref, Rule, rewrite_to_fixpoint};
pub use specialize_shapes::{InputFault, parse_shape, specialize};
pub use to_bf16::pipeline as bf16_pipeline;
