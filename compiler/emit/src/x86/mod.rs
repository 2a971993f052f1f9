//! The emitter of tiles for x86 with full-width vectors: AVX2 and FMA with registers of 256 bits, AVX-512 (F, BW, DQ,
//! VL) with 512, as many lanes as a tile has.
//!
//! ```text
//! tile ──live──▶ uses of every value ──walk──▶ for each instruction: registers (bank), instructions (rules) ──▶ bytes
//! ```
//!
//! One walk over the program allocates registers and writes instructions: tiles are structured, so a linear scan needs
//! no control-flow graph, and what a register holds is known at each place. The walk is repeated until what it learnt
//! about the frame (which registers must be saved, what has to live on the stack across a loop) is what it began with.
//!
//! To add a tile instruction: its rule in [`rules`], which also says whether an operand may be memory; for an operator,
//! its line in [`encoding`]. The match over instructions has no wildcard arm, so that a new one does not compile until
//! the emitter knows it; `tests/tiles.rs` compares each with the interpreter.
//!
//! Calling convention: System V; pointers, then counts, as 64-bit integers.

mod asm;
mod avx512;
mod bank;
mod encoding;
mod halves;
mod live;
mod matrix;
mod memory;
mod moves;
mod operand;
mod permute;
mod products;
mod rules;
mod turns;

use super::EmitError;
use asm::Asm;
use bank::{Bank, Full};
use iced_x86::{Code, Register};
use live::Live;
use moves::{At, Move, MoveStep};
use operand::{AsmOperand, MemOperand};
use optc_kernel::tile::{Elem, Inst, Ptr, Reg, Tile};
use std::collections::{BTreeSet, HashMap};

/// Lanes of a register of 256 bits.
const LANES: usize = 8;

/// General registers in the order in which they are taken: those that the caller saves first.
const GENERAL: [Register; 15] = [
    Register::RAX,
    Register::R10,
    Register::R11,
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
    Register::RBX,
    Register::RBP,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];
/// How many of them the caller saves, and which ones bring the parameters.
const CALLER_SAVED: usize = 9;
const PARAMETERS: std::ops::Range<u8> = 3..9;

/// What a walk has to know of its own end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Frame {
    /// Registers to be saved.
    saved: Vec<usize>,
    vectors: u32,
    generals: u32,
    /// For each loop, what is on the stack while it runs: vector registers and general values.
    aside: Vec<(BTreeSet<usize>, BTreeSet<usize>)>,
}

/// Walks until the frame is stable; the sets of a frame only grow.
const WALKS: usize = 8;

/// The bytes of a verified tile's function.
pub(super) fn emit(tile: &Tile, elems: &HashMap<Reg, Elem>) -> Result<Vec<u8>, EmitError> {
    let refused = |_: Full| EmitError::Registers(tile.name.clone());
    let mut frame = Frame::default();
    for _ in 0..WALKS {
        let mut walk = Walk::new(tile, elems, frame);
        walk.function().map_err(refused)?;
        let next = walk.learnt();
        if next == walk.frame {
            return walk.asm.finish().map_err(|e| EmitError::Encode(tile.name.clone(), e.to_string()));
        }
        frame = next;
    }
    Err(refused(Full))
}

struct Walk<'a> {
    tile: &'a Tile,
    /// Whether registers have 512 bits.
    wide: bool,
    elems: &'a HashMap<Reg, Elem>,
    live: Live,
    asm: Asm,
    vectors: Bank,
    general: Bank,
    frame: Frame,
    /// The position of the instruction at hand, and the number of the next loop.
    at: u32,
    loops: usize,
    /// Where carried registers of open loops are to come back to.
    heads: HashMap<Reg, u8>,
    aside: Vec<(BTreeSet<usize>, BTreeSet<usize>)>,
}

impl<'a> Walk<'a> {
    fn new(tile: &'a Tile, elems: &'a HashMap<Reg, Elem>, frame: Frame) -> Self {
        let mut live = Live::of(tile);
        let wide = tile.lanes == avx512::LANES;
        let vectors = Bank::new(if wide { 32 } else { 16 }, std::mem::take(&mut live.regs));
        let general = Bank::new(GENERAL.len(), std::mem::take(&mut live.general));
        let mut aside = frame.aside.clone();
        aside.resize(live.ends.len(), Default::default());
        let (asm, heads) = (Asm::new(wide), HashMap::new());
        Walk { tile, wide, elems, live, asm, vectors, general, frame, at: 0, loops: 0, heads, aside }
    }

