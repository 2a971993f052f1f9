//! Times of products, made from a row's figures.

use optc_kernel::target::Isa;
use optc_types::{Change, Form, Machine, Nanos, Numbers, Product, Reason, ReasonCode};

use super::{Figures, SparseFigures};
use crate::winograd::{F2, F4};
use crate::{spmm, window, winograd};

/// An instruction set and the figures of a core that has it: a [`Machine`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    isa: &'static Isa,
    figures: Figures,
}

/// Integers are taken below this share of the time in `f32`, and bfloat16 too: estimates are not better than that.
const NARROWER: f64 = 0.95;
/// The share of a dense form's time below which a sparse one is taken.
const SPARSE: f64 = 0.85;
/// A filtered form is taken below this share of the direct sum's time: the direct sum is more exact, and has smaller
/// weights.
const FILTERED: f64 = 0.9;

impl Profile {
    /// An instruction set with the figures that optc comes with.
    pub fn of(isa: &'static Isa) -> Profile {
        Profile::new(isa, super::of(isa).figures)
    }

    /// An instruction set with other figures.
    pub fn new(isa: &'static Isa, figures: Figures) -> Profile {
        Profile { isa, figures }
    }

    /// The multiply-adds, or the weights from memory, whichever takes longer, and what the activations cost before.
    fn dense(&self, p: &Product) -> Nanos {
        if p.depthwise {
            return self.depthwise(p);
        }
        let f = &self.figures;
        // Integers are packed in pairs of 16 bits.
        let (rate, bytes, before) = match p.numbers {
            Numbers::Floats => (f.f32, 4, Nanos(0.0)),
            Numbers::Bytes => (f.int8, 2, ns(p.inputs, f.staged)),
            Numbers::Halves => {
                let taps = if p.three_by_three.is_some() { 9 } else { 1 };
                (f.bf16, 2, ns(p.depth / taps * p.rows, f.rounded))
            }
        };
        let lanes = self.isa.lanes();
        let cols = p.cols.next_multiple_of(lanes);
        let weights = p.batch * p.depth * p.cols;
        (ns(p.batch * p.rows * p.depth * cols, rate) + before).max(ns(bytes * weights, f.weights))
    }

    /// An FMA for each tap, half as well fed as in a contraction. Integers use the same instructions and load a quarter
    /// of the bytes; widening bfloat16 costs where no instruction multiplies it.
    fn depthwise(&self, p: &Product) -> Nanos {
        let share = match p.numbers {
            Numbers::Floats => 1.0,
            Numbers::Bytes => 0.9,
            Numbers::Halves if self.isa.needs.sums_halves() => 0.8,
            Numbers::Halves => 1.2,
        };
        2.0 * share * ns(p.batch * p.rows * p.depth * p.cols, self.figures.f32)
    }

    /// The products, with their weights from memory, and the transforms, which are bound by the values that they write
    /// and read, whole vectors of channels.
    fn filtered(&self, p: &Product, form: &winograd::WinogradMatrices) -> Nanos {
        let Some([images, rows, columns]) = p.three_by_three else { return Nanos::NEVER };
        let (channels, lanes) = (p.depth / 9, self.isa.lanes());
        let tiles = images * rows.div_ceil(form.outputs) * columns.div_ceil(form.outputs);
        let [padded, cols] = [channels, p.cols].map(|n| n.next_multiple_of(lanes));
        let products = form.products() * channels * tiles * cols;
        let weights = 4 * form.products() * channels * p.cols;
        let values = 4 * form.products() * tiles * (padded + cols);
        ns(products, self.figures.f32) + ns(weights, self.figures.weights) + ns(values, self.figures.filtered)
    }

    /// Calls for tiles of pixels and rows of blocks, with the blocks in them; or the stream of blocks from memory.
    fn sparse(&self, p: &Product, figures: &SparseFigures, blocks: usize) -> Nanos {
        let (rows, cols) = (usize::from(figures.rows), usize::from(figures.cols));
        let form = if figures.int8 { spmm::SparseForm::of_bytes(cols, false) } else { spmm::SparseForm::Float };
        let (vectors, lanes) = (spmm::vectors_of(rows), self.isa.lanes());
        // The last tile of pixels takes the time of its vectors, a call at least.
        let tiles = p.rows.div_ceil(vectors * lanes) as f64;
        let full = (p.rows.div_ceil(lanes) as f64 / vectors as f64).max(0.5);
        let strips = p.cols.div_ceil(rows);
        let [call, each] = [figures.call, figures.block].map(|ps| f64::from(ps) * 1e-3);
        let work = tiles * strips as f64 * call + full * blocks as f64 * each;
        Nanos(work).max(ns(form.stream_bytes(strips, blocks, rows), self.figures.weights)) + self.staged(p.staged_bytes)
    }

