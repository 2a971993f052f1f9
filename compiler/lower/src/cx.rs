//! What a kernel family may touch while it lowers one node: types and places of values, the program as far as it is
//! made, and notes on the node for the report.

use std::fmt::Display;

use optc_ir::{Encoding, Graph, TensorType, Value};
use optc_kernel::nest::Kernel;
use optc_kernel::program::{Choice, Filtered, Point};
use optc_kernel::target::Target;
use optc_kernels::contract::{Contract, ContractSchedule};
use optc_tensor::{ConstantFacts, DType, Tensor};
use optc_types::steps::{BufRef, ProgramConstant, Step, StepInfo};
use optc_types::{Machine, Product, ReasonCode};

use super::builder::{KernelCall, Mark, ProgramBuilder};
use super::packed::PackedConstants;
use super::places::{Loc, Places, buffered, stored};
use super::several;
use super::tune::{Open, Tuning};
use super::{Declined, TensorView};

/// The context of one node.
pub(super) struct Cx<'a> {
    pub graph: &'a Graph,
    /// What is compiled for.
    pub target: Target,
    /// Whether the graph is that of one item of a batch.
    pub batch: bool,
    /// Threads that pack weights.
    pub threads: usize,
    pub tuning: &'a Tuning,
    pub machine: &'a dyn Machine,
    pub packed: &'a PackedConstants,
    pub facts: &'a ConstantFacts,
    pub places: &'a mut Places,
    pub out: &'a mut ProgramBuilder,
    /// The first ONNX node that it came from: what constants are of.
    pub of: &'a str,
    pub notes: Notes,
}

/// What is known of a node when it is lowered.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// Its kernels.
    pub names: Vec<String>,
    /// Dense or sparse.
    pub choice: Option<Choice>,
    /// The tiles in which it is filtered.
    pub filtered: Option<Filtered>,
    /// What it multiplies.
    pub product: Option<Product>,
    /// Why it is not one kernel with the product before it.
    pub apart: Option<&'static str>,
    /// The ONNX nodes of the product before that it is one kernel with, and the kernel.
    pub joined: Option<(Vec<String>, String)>,
}

/// The recipe of a constant that is not packed.
const AS_IT_IS: &str = "as it is";

/// What a roll-back restores.
pub(super) struct Before {
    out: Mark,
    copies: usize,
}

