//! What a kernel family is given: one op with its operands, results and epilogue.

use optc_ir::Value;
use optc_kernel::expr::Expr;
use optc_types::ReasonCode;

use super::{Declined, Lowered, TensorView};

/// What is stored instead of an op's result: an expression on it and on other operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Epilogue {
    /// Operand 0 is the op's result, operand `i + 1` is `operands[i]`.
    pub expr: Expr,
    /// Further operands, broadcast to the shape of the result.
    pub operands: Vec<TensorView>,
}

impl Default for Epilogue {
    fn default() -> Self {
        Epilogue { expr: Expr::Operand(0), operands: Vec::new() }
    }
}

/// One op to be lowered by a kernel family.
#[derive(Debug)]
pub struct Site {
    /// Its operands.
    pub operands: Vec<Option<Value>>,
    /// Where the results go: dense views in the layout of the results' types.
    pub results: Vec<TensorView>,
    /// What is applied to the first result before it is stored.
    pub epilogue: Epilogue,
    /// The ONNX nodes.
    pub loc: Vec<String>,
}

impl Site {
    /// The only result.
    ///
    /// # Errors
    /// The op has several.
    pub fn result(&self) -> Result<&TensorView, Declined> {
        match &self.results[..] {
            [one] => Ok(one),
            many => Err(Declined::new(ReasonCode::Attribute, format!("a kernel gives one result, not {}", many.len()))),
        }
    }

    /// Declines an epilogue, for families that have none.
    ///
    /// # Errors
    /// There is one.
    pub fn without_epilogue(&self) -> Lowered {
        let none = self.epilogue.operands.is_empty() && self.epilogue.expr == Expr::Operand(0);
        if none {
            Ok(())
        } else {
            Err(Declined::new(ReasonCode::Region, "its kernel applies no expression to the result"))
        }
    }

    /// The value of operand `slot`.
    ///
    /// # Errors
    /// It is absent.
    pub fn operand(&self, slot: usize) -> Result<Value, Declined> {
        self.optional(slot).ok_or_else(|| Declined::new(ReasonCode::Absent, format!("operand {slot} is absent")))
    }

    /// The value of operand `slot`, if there is one.
    pub fn optional(&self, slot: usize) -> Option<Value> {
        self.operands.get(slot).copied().flatten()
    }
}
