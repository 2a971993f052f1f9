//! Convolutions by Winograd's minimal filtering, where the cost model says that it pays.

use std::fmt;

use optc_kernel::expr::Expr;
use optc_kernels::contract::Conv;
use optc_kernels::cost::Costs;
use optc_kernels::winograd::{self, F2, F4, Winograd};
use optc_tensor::{DType, Tensor};
use optc_types::steps::{BufRef, Info};
use optc_types::{Numbers, Product};

use super::contract::Call;
use super::tune::Open;
use super::{Lowered, Lowering};

/// Images, rows and columns of the result of a convolution that [`Winograd`] computes.
pub(super) fn three_by_three(c: &Conv) -> Option<[usize; 3]> {
    Winograd::of(c, &F2).map(|_| [c.batch, c.axes[1].out, c.axes[2].out])
}

/// A way to compute a 3x3 convolution.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Form {
    /// The sum over taps.
    Direct,
    /// By filtering.
    Filtered(&'static winograd::Form),
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Direct => f.write_str("direct"),
            Form::Filtered(form) => write!(f, "F({0}x{0}, 3x3)", form.outputs),
        }
    }
}

impl Lowering {
    /// The form to compute a convolution with constant weights in, where there are several.
    pub(super) fn form_of(&mut self, c: &Conv) -> Option<(Form, Open)> {
        let pixels @ [images, rows, columns] = three_by_three(c)?;
        let fastest = Costs::of(self.target.isa).filtered(pixels, c.channels, c.filters);
        let mut forms = vec![fastest.map_or(Form::Direct, |(form, _)| Form::Filtered(form))];
        let others = [Form::Direct, Form::Filtered(&F2), Form::Filtered(&F4)];
        forms.extend(others.into_iter().filter(|form| *form != forms[0]).collect::<Vec<_>>());
        let key = format!("3x3 convolution {images}x{rows}x{columns}, {} to {} channels", c.channels, c.filters);
        Some(self.pick(key, forms))
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
        let threads = self.options.threads;
        let [v_bytes, m_bytes] = w.bytes();
        let [v, m] = [v_bytes, m_bytes].map(|bytes| self.temp(bytes));
        let Conv { src, dst: to, operands, .. } = w.conv();
        let info = |bytes: usize| Info { loc: loc.to_vec(), bytes: bytes as f64, ..Info::default() };
        let input = w.input(self.target.isa);
        let table = input.table.unwrap_or_default();
        let table = Tensor::from_bytes(DType::U8, &[table.len()], &table)?;
        let table = self.add_constant(table);
        self.kernel(input.kernel, vec![x, table, v], None, info(src.bytes + v_bytes));
        let contract = w.product();
        let (schedule, point) = self.schedule(&contract);
        let nr = schedule.nr;
        let b = self.constant_floats(w.packed_len(nr), |packed| w.pack_weights(weights, nr, threads, packed))?;
        let (none, epilogue) = (Vec::new(), Expr::Operand(0));
        self.contract(Call { contract, a: v, b, dst: m, operands: none, epilogue, schedule, loc: loc.to_vec() })?;
        self.close(point);
        let [images, rows, columns] = three_by_three(w.conv()).unwrap_or_default();
        let (pixels, depth) = (images * rows * columns, 9 * w.conv().channels);
        let product = Product::new(pixels, depth, w.conv().filters, Numbers::Floats);
        let three_by_three = Some([images, rows, columns]);
        self.product = Some(Product { inputs: src.bytes / 4, three_by_three, ..product });
        let read: usize = operands.iter().map(|o| o.bytes).sum();
        let mut args = vec![m];
        args.extend(places);
        args.push(dst);
        self.kernel(w.output(self.target.isa), args, None, info(m_bytes + read + to.bytes));
        Ok(())
    }
}
