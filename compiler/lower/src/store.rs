//! Where values lie while a graph is lowered: their views, copies in other layouts, constants, temporary buffers; the kernels
//! that were emitted, and how a family's work is undone when it declines.

use optc_ir::{Encoding, TensorType, Value};
use optc_kernel::nest::Kernel;
use optc_tensor::{DType, Memory, Tensor, TensorError, element_count};
use optc_types::steps::{BufRef, Info, KernelStep, Step};

use super::memory::{Draft, Kind};
use super::separable::Held;
use super::{Declined, Loc, LowerError, Lowering, View, buffered, movement, stored, strides_in};

/// What a roll-back restores: how many there were of each.
pub(super) struct Mark {
    steps: usize,
    drafts: usize,
    constants: usize,
    kernels: usize,
    names: usize,
    copies: usize,
    points: usize,
    point: Option<usize>,
    held: Option<Held>,
}

/// A kernel with its arguments, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct KernelCall {
    pub kernel: Kernel,
    pub args: Vec<BufRef>,
    pub info: Info,
    /// The choice point that made it.
    pub point: Option<usize>,
}

/// Work below this is done by the caller alone: waking a worker takes some microseconds.
const PARALLEL_FLOPS: f64 = 400e3;
/// The same for bytes moved.
const PARALLEL_BYTES: f64 = 128e3;

impl Lowering {
    /// The constant that a value is, if it is one.
    pub fn constant(&self, value: Value) -> Option<&Tensor> {
        if let Some(Loc::Constant(t)) = self.locs.get(&value) { Some(t) } else { None }
    }

    /// The dtype and shape of a value.
    ///
    /// # Errors
    /// The shape is not static.
    pub fn ty(&self, value: Value) -> Result<TensorType, Declined> {
        let ty = self.graph.ty(value).as_tensor().filter(|t| t.static_shape().is_some()).cloned();
        ty.ok_or_else(|| Declined::new("the shape of an operand depends on data"))
    }

    /// A value as a view of a buffer, in whatever layout it has.
    ///
    /// # Errors
    /// Its shape is not static, or its dtype does not fill bytes.
    pub fn view(&mut self, value: Value) -> Result<View, Declined> {
        if let Some(view) = self.copies.get(&(value, Encoding::Plain))
            && !matches!(self.locs.get(&value), Some(Loc::View(_)))
        {
            return Ok(view.clone());
        }
        match self.locs.get(&value).cloned() {
            Some(Loc::View(view)) => Ok(view),
            Some(Loc::Constant(t)) => {
                let ty = TensorType::fixed(t.dtype(), t.shape());
                buffered(&ty.clone().into()).ok_or_else(|| Declined::new(format!("{} operand", t.dtype())))?;
                let at = self.add_constant(t);
                let view = View::dense(at, &ty).ok_or_else(|| Declined::new("the constant has no layout"))?;
                self.copies.insert((value, Encoding::Plain), view.clone());
                Ok(view)
            }
            Some(Loc::Slot(slot)) => {
                let ty = buffered(&self.graph.ty(value).clone())
                    .ok_or_else(|| Declined::new("the shape of an operand depends on data"))?;
                let ty = ty.with_encoding(Encoding::Plain);
                let view = self.dense(&ty, Kind::Temp).map_err(|e| Declined::new(e.to_string()))?;
                let loc = self.graph.node(value.node).loc.join(", ");
                self.step(Step::Load { value: slot, to: stored(&view), loc });
                self.copies.insert((value, Encoding::Plain), view.clone());
                Ok(view)
            }
            None => Err(Declined::new("an operand is not defined")),
        }
    }

    /// A value as a dense view in an encoding; copied there where it lies otherwise (once for all who ask).
    ///
    /// # Errors
    /// As [`Lowering::view`], or its dtype cannot be copied by kernels.
    pub fn view_in(&mut self, value: Value, encoding: Encoding) -> Result<View, Declined> {
        let view = self.view(value)?;
        if view.is(encoding) {
            let strides = strides_in(&view.shape, encoding);
            return Ok(View { strides, ..view });
        }
        if let Some(copy) = self.copies.get(&(value, encoding)) {
            return Ok(copy.clone());
        }
        let ty = TensorType::fixed(view.dtype, &view.shape).with_encoding(encoding);
        let copy = self.dense(&ty, Kind::Temp).map_err(|e| Declined::new(e.to_string()))?;
        let loc = self.graph.node(value.node).loc.clone();
        movement::copy(self, &view, &copy, &loc)?;
        self.copies.insert((value, encoding), copy.clone());
        Ok(copy)
    }

    /// A buffer with constant bytes.
    pub fn add_constant(&mut self, tensor: Tensor) -> BufRef {
        let bytes = tensor.bytes().len();
        self.constants.push(tensor);
        self.buffer(bytes, Kind::Constant(self.constants.len() - 1))
    }

