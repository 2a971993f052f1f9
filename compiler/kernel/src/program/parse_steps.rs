//! Reads the steps of a program back, and the places that they read and write.

use std::collections::HashMap;

use optc_tensor::Tensor;
use optc_types::steps::{Arrange, BufRef, HostStep, KernelStep, PlainTensor, SeveralItems, Slot, Step, StepInfo};

use super::parse::{Parser, Result_};

impl Parser<'_> {
    /// The step whose line begins with a word.
    pub(super) fn step(&mut self, word: &str, named: &HashMap<String, Tensor>) -> Result_<Step> {
        match word {
            "call" => self.call().map(Step::Kernel),
            "run" => {
                let host = self.numbered("h")?;
                let operands = self.list(|p| p.optional(named))?;
                self.cursor.expect("->")?;
                let results = self.list(|p| p.optional(named))?;
                Ok(Step::Host(HostStep { host, operands, results, info: self.info()? }))
            }
            "copy" => {
                let bytes = self.cursor.number()?;
                let src = self.at()?;
                self.cursor.expect("->")?;
                Ok(Step::Copy { src, dst: self.at()?, bytes })
            }
            "arrange" => {
                let width = self.cursor.number()?;
                let shape = self.list(|p| p.cursor.number())?;
                let src = (self.at()?, self.list(|p| p.cursor.number())?);
                self.cursor.expect("->")?;
                let dst = (self.at()?, self.list(|p| p.cursor.number())?);
                let point = if self.cursor.eat("point ") { Some(self.numbered("p")?) } else { None };
                Ok(Step::Arrange(Arrange { shape, width, src, dst, point, info: self.info()? }))
            }
            "load" => {
                let value = self.numbered("v")?;
                self.cursor.expect("->")?;
                let to = self.stored()?;
                self.cursor.expect("loc")?;
                Ok(Step::Load { value, to, loc: self.cursor.string()? })
            }
            "check" => {
                let checked = self.stored()?;
                if self.cursor.eat("below") {
                    let extent = self.cursor.number()?;
                    self.cursor.expect("loc")?;
                    return Ok(Step::Check { indices: checked, extent, loc: self.cursor.string()? });
                }
                self.cursor.expect("up_to")?;
                let most = self.cursor.number()?;
                self.cursor.expect("of")?;
                let op = self.cursor.string()?;
                self.cursor.expect("loc")?;
                Ok(Step::CheckLengths { lengths: checked, most, op, loc: self.cursor.string()? })
            }
            word => Err(self.cursor.error(format!("there is no step `{word}`"))),
        }
    }

    fn call(&mut self) -> Result_<KernelStep> {
        let number = self.numbered("k")?;
        let kernel = self.kernels.get(number);
        let kernel = kernel.ok_or_else(|| self.cursor.error(format!("there is no kernel k{number}")))?;
        let args = self.list(Parser::at)?;
        let in_place = if self.cursor.eat("in_place") { Some(self.cursor.number()?) } else { None };
        let point = if self.cursor.eat("point ") { Some(self.numbered("p")?) } else { None };
        let parallel = self.cursor.eat("parallel ");
        let (tasks, scratch) = (kernel.tasks, kernel.scratch_bytes);
        let several = if self.cursor.eat("several") { self.list(Parser::several)? } else { vec![] };
        Ok(KernelStep { kernel: number, args, tasks, scratch, in_place, parallel, several, point, info: self.info()? })
    }

    fn several(&mut self) -> Result_<SeveralItems> {
        let items = self.cursor.number()?;
        let number = self.numbered("k")?;
        let kernel = self.kernels.get(number);
        let kernel = kernel.ok_or_else(|| self.cursor.error(format!("there is no kernel k{number}")))?;
        Ok(SeveralItems { items, kernel: number, tasks: kernel.tasks, scratch: kernel.scratch_bytes })
    }

    fn at(&mut self) -> Result_<BufRef> {
        let buf = self.numbered("b")?;
        let offset = if self.cursor.eat("+") { self.cursor.number()? } else { 0 };
        Ok(BufRef { buf, offset })
    }

    fn stored(&mut self) -> Result_<PlainTensor> {
        let at = self.at()?;
        self.cursor.expect(":")?;
        let (ty, shape) = self.tensor_type()?;
        Ok(PlainTensor { at, dtype: ty.dtype, shape })
    }

    fn optional(&mut self, named: &HashMap<String, Tensor>) -> Result_<Option<Slot>> {
        if self.cursor.eat("_") { Ok(None) } else { self.slot(named).map(Some) }
    }

    pub(super) fn slot(&mut self, named: &HashMap<String, Tensor>) -> Result_<Slot> {
        self.cursor.skip();
        match self.cursor.rest().chars().next() {
            Some('b') => self.stored().map(Slot::Buffer),
            Some('v') => self.numbered("v").map(Slot::Value),
            Some('c') => self.named(named).map(Slot::Constant),
            _ => Err(self.cursor.error("expected a buffer, a slot or a constant")),
        }
    }

    fn info(&mut self) -> Result_<StepInfo> {
        self.cursor.expect("flops")?;
        let flops = self.real()?;
        self.cursor.expect("bytes")?;
        let bytes = self.real()?;
        self.cursor.expect("name")?;
        let name = self.cursor.string()?;
        let schedule = if self.cursor.eat("schedule") { self.cursor.string()? } else { String::new() };
        self.cursor.expect("loc")?;
        let loc = self.list(|p| p.cursor.string())?;
        Ok(StepInfo { name, loc, flops, bytes, schedule })
    }
}
