//! Maps, which optc has no type for.

use optc_tensor::DType;

use super::{invalid, missing};
use crate::mapping::NodeCx;
use crate::ops::{Mapped, rank_of};

/// The op that makes a map of each row of scores, which converters put at the end of classifiers.
pub(crate) const ZIP_MAP: &str = "ZipMap";

/// The scores themselves: the columns are in the order of the labels, which are the keys of the maps.
pub(super) fn zip_map(cx: &mut NodeCx) -> Mapped {
    let ints = cx.attrs.ints("classlabels_int64s")?.map(|v| v.len());
    let strings = cx.attrs.strings("classlabels_strings")?.map(|v| v.len());
    let labels = match (ints.filter(|&n| n > 0), strings.filter(|&n| n > 0)) {
        (Some(n), None) | (None, Some(n)) => n,
        (Some(_), Some(_)) => return Err(invalid("the classes have labels of both kinds")),
        (None, None) => return Err(missing("classlabels_int64s")),
    };
    let x = cx.input(0)?;
    if cx.dtype(x)? != DType::F32 {
        return Err(invalid(format!("the scores are {}, expected f32", cx.dtype(x)?)));
    }
    let rank = rank_of(cx, x)?;
    if rank != 1 && rank != 2 {
        return Err(invalid(format!("the scores have {rank} dims, expected a row for each sample")));
    }
    let columns = cx.ty(x).as_tensor().and_then(|t| t.shape.as_ref()?.last()?.known());
    if columns.is_some_and(|columns| columns != labels) {
        let columns = columns.unwrap_or_default();
        return Err(invalid(format!("there are {columns} scores for {labels} labels")));
    }
    Ok(vec![x])
}