    fn function(&mut self) -> Result<(), Full> {
        for i in 0..self.frame.saved.len() {
            self.asm.ins(Code::Push_r64, &[AsmOperand::R(GENERAL[self.frame.saved[i]])]);
        }
        let bytes = self.frame_bytes();
        if bytes > 0 {
            self.asm.ins(Code::Sub_rm64_imm32, &[AsmOperand::R(Register::RSP), AsmOperand::L(bytes)]);
        }
        for i in 0..self.tile.ptrs + self.tile.counts {
            let value = if i < self.tile.ptrs { i } else { self.live.count((i - self.tile.ptrs) as u32) };
            match (i as u8) < PARAMETERS.end - PARAMETERS.start {
                true => self.general.arrives(value, PARAMETERS.start + i as u8),
                false => self.general.in_memory(value, At::Param(i as u32)),
            }
        }
        self.done();
        let tile = self.tile;
        self.body(&tile.body)?;
        if bytes > 0 {
            self.asm.ins(Code::Add_rm64_imm32, &[AsmOperand::R(Register::RSP), AsmOperand::L(bytes)]);
        }
        for i in (0..self.frame.saved.len()).rev() {
            self.asm.ins(Code::Pop_r64, &[AsmOperand::R(GENERAL[self.frame.saved[i]])]);
        }
        self.asm.ins(Code::VEX_Vzeroupper, &[]);
        self.asm.ins(Code::Retnq, &[]);
        Ok(())
    }

    /// Bytes below the saved registers.
    fn frame_bytes(&self) -> i32 {
        (4 * self.tile.lanes as u32 * self.frame.vectors + 8 * self.frame.generals) as i32
    }

    /// What the next walk should begin with.
    fn learnt(&self) -> Frame {
        let saved = (CALLER_SAVED..GENERAL.len()).filter(|&i| self.general.used[i]).collect();
        let aside = self.aside.clone();
        Frame { saved, vectors: self.vectors.slots(), generals: self.general.slots(), aside }
    }

    fn body(&mut self, body: &[Inst]) -> Result<(), Full> {
        for inst in body {
            self.at += 1;
            self.inst(inst)?;
            self.done();
        }
        Ok(())
    }

    /// The instruction at hand is done.
    fn done(&mut self) {
        self.vectors.unpin(self.at);
        self.general.unpin(self.at);
    }

    /// Adds an instruction, and before it the moves that its operands need.
    fn ins(&mut self, code: Code, ops: &[AsmOperand]) {
        self.flush();
        self.asm.ins(code, ops);
    }

    fn flush(&mut self) {
        for m in std::mem::take(&mut self.general.moves) {
            self.move_general(m);
        }
        for m in std::mem::take(&mut self.vectors.moves) {
            self.move_vector(m);
        }
    }

    fn slot(&self, at: At, bytes: usize, base: u32) -> MemOperand {
        match at {
            At::Slot(i) => MemOperand::At(Register::RSP, (base + bytes as u32 * i) as i32),
            At::Param(i) => {
                let above = self.frame_bytes() + 8 * (self.frame.saved.len() as i32 + 1);
                MemOperand::At(Register::RSP, above + 8 * (i as i32 - i32::from(PARAMETERS.end - PARAMETERS.start)))
            }
            At::Pool(constant) => MemOperand::Pool(constant),
            At::Reg(_) => unreachable!("a register is no memory"),
        }
    }

    fn vector_slot(&self, at: At) -> MemOperand {
        self.slot(at, 4 * self.tile.lanes, 0)
    }

    fn general_slot(&self, at: At) -> MemOperand {
        self.slot(at, 8, 4 * self.tile.lanes as u32 * self.frame.vectors)
    }

