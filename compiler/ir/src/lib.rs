//! The graph IR: types, ops, text form, verifier and reference interpreter.
//!
//! A [`Graph`] is a DAG of ops on typed values, with value semantics. Every op is declared once, in [`ops`]: its text
//! form, its constraints, its type inference, its reference evaluation, and the facts that other layers ask of it.
//!
//! In: graphs from importers, passes or text. Out: a [`Verified`] graph, results of the interpreter, the graph as text.
//! This crate knows neither ONNX nor passes nor builders of kernels; of kernels it knows expressions, as each pointwise
//! op says its own. Start in `graph.rs` and `ops/mod.rs`.

mod attr;
mod error;
mod graph;
mod host;
mod infer;
mod interp;
pub mod ops;
mod parse;
mod print;
mod verify;

pub use attr::{Attr, AttrValue, Const, Real, TextEnum, one_of};
pub use graph::{Graph, Node, NodeId, Output, Outputs, ResultInfo, Value};
pub use host::HostCall;
pub use infer::{infer_node, infer_regions, infer_types, is_proven, regions_settled, widen_carried};
pub use interp::run;
pub use ops::{
    Anchor, Args, Carried, ComputedBy, Decl, Effects, Facts, FusionRole, InferCx, ItemCx, LayoutRule, NoExpression, Op,
    OpFacts, OperandSpec, Operands, RegionRunner, Scalar, Scalars, Semantics, same_name,
};
pub use optc_types::{Dim, Encoding, GraphError, MAX_EXTENT, OpError, ParseError, TensorType, Type, Val};
pub use parse::{parse, parse_with};
pub use print::{Printed, print};
pub use verify::{Failure, Unsound, Verified, verify};
