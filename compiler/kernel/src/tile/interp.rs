//! Interprets tiles over byte buffers: the meaning of every instruction, where its row does not say it, and the
//! oracle of the emitters.
//!
//! A pointer is a buffer and an offset in it, so that an access outside of its buffer is an error, not a crash.

use super::inst::lane_wise;
use super::lane::{TypedLane, dot4, round_f16, widen_f16};
use super::{
    Carry, Count, Elem, Inst, Load, MATRICES, MATRIX_BYTES, MATRIX_ROWS, MemType, Ptr, Reg, Tile, TileLoop,
    TileProduct, verify,
};
use std::collections::HashMap;

/// A place in memory: a buffer's number and an offset in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Which buffer.
    pub buffer: usize,
    /// Bytes from its start.
    pub offset: i64,
}

/// What the interpreter refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InterpError {
    /// The tile is not well formed.
    #[error(transparent)]
    Tile(#[from] verify::TileError),
    /// An access is outside of its buffer.
    #[error("access of {bytes} bytes at offset {} of buffer {} is out of bounds", place.offset, place.buffer)]
    Bounds {
        /// Where.
        place: Address,
        /// How many bytes.
        bytes: usize,
    },
    /// A tile or an index is used wrongly by the nest.
    #[error("{0}")]
    Nest(&'static str),
}

/// Runs a tile.
///
/// # Errors
///
/// A tile that is not well formed, and an access out of bounds.
pub fn run(tile: &Tile, ptrs: &[Address], counts: &[i64], memory: &mut [Vec<u8>]) -> Result<(), InterpError> {
    let elems = verify::elems(tile)?;
    run_verified(tile, &elems, ptrs, counts, memory)
}

pub(crate) fn run_verified(
    tile: &Tile,
    elems: &HashMap<Reg, Elem>,
    ptrs: &[Address],
    counts: &[i64],
    memory: &mut [Vec<u8>],
) -> Result<(), InterpError> {
    if ptrs.len() != tile.ptrs || counts.len() != tile.counts {
        return Err(InterpError::Nest("a tile is called with the wrong number of arguments"));
    }
    let ptrs = ptrs.iter().enumerate().map(|(i, &p)| (Ptr(i as u32), p)).collect();
    let mats = [[0; MATRIX_ROWS * LANES]; MATRICES as usize];
    let mut state = State { lanes: tile.lanes, elems, regs: HashMap::new(), ptrs, counts, memory, mats };
    state.body(&tile.body)
}

/// Lanes are kept as bits.
struct State<'a> {
    lanes: usize,
    elems: &'a HashMap<Reg, Elem>,
    regs: HashMap<Reg, Vec<u32>>,
    ptrs: HashMap<Ptr, Address>,
    counts: &'a [i64],
    memory: &'a mut [Vec<u8>],
    mats: [Matrix; MATRICES as usize],
}