    fn move_general(&mut self, m: Move) {
        match (m.dst, m.src) {
            (At::Reg(d), At::Reg(s)) => {
                self.asm.ins(Code::Mov_r64_rm64, &[AsmOperand::R(general(d)), AsmOperand::R(general(s))]);
            }
            (At::Reg(d), src) => {
                self.asm.ins(Code::Mov_r64_rm64, &[AsmOperand::R(general(d)), AsmOperand::M(self.general_slot(src))]);
            }
            (dst, At::Reg(s)) => {
                self.asm.ins(Code::Mov_rm64_r64, &[AsmOperand::M(self.general_slot(dst)), AsmOperand::R(general(s))]);
            }
            (dst, src) => self.through_stack(self.general_slot(dst), self.general_slot(src), 8),
        }
    }

    fn move_vector(&mut self, m: Move) {
        match (m.dst, m.src) {
            (At::Reg(d), At::Reg(s)) => {
                self.asm.ins(Code::VEX_Vmovaps_ymm_ymmm256, &[AsmOperand::R(vector(d)), AsmOperand::R(vector(s))]);
            }
            (At::Reg(d), At::Pool(constant)) if self.asm.bytes_of(constant).iter().all(|&b| b == 0) => {
                let x = AsmOperand::R(low(vector(d)));
                self.asm.ins(Code::VEX_Vxorps_xmm_xmm_xmmm128, &[x, x, x]);
            }
            (At::Reg(d), src) => {
                self.asm.ins(
                    Code::VEX_Vmovups_ymm_ymmm256,
                    &[AsmOperand::R(vector(d)), AsmOperand::M(self.vector_slot(src))],
                );
            }
            (dst, At::Reg(s)) => {
                self.asm.ins(
                    Code::VEX_Vmovups_ymmm256_ymm,
                    &[AsmOperand::M(self.vector_slot(dst)), AsmOperand::R(vector(s))],
                );
            }
            (dst, src) => self.through_stack(self.vector_slot(dst), self.vector_slot(src), 4 * self.tile.lanes),
        }
    }

    /// Copies memory without a register.
    fn through_stack(&mut self, dst: MemOperand, src: MemOperand, bytes: usize) {
        for at in (0..bytes as i32).step_by(8) {
            let part = |mem: MemOperand| match mem {
                MemOperand::At(base, disp) => MemOperand::At(base, disp + at),
                MemOperand::Indexed(base, index, disp) => MemOperand::Indexed(base, index, disp + at),
                MemOperand::Pool(constant) => MemOperand::Pool(constant),
            };
            self.asm.ins(Code::Push_rm64, &[AsmOperand::M(part(src))]);
            self.asm.ins(Code::Pop_rm64, &[AsmOperand::M(part(dst))]);
        }
    }

    fn steps(&mut self, steps: Vec<MoveStep>, vectors: bool) {
        for step in steps {
            match (step, vectors) {
                (MoveStep::Copy(m), true) => self.move_vector(m),
                (MoveStep::Copy(m), false) => self.move_general(m),
                (MoveStep::Swap(a, b), true) => {
                    let (a, b) = (AsmOperand::R(vector(a)), AsmOperand::R(vector(b)));
                    for [d, x, y] in [[a, a, b], [b, a, b], [a, a, b]] {
                        self.asm.ins(Code::VEX_Vxorps_ymm_ymm_ymmm256, &[d, x, y]);
                    }
                }
                (MoveStep::Swap(a, b), false) => {
                    self.asm.ins(Code::Xchg_rm64_r64, &[AsmOperand::R(general(a)), AsmOperand::R(general(b))]);
                }
            }
        }
    }

    /// `ptr + disp` as memory.
    fn address(&mut self, ptr: Ptr, disp: i64) -> Result<MemOperand, Full> {
        let (ptr, disp) = self.live.resolve(ptr, disp);
        let base = general(self.general.fetch(self.live.ptr(ptr), self.at)?);
        if let Ok(disp) = i32::try_from(disp) {
            return Ok(MemOperand::At(base, disp));
        }
        let far = general(self.general.temporary(self.at)?);
        self.far(far, disp);
        self.ins(Code::Add_r64_rm64, &[AsmOperand::R(far), AsmOperand::R(base)]);
        Ok(MemOperand::At(far, 0))
    }