    /// Activations that are copied and read again: what no cache holds goes to memory and comes back.
    fn staged(&self, bytes: usize) -> Nanos {
        let copy = self.copy(bytes as u64);
        if bytes > self.isa.caches.l3 { copy.max(ns(2 * bytes, self.figures.weights)) } else { copy }
    }
}

/// The form of tiles with this many rows and columns.
fn form_of(outputs: usize) -> Option<&'static winograd::WinogradMatrices> {
    [&F2, &F4].into_iter().find(|form| form.outputs == outputs)
}

/// Nanoseconds of this many things at a rate in a microsecond.
fn ns(things: usize, rate: u32) -> Nanos {
    Nanos(things as f64 * 1e3 / f64::from(rate))
}

impl Machine for Profile {
    fn declines(&self, p: &Product, form: Form) -> Option<Reason> {
        let reason = |code, sentence: String| Some(Reason::new(code, sentence));
        match form {
            Form::Dense => None,
            Form::Planes if !p.depthwise => {
                reason(ReasonCode::NotDepthwise, "only depthwise convolutions have kernels of planes".to_owned())
            }
            Form::Planes if p.depth > window::MOST_PLANE_TAPS => {
                let most = window::MOST_PLANE_TAPS;
                reason(ReasonCode::Taps, format!("{} taps, kernels of planes have {most} at most", p.depth))
            }
            Form::Planes => None,
            Form::Filtered { .. } if p.numbers != Numbers::Floats => {
                reason(ReasonCode::Numbers, "only `f32` is filtered".to_owned())
            }
            Form::Filtered { outputs } if p.three_by_three.is_none() || form_of(outputs).is_none() => reason(
                ReasonCode::NotFiltered,
                "only plain 3x3 convolutions are filtered, in tiles of 2 and 4".to_owned(),
            ),
            Form::Filtered { .. } => None,
            Form::Sparse { .. } if p.numbers == Numbers::Halves => {
                reason(ReasonCode::Numbers, "there is no sparse kernel of bfloat16".to_owned())
            }
            Form::Sparse { block, .. } if self.figures.blocks(p.numbers, block).is_none() => {
                reason(ReasonCode::Block, format!("there is no sparse kernel of blocks of {}x{}", block.0, block.1))
            }
            Form::Sparse { .. } => None,
        }
    }

    fn time(&self, p: &Product, form: Form) -> Nanos {
        if self.declines(p, form).is_some() {
            return Nanos::NEVER;
        }
        match form {
            Form::Dense | Form::Planes => self.dense(p),
            Form::Filtered { outputs } => form_of(outputs).map_or(Nanos::NEVER, |form| self.filtered(p, form)),
            Form::Sparse { block, blocks } => {
                let figures = self.figures.blocks(p.numbers, block);
                figures.map_or(Nanos::NEVER, |figures| self.sparse(p, figures, blocks))
            }
        }
    }

    fn copy(&self, bytes: u64) -> Nanos {
        Nanos(bytes as f64 * 1e3 / f64::from(self.figures.copied))
    }

    fn margin(&self, change: Change) -> f64 {
        match change {
            Change::ToSparse => SPARSE,
            Change::ToBytes | Change::ToHalves => NARROWER,
            Change::ToFiltered => FILTERED,
        }
    }
}

#[cfg(test)]
mod tests {
    use optc_kernel::target::ISAS;

    use super::*;

    fn row(name: &str) -> Profile {
        Profile::of(Isa::by_name(name).unwrap())
    }

    fn filtered(size: usize, channels: usize) -> Product {
        let product = Product::new(size * size, 9 * channels, channels, Numbers::Floats);
        Product { three_by_three: Some([1, size, size]), ..product }
    }

    #[test]
    fn every_row_has_figures_and_times_grow_with_the_work() {
        assert!(
            super::super::ROWS.iter().all(|row| Isa::by_name(row.isa).is_some()),
            "figures of a row that there is not"
        );
        for isa in ISAS {
            let profile = Profile::of(isa);
            assert_eq!((profile.figures.fault(), super::super::of(isa).isa), (None, isa.name));
            for numbers in [Numbers::Floats, Numbers::Bytes, Numbers::Halves] {
                let small = Product::new(49, 64, 64, numbers);
                let large = Product { cols: 640, ..small };
                assert!(profile.time(&small, Form::Dense) < profile.time(&large, Form::Dense), "{}", isa.name);
            }
        }
    }

