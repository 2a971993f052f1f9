//! Emits tiles with Cranelift: one CLIF instruction or a short fixed sequence for each tile instruction.
//!
//! Loops test at their top: with a test at the bottom, carried registers would have two uses at the back edge, which
//! keeps Cranelift from folding broadcast loads.

mod memory;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{BlockArg, Endianness, Function, InstBuilder, MemFlagsData, Signature, Type, Value, types};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::Module;
use optc_kernel::tile::{Binary, Cmp, Count, Elem, Inst, Ptr, Reg, Shift, Tile, TileLoop, Unary};
use std::collections::HashMap;

/// Pointers, then counts.
pub(super) fn signature(module: &impl Module, tile: &Tile) -> Signature {
    super::integers(module, tile.ptrs + tile.counts)
}

/// Fills `func` with the code of a verified tile of four lanes; `fused` says whether the target multiplies and adds at
/// once.
pub(super) fn build(tile: &Tile, fused: bool, config: TargetFrontendConfig, func: &mut Function) {
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(func, &mut context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let params = b.block_params(entry).to_vec();
    let ptrs = (0..tile.ptrs).map(|i| (Ptr(i as u32), params[i])).collect();
    let mut emit = Emit { b, regs: HashMap::new(), ptrs, counts: params[tile.ptrs..].to_vec(), fused };
    emit.body(&tile.body);
    emit.b.ins().return_(&[]);
    emit.b.seal_all_blocks();
    emit.b.finalize(config);
}

struct Emit<'a> {
    b: FunctionBuilder<'a>,
    regs: HashMap<Reg, Value>,
    ptrs: HashMap<Ptr, Value>,
    counts: Vec<Value>,
    /// Whether the target multiplies and adds at once.
    fused: bool,
}

/// Accesses never trap; alignment is not promised.
fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// The verifier refuses matrices, and packing bfloat16, in tiles of a level that lacks them, and no row of this emitter
/// has it.
fn no_such_level() -> ! {
    unreachable!("tiles for Cranelift are of the plain level")
}

