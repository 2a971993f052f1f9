//! How a narrow product is cut into tiles and tasks: the choice without measuring, and what else is worth a
//! measurement.

use std::fmt;

use optc_kernel::target::{Caches, Isa};

use super::NarrowProduct;
use crate::contract::{TASKS, panels};
use crate::window::Axis;

/// How a product is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int8Schedule {
    /// Columns of pixels in a tile.
    pub mr: usize,
    /// Results in a tile for each pixel, and in a panel.
    pub nr: usize,
    /// Rows of a block.
    pub rows: usize,
    /// Columns of a block: all, unless there is one row of points.
    pub columns: usize,
    /// Panels of a block.
    pub panels: usize,
}

impl Int8Schedule {
    /// Chooses for a target and a machine: a staged block in a quarter of L2, and enough tasks for a few threads.
    pub fn choose(p: &NarrowProduct, isa: &Isa, caches: &Caches) -> Int8Schedule {
        Int8Schedule::with_tile(p, p.form.tile(isa).0, isa, caches)
    }

    /// The choice for tiles of `mr` pixels.
    fn with_tile(p: &NarrowProduct, mr: usize, isa: &Isa, caches: &Caches) -> Int8Schedule {
        let nr = p.form.tile(isa).1 * isa.lanes();
        let [h, w] = p.axes.map(|a| a.out);
        let parts = TASKS.div_ceil((p.images * p.groups).max(1));
        let room = caches.l2 / 4;
        let (rows, columns) = if p.is_points() {
            let fit = (room / (p.form.staged_bytes() * p.staged_channels() * p.axes[1].stride).max(1)).max(mr);
            (1, fit.min(w.div_ceil(parts).max(4 * mr)).next_multiple_of(mr).min(w))
        } else {
            let fit = (1..=h).take_while(|&r| p.staged_rows(r) * p.staged_row(w) <= room).last().unwrap_or(1);
            (fit.min(h.div_ceil(parts)).max(1), w)
        };
        Int8Schedule { mr, nr, rows, columns, panels: 1 }.with_panels(p, TASKS)
    }

    /// With as many panels in a block as leave at least `tasks` tasks.
    fn with_panels(self, p: &NarrowProduct, tasks: usize) -> Int8Schedule {
        let [h, w] = p.axes.map(|a| a.out);
        let all = p.filters.div_ceil(self.nr);
        let blocks = p.images * p.groups * h.div_ceil(self.rows) * w.div_ceil(self.columns);
        Int8Schedule { panels: panels(all, blocks, tasks), ..self }
    }

    /// Schedules that may be faster, [the choice](Int8Schedule::choose) first: tiles that divide the columns evenly,
    /// and blocks of half and of twice the pixels, and of all panels or a few. Packed weights are the same for all.
    pub fn options(p: &NarrowProduct, isa: &Isa, caches: &Caches) -> Vec<Int8Schedule> {
        let chosen = Int8Schedule::choose(p, isa, caches);
        let mut options = vec![chosen];
        let mut offer = |s: Int8Schedule| {
            if !options.contains(&s) {
                options.push(s);
            }
        };
        let [h, w] = p.axes.map(|a| a.out);
        if !p.form.is_blocked() {
            offer(Int8Schedule::with_tile(p, w.div_ceil(w.div_ceil(chosen.mr)), isa, caches));
        }
        for double in [1, 4, 8] {
            let block = match p.is_points() {
                true => Int8Schedule {
                    columns: (chosen.columns * double / 2).max(1).next_multiple_of(chosen.mr).min(w),
                    ..chosen
                },
                false => Int8Schedule { rows: (chosen.rows * double / 2).clamp(1, h), ..chosen },
            };
            offer(block.with_panels(p, TASKS));
        }
        for tasks in [1, TASKS / 2, 2 * TASKS] {
            offer(chosen.with_panels(p, tasks));
        }
        options
    }
}

impl fmt::Display for Int8Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Int8Schedule { mr, nr, rows, columns, panels } = self;
        write!(f, "tiles {mr}x{nr}, blocks of {rows} rows of {columns} by {panels} panels")
    }
}

impl NarrowProduct {
    /// Whether pixels are one row of points.
    fn is_points(&self) -> bool {
        self.axes[0] == Axis::NONE && self.axes[1].kernel == 1 && self.axes[1].pads == [0, 0]
    }

    /// The shape, as a key for what was measured of it.
    pub fn key(&self) -> String {
        let NarrowProduct { images, groups, channels, filters, axes: [h, w], form, src, dst, .. } = self;
        let own = if self.own_weights { ", own weights" } else { "" };
        let (from, to) = (src.mem, dst.mem);
        format!("contract {form:?} of {images}x{groups}x{channels}, {h} by {w}, to {filters}{own}, {from:?} to {to:?}")
            .to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use optc_kernel::target::ISAS;

    use super::*;
    use crate::int8::Int8Form;

    #[test]
    fn options_begin_with_the_choice_and_are_blocks_of_whole_tiles() {
        for isa in ISAS {
            for (m, n, k) in [(49, 512, 512), (3136, 64, 64), (1, 1000, 1280), (7, 3, 5)] {
                let p = NarrowProduct::points(m, n, k, Int8Form::Pairs);
                let caches = Caches::default();
                let options = Int8Schedule::options(&p, isa, &caches);
                assert_eq!(options[0], Int8Schedule::choose(&p, isa, &caches));
                for (i, s) in options.iter().enumerate() {
                    assert!(!options[..i].contains(s) && s.panels > 0 && s.nr == options[0].nr, "{}: {s}", isa.name);
                    assert!(s.columns == m || s.columns.is_multiple_of(s.mr), "{}: {s}", isa.name);
                }
            }
        }
    }
}
