//! The graph IR: types, ops, text form, verifier and reference interpreter.
