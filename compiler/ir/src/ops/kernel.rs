//! `kernel`: regions that become one kernel or wait for shapes, and changes of layout. Passes make these ops; no model
//! has them.

use crate::{Args, Facts, InferCx, OpError, Semantics, Type, Val, op};

op! {
    /// Computes its region in one kernel: a producer with its epilogue, or a chain of elementwise ops.
    ///
    /// - (C1) There is one region, with one parameter an operand, of exactly the operand's type.
    /// - (C2) The results are the region's outputs, of exactly their types.
    ///
    /// Exactly: the region was typed for these operands, and kernels are made from what it says of the values in it.
    "kernel.fused" = Fused(operands: many) {}
}

impl Semantics for Fused {
    const FACTS: Facts<Fused> = Facts::host("a fused region is lowered as a whole").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        region_types(cx, |param, operand| param == operand) // C2
    }

    fn exact(&self) -> bool {
        true
    }

    fn region_params(&self, cx: &InferCx, _region: usize) -> Vec<Option<Type>> {
        cx.types.iter().map(|t| t.cloned()).collect()
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        called(args)
    }
}

/// The types of the outputs of the only region of an op (C1), whose parameters take its operands as `takes` says.
fn region_types(cx: &InferCx, takes: impl Fn(&Type, &Type) -> bool) -> Result<Vec<Type>, OpError> {
    let [region] = cx.regions else {
        let reason = format!("expected one region, found {}", cx.regions.len());
        return Err(OpError::Constraint { constraint: "C1", reason });
    };
    let (found, expected) = (region.inputs().len(), cx.types.len());
    crate::ensure!(found == expected, "C1", "the region has {found} parameters, expected {expected}");
    for (slot, (param, operand)) in region.inputs().zip(cx.types).enumerate() {
        let (param, operand) = (region.ty(param), operand.ok_or(OpError::Operand { slot })?);
        crate::ensure!(takes(param, operand), "C1", "operand {slot} is {operand}, the region takes {param}");
    }
    Ok(region.outputs.iter().map(|o| region.ty(o.value).clone()).collect())
}

/// The outputs of the only region of an op, whose parameters are its operands.
fn called(args: &Args) -> Result<Vec<Val>, OpError> {
    let values: Option<Vec<Val>> = args.values.iter().cloned().collect();
    let absent = || OpError::Operand { slot: args.values.iter().position(Option::is_none).unwrap_or(0) };
    (args.call)(0, &values.ok_or_else(absent)?)
}

op! {
    /// Computes its region, in which shapes depend on the values of the operands: it is compiled when it is run, for
    /// the shapes that these have then.
    ///
    /// - (C1) There is one region, with one parameter an operand, which takes it.
    ///
    /// The results are the region's outputs.
    "kernel.deferred" = Deferred(operands: many) {}
}

impl Semantics for Deferred {
    const FACTS: Facts<Deferred> =
        Facts::host("its shapes depend on data: it is compiled for those that it meets").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        region_types(cx, Type::admits)
    }

    fn region_params(&self, cx: &InferCx, _region: usize) -> Vec<Option<Type>> {
        cx.types.iter().map(|t| t.cloned()).collect()
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        called(args)
    }
}

op! {
    /// The same tensor in another encoding, which is that of the result's type.
    ///
    /// Text: `%y = kernel.convert_layout %x : tensor<1x8x4x4xf32, nhwc>`
    "kernel.convert_layout" = ConvertLayout(x) {}
}

impl Semantics for ConvertLayout {
    const FACTS: Facts<ConvertLayout> = Facts::family().with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        Ok(vec![cx.tensor(0)?.clone().with_encoding(crate::Encoding::Plain).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        Ok(vec![args.tensor(0)?.clone().into()])
    }
}
