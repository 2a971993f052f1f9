//! How a contraction is cut into tiles and tasks: the choice without measuring, and what else is worth a measurement.

use std::fmt;

use optc_kernel::target::{Caches, Emitter, Isa};
use optc_kernel::tile::MemType;

use super::{Contract, ContractRows, Taps};

/// How a contraction is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContractSchedule {
    /// Rows of a tile.
    pub mr: usize,
    /// Columns of a tile and of a panel.
    pub nr: usize,
    /// Rows of a block, a multiple of `mr`.
    pub mc: usize,
    /// Panels of a block.
    pub panels: usize,
}

/// Tasks that balance a few threads.
pub(crate) const TASKS: usize = 16;

/// Panels of a task, of `all`, with which `blocks` of rows make at least `tasks` tasks.
pub(crate) fn panels(all: usize, blocks: usize, tasks: usize) -> usize {
    let panels = if blocks >= tasks { all } else { all.div_ceil(tasks.div_ceil(blocks.max(1))) };
    panels.max(1)
}

/// Vectors of sums that hide the latency of the FMA units (4 cycles, 2 a cycle), and that latency.
const SUMS: usize = 8;
const LATENCY: f64 = 4.0;

/// Rows of a tile, each of which has an address in a general register, with the panel's and a counter in addition.
const ROWS: usize = 12;

impl ContractSchedule {
    /// Chooses for a target and a machine: the tile that suits the columns, a block of A in half of L2, and enough
    /// tasks for a few threads.
    pub fn choose(c: &Contract, isa: &Isa, caches: &Caches) -> ContractSchedule {
        ContractSchedule::with_tile(c, suited(c, isa), isa, caches)
    }

    /// The choice for tiles of this many rows and vectors.
    fn with_tile(c: &Contract, (mr, vectors): (usize, usize), isa: &Isa, caches: &Caches) -> ContractSchedule {
        let nr = vectors * isa.lanes();
        // Taps of a table overlap: the rows that they name are about as many bytes as one tap of each.
        let row_bytes = 4 * c.k;
        let fit = (caches.l2 / 2 / row_bytes.max(1)).clamp(mr, 64 * mr);
        // At least 16 tasks balance a few threads. The smaller operand is the one to be read again by each: a large B
        // (late convolutions) is cut by panels, else A by rows, in whole tiles.
        let large_b = c.taps * c.k * c.n > c.m * c.k;
        let parts = if large_b { 1 } else { TASKS / c.batch.clamp(1, TASKS) };
        let share = c.m.div_ceil(parts).max(4 * mr);
        let mc = match &c.rows {
            // Whole rows of the result, many of them: each copies the source rows under its window.
            ContractRows::Pixels(p) if p.taps == Taps::Staged => {
                let fit = (1..p.axes[1].out).take_while(|&r| p.staged_rows(r) * p.staged_row() <= caches.l2 / 4);
                p.axes[2].out * p.axes[1].out.div_ceil(TASKS).clamp(1, fit.last().unwrap_or(1))
            }
            ContractRows::Pixels(_) | ContractRows::Stride(_) => fit.min(share).next_multiple_of(mr),
        };
        ContractSchedule { mr, nr, mc, panels: 1 }.with_panels(c, TASKS)
    }

    /// The choice for panels of `nr` columns: tiles of even height.
    pub fn in_panels(c: &Contract, nr: usize, isa: &Isa, caches: &Caches) -> ContractSchedule {
        let vectors = nr / isa.lanes();
        let most = ContractSchedule::tallest(vectors, isa).clamp(1, c.m.max(1));
        let even = c.m.div_ceil(c.m.div_ceil(most).max(1)).max(1);
        ContractSchedule::with_tile(c, (even, vectors), isa, caches)
    }

    /// Rows of the tallest tile of so many vectors.
    pub fn tallest(vectors: usize, isa: &Isa) -> usize {
        let (rows, columns) = isa.contract_f32;
        let most = isa.vector_regs.saturating_sub(1 + vectors) / vectors.max(1);
        if vectors == columns { rows } else { most.min(ROWS) }
    }

    /// With as many panels in a block as leave at least `tasks` tasks.
    fn with_panels(self, c: &Contract, tasks: usize) -> ContractSchedule {
        let all = c.n.div_ceil(self.nr);
        let blocks = c.batch * c.m.div_ceil(self.mc);
        ContractSchedule { panels: panels(all, blocks, tasks), ..self }
    }

    /// Schedules that may be faster, [the choice](ContractSchedule::choose) first: other tiles whose sums stay in
    /// registers, those that divide the rows evenly among them, and blocks of half and of twice the rows, and of all
    /// panels or a few.
    pub fn options(c: &Contract, isa: &Isa, caches: &Caches) -> Vec<ContractSchedule> {
        let chosen = ContractSchedule::choose(c, isa, caches);
        let mut options = vec![chosen];
        let mut offer = |s: ContractSchedule| {
            if !options.contains(&s) {
                options.push(s);
            }
        };
        for tile in [isa.contract_f32].into_iter().chain(tiles(c, isa)) {
            offer(ContractSchedule::with_tile(c, tile, isa, caches));
        }
        let unit = match &c.rows {
            ContractRows::Pixels(p) if p.taps == Taps::Staged => p.axes[2].out,
            ContractRows::Pixels(_) | ContractRows::Stride(_) => chosen.mr,
        };
        let most = c.m.next_multiple_of(unit);
        for mc in [chosen.mc / 2, 2 * chosen.mc, 4 * chosen.mc] {
            offer(ContractSchedule { mc: mc.next_multiple_of(unit).clamp(unit, most), ..chosen }.with_panels(c, TASKS));
        }
        for tasks in [1, TASKS / 2, 2 * TASKS] {
            offer(chosen.with_panels(c, tasks));
        }
        options
    }
}