    #[test]
    fn sparse_products_pay_where_zeros_are_many() {
        let (costs, layer) = (row("portable"), Product::new(196, 512, 512, Numbers::Floats));
        let gain = |block: usize, density: f64| {
            let blocks = (layer.cols / block * layer.depth) as f64 * density;
            let form = Form::Sparse { block: (block, 1), blocks: blocks as usize };
            costs.time(&layer, Form::Dense) / costs.time(&layer, form)
        };
        assert!(gain(4, 0.1) > 4.5 && gain(1, 0.1) > 2.5, "{} {}", gain(4, 0.1), gain(1, 0.1));
        assert!(gain(1, 0.5) < 1.2 && gain(1, 1.0) < 0.6, "{} {}", gain(1, 0.5), gain(1, 1.0));
    }

    #[test]
    fn laying_taps_out_counts() {
        let direct = Product::new(3136, 576, 64, Numbers::Floats);
        let (staged, form) =
            (Product { staged_bytes: 3 << 20, ..direct }, Form::Sparse { block: (4, 1), blocks: 1000 });
        for costs in ISAS.iter().map(Profile::of) {
            assert!(costs.time(&staged, form) > costs.time(&direct, form));
            assert_eq!(costs.time(&staged, Form::Dense), costs.time(&direct, Form::Dense));
        }
    }

    #[test]
    fn bfloat16_pays_for_few_rows_and_where_there_are_instructions() {
        let pays = |isa: &str, product: Product| {
            let time = |numbers| row(isa).densest(&Product { numbers, ..product }).1;
            row(isa).pays(Change::ToHalves, time(Numbers::Floats), time(Numbers::Halves))
        };
        let dense = |rows, depth, cols| Product::new(rows, depth, cols, Numbers::Floats);
        let (one, many) = (dense(1, 2048, 1000), dense(3136, 64, 256));
        assert!(pays("avx2", one) && !pays("avx2", many) && !pays("avx2", filtered(56, 64)));
        assert!([one, many, filtered(56, 64)].into_iter().all(|product| pays("amx", product)));
    }

    #[test]
    fn integers_pay_by_a_margin() {
        let figures = Figures {
            f32: 10_000,
            int8: 20_000,
            staged: 100,
            ..super::super::of(Isa::by_name("avx2").unwrap()).figures
        };
        for isa in ISAS {
            let (profile, column) = (Profile::new(isa, figures), Product::new(1000, 64, 1, Numbers::Floats));
            let [f32, int8] =
                [Numbers::Floats, Numbers::Bytes].map(|n| profile.time(&Product { numbers: n, ..column }, Form::Dense));
            assert!(!profile.pays(Change::ToBytes, f32, int8), "one column is not worth staging");
        }
        let pays = |share: f64| row("avx2").pays(Change::ToBytes, Nanos(1.0), Nanos(share));
        assert!(pays(0.9) && !pays(0.97));
    }

    /// Measured on a Zen 3 core with AVX2 for these layers of ResNet-50, milliseconds: direct 2.4, 2.4, 2.5, 2.5;
    /// F(2x2) 1.6, 1.3, 1.5, 2.7; F(4x4) 0.95, 0.85, 1.4, 3.2. On Zen 5 F(4x4) is the fastest of the third by 10 %.
    #[test]
    fn filtering_follows_the_sizes_of_pictures_and_weights() {
        let form = |size: usize, channels: usize| row("avx2").densest(&filtered(size, channels)).0;
        let few = row("avx512").densest(&filtered(208, 4)).0;
        let four = Form::Filtered { outputs: 4 };
        assert_eq!([form(56, 64), form(28, 128), form(14, 256)], [four; 3]);
        assert_eq!(few, Form::Dense, "transforms of few channels");
    }

    #[test]
    fn what_is_declined_has_a_reason_and_no_time() {
        let (costs, plain) = (row("avx2"), Product::new(49, 9, 64, Numbers::Floats));
        let (halves, wide) =
            (Product { numbers: Numbers::Halves, ..plain }, Product { depthwise: true, depth: 64, ..plain });
        let sparse = |rows| Form::Sparse { block: (rows, 1), blocks: 1 };
        let declined = [
            (plain, sparse(3), ReasonCode::Block),
            (halves, sparse(4), ReasonCode::Numbers),
            (plain, Form::Planes, ReasonCode::NotDepthwise),
            (wide, Form::Planes, ReasonCode::Taps),
            (plain, Form::Filtered { outputs: 4 }, ReasonCode::NotFiltered),
            (filtered(8, 8), Form::Filtered { outputs: 3 }, ReasonCode::NotFiltered),
            (Product { numbers: Numbers::Bytes, ..filtered(8, 8) }, Form::Filtered { outputs: 4 }, ReasonCode::Numbers),
        ];
        for (product, form, code) in declined {
            assert_eq!(costs.declines(&product, form).map(|reason| reason.code), Some(code), "{form:?}");
            assert_eq!(costs.time(&product, form), Nanos::NEVER);
        }
    }
}
