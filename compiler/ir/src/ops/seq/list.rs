//! Sequences as lists of values.

use optc_tensor::{DType, Tensor};

use super::{element_type, sequence, type_of, value};
use crate::ops::message::shown;
use crate::{Args, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

fn sequence_of(of: Type) -> Vec<Type> {
    vec![Type::Sequence(Box::new(of))]
}

/// The type that covers both, which are elements of one sequence.
fn join(a: &Type, b: &Type) -> Result<Type, OpError> {
    let reason = || format!("{a} and {b} do not go into one sequence");
    a.join(b).ok_or_else(|| OpError::Constraint { constraint: "C2", reason: reason() })
}

op! {
    /// The sequence of the operands.
    ///
    /// - (C2) The operands have one kind and dtype.
    "seq.construct" = SeqConstruct(items: many) {}
}

impl Semantics for SeqConstruct {
    const FACTS: Facts<SeqConstruct> = Facts::host("sequences and optionals are values of the host").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let mut of = type_of(cx, 0)?.clone();
        for slot in 1..cx.types.len() {
            of = join(&of, type_of(cx, slot)?)?;
        }
        Ok(sequence_of(of))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let items = (0..args.values.len()).map(|i| value(args, i).cloned()).collect::<Result<Vec<_>, _>>()?;
        let mut of = value(args, 0)?.ty();
        for item in &items {
            of = join(&of, &item.ty())?;
        }
        Ok(vec![Val::Seq(of, items)])
    }
}

op! {
    /// A sequence without elements.
    "seq.empty" = SeqEmpty() {
        /// The type of its elements.
        of: Type,
    }
}

impl Semantics for SeqEmpty {
    const FACTS: Facts<SeqEmpty> = Facts::host("sequences and optionals are values of the host").with_strings();

    fn infer(&self, _: &InferCx) -> Result<Vec<Type>, OpError> {
        Ok(sequence_of(self.of.clone()))
    }

    fn eval(&self, _: &Args) -> Result<Vec<Val>, OpError> {
        Ok(vec![Val::Seq(self.of.clone(), vec![])])
    }
}

/// The index that a position names in a sequence of `n` elements; a negative one counts from the end.
fn index(position: Option<&Tensor>, n: usize, limit: usize) -> Result<Option<usize>, OpError> {
    let Some(t) = position else { return Ok(None) };
    ensure!(t.dtype().is_int(), "C3", "the position is {}, expected an integer", shown(t));
    let found = t.to_i64_vec();
    let [at] = found[..] else {
        return Err(OpError::Constraint {
            constraint: "C3",
            reason: format!("the position is {}, expected one number", shown(t)),
        });
    };
    let index = usize::try_from(if at < 0 { at.saturating_add(n as i64) } else { at }).ok().filter(|&i| i < limit);
    ensure!(index.is_some(), "C3", "position {at} is outside of a sequence of {n}");
    Ok(index)
}

op! {
    /// `seq` with `item` before `position`, or at its end.
    ///
    /// - (C1) `seq` is a sequence.
    /// - (C2) `item` has the kind and dtype of its elements.
    /// - (C3) `position` is an integer in `-n..=n`.
    "seq.insert" = SeqInsert(seq, item, position: optional) {}
}

impl Semantics for SeqInsert {
    const FACTS: Facts<SeqInsert> = Facts::host("sequences and optionals are values of the host").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        Ok(sequence_of(join(element_type(cx, 0)?, type_of(cx, 1)?)?))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (of, items) = sequence(args, 0)?;
        let item = value(args, 1)?;
        let at = index(args.optional(2), items.len(), items.len() + 1)?.unwrap_or(items.len());
        let mut items = items.to_vec();
        items.insert(at, item.clone());
        Ok(vec![Val::Seq(join(of, &item.ty())?, items)])
    }
}

op! {
    /// `seq` without the element at `position`, or without its last.
    ///
    /// - (C1) `seq` is a sequence.
    /// - (C3) `position` is an integer in `-n..n`, and there is an element.
    "seq.erase" = SeqErase(seq, position: optional) {}
}

impl Semantics for SeqErase {
    const FACTS: Facts<SeqErase> = Facts::host("sequences and optionals are values of the host").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        Ok(sequence_of(element_type(cx, 0)?.clone()))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (of, items) = sequence(args, 0)?;
        ensure!(!items.is_empty(), "C3", "the sequence is empty");
        let at = index(args.optional(1), items.len(), items.len())?.unwrap_or(items.len() - 1);
        let mut items = items.to_vec();
        items.remove(at);
        Ok(vec![Val::Seq(of.clone(), items)])
    }
}

op! {
    /// The element of `seq` at `position`.
    ///
    /// - (C1) `seq` is a sequence.
    /// - (C3) `position` is an integer in `-n..n`.
    "seq.at" = SeqAt(seq, position) {}
}

impl Semantics for SeqAt {
    const FACTS: Facts<SeqAt> = Facts::host("sequences and optionals are values of the host").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        Ok(vec![element_type(cx, 0)?.clone()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (_, items) = sequence(args, 0)?;
        let at = index(Some(args.tensor(1)?), items.len(), items.len())?.unwrap_or(0);
        Ok(vec![items.get(at).ok_or(OpError::Operand { slot: 0 })?.clone()])
    }
}

op! {
    /// The number of elements of `seq`.
    ///
    /// - (C1) `seq` is a sequence.
    "seq.length" = SeqLength(seq) {}
}

impl Semantics for SeqLength {
    const FACTS: Facts<SeqLength> = Facts::host("sequences and optionals are values of the host").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        element_type(cx, 0)?;
        Ok(vec![TensorType::fixed(DType::I64, &[]).into()])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        Ok(vec![Tensor::scalar(sequence(args, 0)?.1.len() as i64).into()])
    }
}
