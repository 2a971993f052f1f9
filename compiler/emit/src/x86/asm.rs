//! Bytes of one function: instructions, jumps and the pool of constants after the code.

use super::encoding::widened;
use super::operand::{AsmOperand, MemOperand, Pooled};
use iced_x86::{Code, Encoder, IcedError, Instruction, OpKind, Register};
use indexmap::IndexMap;

/// A jump whose target comes later: where its displacement ends.
#[must_use = "a jump needs its target"]
pub(super) struct Jump(usize);

/// Where a loop begins.
#[derive(Clone, Copy)]
pub(super) struct Label(usize);

/// Loops begin at multiples of this many bytes.
const LOOP_ALIGN: usize = 32;
/// The pool begins at a multiple of this many bytes: no constant straddles a cache line.
const POOL_ALIGN: usize = 64;

pub(super) struct Asm {
    /// Whether vector registers have 512 bits.
    wide: bool,
    encoder: Encoder,
    at: usize,
    pool: IndexMap<Vec<u8>, ()>,
    /// Where displacements to the pool are, where their instructions end, and what they name.
    fixups: Vec<(usize, usize, Pooled)>,
    patches: Vec<(usize, usize)>,
    failed: Option<IcedError>,
}

impl Asm {
    pub fn new(wide: bool) -> Asm {
        let (pool, fixups, patches) = (IndexMap::new(), Vec::new(), Vec::new());
        Asm { wide, encoder: Encoder::new(64), at: 0, pool, fixups, patches, failed: None }
    }

    /// The constant with these bytes.
    pub fn constant(&mut self, bytes: Vec<u8>) -> Pooled {
        Pooled(self.pool.insert_full(bytes, ()).0)
    }

    /// The bytes of a constant.
    pub fn bytes_of(&self, constant: Pooled) -> &[u8] {
        self.pool.get_index(constant.0).map_or(&[], |(bytes, ())| bytes)
    }

    /// Adds an instruction.
    pub fn ins(&mut self, code: Code, ops: &[AsmOperand]) {
        let mut inst = Instruction::new();
        inst.set_code(if self.wide { widened(code) } else { code });
        self.add(inst, ops);
    }

    /// Adds an instruction under the mask `k1`: the other lanes stay, or become zero.
    pub fn ins_masked(&mut self, code: Code, zero: bool, ops: &[AsmOperand]) {
        let mut inst = Instruction::new();
        inst.set_code(code);
        inst.set_op_mask(Register::K1);
        inst.set_zeroing_masking(zero);
        self.add(inst, ops);
    }

    fn add(&mut self, mut inst: Instruction, ops: &[AsmOperand]) {
        let mut pooled = None;
        for (i, op) in (0u32..).zip(ops) {
            match *op {
                AsmOperand::R(reg) if self.wide && reg.is_ymm() => inst.set_op_register(i, zmm(reg)),
                AsmOperand::R(reg) | AsmOperand::Half(reg) => inst.set_op_register(i, reg),
                AsmOperand::I(imm) => {
                    inst.set_op_kind(i, OpKind::Immediate8);
                    inst.set_immediate8(imm);
                }
                AsmOperand::L(imm) => {
                    inst.set_op_kind(i, OpKind::Immediate32to64);
                    inst.set_immediate32to64(i64::from(imm));
                }
                AsmOperand::S(imm) => {
                    inst.set_op_kind(i, OpKind::Immediate8to64);
                    inst.set_immediate8to64(i64::from(imm));
                }
                AsmOperand::M(MemOperand::At(base, disp)) => place(&mut inst, i, base, disp),
                AsmOperand::M(MemOperand::Indexed(base, index, disp)) => {
                    place(&mut inst, i, base, disp);
                    inst.set_memory_index(index);
                }
                AsmOperand::M(MemOperand::Pool(constant)) => {
                    inst.set_op_kind(i, OpKind::Memory);
                    inst.set_memory_base(Register::RIP);
                    inst.set_memory_displacement64(self.at as u64);
                    inst.set_memory_displ_size(8);
                    pooled = Some(constant);
                }
            }
        }
        let start = self.at;
        self.encode(&inst);
        if let Some(constant) = pooled {
            let place = start + self.encoder.get_constant_offsets().displacement_offset();
            self.fixups.push((place, self.at, constant));
        }
    }

    fn encode(&mut self, inst: &Instruction) {
        match self.encoder.encode(inst, self.at as u64) {
            Ok(len) => self.at += len,
            Err(e) => self.failed = self.failed.take().or(Some(e)),
        }
    }

    /// Starts a loop.
    pub fn loop_head(&mut self) -> Label {
        self.align(LOOP_ALIGN);
        Label(self.at)
    }

    /// Fills up with as few long no-operations as it takes.
    fn align(&mut self, to: usize) {
        const NOPS: [&[u8]; 9] = [
            &[0x90],
            &[0x66, 0x90],
            &[0x0f, 0x1f, 0x00],
            &[0x0f, 0x1f, 0x40, 0x00],
            &[0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
            &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
            &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
        ];
        let mut rest = self.at.next_multiple_of(to) - self.at;
        while rest > 0 {
            let nop = NOPS[rest.min(NOPS.len()) - 1];
            nop.iter().for_each(|&byte| self.encoder.write_u8(byte));
            self.at += nop.len();
            rest -= nop.len();
        }
    }

    /// Jumps back when the condition of `code` (a near jump) holds.
    pub fn jump_back(&mut self, code: Code, to: Label) {
        match Instruction::with_branch(code, to.0 as u64) {
            Ok(inst) => self.encode(&inst),
            Err(e) => self.failed = Some(e),
        }
    }

    /// Jumps forward when the condition of `code` (a near jump) holds.
    pub fn jump_ahead(&mut self, code: Code) -> Jump {
        self.jump_back(code, Label(self.at));
        Jump(self.at)
    }

    /// The target of a jump ahead is here.
    pub fn land(&mut self, jump: Jump) {
        self.patches.push((jump.0 - 4, self.at - jump.0));
    }

    /// The function's bytes: code, then the pool.
    pub fn finish(mut self) -> Result<Vec<u8>, IcedError> {
        if let Some(e) = self.failed {
            return Err(e);
        }
        let mut bytes = self.encoder.take_buffer();
        for (place, displacement) in self.patches {
            bytes[place..place + 4].copy_from_slice(&(displacement as u32).to_le_bytes());
        }
        if !self.pool.is_empty() {
            bytes.resize(bytes.len().next_multiple_of(POOL_ALIGN), 0xcc);
        }
        let mut places = Vec::new();
        for constant in self.pool.keys() {
            bytes.resize(bytes.len().next_multiple_of(constant.len()), 0);
            places.push(bytes.len());
            bytes.extend(constant);
        }
        for (place, end, constant) in self.fixups {
            let displacement = (places[constant.0] - end) as u32;
            bytes[place..place + 4].copy_from_slice(&displacement.to_le_bytes());
        }
        Ok(bytes)
    }
}

/// Makes operand `i` the memory at a displacement from a register.
fn place(inst: &mut Instruction, i: u32, base: Register, disp: i32) {
    inst.set_op_kind(i, OpKind::Memory);
    inst.set_memory_base(base);
    inst.set_memory_displacement64(disp as u64);
    inst.set_memory_displ_size(u32::from(disp != 0));
}

/// The whole of a register of which this is half.
fn zmm(ymm: Register) -> Register {
    Register::ZMM0 + (ymm as u32 - Register::YMM0 as u32)
}
