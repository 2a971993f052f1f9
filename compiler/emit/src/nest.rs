//! Emits the nest of a kernel: loops, index arithmetic and calls of tiles.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, Function, InstBuilder, MemFlagsData, Signature, Value, types};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::Module;
use optc_kernel::nest::{Addr, Base, IndexMem, Ix, Kernel, Rel, Stmt, TASK, Var};

/// The signature of `KernelFn`.
pub(super) fn signature(module: &impl Module) -> Signature {
    super::integers(module, 4)
}

/// Fills `func` with the code of `kernel`, whose i-th tile is `tiles[i]`.
pub(super) fn build(kernel: &Kernel, tiles: &[FuncRef], config: TargetFrontendConfig, func: &mut Function) {
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(func, &mut context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let params = b.block_params(entry).to_vec();
    let flags = MemFlagsData::trusted().with_readonly();
    let bufs = (0..kernel.bufs.len()).map(|i| b.ins().load(types::I64, flags, params[0], 8 * i as i32)).collect();
    let mut emit = Emit { b, tiles, bufs, scratch: params[1], vars: vec![None; kernel.vars as usize] };
    emit.count(TASK, params[2], params[3], 1, &kernel.body);
    emit.b.ins().return_(&[]);
    emit.b.seal_all_blocks();
    emit.b.finalize(config);
}

struct Emit<'a> {
    b: FunctionBuilder<'a>,
    tiles: &'a [FuncRef],
    bufs: Vec<Value>,
    scratch: Value,
    vars: Vec<Option<Value>>,
}

impl Emit<'_> {
    /// `for var in (start..end).step_by(step) { body }`.
    fn count(&mut self, var: Var, start: Value, end: Value, step: i64, body: &[Stmt]) {
        let [head, turn, exit] = [(); 3].map(|()| self.b.create_block());
        let i = self.b.append_block_param(head, types::I64);
        self.b.ins().jump(head, &[start.into()]);
        self.b.switch_to_block(head);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, i, end);
        self.b.ins().brif(more, turn, &[], exit, &[]);
        self.b.switch_to_block(turn);
        self.vars[var.0 as usize] = Some(i);
        self.body(body);
        let next = self.b.ins().iadd_imm_s(i, step);
        self.b.ins().jump(head, &[next.into()]);
        self.b.switch_to_block(exit);
    }

    fn body(&mut self, body: &[Stmt]) {
        body.iter().for_each(|stmt| self.stmt(stmt));
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::For { var, start, end, step, body } => {
                let (start, end) = (self.ix(start), self.ix(end));
                self.count(*var, start, end, *step, body);
            }
            Stmt::If { a, rel, b, then, otherwise } => {
                let (a, b) = (self.ix(a), self.ix(b));
                let cc = match rel {
                    Rel::Eq => IntCC::Equal,
                    Rel::Lt => IntCC::SignedLessThan,
                    Rel::Ge => IntCC::SignedGreaterThanOrEqual,
                };
                let holds = self.b.ins().icmp(cc, a, b);
                let [yes, no, exit] = [(); 3].map(|()| self.b.create_block());
                self.b.ins().brif(holds, yes, &[], no, &[]);
                for (block, body) in [(yes, then), (no, otherwise)] {
                    self.b.switch_to_block(block);
                    self.body(body);
                    self.b.ins().jump(exit, &[]);
                }
                self.b.switch_to_block(exit);
            }
            Stmt::Let { var, value } => self.vars[var.0 as usize] = Some(self.ix(value)),
            Stmt::LoadIndex { var, mem, at } => {
                let at = self.addr(at);
                let flags = MemFlagsData::trusted();
                let value = match mem {
                    IndexMem::I32 => self.b.ins().sload32(flags, at, 0),
                    IndexMem::I64 => self.b.ins().load(types::I64, flags, at, 0),
                };
                self.vars[var.0 as usize] = Some(value);
            }
            Stmt::Call { tile, ptrs, counts } => {
                let mut args: Vec<_> = ptrs.iter().map(|addr| self.addr(addr)).collect();
                args.extend(counts.iter().map(|count| self.ix(count)).collect::<Vec<_>>());
                self.b.ins().call(self.tiles[*tile], &args);
            }
        }
    }

    fn addr(&mut self, addr: &Addr) -> Value {
        let base = match addr.base {
            Base::Buf(i) => self.bufs[i as usize],
            Base::Scratch => self.scratch,
        };
        match addr.offset {
            Ix::Const(0) => base,
            Ix::Const(c) => self.b.ins().iadd_imm_s(base, c),
            _ => {
                let offset = self.ix(&addr.offset);
                self.b.ins().iadd(base, offset)
            }
        }
    }

    fn ix(&mut self, ix: &Ix) -> Value {
        match ix {
            Ix::Const(c) => self.b.ins().iconst(types::I64, *c),
            Ix::Var(var) => self.vars[var.0 as usize].expect("the verifier has shown definitions before uses"),
            Ix::Add(a, c) if matches!(**c, Ix::Const(_)) => {
                let (a, c) = (self.ix(a), constant(c));
                self.b.ins().iadd_imm_s(a, c)
            }
            Ix::Add(a, b) => {
                let (a, b) = (self.ix(a), self.ix(b));
                self.b.ins().iadd(a, b)
            }
            Ix::Sub(a, b) => {
                let (a, b) = (self.ix(a), self.ix(b));
                self.b.ins().isub(a, b)
            }
            Ix::Mul(a, c) => {
                let a = self.ix(a);
                self.times(a, *c)
            }
            Ix::Div(a, c) => {
                let a = self.ix(a);
                self.divide(a, *c)
            }
            Ix::Rem(a, c) => {
                let a = self.ix(a);
                let q = self.divide(a, *c);
                let whole = self.times(q, *c);
                self.b.ins().isub(a, whole)
            }
            Ix::Min(a, b) => {
                let (a, b) = (self.ix(a), self.ix(b));
                self.b.ins().smin(a, b)
            }
            Ix::Max(a, b) => {
                let (a, b) = (self.ix(a), self.ix(b));
                self.b.ins().smax(a, b)
            }
        }
    }

    fn times(&mut self, a: Value, c: i64) -> Value {
        if c > 0 && c.count_ones() == 1 {
            return self.b.ins().ishl_imm_s(a, c.trailing_zeros() as i64);
        }
        self.b.ins().imul_imm_s(a, c)
    }

    fn divide(&mut self, a: Value, c: i64) -> Value {
        if c.count_ones() == 1 {
            return self.b.ins().ushr_imm_u(a, c.trailing_zeros() as i64);
        }
        self.b.ins().udiv_imm_u(a, c)
    }
}

fn constant(ix: &Ix) -> i64 {
    match ix {
        Ix::Const(c) => *c,
        _ => 0,
    }
}
