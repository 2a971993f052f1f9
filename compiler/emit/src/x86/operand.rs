//! Operands of machine instructions.

use iced_x86::Register;

/// A constant of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pooled(pub usize);

/// A place in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemOperand {
    /// A displacement from a register.
    At(Register, i32),
    /// A displacement from the sum of two registers.
    Indexed(Register, Register, i32),
    /// A constant.
    Pool(Pooled),
}

/// An operand.
#[derive(Clone, Copy, Debug)]
pub(super) enum AsmOperand {
    /// A register.
    R(Register),
    /// The low 256 bits of a register, where it has 512.
    Half(Register),
    /// Memory.
    M(MemOperand),
    /// An immediate of eight bits.
    I(u8),
    /// An immediate of 32 bits, sign-extended to 64.
    L(i32),
    /// An immediate of eight bits, sign-extended to 64.
    S(i8),
}