impl State<'_> {
    fn body(&mut self, body: &[Inst]) -> Result<(), InterpError> {
        body.iter().try_for_each(|inst| self.inst(inst))
    }

    fn map(&mut self, dst: Reg, f: impl Fn(usize) -> u32) {
        let value = (0..self.lanes).map(f).collect();
        self.regs.insert(dst, value);
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), InterpError> {
        match inst {
            lane_wise!() => self.lane_wise(inst),
            Inst::PackBf16 { dst, x, y } => {
                let both = [self.regs[x].as_slice(), &self.regs[y]].concat();
                self.map(*dst, |i| normal_bf16(both[2 * i]) | normal_bf16(both[2 * i + 1]) << 16);
            }
            Inst::Reduce { dst, op, x } => {
                let (elem, mut x) = (self.elems[x], self.regs[x].clone());
                let mut half = self.lanes / 2;
                while half > 0 {
                    x = (0..self.lanes).map(|i| op.of_lanes(elem, x[i], x[i ^ half])).collect();
                    half /= 2;
                }
                self.regs.insert(*dst, x);
            }
            Inst::Permute { dst, x, y, lanes } => {
                let both: Vec<u32> = self.regs[x].iter().chain(&self.regs[y]).copied().collect();
                self.map(*dst, |i| both[lanes[i] as usize]);
            }
            Inst::MatConfigure {} | Inst::MatRelease {} => {}
            Inst::MatZero { mat } => self.mats[mat.0 as usize] = [0; MATRIX_ROWS * LANES],
            Inst::MatLoad { mat, ptr, disp, stride } => {
                let base = self.ptrs[ptr];
                for i in 0..MATRIX_ROWS * LANES {
                    let at = disp + stride * (i / LANES) as i64 + 4 * (i % LANES) as i64;
                    self.mats[mat.0 as usize][i] = self.read(MemType::I32, base, at)?;
                }
            }
            Inst::MatStore { ptr, disp, stride, src } => {
                let base = self.ptrs[ptr];
                for (i, bits) in self.mats[src.0 as usize].into_iter().enumerate() {
                    let at = disp + stride * (i / LANES) as i64 + 4 * (i % LANES) as i64;
                    self.write(MemType::I32, base, at, bits)?;
                }
            }
            Inst::MatDot { sum, of, x, y } => {
                let [before, x, y] = [sum, x, y].map(|m| self.mats[m.0 as usize]);
                self.mats[sum.0 as usize] = product(*of, before, x, y);
            }
            Inst::Load { dst, mem, ptr, disp, load } => self.load(*dst, *mem, self.ptrs[ptr], *disp, *load)?,
            Inst::Store { mem, ptr, disp, n, stride, src } => {
                let (base, value) = (self.ptrs[ptr], self.regs[src].clone());
                for (i, bits) in value.into_iter().enumerate().take(*n as usize) {
                    self.write(*mem, base, disp + stride * i as i64, bits)?;
                }
            }
            Inst::Prefetch { .. } => {}
            Inst::Offset { dst, ptr, disp } => {
                let p = self.ptrs[ptr];
                self.ptrs.insert(*dst, Address { offset: p.offset + disp, ..p });
            }
            Inst::LoadPtr { dst, table, disp, base, other } => {
                let offset = self.read(MemType::I32, self.ptrs[table], *disp)? as i32;
                let base = self.ptrs[base];
                let at = match other {
                    Some(other) if offset < 0 => self.ptrs[other],
                    _ => Address { offset: base.offset + i64::from(offset), ..base },
                };
                self.ptrs.insert(*dst, at);
            }
            Inst::Loop(l) => self.turns(l)?,
        }
        Ok(())
    }

    /// Each lane by itself, as the instruction's row says.
    fn lane_wise(&mut self, inst: &Inst) {
        let Some(dst) = inst.defines() else { return };
        let uses: Vec<_> = inst.uses().iter().map(|reg| (self.elems[reg], self.regs[reg].clone())).collect();
        let lane = |i: usize| {
            let mut lanes = uses.iter().map(|(elem, bits)| TypedLane { elem: *elem, bits: bits[i] });
            inst.of_lane(&mut lanes).unwrap_or_default()
        };
        self.map(dst, lane);
    }

    fn turns(&mut self, l: &TileLoop) -> Result<(), InterpError> {
        let count = match l.count {
            Count::Static(n) => n as i64,
            Count::Param(c) => self.counts[c as usize],
        };
        for induct in &l.inducts {
            self.ptrs.insert(induct.ptr, self.ptrs[&induct.init]);
        }
        self.carry(&l.carries, |c| c.init);
        for _ in 0..count {
            self.body(&l.body)?;
            self.carry(&l.carries, |c| c.next);
            for induct in &l.inducts {
                if let Some(place) = self.ptrs.get_mut(&induct.ptr) {
                    place.offset += induct.step;
                }
            }
        }
        Ok(())
    }

    fn carry(&mut self, carries: &[Carry], from: impl Fn(&Carry) -> Reg) {
        let values: Vec<_> = carries.iter().map(|c| self.regs[&from(c)].clone()).collect();
        self.regs.extend(carries.iter().map(|c| c.phi).zip(values));
    }

    fn load(&mut self, dst: Reg, mem: MemType, base: Address, disp: i64, load: Load) -> Result<(), InterpError> {
        let mut value = vec![0; self.lanes];
        match load {
            Load::Contiguous(n) => {
                for (i, lane) in value.iter_mut().enumerate().take(n as usize) {
                    *lane = self.read(mem, base, disp + mem.bytes() * i as i64)?;
                }
            }
            Load::Strided(n, stride) => {
                for (i, lane) in value.iter_mut().enumerate().take(n as usize) {
                    *lane = self.read(mem, base, disp + stride * i as i64)?;
                }
            }
            Load::Broadcast => value.fill(self.read(mem, base, disp)?),
        }
        self.regs.insert(dst, value);
        Ok(())
    }

    fn bytes(&mut self, base: Address, disp: i64, bytes: usize) -> Result<&mut [u8], InterpError> {
        let place = Address { offset: base.offset + disp, ..base };
        let start = usize::try_from(place.offset).ok();
        let buffer = self.memory.get_mut(place.buffer);
        start.and_then(|start| buffer?.get_mut(start..start + bytes)).ok_or(InterpError::Bounds { place, bytes })
    }

    fn read(&mut self, mem: MemType, base: Address, disp: i64) -> Result<u32, InterpError> {
        let raw = self.bytes(base, disp, mem.bytes() as usize)?;
        Ok(match mem {
            MemType::F32 | MemType::I32 | MemType::I64 => u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]),
            MemType::Bf16 => u32::from(u16::from_le_bytes([raw[0], raw[1]])) << 16,
            MemType::F16 => widen_f16(u16::from_le_bytes([raw[0], raw[1]])),
            MemType::U16 => u16::from_le_bytes([raw[0], raw[1]]) as u32,
            MemType::I16 => i16::from_le_bytes([raw[0], raw[1]]) as u32,
            MemType::U8 => raw[0] as u32,
            MemType::I8 => raw[0] as i8 as u32,
            MemType::U8Pair => raw[0] as u32 | (raw[1] as u32) << 16,
            MemType::I8Pair => (raw[0] as i8 as u32 & 0xffff) | (raw[1] as i8 as u32) << 16,
        })
    }

    fn write(&mut self, mem: MemType, base: Address, disp: i64, bits: u32) -> Result<(), InterpError> {
        let raw = self.bytes(base, disp, mem.bytes() as usize)?;
        match mem {
            MemType::F32 | MemType::I32 => raw.copy_from_slice(&bits.to_le_bytes()),
            MemType::I64 => raw.copy_from_slice(&(bits as i32 as i64).to_le_bytes()),
            MemType::Bf16 => raw.copy_from_slice(&round_bf16(bits).to_le_bytes()),
            MemType::F16 => raw.copy_from_slice(&round_f16(bits).to_le_bytes()),
            MemType::U16 | MemType::I16 => raw.copy_from_slice(&(bits as u16).to_le_bytes()),
            MemType::U8 | MemType::I8 => raw[0] = bits as u8,
            // The verifier refuses such stores.
            MemType::U8Pair | MemType::I8Pair => {}
        }
        Ok(())
    }
}

