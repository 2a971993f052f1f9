//! Running sums and products.

use optc_ir::ops::math;

use super::{Mapped, Table, direct};
use crate::mapping::NodeCx;

pub(crate) const TABLE: Table = &[("", "CumSum", |cx| cumulate(cx, "sum")), ("", "CumProd", |cx| cumulate(cx, "prod"))];

fn cumulate(cx: &mut NodeCx, kind: &str) -> Mapped {
    let (exclusive, reverse) = (cx.attrs.flag("exclusive", false)?, cx.attrs.flag("reverse", false)?);
    direct(cx, math::Cumulate { exclusive, kind: kind.to_owned(), reverse }, 2)
}
