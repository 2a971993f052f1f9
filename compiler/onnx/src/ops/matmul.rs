//! Matrix products.

use optc_ir::ops::math::MatMul;

use super::{Table, direct};

pub(crate) const TABLE: Table = &[("", "MatMul", |cx| direct(cx, MatMul::default(), 2))];
