//! `specialize-shapes`: give inputs concrete shapes.
//!
//! ```optc
//! // passes: specialize-shapes{x=2x3}
//! given %x: tensor<Nx3xf32>, %y: tensor<Nx1xf32>
//! %0 = math.add %x, %y : tensor<Nx3xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<2x3xf32>, %y: tensor<2x1xf32>
//! %0 = math.add %x, %y : tensor<2x3xf32>
//! ```
//!
//! Why: kernels are made for concrete extents. A named dim gets one extent everywhere, so that pinning one input pins
//! what is named like it. Declines nothing: an input that is not there, or an extent that contradicts, is an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use optc_ir::{Dim, Graph, NodeId, TensorType, Type, infer_types};

use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};

/// Why an input does not get a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputFault {
    /// There is no such input.
    #[error("the graph has no such input")]
    Missing,
    /// It is a sequence or an optional.
    #[error("it is not a tensor")]
    NoTensor,
    /// The type contradicts its own.
    #[error("found {found}, expected {expected}")]
    Type {
        /// The type that it is to get.
        found: Type,
        /// Its own.
        expected: Type,
    },
    /// An extent is out of range.
    #[error("the extent {extent} is too large")]
    TooLarge {
        /// The extent.
        extent: usize,
    },
    /// A named dim has two extents.
    #[error("`{name}` is {here} here and {elsewhere} elsewhere")]
    Contradiction {
        /// The dim.
        name: String,
        /// Its extent in this input.
        here: usize,
        /// Its extent in another one.
        elsewhere: usize,
    },
}

/// See the module. One shape for each input that is named.
pub struct SpecializeShapes {
    shapes: Vec<(String, Vec<usize>)>,
}

impl Pass for SpecializeShapes {
    const NAME: &'static str = "specialize-shapes";
    const SUMMARY: &'static str = "give inputs concrete shapes: `{x=1x3x224x224;...}`";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(options: &mut PassArguments) -> Result<SpecializeShapes, OptionError> {
        let shape = |(key, text): (String, String)| match parse_shape(&text) {
            Some(shape) => Ok((key, shape)),
            None => Err(OptionError { key, reason: format!("`{text}` is not a shape such as `1x3x224x224`") }),
        };
        Ok(SpecializeShapes { shapes: options.0.drain(..).map(shape).collect::<Result<_, _>>()? })
    }

    fn run(&self, graph: &mut Graph, _: &mut PassCx) -> Result<(), PassError> {
        let mut types: Vec<Type> = graph.inputs().map(|v| graph.ty(v).clone()).collect();
        for (name, shape) in &self.shapes {
            let error = |fault| PassError::Input { input: name.clone(), fault };
            let at = graph.inputs().position(|v| graph.input_name(v) == Some(name));
            let at = at.ok_or_else(|| error(InputFault::Missing))?;
            let Type::Tensor(t) = &types[at] else { return Err(error(InputFault::NoTensor)) };
            types[at] = TensorType::fixed(t.dtype, shape).with_encoding(t.encoding).into();
        }
        specialize(graph, &types)
    }
}

/// Parses `1x3x224x224`; the empty text and `scalar` are rank 0.
pub fn parse_shape(text: &str) -> Option<Vec<usize>> {
    match text.trim() {
        "" | "scalar" => Some(vec![]),
        text => text.split('x').map(|n| n.trim().parse().ok()).collect(),
    }
}

/// Gives the inputs the types `types`, replaces each named dim by the extent that it gets this way, and infers all
/// types again. A type that is no more concrete than the input's leaves it as it is.
///
/// # Errors
/// A type contradicts the input's or another one, or an op refuses the shapes.
pub fn specialize(graph: &mut Graph, types: &[Type]) -> Result<(), PassError> {
    let mut extents: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    let inputs: Vec<_> = graph.inputs().collect();
    for (&input, ty) in inputs.iter().zip(types) {
        bind(graph.ty(input), ty, &mut extents).map_err(|fault| {
            let input = graph.input_name(input).unwrap_or_default().to_owned();
            PassError::Input { input, fault }
        })?;
    }
    for (&input, ty) in inputs.iter().zip(types) {
        let ty = crate::rewrite::refined(ty, graph.ty(input));
        graph.node_mut(input.node).results[0].ty = ty;
    }
    substitute(graph, &extents);
    Ok(infer_types(graph)?)
}

/// Notes the extents of the names in `declared`, which is to become `ty`.
fn bind(declared: &Type, ty: &Type, extents: &mut BTreeMap<Arc<str>, usize>) -> Result<(), InputFault> {
    if !declared.admits(ty) {
        return Err(InputFault::Type { found: ty.clone(), expected: declared.clone() });
    }
    if let Some(extent) = ty.oversized() {
        return Err(InputFault::TooLarge { extent });
    }
    let (Some(declared), Some(ty)) = (declared.as_tensor(), ty.as_tensor()) else { return Ok(()) };
    let (Some(names), Some(dims)) = (&declared.shape, &ty.shape) else { return Ok(()) };
    for (name, dim) in names.iter().zip(dims) {
        let (Dim::Named(name), Dim::Known(n)) = (name, dim) else { continue };
        let known = *extents.entry(name.clone()).or_insert(*n);
        if known != *n {
            return Err(InputFault::Contradiction { name: name.to_string(), here: *n, elsewhere: known });
        }
    }
    Ok(())
}

/// Replaces named dims in every type of the graph and of its regions.
fn substitute(graph: &mut Graph, extents: &BTreeMap<Arc<str>, usize>) {
    for id in graph.ids().collect::<Vec<NodeId>>() {
        let node = graph.node_mut(id);
        for result in &mut node.results {
            substitute_type(&mut result.ty, extents);
        }
        for region in &mut node.regions {
            substitute(region, extents);
        }
    }
}

fn substitute_type(ty: &mut Type, extents: &BTreeMap<Arc<str>, usize>) {
    match ty {
        Type::Tensor(TensorType { shape: Some(dims), .. }) => {
            for dim in dims {
                if let Dim::Named(name) = dim
                    && let Some(&n) = extents.get(name)
                {
                    *dim = Dim::Known(n);
                }
            }
        }
        Type::Tensor(_) => {}
        Type::Sequence(inner) | Type::Optional(inner) => substitute_type(inner, extents),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_ir::parse;
    use optc_tensor::DType;

    const TEXT: &str = "func @f(%x: tensor<Nx3xf32>, %y: tensor<Nx1xf32>) {
        %0 = math.add %x, %y : tensor<Nx3xf32>
        return %0 as \"z\"
    }";

    #[test]
    fn a_name_gets_one_extent() {
        let mut g = parse(TEXT).unwrap();
        let types = [TensorType::fixed(DType::F32, &[2, 3]).into(), TensorType::fixed(DType::F32, &[4, 1]).into()];
        let error = specialize(&mut g, &types).unwrap_err().to_string();
        assert_eq!(error, "input `y`: `N` is 4 here and 2 elsewhere");
    }

    #[test]
    fn a_contradiction_names_the_input() {
        let mut g = parse(TEXT).unwrap();
        let error = specialize(&mut g, &[TensorType::fixed(DType::F32, &[2, 4]).into()]).unwrap_err().to_string();
        assert_eq!(error, "input `x`: found tensor<2x4xf32>, expected tensor<Nx3xf32>");
    }
}
