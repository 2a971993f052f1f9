//! Ensembles of decision trees.

use optc_tensor::{DType, TensorMut};

use super::flat::{Aggregate, FeatureRows, Score, Scores};
use super::forest::Forest;
use crate::ops::bad_dtype;
use crate::ops::eval::eval_new;
use crate::{Args, Dim, Facts, InferCx, ItemCx, OpError, Operands, Semantics, TensorType, Type, Val, ensure, op};

op! {
    /// What decision trees say of each row of `x`: a score for each target, computed in the dtype of `x`, and whether a
    /// leaf had a weight for it; where none had, the score is 0.
    ///
    /// - (C1) `x` is a matrix of `f32` or `f64`.
    /// - (C2) `nodes` is the table of a forest, see [`Row`](super::Row).
    /// - (C3) A tree begins at each of `roots`, there are features for all tests, and targets for all weights.
    "ml.tree_ensemble" = TreeEnsemble(x) {
        /// The trees' nodes.
        nodes: Forest,
        /// The rows of the nodes that the trees begin with.
        roots: Vec<i64>,
        /// The number of targets.
        targets: i64,
        /// What becomes of several weights for a target.
        aggregate: Aggregate = Aggregate::Sum,
    }
}

impl TreeEnsemble {
    /// The roots and the number of targets, where they are right.
    fn checked(&self, features: Option<usize>) -> Result<(Vec<u32>, usize), OpError> {
        let problem = self.nodes.problem();
        ensure!(problem.is_none(), "C2", "{}", problem.unwrap_or_default());
        let (seen, scored, rows) = (self.nodes.features(), self.nodes.targets(), self.nodes.len());
        if let Some(features) = features {
            ensure!(features >= seen, "C3", "`x` has {features} features, the trees test feature {}", seen - 1);
        }
        let targets = usize::try_from(self.targets).ok().filter(|&targets| targets > 0 && targets >= scored);
        let Some(targets) = targets else {
            let reason = format!("there are {} targets, expected at least {}", self.targets, scored.max(1));
            return Err(OpError::Constraint { constraint: "C3", reason });
        };
        let root = |&root: &i64| {
            let reason = || format!("a tree begins at row {root} of {rows}");
            let at = u32::try_from(root).ok().filter(|&at| (at as usize) < rows);
            at.ok_or_else(|| OpError::Constraint { constraint: "C3", reason: reason() })
        };
        Ok((self.roots.iter().map(root).collect::<Result<_, _>>()?, targets))
    }

    fn evaluate<T: Score>(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        let x = operands.tensor(0)?;
        let &[count, features] = x.shape() else { return Ok(false) };
        let (roots, targets) = self.checked(Some(features))?;
        let [scores, scored] = results else { return Ok(false) };
        let (values, scored) = (scores.as_mut_slice::<T>()?, scored.as_mut_slice::<u8>()?);
        values.fill(T::of_int(0));
        scored.fill(0);
        let rows = FeatureRows { values: x.as_slice()?, features, count };
        let mut scores = Scores { values, scored, targets };
        self.nodes.flat().evaluate(&roots, rows, self.aggregate, &mut scores);
        if self.aggregate == Aggregate::Average && !roots.is_empty() {
            let trees = T::of_int(roots.len() as i64);
            scores.values.iter_mut().for_each(|v| *v = *v / trees);
        }
        Ok(true)
    }
}

impl Semantics for TreeEnsemble {
    const FACTS: Facts<TreeEnsemble> = Facts::host("trees are walked by the host");

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        let floats = matches!(x.dtype, DType::F32 | DType::F64) && x.rank().is_none_or(|rank| rank == 2);
        ensure!(floats, "C1", "`x` is {x}, expected a matrix of `f32` or `f64`");
        let extent = |axis: usize| x.shape.as_ref().and_then(|shape| shape.get(axis)).cloned();
        let features = extent(1).and_then(|dim| dim.known());
        let (_, targets) = self.checked(features)?;
        let shape = Some(vec![extent(0).unwrap_or(Dim::Unknown), Dim::Known(targets)]);
        Ok(vec![TensorType::of(x.dtype, shape.clone()).into(), TensorType::of(DType::Bool, shape).into()])
    }

    fn is_itemwise(&self, cx: &ItemCx) -> bool {
        cx.only(&[0])
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        ensure!(x.rank() == 2, "C1", "`x` has {} dims, expected a matrix", x.rank());
        let (_, targets) = self.checked(x.shape().get(1).copied())?;
        let shape = [x.shape()[0], targets];
        match eval_new(self, args, &[(x.dtype(), &shape), (DType::Bool, &shape)])? {
            Some(results) => Ok(results),
            None => bad_dtype("ml.tree_ensemble", x.dtype()),
        }
    }

    fn eval_into(&self, operands: &Operands, results: &mut [TensorMut]) -> Result<bool, OpError> {
        match operands.tensor(0)?.dtype() {
            DType::F32 => self.evaluate::<f32>(operands, results),
            DType::F64 => self.evaluate::<f64>(operands, results),
            _ => Ok(false),
        }
    }
}
