//! Loads and stores of tiles with Cranelift.

use super::{Emit, flags};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use optc_kernel::tile::{Elem, Load, MemType};

impl Emit<'_> {
    /// An address whose displacement fits an instruction.
    pub(super) fn place(&mut self, ptr: Value, disp: i64) -> (Value, i32) {
        match i32::try_from(disp) {
            Ok(disp) => (ptr, disp),
            Err(_) => (self.b.ins().iadd_imm_s(ptr, disp), 0),
        }
    }

    /// One element as a 32-bit scalar.
    fn load_one(&mut self, mem: MemType, ptr: Value, disp: i64) -> Value {
        let (ptr, disp) = self.place(ptr, disp);
        match mem {
            MemType::F32 => self.b.ins().load(types::F32, flags(), ptr, disp),
            MemType::Bf16 => {
                let half = self.b.ins().uload16(types::I32, flags(), ptr, disp);
                let word = self.b.ins().ishl_imm_s(half, 16);
                self.b.ins().bitcast(types::F32, MemFlagsData::new(), word)
            }
            MemType::F16 => {
                let half = self.b.ins().uload16(types::I32, flags(), ptr, disp);
                let half = self.b.ins().scalar_to_vector(types::I32X4, half);
                let wide = self.widen_f16(half);
                self.b.ins().extractlane(wide, 0)
            }
            MemType::U16 => self.b.ins().uload16(types::I32, flags(), ptr, disp),
            MemType::I16 => self.b.ins().sload16(types::I32, flags(), ptr, disp),
            MemType::I32 | MemType::I64 => self.b.ins().load(types::I32, flags(), ptr, disp),
            MemType::U8 => self.b.ins().uload8(types::I32, flags(), ptr, disp),
            MemType::I8 => self.b.ins().sload8(types::I32, flags(), ptr, disp),
            MemType::U8Pair | MemType::I8Pair => self.b.ins().uload16(types::I32, flags(), ptr, disp),
        }
    }

    pub(super) fn load(&mut self, mem: MemType, ptr: Value, disp: i64, load: Load) -> Value {
        let ty = match mem.elem() {
            Elem::F32 => types::F32X4,
            Elem::I32 => types::I32X4,
        };
        match load {
            Load::Broadcast => {
                let one = self.load_one(mem, ptr, disp);
                self.b.ins().splat(ty, one)
            }
            Load::Contiguous(4) if matches!(mem, MemType::F32 | MemType::I32) => {
                let (ptr, disp) = self.place(ptr, disp);
                self.b.ins().load(ty, flags(), ptr, disp)
            }
            Load::Contiguous(4) if matches!(mem, MemType::U8 | MemType::I8) => self.load_bytes(mem, ptr, disp),
            Load::Contiguous(4) if mem == MemType::Bf16 => self.load_halves(ptr, disp),
            Load::Contiguous(4) if matches!(mem, MemType::F16 | MemType::U16 | MemType::I16) => {
                self.load_words(mem, ptr, disp)
            }
            Load::Contiguous(n) if mem == MemType::F16 => self.gather_f16(ptr, disp, n, mem.bytes()),
            Load::Strided(n, stride) if mem == MemType::F16 => self.gather_f16(ptr, disp, n, stride),
            Load::Contiguous(n) if mem.is_pair() => self.load_pairs(mem, ptr, disp, n),
            Load::Contiguous(n @ 2..=3) if matches!(mem, MemType::F32 | MemType::I32) => {
                let (at, low_disp) = self.place(ptr, disp);
                let low = self.b.ins().load(types::F64, flags(), at, low_disp);
                let low = self.b.ins().scalar_to_vector(types::F64X2, low);
                let low = self.cast(ty, low);
                if n == 2 {
                    return low;
                }
                let last = self.load_one(mem, ptr, disp + 8);
                self.b.ins().insertlane(low, last, 2)
            }
            Load::Contiguous(n) => self.gather(mem, ty, ptr, disp, n, mem.bytes()),
            Load::Strided(n, stride) => self.gather(mem, ty, ptr, disp, n, stride),
        }
    }

    fn gather(&mut self, mem: MemType, ty: Type, ptr: Value, disp: i64, n: u8, stride: i64) -> Value {
        let first = self.load_one(mem, ptr, disp);
        let mut all = self.b.ins().scalar_to_vector(ty, first);
        for lane in 1..n {
            let one = self.load_one(mem, ptr, disp + stride * i64::from(lane));
            all = self.b.ins().insertlane(all, one, lane);
        }
        all
    }

    /// Four bytes at once, widened in registers.
    fn load_bytes(&mut self, mem: MemType, ptr: Value, disp: i64) -> Value {
        // As a float the word goes to a vector register at once.
        let word = self.load_one(MemType::F32, ptr, disp);
        let word = self.b.ins().scalar_to_vector(types::F32X4, word);
        let bytes = self.cast(types::I8X16, word);
        if mem == MemType::U8 {
            let wide = self.b.ins().uwiden_low(bytes);
            self.b.ins().uwiden_low(wide)
        } else {
            let wide = self.b.ins().swiden_low(bytes);
            self.b.ins().swiden_low(wide)
        }
    }

    /// Four bfloat16 at once, between zeros.
    fn load_halves(&mut self, ptr: Value, disp: i64) -> Value {
        let (ptr, disp) = self.place(ptr, disp);
        let halves = self.b.ins().load(types::F64, flags(), ptr, disp);
        let halves = self.b.ins().scalar_to_vector(types::F64X2, halves);
        let zero = self.constant(types::I16X8, 0);
        let halves = self.cast(types::I16X8, halves);
        let mask = (0..4).flat_map(|i| [16, 17, 2 * i, 2 * i + 1]).collect();
        self.shuffle_bytes(halves, zero, mask, types::F32X4)
    }

    /// Four words of 16 bits at once, widened in registers.
    fn load_words(&mut self, mem: MemType, ptr: Value, disp: i64) -> Value {
        let (ptr, disp) = self.place(ptr, disp);
        let words = self.b.ins().load(types::F64, flags(), ptr, disp);
        let words = self.b.ins().scalar_to_vector(types::F64X2, words);
        let words = self.cast(types::I16X8, words);
        match mem {
            MemType::I16 => self.b.ins().swiden_low(words),
            MemType::F16 => {
                let wide = self.b.ins().uwiden_low(words);
                self.widen_f16(wide)
            }
            _ => self.b.ins().uwiden_low(words),
        }
    }

    /// So many halves, `stride` bytes apart.
    fn gather_f16(&mut self, ptr: Value, disp: i64, n: u8, stride: i64) -> Value {
        let words = self.gather(MemType::U16, types::I32X4, ptr, disp, n, stride);
        self.widen_f16(words)
    }

    /// The floats that halves in the lower 16 bits of lanes are, as the interpreter of tiles defines it.
    fn widen_f16(&mut self, half: Value) -> Value {
        let (magnitude, sign) = (self.constant(types::I32X4, 0x7fff), self.constant(types::I32X4, 0x8000));
        let shifted = self.b.ins().band(half, magnitude);
        let shifted = self.b.ins().ishl_imm_s(shifted, 13);
        let sign = self.b.ins().band(half, sign);
        let sign = self.b.ins().ishl_imm_s(sign, 16);
        // As bits of a float the half is too small by 2^112.
        let scale = self.constant(types::I32X4, (112 + 127) << 23);
        let scale = self.cast(types::F32X4, scale);
        let number = self.cast(types::F32X4, shifted);
        let number = self.b.ins().fmul(number, scale);
        let number = self.cast(types::I32X4, number);
        let (end, infinity) = (self.constant(types::I32X4, 0x7c00 << 13), self.constant(types::I32X4, 0x7f80_0000));
        let quiet = self.constant(types::I32X4, 0x0040_0000);
        let special = self.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, shifted, end);
        let infinity = self.b.ins().band(special, infinity);
        let nan = self.b.ins().icmp(IntCC::SignedGreaterThan, shifted, end);
        let quiet = self.b.ins().band(nan, quiet);
        let all = self.b.ins().bor(number, infinity);
        let all = self.b.ins().bor(all, quiet);
        let all = self.b.ins().bor(all, sign);
        self.cast(types::F32X4, all)
    }

    /// The nearest half of each lane, in its lower 16 bits.
    fn round_f16(&mut self, x: Value) -> Value {
        let ints = types::I32X4;
        let bits = self.cast(ints, x);
        let (magnitude, sign) = (self.constant(ints, 0x7fff_ffff), self.constant(ints, 0x8000));
        let magnitude = self.b.ins().band(bits, magnitude);
        let high = self.b.ins().ushr_imm_s(bits, 16);
        let sign = self.b.ins().band(high, sign);
        let (one, up) = (self.constant(ints, 1), self.constant(ints, 0xfffu32.wrapping_sub(112 << 23)));
        let kept = self.b.ins().ushr_imm_s(magnitude, 13);
        let odd = self.b.ins().band(kept, one);
        let normal = self.b.ins().iadd(magnitude, up);
        let normal = self.b.ins().iadd(normal, odd);
        let normal = self.b.ins().sshr_imm_s(normal, 13);
        let infinity = self.constant(ints, 0x7c00);
        let normal = self.b.ins().smin(normal, infinity);
        // Those that are not normal have the last place of 0.5.
        let place = self.constant(ints, 0.5f32.to_bits());
        let half = self.cast(types::F32X4, place);
        let small = self.cast(types::F32X4, magnitude);
        let small = self.b.ins().fadd(small, half);
        let small = self.cast(ints, small);
        let small = self.b.ins().isub(small, place);
        let least = self.constant(ints, 0x3880_0000);
        let is_small = self.b.ins().icmp(IntCC::SignedLessThan, magnitude, least);
        let number = self.b.ins().bitselect(is_small, small, normal);
        let (payload, quiet) = (self.constant(ints, 0x3ff), self.constant(ints, 0x7e00));
        let payload = self.b.ins().band(kept, payload);
        let nan = self.b.ins().bor(payload, quiet);
        let end = self.constant(ints, 0x7f80_0000);
        let is_nan = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, end);
        let all = self.b.ins().bitselect(is_nan, nan, number);
        self.b.ins().bor(all, sign)
    }

    /// The nearest bfloat16 of each lane, in its upper half.
    fn round_halves(&mut self, x: Value) -> Value {
        let bits = self.cast(types::I32X4, x);
        let (one, half) = (self.constant(types::I32X4, 1), self.constant(types::I32X4, 0x7fff));
        let quiet = self.constant(types::I32X4, 0x0040_0000);
        let odd = self.b.ins().ushr_imm_s(bits, 16);
        let odd = self.b.ins().band(odd, one);
        let up = self.b.ins().iadd(odd, half);
        let rounded = self.b.ins().iadd(bits, up);
        let nan = self.b.ins().bor(bits, quiet);
        let number = self.b.ins().fcmp(FloatCC::Equal, x, x);
        self.b.ins().bitselect(number, rounded, nan)
    }

    /// So many pairs of bytes, each byte widened to 16 bits.
    fn load_pairs(&mut self, mem: MemType, ptr: Value, disp: i64, n: u8) -> Value {
        let (at, low_disp) = self.place(ptr, disp);
        if n == 4 {
            let bytes = self.b.ins().load(types::F64, flags(), at, low_disp);
            let bytes = self.b.ins().scalar_to_vector(types::F64X2, bytes);
            return self.widen_pairs(mem, bytes);
        }
        let bytes = match n {
            1 => self.b.ins().uload16(types::I64, flags(), at, low_disp),
            2 => self.b.ins().uload32(flags(), at, low_disp),
            _ => {
                let low = self.b.ins().uload32(flags(), at, low_disp);
                let (at, high_disp) = self.place(ptr, disp + 4);
                let high = self.b.ins().uload16(types::I64, flags(), at, high_disp);
                let high = self.b.ins().ishl_imm_s(high, 32);
                self.b.ins().bor(low, high)
            }
        };
        let bytes = self.b.ins().scalar_to_vector(types::I64X2, bytes);
        self.widen_pairs(mem, bytes)
    }

    /// The low eight bytes of a vector, each widened to 16 bits.
    fn widen_pairs(&mut self, mem: MemType, bytes: Value) -> Value {
        let bytes = self.cast(types::I8X16, bytes);
        let pairs = match mem {
            MemType::I8Pair => self.b.ins().swiden_low(bytes),
            _ => self.b.ins().uwiden_low(bytes),
        };
        self.cast(types::I32X4, pairs)
    }

    pub(super) fn store(&mut self, mem: MemType, ptr: Value, disp: i64, n: u8, stride: i64, value: Value) {
        let contiguous = stride == mem.bytes();
        match mem {
            MemType::F32 | MemType::I32 if contiguous && n == 4 => {
                let (ptr, disp) = self.place(ptr, disp);
                self.b.ins().store(flags(), value, ptr, disp);
            }
            MemType::F32 | MemType::I32 if contiguous && n >= 2 => {
                let (at, low_disp) = self.place(ptr, disp);
                let halves = self.cast(types::F64X2, value);
                let low = self.b.ins().extractlane(halves, 0);
                self.b.ins().store(flags(), low, at, low_disp);
                if n == 3 {
                    self.store_one(mem, ptr, disp + 8, value, 2);
                }
            }
            MemType::Bf16 => {
                let rounded = self.round_halves(value);
                if !(contiguous && n == 4) {
                    let halves = self.cast(types::I16X8, rounded);
                    (0..n).for_each(|lane| self.store_half(ptr, disp + stride * i64::from(lane), halves, lane));
                    return;
                }
                let mask = [2, 3, 6, 7, 10, 11, 14, 15].repeat(2);
                let packed = self.shuffle_bytes(rounded, rounded, mask, types::F64X2);
                let packed = self.b.ins().extractlane(packed, 0);
                let (ptr, disp) = self.place(ptr, disp);
                self.b.ins().store(flags(), packed, ptr, disp);
            }
            MemType::F16 => {
                let rounded = self.round_f16(value);
                self.store(MemType::U16, ptr, disp, n, stride, rounded);
            }
            MemType::U16 | MemType::I16 if contiguous && n == 4 => {
                let mask = [0, 1, 4, 5, 8, 9, 12, 13].repeat(2);
                let packed = self.shuffle_bytes(value, value, mask, types::F64X2);
                let packed = self.b.ins().extractlane(packed, 0);
                let (ptr, disp) = self.place(ptr, disp);
                self.b.ins().store(flags(), packed, ptr, disp);
            }
            MemType::U8 | MemType::I8 if contiguous && n == 4 => {
                let mask = [0, 4, 8, 12].repeat(4);
                let packed = self.shuffle_bytes(value, value, mask, types::I32X4);
                self.store_one(MemType::I32, ptr, disp, packed, 0);
            }
            MemType::F32
            | MemType::I32
            | MemType::I64
            | MemType::U16
            | MemType::I16
            | MemType::U8
            | MemType::I8
            | MemType::U8Pair
            | MemType::I8Pair => {
                (0..n).for_each(|lane| self.store_one(mem, ptr, disp + stride * i64::from(lane), value, lane));
            }
        }
    }

    /// The upper half of a lane.
    fn store_half(&mut self, ptr: Value, disp: i64, halves: Value, lane: u8) {
        let (ptr, disp) = self.place(ptr, disp);
        let half = self.b.ins().extractlane(halves, 2 * lane + 1);
        self.b.ins().store(flags(), half, ptr, disp);
    }

    fn store_one(&mut self, mem: MemType, ptr: Value, disp: i64, value: Value, lane: u8) {
        let (ptr, disp) = self.place(ptr, disp);
        let one = self.b.ins().extractlane(value, lane);
        match mem {
            MemType::F32 | MemType::I32 => self.b.ins().store(flags(), one, ptr, disp),
            MemType::I64 => {
                let wide = self.b.ins().sextend(types::I64, one);
                self.b.ins().store(flags(), wide, ptr, disp)
            }
            MemType::U8 | MemType::I8 => self.b.ins().istore8(flags(), one, ptr, disp),
            // The verifier refuses stores of pairs; halves of both kinds are rounded before.
            MemType::U16 | MemType::I16 | MemType::F16 | MemType::Bf16 | MemType::U8Pair | MemType::I8Pair => {
                self.b.ins().istore16(flags(), one, ptr, disp)
            }
        };
    }
}
