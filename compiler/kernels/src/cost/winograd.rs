//! When Winograd's filtering pays: fewer multiply-adds, for more weights and for values that go through memory twice.

use optc_types::CostModel;

use super::Costs;
use crate::winograd::{F2, F4, Form};

/// A form other than the direct sum is taken below this share of its time: the estimate is not better than that, and the
/// direct sum is more exact and has smaller weights.
const MARGIN: f64 = 0.9;

impl Costs {
    /// The fastest form of a 3x3 convolution and its time, where that is less than the direct sum's; `[images, rows, columns]`
    /// are those of the result.
    pub fn filtered(&self, pixels: [usize; 3], channels: usize, filters: usize) -> Option<(&'static Form, f64)> {
        let direct = self.direct(filters, 9 * channels, pixels.iter().product());
        let times = [&F2, &F4].map(|form| (form, self.form(form, pixels, channels, filters)));
        let best = times.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
        best.filter(|&(_, time)| time < MARGIN * direct)
    }

    /// The time of the fastest form by that of the direct sum.
    pub fn filtered_share(&self, pixels: [usize; 3], channels: usize, filters: usize) -> f64 {
        let direct = self.direct(filters, 9 * channels, pixels.iter().product());
        self.filtered(pixels, channels, filters).map_or(1.0, |(_, time)| time / direct)
    }

    /// The products, with their weights from memory, and the transforms, which write and read as fast as copies do.
    fn form(&self, form: &Form, [images, rows, columns]: [usize; 3], channels: usize, filters: usize) -> f64 {
        let tiles = images * rows.div_ceil(form.outputs) * columns.div_ceil(form.outputs);
        let weights = (form.products() * channels * filters) as f64;
        let values = 4 * form.products() * tiles * (channels + filters);
        weights * tiles as f64 / self.dense_rate[0] + 4.0 * weights / self.weight_rate + self.copy(values as u64)
    }
}

#[cfg(test)]
mod tests {
    use optc_kernel::target::Isa;

    use super::*;

    /// Measured on a Zen 3 core with AVX2 for these layers of ResNet-50, milliseconds: direct 2.4, 2.4, 2.5, 2.5; F(2x2)
    /// 1.6, 1.3, 1.5, 2.7; F(4x4) 0.95, 0.85, 1.4, 3.2.
    #[test]
    fn forms_follow_the_sizes_of_pictures_and_weights() {
        let Some(isa) = Isa::by_name("avx2") else { return };
        let form = |size: usize, channels: usize| {
            let best = Costs::of(isa).filtered([1, size, size], channels, channels);
            best.map(|(form, _)| form.outputs)
        };
        assert_eq!([form(56, 64), form(28, 128), form(14, 256), form(7, 512)], [Some(4), Some(4), Some(2), None]);
        assert_eq!(form(208, 4), None, "transforms of few channels");
        assert!(Costs::of(isa).filtered_share([1, 56, 56], 64, 64) < 0.6);
        assert_eq!(Costs::of(isa).filtered_share([1, 7, 7], 512, 512), 1.0);
    }
}
