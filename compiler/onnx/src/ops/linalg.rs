//! Functions of matrices.

use super::{Table, plain};

pub(crate) const TABLE: Table = &[plain!("Det", Det, 1)];
