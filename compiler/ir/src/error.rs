//! What can be wrong with a text.

/// Why a text is not a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was found and what was expected.
    pub message: String,
}

/// Returns a constraint error unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($cond:expr, $constraint:literal, $($arg:tt)+) => {
        if !$cond {
            return Err($crate::OpError::Constraint { constraint: $constraint, reason: format!($($arg)+) });
        }
    };
}
