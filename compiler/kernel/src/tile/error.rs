//! What is wrong with a tile or its text.

/// Why a tile is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// A register is used where it is not defined.
    #[error("register v{0} is used before its definition")]
    UndefinedReg(u32),
    /// A pointer is used where it is not defined.
    #[error("pointer p{0} is used before its definition")]
    UndefinedPtr(u32),
    /// Something is defined twice.
    #[error("`{0}` is defined twice")]
    Redefined(String),
    /// An operand has the wrong element type.
    #[error("register v{0} has the wrong element type for its use")]
    Elem(u32),
    /// A number is out of its range.
    #[error("{0} is out of range")]
    Range(&'static str),
    /// The text does not parse.
    #[error("line {line}: expected {expected}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
    },
}