/// The bits of the bfloat16 that is nearest to an `f32`, ties to even.
fn round_bf16(bits: u32) -> u16 {
    match f32::from_bits(bits).is_nan() {
        true => (bits >> 16) as u16 | 0x40,
        false => ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16,
    }
}

/// Lanes of 32 bits in a row of a matrix.
const LANES: usize = MATRIX_BYTES / 4;

type Matrix = [u32; MATRIX_ROWS * LANES];

/// `sum` plus the product of two matrices of groups.
fn product(of: TileProduct, sum: Matrix, x: Matrix, y: Matrix) -> Matrix {
    std::array::from_fn(|i| {
        let (row, column) = (i / LANES, i % LANES);
        let groups = (0..LANES).map(|k| (x[row * LANES + k], y[k * LANES + column]));
        match of {
            TileProduct::Bytes => groups.fold(sum[i], |sum, (x, y)| dot4(x, y, sum)),
            TileProduct::Bf16 => {
                let float = |bits: u32| f32::from_bits(bits);
                let (low, high) = groups.fold((0f32, 0f32), |(low, high), (x, y)| {
                    let upper = |v: u32| float(v & 0xffff_0000);
                    (float(x << 16).mul_add(float(y << 16), low), upper(x).mul_add(upper(y), high))
                });
                (float(sum[i]) + (low + high)).to_bits()
            }
        }
    })
}

/// The nearest bfloat16; zero for what is not normal.
fn normal_bf16(bits: u32) -> u32 {
    if f32::from_bits(bits).is_subnormal() { bits >> 16 & 0x8000 } else { round_bf16(bits).into() }
}