/// The target's own tile, or one that is a twentieth faster: where few columns fill the last panel badly.
fn suited(c: &Contract, isa: &Isa) -> (usize, usize) {
    let own = isa.contract_f32;
    if isa.emitter != Emitter::X86 {
        return own;
    }
    let cost = |tile| cycles(c, tile, isa.lanes());
    let best = tiles(c, isa).into_iter().min_by(|&a, &b| cost(a).total_cmp(&cost(b)));
    best.filter(|&tile| cost(tile) < 0.95 * cost(own)).unwrap_or(own)
}

/// Cycles of an element of k in all tiles: two FMAs or two loads in each, and four from a sum to itself.
fn cycles(c: &Contract, (mr, vectors): (usize, usize), lanes: usize) -> f64 {
    let of_tile = |rows: usize, filled: usize| {
        let work = (rows * filled).max(rows + filled) as f64 / 2.0;
        work.max(LATENCY)
    };
    let of_panel = |filled: usize| {
        let rest = if c.m.is_multiple_of(mr) { 0.0 } else { of_tile(c.m % mr, filled) };
        (c.m / mr) as f64 * of_tile(mr, filled) + rest
    };
    let (whole, rest) = (c.n / (vectors * lanes), (c.n % (vectors * lanes)).div_ceil(lanes));
    whole as f64 * of_panel(vectors) + if rest > 0 { of_panel(rest) } else { 0.0 }
}

/// Tiles whose sums, one vector of A and a row of B fit the registers, and whose addresses do, other than the target's
/// own.
fn tiles(c: &Contract, isa: &Isa) -> Vec<(usize, usize)> {
    let mut tiles = Vec::new();
    let (_, columns) = isa.contract_f32;
    for vectors in 1..=c.n.div_ceil(isa.lanes()).min((2 * columns).max(SUMS)) {
        let most = ContractSchedule::tallest(vectors, isa).min(c.m);
        if most == 0 {
            continue;
        }
        // As few steps as with the tallest tile, of equal height.
        let even = c.m.div_ceil(c.m.div_ceil(most));
        tiles.extend([(most, vectors), (even, vectors)]);
    }
    tiles.retain(|&tile| tile != isa.contract_f32);
    tiles.dedup();
    tiles
}

impl fmt::Display for ContractSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ContractSchedule { mr, nr, mc, panels } = self;
        write!(f, "tiles {mr}x{nr}, blocks of {mc} rows by {panels} panels")
    }
}

impl Contract {
    /// The shape, as a key for what was measured of it.
    pub fn key(&self) -> String {
        let Contract { batch, m, n, k, taps, .. } = self;
        let rows = match &self.rows {
            ContractRows::Stride(stride) => format!("rows {stride} apart"),
            ContractRows::Pixels(p) => {
                let axes = p.axes.iter().filter(|a| a.kernel * a.out > 1).map(ToString::to_string);
                format!("{:?} taps of {}", p.taps, axes.collect::<Vec<_>>().join(" by ")).to_lowercase()
            }
        };
        let own = if self.own_b { "" } else { ", one right side" };
        let halves = match (self.scaled, self.b_mem) {
            (Some(s), _) => format!(" of {} bits in groups of {}", if s.nibbles { 4 } else { 8 }, s.group),
            (None, MemType::F32) => String::new(),
            (None, other) => format!(" of {}", other.word()),
        };
        format!("contract_f32 {batch}x{m}x{n}x{taps}x{k}, {rows}{own}{halves}, columns {} apart", self.c_col_stride)
    }
}

#[cfg(test)]
mod tests {
    use optc_kernel::target::ISAS;

    use super::*;

    #[test]
    fn few_columns_have_tiles_of_their_own() {
        let isa = Isa::by_name("avx2").expect("a row of the table");
        let tile = |isa: &Isa, n: usize| {
            let s = ContractSchedule::choose(&Contract::matmul(1, 3136, n, 144), isa, &Caches::default());
            (s.mr, s.nr)
        };
        assert_eq!([16, 32, 144].map(|n| tile(isa, n)), [(6, 16); 3]);
        assert_eq!((tile(isa, 24), tile(isa, 8)), ((4, 24), (12, 8)));
        let portable = &ISAS[ISAS.len() - 1];
        assert_eq!(tile(portable, 12), (portable.contract_f32.0, 8));
    }

    #[test]
    fn options_begin_with_the_choice_and_fit() {
        for isa in ISAS {
            for (m, n, k) in [(49, 512, 512), (3136, 64, 64), (1, 1000, 1280), (7, 3, 5)] {
                let c = Contract::matmul(1, m, n, k);
                let caches = Caches::default();
                let options = ContractSchedule::options(&c, isa, &caches);
                assert_eq!(options[0], ContractSchedule::choose(&c, isa, &caches));
                assert!(options.len() > 1, "{} {m} {n}: {options:?}", isa.name);
                for (i, s) in options.iter().enumerate() {
                    let vectors = s.nr / isa.lanes();
                    assert!(!options[..i].contains(s) && s.mr > 0 && s.mc.is_multiple_of(s.mr) && s.panels > 0, "{s}");
                    assert!(s.mr * vectors + vectors < isa.vector_regs, "{}: {s}", isa.name);
                }
            }
        }
    }
}