impl Cx<'_> {
    /// The constant that a value is, if it is one.
    pub fn constant(&self, value: Value) -> Option<&Tensor> {
        self.places.constant(value)
    }

    /// The dtype and shape of a value.
    ///
    /// # Errors
    /// The shape is not static.
    pub fn ty(&self, value: Value) -> Result<TensorType, Declined> {
        let ty = self.graph.ty(value).as_tensor().filter(|t| t.static_shape().is_some()).cloned();
        ty.ok_or_else(|| Declined::new(ReasonCode::OpenShape, "the shape of an operand depends on data"))
    }

    /// A value as a view of a buffer, in whatever layout it has.
    ///
    /// # Errors
    /// Its shape is not static, or its dtype does not fill bytes.
    pub fn view(&mut self, value: Value) -> Result<TensorView, Declined> {
        let loc = self.places.get(value);
        if let (Some(view), false) = (self.places.copy(value, Encoding::Plain), matches!(loc, Some(Loc::View(_)))) {
            return Ok(view.clone());
        }
        match loc.cloned() {
            Some(Loc::View(view)) => Ok(view),
            Some(Loc::Constant(t)) => {
                let ty = TensorType::fixed(t.dtype(), t.shape());
                buffered(&ty.clone().into())
                    .ok_or_else(|| Declined::new(ReasonCode::Numbers, format!("{} operand", t.dtype())))?;
                let at = self.packed(&[&t], AS_IT_IS, || Ok(t.clone()))?;
                let view = TensorView::dense(at, &ty)
                    .ok_or_else(|| Declined::new(ReasonCode::Layout, "the constant has no layout"))?;
                self.places.set_copy(value, Encoding::Plain, view.clone());
                Ok(view)
            }
            Some(Loc::Slot(slot)) => {
                let ty = buffered(self.graph.ty(value))
                    .ok_or_else(|| Declined::new(ReasonCode::OpenShape, "the shape of an operand depends on data"))?;
                let view = self.dense(&ty.with_encoding(Encoding::Plain))?;
                let loc = self.graph.node(value.node).loc.join(", ");
                self.out.step(Step::Load { value: slot, to: stored(&view), loc });
                self.places.set_copy(value, Encoding::Plain, view.clone());
                Ok(view)
            }
            None => Err(Declined::new(ReasonCode::OpenShape, "an operand is not defined")),
        }
    }

    /// A buffer for a dense intermediate tensor.
    ///
    /// # Errors
    /// It is too large.
    pub fn dense(&mut self, ty: &TensorType) -> Result<TensorView, Declined> {
        self.out.dense(ty, None).map_err(|e| Declined::new(ReasonCode::Shape, e.to_string()))
    }

    /// A buffer with constant bytes of the node at hand, and how they are made: which operand, in which form.
    pub fn add_constant(&mut self, recipe: impl Into<String>, tensor: Tensor) -> BufRef {
        self.out.constant(ProgramConstant { of: self.of.to_owned(), recipe: recipe.into(), tensor })
    }

    /// A buffer with what `make` makes of constants of the graph. The recipe, with their shapes, says all that it
    /// depends on besides: it is made once for all who ask for it by the same, in all programs of the model.
    ///
    /// # Errors
    /// As `make`.
    pub fn packed(
        &mut self,
        of: &[&Tensor],
        recipe: impl Into<String>,
        make: impl FnOnce() -> Result<Tensor, Declined>,
    ) -> Result<BufRef, Declined> {
        let recipe = recipe.into();
        let (of, origins) = self.places.origins(of);
        let made = self.packed.get_or_make(&of, &format!("{recipe}{origins}"), make)?;
        Ok(self.add_constant(recipe, made))
    }

    /// The same with `len` floats, which `fill` writes over zeros.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn packed_floats(
        &mut self,
        of: &[&Tensor],
        recipe: impl Into<String>,
        len: usize,
        fill: impl FnOnce(&mut [f32]),
    ) -> Result<BufRef, Declined> {
        self.packed(of, recipe, || {
            let mut tensor = Tensor::zeros(DType::F32, &[len])?;
            fill(tensor.as_mut_slice()?);
            Ok(tensor)
        })
    }

    /// A buffer for intermediate bytes of the op at hand.
    pub fn temp(&mut self, bytes: usize) -> BufRef {
        self.out.temp(bytes)
    }

    /// Adds a kernel step. `args` has a place for each buffer of the kernel; `in_place` names the argument that the
    /// kernel's last one may overwrite: it reads each element there before it writes it, in the same task.
    ///
    /// # Panics
    /// A place has fewer bytes than the kernel declares: a bug of the family.
    pub fn kernel(&mut self, kernel: Kernel, args: Vec<BufRef>, in_place: Option<usize>, info: StepInfo) {
        let call = self.call(kernel, args, info);
        self.out.emit(KernelCall { in_place, ..call });
    }

    /// A kernel with its arguments, which is still to be emitted.
    ///
    /// # Panics
    /// As [`Cx::kernel`].
    pub fn call(&mut self, kernel: Kernel, args: Vec<BufRef>, info: StepInfo) -> KernelCall {
        assert_eq!(kernel.bufs.len(), args.len(), "`{}`: one place for each buffer", kernel.name);
        for (declared, at) in kernel.bufs.iter().zip(&args) {
            let have = self.out.buffers[at.buf].bytes;
            let fits = at.offset.checked_add(declared.bytes).is_some_and(|end| end <= have);
            assert!(fits, "`{}`: buffer `{}` does not fit its place", kernel.name, declared.name);
        }
        let info = StepInfo { name: if info.name.is_empty() { kernel.name.clone() } else { info.name }, ..info };
        self.notes.names.push(info.name.clone());
        KernelCall { kernel, args, in_place: None, info, several: vec![], point: self.out.point }
    }

    /// Takes one of `options`, the first of which is the choice without measuring; the point decides all steps until it
    /// is [closed](Cx::close).
    pub fn pick<T: Display>(&mut self, key: String, mut options: Vec<T>) -> (T, Open) {
        let names: Vec<String> = options.iter().map(T::to_string).collect();
        let taken = self.tuning.0.get(&key).and_then(|wanted| names.iter().position(|n| n == wanted)).unwrap_or(0);
        self.out.points.push(Point { key, options: names, taken, within: self.out.point });
        let open = self.out.points.len() - 1;
        self.out.point = Some(open);
        (options.swap_remove(taken), Open(open))
    }

    /// Ends what a point decides.
    pub fn close(&mut self, point: Open) {
        self.out.point = self.out.points.get(point.0).and_then(|p| p.within);
    }

    /// How a contraction is cut.
    pub fn schedule(&mut self, c: &Contract) -> (ContractSchedule, Open) {
        let (isa, caches) = (self.target.isa, &self.target.caches);
        let mut options = ContractSchedule::options(c, isa, caches);
        if self.batch
            && let Some(nr) = several::panels(c, isa, caches)
        {
            options.insert(0, ContractSchedule::in_panels(c, nr, isa, caches));
        }
        self.pick(c.key(), options)
    }

    /// What there is before a family begins.
    pub fn before(&self) -> Before {
        Before { out: self.out.mark(), copies: self.places.copies() }
    }

    /// Undoes what a family did that declines.
    pub fn roll_back(&mut self, before: Before) {
        self.out.roll_back(before.out);
        self.places.forget_copies(before.copies);
        self.notes = Notes::default();
    }
}
