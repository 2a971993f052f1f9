//! Matrix products.

use super::{Table, plain};

pub(crate) const TABLE: Table = &[plain!("MatMul", MatMul, 2)];
