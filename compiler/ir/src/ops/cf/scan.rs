//! `cf.scan`.

use super::stack::{Stacks, element, stacked_type};
use super::{output_type, params_take_operands, present, region, types_from};
use crate::ops::axis_of;
use crate::{Args, Carried, Dim, Facts, InferCx, OpError, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// Runs its region once for each element of the scanned operands.
    ///
    /// The operands are `states` states, `scanned` tensors and the captures; the region's parameters the states, one
    /// element of each scanned tensor, and the captures. Its outputs are the next states and elements that are stacked
    /// up; the results are the last states and the stacks.
    ///
    /// - (C1) There is one region, with as many parameters and outputs as these rules ask for.
    /// - (C2) The region's parameters take the states, the elements and the captures.
    /// - (C3) A state parameter's type covers the type of the region's output for the next trip.
    /// - (C4) What is stacked is a tensor of one dtype and shape in all trips.
    /// - (C5) There is at least one scanned tensor, and their extents along their axes are equal.
    "cf.scan" = Scan(values: many) {
        /// How many operands are states.
        states: i64,
        /// How many operands are scanned.
        scanned: i64,
        /// The axis of each scanned operand; 0 where the list ends.
        input_axes: Vec<i64> = vec![],
        /// 1 for each scanned operand that is read from its end; 0 where the list ends.
        input_reversed: Vec<i64> = vec![],
        /// The axis of each stack; 0 where the list ends.
        output_axes: Vec<i64> = vec![],
        /// 1 for each stack whose first element is that of the last trip; 0 where the list ends.
        output_reversed: Vec<i64> = vec![],
    }
}

impl Scan {
    /// The numbers of states and scanned operands, checked against the number of operands.
    fn counts(&self, operands: usize) -> Result<(usize, usize), OpError> {
        let number = |n: i64| usize::try_from(n).ok();
        let counts = number(self.states).zip(number(self.scanned));
        let counts = counts.filter(|(s, n)| s.checked_add(*n).is_some_and(|sum| sum <= operands));
        let reason = || format!("{} states and {} scanned, but {operands} operands", self.states, self.scanned);
        let (states, scanned) = counts.ok_or_else(|| OpError::Constraint { constraint: "C1", reason: reason() })?;
        ensure!(scanned > 0, "C5", "nothing is scanned");
        Ok((states, scanned))
    }

    fn input_axis(&self, i: usize, rank: usize) -> Result<usize, OpError> {
        axis_of(self.input_axes.get(i).copied().unwrap_or(0), rank)
    }

    fn output_axis(&self, i: usize, rank: usize) -> Result<usize, OpError> {
        axis_of(self.output_axes.get(i).copied().unwrap_or(0), rank)
    }

    /// The type of the elements of scanned operand `i`, and how many there are.
    fn element_type(&self, i: usize, ty: &TensorType) -> Result<(TensorType, Dim), OpError> {
        let Some(mut shape) = ty.shape.clone() else { return Ok((ty.clone(), Dim::Unknown)) };
        let trips = shape.remove(self.input_axis(i, shape.len())?);
        Ok((TensorType::new(ty.dtype, shape), trips))
    }
}

impl Semantics for Scan {
    const FACTS: Facts<Scan> = Facts::host("control flow: its regions run as plans of their own").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let (states, scanned) = self.counts(cx.types.len())?;
        ensure!(cx.regions.len() == 1, "C1", "expected one region, found {}", cx.regions.len());
        let region = region(cx, 0, cx.types.len(), states)?;
        params_take_operands(cx, region, states + scanned, states + scanned)?;
        let mut trips = Dim::Unknown;
        for (i, param) in region.inputs().skip(states).take(scanned).enumerate() {
            let (element, n) = self.element_type(i, cx.tensor(states + i)?)?;
            let (element, param) = (element.into(), region.ty(param));
            ensure!(param.admits(&element), "C2", "the elements of {i} are {element}, the region takes {param}");
            let differ = matches!((n.known(), trips.known()), (Some(a), Some(b)) if a != b);
            ensure!(!differ, "C5", "the scanned tensors have {trips} and {n} elements");
            trips = if trips.known().is_some() || n == Dim::Unknown { trips } else { n };
        }
        let mut types = vec![];
        for (k, param) in region.inputs().take(states).enumerate() {
            let (param, given) = (region.ty(param), output_type(region, k)?);
            ensure!(param.covers(given), "C3", "state {k} is {param}, the next trip's is {given}");
            let start = cx.types[k].ok_or(OpError::Operand { slot: k })?;
            ensure!(param.admits(start), "C2", "state {k} is {start}, the region takes {param}");
            types.push(start.join(given).unwrap_or_else(|| param.clone()));
        }
        for i in 0..region.outputs.len() - states {
            let item = output_type(region, states + i)?;
            types.push(stacked_type(item, trips.clone(), |rank| self.output_axis(i, rank))?);
        }
        Ok(types)
    }

    fn region_params(&self, cx: &InferCx, _region: usize) -> Vec<Option<Type>> {
        let mut types = types_from(cx, 0);
        let Ok((states, scanned)) = self.counts(types.len()) else { return vec![] };
        for (i, ty) in types.iter_mut().skip(states).take(scanned).enumerate() {
            let element = ty.as_ref().and_then(Type::as_tensor).and_then(|t| self.element_type(i, t).ok());
            *ty = element.map(|(element, _)| element.into());
        }
        types
    }

    fn carried(&self) -> Carried {
        Carried { param: 0, output: 0, count: usize::try_from(self.states).unwrap_or(0) }
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let (count, scanned) = self.counts(args.values.len())?;
        let xs = (0..scanned).map(|i| args.tensor(count + i)).collect::<Result<Vec<_>, _>>()?;
        let axes = xs.iter().enumerate().map(|(i, x)| self.input_axis(i, x.rank())).collect::<Result<Vec<_>, _>>()?;
        let extents: Vec<usize> = xs.iter().zip(&axes).map(|(x, &axis)| x.shape()[axis]).collect();
        let trips = extents.first().copied().unwrap_or(0);
        ensure!(extents.iter().all(|&n| n == trips), "C5", "the scanned tensors have {extents:?} elements");
        let mut states = present(args.values, 0)?;
        let captures = states.split_off(count + scanned);
        states.truncate(count);
        let mut stacks = Stacks::new(args.types.len().saturating_sub(count));
        for trip in 0..trips {
            let mut values = std::mem::take(&mut states);
            for (i, (x, &axis)) in xs.iter().zip(&axes).enumerate() {
                let reversed = self.input_reversed.get(i) == Some(&1);
                let at = if reversed { trips - 1 - trip } else { trip };
                values.push(Val::from(element(x, axis, at)?));
            }
            values.extend_from_slice(&captures);
            states = (args.call)(0, &values)?;
            ensure!(states.len() >= count, "C1", "the region gives {} outputs", states.len());
            let elements = states.split_off(count);
            if trip == 0 {
                stacks = Stacks::new(elements.len());
            }
            stacks.push(elements)?;
        }
        let place = |i: usize, rank: usize| {
            let reversed = self.output_reversed.get(i) == Some(&1);
            self.output_axis(i, rank).map(|axis| (axis, reversed))
        };
        states.extend(stacks.finish(args.types.get(count..).unwrap_or_default(), place)?);
        Ok(states)
    }
}