impl Emit<'_> {
    fn body(&mut self, body: &[Inst]) {
        body.iter().for_each(|inst| self.inst(inst));
    }

    /// A multiplication and an addition, of one rounding where the target has an instruction for it: else Cranelift
    /// would call the C library for each lane.
    fn fma(&mut self, x: Value, y: Value, z: Value) -> Value {
        if self.fused {
            return self.b.ins().fma(x, y, z);
        }
        let product = self.b.ins().fmul(x, y);
        self.b.ins().fadd(product, z)
    }

    fn elem(&self, reg: Reg) -> Elem {
        match self.b.func.dfg.value_type(self.regs[&reg]) {
            types::F32X4 => Elem::F32,
            _ => Elem::I32,
        }
    }

    fn inst(&mut self, inst: &Inst) {
        let (dst, value) = match inst {
            Inst::ConstF { dst, bits } => (dst, self.constant(types::F32X4, *bits)),
            Inst::ConstI { dst, value } => (dst, self.constant(types::I32X4, *value as u32)),
            Inst::Unary { dst, op, x } => (dst, self.unary(*op, self.elem(*x), self.regs[x])),
            Inst::Binary { dst, op, x, y } => (dst, self.binary(*op, self.elem(*x), self.regs[x], self.regs[y])),
            Inst::Fma { dst, x, y, z } => (dst, self.fma(self.regs[x], self.regs[y], self.regs[z])),
            Inst::Dot2 { dst, x, y, z } => (dst, self.dot2(self.regs[x], self.regs[y], self.regs[z])),
            Inst::Dot4 { dst, x, y, z } => (dst, self.dot4(self.regs[x], self.regs[y], self.regs[z])),
            Inst::DotBf16 { dst, x, y, z } => (dst, self.dot_bf16(self.regs[x], self.regs[y], self.regs[z])),
            Inst::Cmp { dst, op, x, y } => (dst, self.compare(*op, self.elem(*x), self.regs[x], self.regs[y])),
            Inst::Select { dst, mask, x, y } => {
                let (mask, x, y) = (self.regs[mask], self.regs[x], self.regs[y]);
                let mask = self.cast(self.b.func.dfg.value_type(x), mask);
                (dst, self.b.ins().bitselect(mask, x, y))
            }
            Inst::Shift { dst, op, x, by } => {
                let (x, by) = (self.regs[x], self.b.ins().iconst(types::I32, i64::from(*by)));
                let value = match op {
                    Shift::Left => self.b.ins().ishl(x, by),
                    Shift::Logical => self.b.ins().ushr(x, by),
                    Shift::Arithmetic => self.b.ins().sshr(x, by),
                };
                (dst, value)
            }
            Inst::Reduce { dst, op, x } => (dst, self.reduce(*op, self.elem(*x), self.regs[x])),
            Inst::Permute { dst, x, y, lanes } => (dst, self.shuffle(self.regs[x], self.regs[y], lanes)),
            Inst::MatConfigure {} | Inst::MatRelease {} | Inst::MatZero { .. } | Inst::MatLoad { .. } => {
                no_such_level()
            }
            Inst::MatStore { .. } | Inst::MatDot { .. } | Inst::PackBf16 { .. } => no_such_level(),
            Inst::Load { dst, mem, ptr, disp, load } => (dst, self.load(*mem, self.ptrs[ptr], *disp, *load)),
            Inst::Store { mem, ptr, disp, n, stride, src } => {
                return self.store(*mem, self.ptrs[ptr], *disp, *n, *stride, self.regs[src]);
            }
            // Cranelift has no such instruction.
            Inst::Prefetch { .. } => return,
            Inst::Offset { dst, ptr, disp } => {
                let value = self.b.ins().iadd_imm_s(self.ptrs[ptr], *disp);
                self.ptrs.insert(*dst, value);
                return;
            }
            Inst::LoadPtr { dst, table, disp, base, other } => {
                let (at, disp) = self.place(self.ptrs[table], *disp);
                let offset = self.b.ins().sload32(flags(), at, disp);
                let mut value = self.b.ins().iadd(self.ptrs[base], offset);
                if let Some(other) = other {
                    let negative = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, offset, 0);
                    value = self.b.ins().select(negative, self.ptrs[other], value);
                }
                self.ptrs.insert(*dst, value);
                return;
            }
            Inst::Loop(l) => return self.turns(l),
        };
        self.regs.insert(*dst, value);
    }

    fn turns(&mut self, l: &TileLoop) {
        let [head, turn, exit] = [(); 3].map(|()| self.b.create_block());
        let count = match l.count {
            Count::Static(n) => self.b.ins().iconst(types::I64, i64::from(n)),
            Count::Param(c) => self.counts[c as usize],
        };
        let mut args: Vec<BlockArg> = vec![count.into()];
        let left = self.b.append_block_param(head, types::I64);
        for induct in &l.inducts {
            args.push(self.ptrs[&induct.init].into());
            let param = self.b.append_block_param(head, types::I64);
            self.ptrs.insert(induct.ptr, param);
        }
        for carry in &l.carries {
            let init = self.regs[&carry.init];
            args.push(init.into());
            let ty = self.b.func.dfg.value_type(init);
            let param = self.b.append_block_param(head, ty);
            self.regs.insert(carry.phi, param);
        }
        self.b.ins().jump(head, &args);
        self.b.switch_to_block(head);
        self.b.ins().brif(left, turn, &[], exit, &[]);
        self.b.switch_to_block(turn);
        self.body(&l.body);
        let mut args: Vec<BlockArg> = vec![self.b.ins().iadd_imm_s(left, -1).into()];
        for induct in &l.inducts {
            args.push(self.b.ins().iadd_imm_s(self.ptrs[&induct.ptr], induct.step).into());
        }
        args.extend(l.carries.iter().map(|carry| BlockArg::from(self.regs[&carry.next])));
        self.b.ins().jump(head, &args);
        self.b.switch_to_block(exit);
    }

    fn constant(&mut self, ty: Type, bits: u32) -> Value {
        let handle = self.b.func.dfg.constants.insert(bits.to_le_bytes().repeat(4).into());
        self.b.ins().vconst(ty, handle)
    }

    /// The same bits as another type.
    fn cast(&mut self, ty: Type, x: Value) -> Value {
        if self.b.func.dfg.value_type(x) == ty {
            return x;
        }
        self.b.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), x)
    }

    fn unary(&mut self, op: Unary, elem: Elem, x: Value) -> Value {
        match (op, elem) {
            (Unary::Neg, Elem::F32) => self.b.ins().fneg(x),
            (Unary::Neg, Elem::I32) => self.b.ins().ineg(x),
            (Unary::Abs, Elem::F32) => self.b.ins().fabs(x),
            (Unary::Abs, Elem::I32) => self.b.ins().iabs(x),
            (Unary::Sqrt, _) => self.b.ins().sqrt(x),
            (Unary::Floor, _) => self.b.ins().floor(x),
            (Unary::Ceil, _) => self.b.ins().ceil(x),
            (Unary::Trunc, _) => self.b.ins().trunc(x),
            (Unary::Nearest, _) => self.b.ins().nearest(x),
            (Unary::Not, _) => self.b.ins().bnot(x),
            (Unary::ToInt, _) => self.b.ins().fcvt_to_sint_sat(types::I32X4, x),
            (Unary::ToFloat, _) => self.b.ins().fcvt_from_sint(types::F32X4, x),
            (Unary::AsInt, _) => self.cast(types::I32X4, x),
            (Unary::AsFloat, _) => self.cast(types::F32X4, x),
        }
    }

    fn binary(&mut self, op: Binary, elem: Elem, x: Value, y: Value) -> Value {
        match (op, elem) {
            (Binary::Add, Elem::F32) => self.b.ins().fadd(x, y),
            (Binary::Add, Elem::I32) => self.b.ins().iadd(x, y),
            (Binary::Sub, Elem::F32) => self.b.ins().fsub(x, y),
            (Binary::Sub, Elem::I32) => self.b.ins().isub(x, y),
            (Binary::Mul, Elem::F32) => self.b.ins().fmul(x, y),
            (Binary::Mul, Elem::I32) => self.b.ins().imul(x, y),
            (Binary::Div, _) => self.b.ins().fdiv(x, y),
            // These two trees are what Cranelift's x64 rules turn into minps and maxps.
            (Binary::Min, Elem::F32) => {
                let less = self.b.ins().fcmp(FloatCC::LessThan, x, y);
                let mask = self.cast(types::F32X4, less);
                self.b.ins().bitselect(mask, x, y)
            }
            (Binary::Max, Elem::F32) => {
                let less = self.b.ins().fcmp(FloatCC::LessThan, y, x);
                let mask = self.cast(types::F32X4, less);
                self.b.ins().bitselect(mask, x, y)
            }
            (Binary::Min, Elem::I32) => self.b.ins().smin(x, y),
            (Binary::Max, Elem::I32) => self.b.ins().smax(x, y),
            (Binary::And, _) => self.b.ins().band(x, y),
            (Binary::Or, _) => self.b.ins().bor(x, y),
            (Binary::Xor, _) => self.b.ins().bxor(x, y),
            (Binary::SubPairs, _) => {
                let (x, y) = (self.cast(types::I16X8, x), self.cast(types::I16X8, y));
                let difference = self.b.ins().isub(x, y);
                self.cast(types::I32X4, difference)
            }
        }
    }

    /// The tree that Cranelift's x64 rules turn into `pmaddwd`, and an addition.
    fn dot2(&mut self, x: Value, y: Value, z: Value) -> Value {
        let (x, y) = (self.cast(types::I16X8, x), self.cast(types::I16X8, y));
        let (low_x, low_y) = (self.b.ins().swiden_low(x), self.b.ins().swiden_low(y));
        let (high_x, high_y) = (self.b.ins().swiden_high(x), self.b.ins().swiden_high(y));
        let (low, high) = (self.b.ins().imul(low_x, low_y), self.b.ins().imul(high_x, high_y));
        let pairs = self.b.ins().iadd_pairwise(low, high);
        self.b.ins().iadd(z, pairs)
    }

    /// The tree that becomes `vpdpbusd` where the CPU has it; its operands must stand in this order.
    fn dot4(&mut self, x: Value, y: Value, z: Value) -> Value {
        let (x, y) = (self.cast(types::I8X16, x), self.cast(types::I8X16, y));
        let (low_y, low_x) = (self.b.ins().swiden_low(y), self.b.ins().uwiden_low(x));
        let (high_y, high_x) = (self.b.ins().swiden_high(y), self.b.ins().uwiden_high(x));
        let low = self.b.ins().imul(low_y, low_x);
        let high = self.b.ins().imul(high_y, high_x);
        let pairs = [low, high].map(|products| {
            let (low, high) = (self.b.ins().swiden_low(products), self.b.ins().swiden_high(products));
            self.b.ins().iadd_pairwise(low, high)
        });
        let fours = self.b.ins().iadd_pairwise(pairs[0], pairs[1]);
        self.b.ins().iadd(fours, z)
    }

    /// The halves as `f32`, and two FMAs.
    fn dot_bf16(&mut self, x: Value, y: Value, z: Value) -> Value {
        let (mask, sixteen) = (self.constant(types::I32X4, 0xffff_0000), self.b.ins().iconst(types::I32, 16));
        let high = [x, y].map(|v| {
            let high = self.b.ins().band(v, mask);
            self.cast(types::F32X4, high)
        });
        let low = [x, y].map(|v| {
            let low = self.b.ins().ishl(v, sixteen);
            self.cast(types::F32X4, low)
        });
        let sum = self.fma(high[0], high[1], z);
        self.fma(low[0], low[1], sum)
    }

    fn compare(&mut self, op: Cmp, elem: Elem, x: Value, y: Value) -> Value {
        let (float, int) = match op {
            Cmp::Eq => (FloatCC::Equal, IntCC::Equal),
            Cmp::Ne => (FloatCC::NotEqual, IntCC::NotEqual),
            Cmp::Lt => (FloatCC::LessThan, IntCC::SignedLessThan),
            Cmp::Le => (FloatCC::LessThanOrEqual, IntCC::SignedLessThanOrEqual),
            Cmp::Gt => (FloatCC::GreaterThan, IntCC::SignedGreaterThan),
            Cmp::Ge => (FloatCC::GreaterThanOrEqual, IntCC::SignedGreaterThanOrEqual),
        };
        match elem {
            Elem::F32 => self.b.ins().fcmp(float, x, y),
            Elem::I32 => self.b.ins().icmp(int, x, y),
        }
    }

    fn reduce(&mut self, op: Binary, elem: Elem, x: Value) -> Value {
        let swapped = self.shuffle(x, x, &[2, 3, 0, 1]);
        let x = self.binary(op, elem, x, swapped);
        let swapped = self.shuffle(x, x, &[1, 0, 3, 2]);
        self.binary(op, elem, x, swapped)
    }

    /// A shuffle of 32-bit lanes, in the bytes that CLIF wants.
    fn shuffle(&mut self, x: Value, y: Value, lanes: &[u8]) -> Value {
        let ty = self.b.func.dfg.value_type(x);
        let mask: Vec<u8> = lanes.iter().flat_map(|l| (0..4).map(move |byte| 4 * l + byte)).collect();
        self.shuffle_bytes(x, y, mask, ty)
    }

    fn shuffle_bytes(&mut self, x: Value, y: Value, mask: Vec<u8>, ty: Type) -> Value {
        let (x, y) = (self.cast(types::I8X16, x), self.cast(types::I8X16, y));
        let mask = self.b.func.dfg.immediates.push(mask.into());
        let shuffled = self.b.ins().shuffle(x, y, mask);
        self.cast(ty, shuffled)
    }
}
