//! Convolutions by Winograd's minimal filtering, where the cost model says that it pays.

use optc_runtime::plan::{BufRef, Info};
use optc_tensor::{DType, Tensor};

use super::contract::Call;
use super::{Lowered, Lowering};
use crate::contract::Conv;
use crate::cost::{Costs, int8::Extents};
use crate::expr::Expr;
use crate::winograd::{F2, Winograd};

/// Images, rows and columns of the result of a convolution that [`Winograd`] computes.
pub(super) fn three_by_three(c: &Conv) -> Option<[usize; 3]> {
    Winograd::of(c, &F2).map(|_| [c.batch, c.axes[1].out, c.axes[2].out])
}

impl Lowering {
    /// The form in which a convolution is fastest, if the direct sum is slower.
    pub(super) fn winograd_of<'a>(&self, c: &'a Conv) -> Option<Winograd<'a>> {
        let (form, _) = Costs::of(self.target.isa).filtered(three_by_three(c)?, c.channels, c.filters)?;
        Winograd::of(c, form)
    }

    /// Emits the three kernels of a convolution with constant weights.
    pub(super) fn winograd(
        &mut self,
        w: &Winograd,
        weights: &[f32],
        x: BufRef,
        places: &[BufRef],
        dst: BufRef,
        loc: &[String],
    ) -> Lowered {
        let (nr, threads) = (self.nr(), self.target.threads);
        let [v_bytes, m_bytes] = w.bytes();
        let [v, m] = [v_bytes, m_bytes].map(|bytes| self.temp(bytes));
        let Conv { src, dst: to, operands, .. } = w.conv();
        let info = |bytes: usize| Info { loc: loc.to_vec(), bytes: bytes as f64, ..Info::default() };
        let input = w.input(self.target.isa);
        let table = input.table.unwrap_or_default();
        let table = Tensor::from_bytes(DType::U8, &[table.len()], &table).expect("a table of bytes fits its length");
        let table = self.add_constant(table);
        self.kernel(input.kernel, vec![x, table, v], None, info(src.bytes + v_bytes));
        let b = self.constant_floats(w.packed_len(nr), |packed| w.pack_weights(weights, nr, threads, packed));
        let contract = w.product(nr);
        let (operands_of, epilogue) = (Vec::new(), Expr::Operand(0));
        self.contract(Call { contract, a: v, b, dst: m, operands: operands_of, epilogue, loc: loc.to_vec() }, None)?;
        let [images, rows, columns] = three_by_three(w.conv()).unwrap_or_default();
        self.product = Some(Extents {
            batch: 1,
            m: images * rows * columns,
            n: w.conv().filters,
            k: 9 * w.conv().channels,
            inputs: src.bytes / 4,
            depthwise: false,
            three_by_three: Some([images, rows, columns]),
        });
        let read: usize = operands.iter().map(|o| o.bytes).sum();
        let mut args = vec![m];
        args.extend(places);
        args.push(dst);
        self.kernel(w.output(self.target.isa), args, None, info(m_bytes + read + to.bytes));
        Ok(())
    }
}