    /// A number of more than 32 bits.
    fn far(&mut self, dst: Register, value: i64) {
        self.ins(Code::Mov_rm64_imm32, &[AsmOperand::R(dst), AsmOperand::L((value >> 32) as i32)]);
        self.ins(Code::Shl_rm64_imm8, &[AsmOperand::R(dst), AsmOperand::I(32)]);
        // The low half is added in two steps that fit signed immediates.
        let low = (value & 0xffff_ffff) as u32;
        self.ins(Code::Add_rm64_imm32, &[AsmOperand::R(dst), AsmOperand::L((low >> 1) as i32)]);
        self.ins(Code::Add_rm64_imm32, &[AsmOperand::R(dst), AsmOperand::L((low - (low >> 1)) as i32)]);
    }
}

fn vector(number: u8) -> Register {
    Register::YMM0 + u32::from(number)
}

fn general(number: u8) -> Register {
    GENERAL[number as usize]
}

/// The low 128 bits of a register.
fn low(register: Register) -> Register {
    Register::XMM0 + (register as u32 - Register::YMM0 as u32)
}

/// The bytes of a vector whose lanes are given.
fn lanes_of(lanes: usize, lane: impl Fn(usize) -> u32) -> Vec<u8> {
    (0..lanes).flat_map(|i| lane(i).to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind};
    use optc_kernel::nest::Kernel;
    use optc_kernel::target::{Caches, Emitter, ISAS};
    use optc_kernel::tile::verify::elems;
    use optc_kernels::contract::{Contract, ContractSchedule, ConvNest, contract, conv};
    use optc_kernels::int8::{self, Int8Form};
    use optc_kernels::window::Axis;

    /// The instructions of the tile's innermost loops.
    fn inner_loops(tile: &Tile) -> Vec<Instruction> {
        let bytes = emit(tile, &elems(tile).unwrap()).unwrap();
        let all: Vec<_> = Decoder::with_ip(64, &bytes, 0, DecoderOptions::NONE).into_iter().collect();
        let end = all.iter().position(|i| i.code() == Code::Retnq).unwrap();
        let mut found = Vec::new();
        let mut outside = 0;
        for jump in all[..end].iter().filter(|i| i.code() == Code::Jne_rel32_64 || i.code() == Code::Jne_rel8_64) {
            let body = jump.near_branch_target()..jump.ip();
            // A loop around another one begins before it.
            if body.start >= outside {
                found.extend(all.iter().filter(|i| body.contains(&i.ip())).copied());
            }
            outside = jump.ip();
        }
        found
    }

    /// Whether each contraction tile of a kernel keeps all that its inner loop needs in registers, and multiplies and
    /// adds in accumulators that do not move.
    fn fits(kernel: &Kernel) {
        for tile in kernel.tiles.iter().filter(|t| t.name.starts_with("contract")) {
            for inst in inner_loops(tile) {
                let stack = (0..inst.op_count()).any(|i| inst.op_kind(i) == OpKind::Memory)
                    && inst.memory_base() == Register::RSP;
                assert!(!stack, "{} has {:?} on the stack", tile.name, inst.code());
                let moves = [Code::VEX_Vmovaps_ymm_ymmm256, Code::EVEX_Vmovaps_zmm_k1z_zmmm512];
                assert!(!moves.contains(&inst.code()), "{} moves a register", tile.name);
            }
        }
    }

    #[test]
    fn contractions_fit_the_registers() {
        for isa in ISAS.iter().filter(|isa| isa.emitter == Emitter::X86) {
            let axis = Axis { size: 20, kernel: 3, stride: 1, dilation: 1, pads: [1, 1], out: 20 };
            let images = ConvNest::channels_last(1, 32, 48, 1, [Axis::NONE, axis, axis]);
            for problem in [Contract::matmul(1, 100, 100, 100), conv(&images)] {
                for schedule in ContractSchedule::options(&problem, isa, &Caches::default()) {
                    fits(&contract(&problem, isa, schedule).unwrap().kernel);
                }
            }
            for form in [
                Int8Form::Pairs,
                Int8Form::choose(isa, 1, true),
                Int8Form::choose(isa, 9, true),
                Int8Form::bf16(isa, 9, 128, false),
            ] {
                let problem = int8::NarrowProduct::points(100, 100, 128, form);
                for schedule in int8::Int8Schedule::options(&problem, isa, &Caches::default()) {
                    fits(&int8::product(&problem, isa, schedule));
                }
            }
        }
    }
}
