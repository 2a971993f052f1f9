//! Ops that draw random numbers. Their keys are not written: they are made of the nodes' names, which are.

use optc_ir::Op;
use optc_ir::ops::random::{Multinomial, RandomNormal, RandomUniform};

use super::spelling::{OnnxSpelling, spell, spelled};
use super::{Exporter, Site};
use crate::Diagnostic;

impl Exporter {
    /// Numbers of a shape: it is an attribute of the ONNX op where it is known, else that of a tensor of zeros.
    pub(super) fn drawn(&mut self, op: &Op, site: &Site) -> Result<(), Diagnostic> {
        let shape = site.node.results.first().and_then(|r| r.ty.as_tensor()?.static_shape());
        let (known, like) = match op {
            Op::RandomNormal(_) => ("RandomNormal", "RandomNormalLike"),
            _ => ("RandomUniform", "RandomUniformLike"),
        };
        let (spelling, operands) = match shape {
            Some(shape) => {
                let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
                (spell(known).all_ints("shape", &shape), vec![])
            }
            None => {
                let zeros = self.names.numbered(site.results.first().map_or("", String::as_str));
                self.write(spelled!("ConstantOfShape"), site.operands.clone(), vec![zeros.clone()], &[]);
                (spell(like), vec![zeros])
            }
        };
        let spelling = match op {
            Op::RandomNormal(op) => normal(spelling, op),
            Op::RandomUniform(op) => uniform(spelling, op),
            _ => spelling,
        };
        self.write(spelling, operands, site.results.clone(), &site.node.loc);
        Ok(())
    }
}

fn normal(spelling: OnnxSpelling, op: &RandomNormal) -> OnnxSpelling {
    let spelling = spelling.dtype("dtype", op.dtype).float("mean", op.mean).float("scale", op.scale);
    spelling.float("seed", op.seed)
}

fn uniform(spelling: OnnxSpelling, op: &RandomUniform) -> OnnxSpelling {
    let spelling = spelling.dtype("dtype", op.dtype).float("low", op.low).float("high", op.high);
    spelling.float("seed", op.seed)
}

pub(super) fn multinomial(op: &Multinomial) -> OnnxSpelling {
    let spelling = spelled!("Multinomial").dtype("dtype", op.dtype).int("sample_size", op.count);
    spelling.float("seed", op.seed)
}