    /// A buffer with `len` constant floats, which `fill` writes over zeros.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(super) fn constant_floats(&mut self, len: usize, fill: impl FnOnce(&mut [f32])) -> Result<BufRef, Declined> {
        let mut tensor = Tensor::zeros(DType::F32, &[len])?;
        fill(tensor.as_mut_slice()?);
        Ok(self.add_constant(tensor))
    }

    /// A buffer for intermediate bytes of the op at hand.
    pub fn temp(&mut self, bytes: usize) -> BufRef {
        self.buffer(bytes, Kind::Temp)
    }

    /// Adds a kernel step. `args` has a place for each buffer of the kernel; `in_place` names the argument that the
    /// kernel's last one may overwrite: it reads each element there before it writes it, in the same task.
    ///
    /// # Panics
    /// A place has fewer bytes than the kernel declares: a bug of the family.
    pub fn kernel(&mut self, kernel: Kernel, args: Vec<BufRef>, in_place: Option<usize>, info: Info) {
        if let (Some(from), Some(dst)) = (in_place, args.last()) {
            let src = args[from];
            if src.offset == 0 && dst.offset == 0 {
                self.drafts[dst.buf].in_place = Some(src.buf);
            }
        }
        let call = self.call(kernel, args, info);
        self.emit(call);
    }

    /// A kernel with its arguments, which is still to be emitted.
    ///
    /// # Panics
    /// As [`Lowering::kernel`].
    pub(super) fn call(&mut self, kernel: Kernel, args: Vec<BufRef>, info: Info) -> KernelCall {
        assert_eq!(kernel.bufs.len(), args.len(), "`{}`: one place for each buffer", kernel.name);
        for (declared, at) in kernel.bufs.iter().zip(&args) {
            let have = self.drafts[at.buf].bytes;
            let fits = at.offset.checked_add(declared.bytes).is_some_and(|end| end <= have);
            assert!(fits, "`{}`: buffer `{}` does not fit its place", kernel.name, declared.name);
        }
        let info = Info { name: if info.name.is_empty() { kernel.name.clone() } else { info.name }, ..info };
        self.names.push(info.name.clone());
        KernelCall { kernel, args, info, point: self.point }
    }

    pub(super) fn emit(&mut self, call: KernelCall) {
        let KernelCall { kernel, args, info, point } = call;
        let parallel = kernel.tasks > 1 && (info.flops >= PARALLEL_FLOPS || info.bytes >= PARALLEL_BYTES);
        let (tasks, scratch) = (kernel.tasks, kernel.scratch_bytes);
        self.emit_held(); // its kernel's number comes first
        let (kernel, _) = self.kernels.insert_full(kernel);
        self.step(Step::Kernel(KernelStep { kernel, args, tasks, scratch, parallel, point, info }));
    }

    /// Adds a step; what is held comes before it.
    pub(super) fn step(&mut self, step: Step) {
        self.emit_held();
        self.steps.push(step);
    }

    /// Lets the next node see a contraction before it is emitted.
    pub(super) fn hold(&mut self, held: Held) {
        self.emit_held();
        self.held = Some(held);
    }

    /// Emits the contraction that waits for the next step.
    pub(super) fn emit_held(&mut self) {
        if let Some(held) = self.held.take() {
            self.emit(held.call);
        }
    }

    pub(super) fn buffer(&mut self, bytes: usize, kind: Kind) -> BufRef {
        self.drafts.push(Draft { bytes, kind, in_place: None });
        BufRef { buf: self.drafts.len() - 1, offset: 0 }
    }

    pub(super) fn dense(&mut self, ty: &TensorType, kind: Kind) -> Result<View, LowerError> {
        let shape = ty.static_shape().unwrap_or_default();
        let too_large = || TensorError::TooLarge(shape.clone());
        let bytes = element_count(&shape).and_then(|n| ty.dtype.bytes_for(n)).ok_or_else(too_large)?;
        if bytes > isize::MAX as usize / 2 {
            return Err(too_large().into());
        }
        if !matches!(kind, Kind::Constant(_)) {
            // Refused now, where its type is known, rather than when the arena is made.
            let no_memory = TensorError::no_memory(ty.dtype, &shape);
            Memory::current().claim(bytes).map_err(no_memory)?;
        }
        let at = self.buffer(bytes, kind);
        View::dense(at, ty).ok_or_else(|| LowerError::Graph(format!("{ty} has no strides")))
    }

    pub(super) fn slot(&mut self) -> usize {
        self.values += 1;
        self.values - 1
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            steps: self.steps.len(),
            drafts: self.drafts.len(),
            constants: self.constants.len(),
            kernels: self.kernels.len(),
            names: self.names.len(),
            copies: self.copies.len(),
            points: self.points.len(),
            point: self.point,
            held: self.held.clone(),
        }
    }

    pub(super) fn roll_back(&mut self, mark: Mark) {
        self.steps.truncate(mark.steps);
        self.drafts.truncate(mark.drafts);
        self.constants.truncate(mark.constants);
        self.kernels.truncate(mark.kernels);
        self.names.truncate(mark.names);
        self.copies.truncate(mark.copies);
        self.points.truncate(mark.points);
        self.point = mark.point;
        self.held = mark.held;
    }
}
