//! `cf.loop`.

use optc_tensor::{DType, Tensor};

use super::stack::{Stacks, stacked_type};
use super::{check_scalar, only, output_type, params_take_operands, present, region, short_region, types_from};
use crate::{Args, Carried, Dim, Facts, Graph, InferCx, Op, OpError, Semantics, TensorType, Type, Val, ensure, op};

/// The most trips that a loop makes.
const MAX_TRIPS: i64 = 1 << 24;

op! {
    /// Runs its region while there are trips left and the condition holds.
    ///
    /// The region's parameters are the trip's number, the condition, the carried values and the captures; its outputs
    /// are the next condition, the next carried values, and elements that are stacked up. The results are the last
    /// carried values and the stacks. Without `max_trips` the count is unlimited; without `cond` the condition is true
    /// and what the region says of it is ignored.
    ///
    /// - (C1) There is one region, with as many parameters and outputs as these rules ask for.
    /// - (C2) `max_trips` is one i64, `cond` one boolean, and the region's parameters take the operands.
    /// - (C3) A carried parameter's type covers the type of the region's output for the next trip.
    /// - (C4) What is stacked is a tensor of one dtype and shape in all trips.
    /// - (C5) There is an end: `max_trips` or `cond` is given, and there are at most 16,777,216 trips.
    "cf.loop" = Loop(max_trips: optional, cond: optional, values: many) {
        /// How many of the values are carried; the rest are captures.
        carried: i64,
    }
}

impl Loop {
    /// How many values are carried, checked against the number of operands.
    fn count(&self, operands: usize) -> Result<usize, OpError> {
        let count = usize::try_from(self.carried).ok().filter(|n| operands >= 2 + n);
        let reason = || format!("{} carried values, but {operands} operands", self.carried);
        count.ok_or_else(|| OpError::Constraint { constraint: "C1", reason: reason() })
    }

    /// The number of trips where it is known.
    fn trips(&self, cx: &InferCx, region: &Graph) -> Result<Dim, OpError> {
        let max = cx.constant(0).filter(|t| t.len() == 1).map(|t| t.to_i64_vec()[0].max(0));
        let always = !cx.has(1)
            || (cx.constant(1).is_some_and(|t| t.to_i64_vec() == [1])
                && region.outputs.first().is_some_and(|o| {
                    let passed_on = region.inputs().nth(1) == Some(o.value);
                    let node = region.node(o.value.node);
                    passed_on || matches!(&node.op, Op::Constant(c) if c.value.0.to_i64_vec() == [1])
                }));
        match max {
            Some(n) if n == 0 || always => {
                check_trips(n)?;
                Ok(Dim::Known(n as usize))
            }
            _ => Ok(Dim::Unknown),
        }
    }
}

/// Refuses a number of trips that is known before the first one.
fn check_trips(trips: i64) -> Result<(), OpError> {
    ensure!(trips <= MAX_TRIPS, "C5", "the loop makes {trips} trips, expected at most {MAX_TRIPS}");
    Ok(())
}

impl Semantics for Loop {
    const FACTS: Facts<Loop> = Facts::host("control flow: its regions run as plans of their own").with_strings();
    const ONLY_MOVES: bool = true;

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let carried = self.count(cx.types.len())?;
        ensure!(cx.regions.len() == 1, "C1", "expected one region, found {}", cx.regions.len());
        ensure!(cx.has(0) || cx.has(1), "C5", "the loop has neither a count nor a condition");
        let region = region(cx, 0, cx.types.len(), 1 + carried)?;
        for (slot, dtype, what) in [(0, DType::I64, "the count"), (1, DType::Bool, "the condition")] {
            if cx.has(slot) {
                check_scalar(cx, slot, dtype, what)?;
            }
        }
        let next = output_type(region, 0)?;
        ensure!(next.as_tensor().is_some_and(|t| t.dtype == DType::Bool), "C2", "the next condition is {next}");
        params_take_operands(cx, region, 2, 2)?;
        let mut types = vec![];
        for (k, param) in region.inputs().skip(2).take(carried).enumerate() {
            let (param, given) = (region.ty(param), output_type(region, 1 + k)?);
            ensure!(param.covers(given), "C3", "carried value {k} is {param}, the next trip's is {given}");
            let start = cx.types[2 + k].unwrap_or(param);
            types.push(start.join(given).unwrap_or_else(|| param.clone()));
        }
        let trips = self.trips(cx, region)?;
        for i in 1 + carried..region.outputs.len() {
            types.push(stacked_type(output_type(region, i)?, trips.clone(), |_| Ok(0))?);
        }
        Ok(types)
    }

    fn region_params(&self, cx: &InferCx, _region: usize) -> Vec<Option<Type>> {
        let mut types: Vec<Option<Type>> =
            [DType::I64, DType::Bool].iter().map(|&d| Some(TensorType::fixed(d, &[]).into())).collect();
        types.extend(types_from(cx, 2));
        types
    }

    fn carried(&self) -> Carried {
        Carried { param: 2, output: 1, count: usize::try_from(self.carried).unwrap_or(0) }
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let count = self.count(args.values.len())?;
        let flag = |t: &Tensor| only(t, DType::Bool, "the condition").map(|v| v != 0);
        let max = args.optional(0).map(|t| only(t, DType::I64, "the count")).transpose()?;
        let start = args.optional(1).map(flag).transpose()?;
        ensure!(max.is_some() || start.is_some(), "C5", "the loop has neither a count nor a condition");
        let (max, mut go) = (max.unwrap_or(i64::MAX), start.unwrap_or(true));
        if start.is_none() {
            check_trips(max)?;
        }
        let mut carried = present(args.values, 2)?;
        let captures = carried.split_off(count);
        let mut stacks = Stacks::new(args.types.len().saturating_sub(count));
        let mut trip = 0;
        while go && trip < max {
            ensure!(trip < MAX_TRIPS, "C5", "the loop makes more than {MAX_TRIPS} trips");
            let mut values = vec![Tensor::scalar(trip).into(), Tensor::from_bools(&[], &[go])?.into()];
            values.append(&mut carried);
            values.extend_from_slice(&captures);
            let mut outputs = (args.call)(0, &values)?;
            ensure!(outputs.len() > count, "C1", "the region gives {} outputs", outputs.len());
            let elements = outputs.split_off(1 + count);
            carried = outputs.split_off(1);
            if trip == 0 {
                stacks = Stacks::new(elements.len());
            }
            stacks.push(elements)?;
            if start.is_some() {
                let next = outputs.first().and_then(Val::as_tensor).ok_or_else(short_region)?;
                go = flag(next)?;
            }
            trip += 1;
        }
        carried.extend(stacks.finish(args.types.get(count..).unwrap_or_default(), |_, _| Ok((0, false)))?);
        Ok(carried)
    }
}
