//! The short form of a constraint's error.

/// Returns a constraint error unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($cond:expr, $constraint:literal, $($arg:tt)+) => {
        if !$cond {
            return Err($crate::OpError::Constraint { constraint: $constraint, reason: format!($($arg)+) });
        }
    };
}
