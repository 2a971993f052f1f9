//! Running sums and products.

use optc_ir::ops::math::{self, CumulateKind};

use super::{Mapped, Table, direct};
use crate::mapping::NodeCx;

pub(crate) const TABLE: Table =
    &[("", "CumSum", |cx| cumulate(cx, CumulateKind::Sum)), ("", "CumProd", |cx| cumulate(cx, CumulateKind::Prod))];

fn cumulate(cx: &mut NodeCx, kind: CumulateKind) -> Mapped {
    let (exclusive, reverse) = (cx.attrs.flag("exclusive", false)?, cx.attrs.flag("reverse", false)?);
    direct(cx, math::Cumulate { exclusive, kind, reverse }, 2)
}
