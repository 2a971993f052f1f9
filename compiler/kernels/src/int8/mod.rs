//! Products of narrow numbers: convolutions over images and matrix products of 8-bit integers, summed exactly in `i32`,
//! or of bfloat16, summed in `f32`.
//!
//! ```text
//! task = (image, group, block of rows (of columns, where there is one row), block of panels)
//! stage the source rows of the block in the form that is multiplied, zeros for the padding
//! for panel in block { for row in block { for tile of columns { sums in registers over all taps; epilogue; store } } }
//! ```
//!
//! Weights are packed in the form that one instruction multiplies and adds for each of its columns (`[group][panel][row
//! of taps][taps][groups of k][nr]`): pairs of 16-bit integers without their zero points for `dot2`, or, where the
//! target has an instruction for it, fours of bytes for `dot4`. Fours are `u8` times `i8`: signed pixels are staged
//! with their sign bit turned over, the zero point stays in them, and each panel begins with what this adds to its
//! columns' sums, negated. The staged copy is small compared with the work on it: it is made once for all panels of a
//! task, or not at all where bytes can be multiplied from where they are. Staged pixels are side by side, so that the
//! taps of a row are one long run unless they are dilated. Where `k` is not a multiple of the group, the last one reads
//! more elements, which meet weights of zero.
//!
//! Where there are matrix registers, tiles are two by two of them: 32 pixels by 32 columns. Taps are filled up with
//! weights of zero to 64 bytes, sums leave the registers through the scratch, and each task configures and releases the
//! registers. Points whose channels are whole rows of matrices are multiplied from where they are as well; the last
//! pixels, fewer than a matrix, are staged.
//!
//! Products of bfloat16 round pixels when they are staged, unless they are bfloat16 in memory. Where there is no
//! instruction for pairs of them, pixels stay `f32` and the weights, half as long in memory as those of an `f32`
//! contraction, are widened in registers.

mod blocks;
mod form;
mod pack;
mod schedule;
mod stage;
mod tile;

use form::BLOCK;
pub use form::Int8Form;
use optc_kernel::expr::Expr;
use optc_kernel::nest::{Access, Base, Ix, Kernel, Rel, Stmt, TASK, Var, call, for_loop, let_};
use optc_kernel::target::Isa;
use optc_kernel::tile::MemType;
pub use pack::{Pack, pack, pack_pairs_kernel};
pub use schedule::Int8Schedule;

use crate::window::{Axis, ImageView};

/// A product of integers, or of bfloat16.
#[derive(Clone, Debug, PartialEq)]
pub struct NarrowProduct {
    /// Images: independent, also in their weights with `own_weights`.
    pub images: usize,
    /// Groups of channels.
    pub groups: usize,
    /// Channels of a group.
    pub channels: usize,
    /// Results of a group for each pixel.
    pub filters: usize,
    /// Rows and columns.
    pub axes: [Axis; 2],
    /// The images: 8-bit integers, `f32` or bfloat16, the channels of a group side by side.
    pub src: ImageView,
    /// What stands for zero in `src`, and pads it.
    pub src_zero: i32,
    /// The result.
    pub dst: ImageView,
    /// Operands of the epilogue.
    pub operands: Vec<ImageView>,
    /// What is stored: operand 0 is the sum, operand `i + 1` is `operands[i]`.
    pub epilogue: Expr,
    /// Whether each image has packed weights of its own.
    pub own_weights: bool,
    /// How pixels are staged and weights packed.
    pub form: Int8Form,
}

impl NarrowProduct {
    /// `m` rows of `k` elements side by side (unsigned bytes or `f32`) by `n` columns, the sums as they are.
    pub fn points(m: usize, n: usize, k: usize, form: Int8Form) -> NarrowProduct {
        let view = |mem: MemType, columns: usize| {
            let row = columns as i64 * mem.bytes();
            ImageView { mem, bytes: m * row as usize, offset: 0, strides: [m as i64 * row, 0, 0, row, mem.bytes()] }
        };
        NarrowProduct {
            images: 1,
            groups: 1,
            channels: k,
            filters: n,
            axes: [Axis::NONE, Axis { size: m, out: m, ..Axis::NONE }],
            src: view(if form.is_float() { MemType::F32 } else { MemType::U8 }, k),
            src_zero: 0,
            dst: view(if form.is_float() { MemType::F32 } else { MemType::I32 }, n),
            operands: vec![],
            epilogue: Expr::Operand(0),
            own_weights: false,
            form,
        }
    }

    /// Rows of taps, taps of a row, and elements of each tap: the taps of a row are one where they are side by side.
    fn taps(&self) -> (usize, usize, usize) {
        let [h, w] = self.axes;
        if w.dilation == 1 { (h.kernel, 1, w.kernel * self.channels) } else { (h.kernel, w.kernel, self.channels) }
    }

    /// Elements of a tap.
    pub fn run(&self) -> usize {
        self.taps().2
    }

    /// How weights `[groups * filters, channels, rows, columns]` (strides in elements) are packed.
    pub fn pack(&self) -> Pack {
        let (rows, taps, k) = self.taps();
        Pack { form: self.form, rows, taps, k, n: self.filters, zero: self.staged_zero() }
    }

    fn staged_zero(&self) -> i32 {
        self.form.staged_zero(self.src.mem, self.src_zero)
    }

    /// Elements from one staged pixel to the next: its channels, filled up with zeros to whole rows of matrices where
    /// it is a tap on its own.
    fn staged_channels(&self) -> usize {
        match self.form {
            Int8Form::HalfBlocks if self.axes[1].kernel == 1 => self.channels.next_multiple_of(2 * BLOCK),
            _ => self.channels,
        }
    }

    /// Whether pixels are multiplied from where they are: points without padding in whole groups, or in whole rows of
    /// matrices.
    fn direct(&self) -> bool {
        let [h, w] = self.axes;
        let points = h == Axis::NONE && w.kernel == 1 && w.pads == [0, 0] && w.inside();
        let whole = match (self.form, self.src.mem) {
            (Int8Form::Fours, MemType::U8) | (Int8Form::Halves, MemType::Bf16) => self.form.group(),
            (Int8Form::ByteBlocks, MemType::U8) | (Int8Form::HalfBlocks, MemType::Bf16) => BLOCK * self.form.group(),
            _ => return false,
        };
        points && self.channels.is_multiple_of(whole)
    }

    /// Whether a tile of this many pixels reads them from where they are: a matrix is read whole, and there may be
    /// nothing after the last pixels.
    fn in_place(&self, pixels: usize) -> bool {
        self.direct() && (!self.form.is_blocked() || pixels.is_multiple_of(BLOCK))
    }

    /// The last pixels that are staged although the others are not, for tiles of `mr` pixels.
    fn staged_rest(&self, mr: usize) -> Option<usize> {
        let rest = self.axes[1].out % mr;
        (self.direct() && !self.in_place(rest)).then_some(rest)
    }

    /// Bytes from the pixel of one result to that of the next, in what a tile of this many pixels multiplies.
    fn pixel_step(&self, pixels: usize) -> i64 {
        let stride = self.axes[1].stride as i64;
        if self.in_place(pixels) {
            stride * self.src.strides[3]
        } else {
            stride * (self.form.staged_bytes() * self.staged_channels()) as i64
        }
    }

    /// Source columns that a row of results needs, padding included.
    fn staged_columns(&self, columns: usize) -> usize {
        let w = self.axes[1];
        (columns - 1) * w.stride + (w.kernel - 1) * w.dilation + 1
    }

    /// Bytes of a staged row.
    fn staged_row(&self, columns: usize) -> usize {
        (self.form.staged_bytes() * self.staged_columns(columns) * self.staged_channels()).next_multiple_of(16)
    }

    fn staged_rows(&self, rows: usize) -> usize {
        let h = self.axes[0];
        (rows - 1) * h.stride + (h.kernel - 1) * h.dilation + 1
    }

    /// Rows without a window are one row, where the strides of all views allow it; so are images that share weights.
    pub fn merged(mut self) -> NarrowProduct {
        let point = |a: &Axis| a.kernel == 1 && a.stride == 1 && a.pads == [0, 0] && a.out == a.size;
        if !self.axes.iter().all(point) {
            return self;
        }
        let [h, w] = self.axes.map(|a| a.out as i64);
        let fits = |v: &ImageView| h == 1 || v.strides[2] == w * v.strides[3];
        let all = |p: &NarrowProduct, fits: &dyn Fn(&ImageView) -> bool| {
            fits(&p.src) && fits(&p.dst) && p.operands.iter().all(fits)
        };
        if all(&self, &fits) {
            let n = self.axes[0].out * self.axes[1].out;
            self.axes = [Axis::NONE, Axis { size: n, out: n, ..Axis::NONE }];
            let whole = |v: &ImageView| v.strides[0] == n as i64 * v.strides[3];
            if self.images > 1 && !self.own_weights && all(&self, &whole) {
                let n = n * self.images;
                self.images = 1;
                self.axes[1] = Axis { size: n, out: n, ..Axis::NONE };
            }
        }
        self
    }
}

/// Builds the kernel. Buffers: the images, packed weights, the operands of the epilogue, the result.
pub fn product(p: &NarrowProduct, isa: &Isa, schedule: Int8Schedule) -> Kernel {
    let Int8Schedule { mr, nr, rows, columns, panels } = schedule;
    let [h, w] = p.axes.map(|a| a.out);
    let (row_blocks, column_blocks) = (h.div_ceil(rows), w.div_ceil(columns));
    let all_panels = p.filters.div_ceil(nr);
    let panel_blocks = all_panels.div_ceil(panels);
    let tasks = p.images * p.groups * row_blocks * column_blocks * panel_blocks;
    let mut kernel = Kernel::new(format!("contract_{}_{mr}x{nr}", p.form.word()), tasks as u64);
    let src = kernel.buf("a", p.src.bytes, Access::Read);
    let sets = p.groups * if p.own_weights { p.images } else { 1 };
    let weights = kernel.buf("b", sets * p.pack().bytes(nr), Access::Read);
    let operands =
        p.operands.iter().enumerate().map(|(i, o)| kernel.buf(format!("x{i}"), o.bytes, Access::Read)).collect();
    let whole = p.images * h * w * p.groups * p.filters * p.dst.mem.bytes() as usize == p.dst.bytes;
    let dst = kernel.buf("c", p.dst.bytes, if whole { Access::Write } else { Access::ReadWrite });
    let [image, group, y0, x0, p0] = [(); 5].map(|()| kernel.var());
    let rest = p.staged_rest(mr);
    if let Some(columns) = if p.direct() { rest } else { Some(columns) } {
        // The last element of a row may be stored with more after it; matrices are loaded whole.
        let behind =
            if p.form.is_blocked() { mr * p.axes[1].stride * p.form.staged_bytes() * p.staged_channels() } else { 0 };
        kernel.scratch(p.staged_rows(rows) * p.staged_row(columns) + behind + 64);
    }
    // What leaves matrix registers passes through memory.
    let sums = if p.form.is_blocked() { kernel.scratch(4 * mr * nr) } else { 0 };
    let nest = Nest { p, isa, schedule, src, weights, operands, dst, image, group, y0, x0, sums };
    let task = Ix::var(TASK);
    let spatial = (row_blocks * column_blocks) as i64;
    let mut body = vec![
        let_(p0, task.clone() % panel_blocks as i64 * panels as i64),
        let_(y0, task.clone() / panel_blocks as i64 % spatial / column_blocks as i64 * rows as i64),
        let_(x0, task.clone() / panel_blocks as i64 % spatial % column_blocks as i64 * columns as i64),
        let_(group, task.clone() / (panel_blocks as i64 * spatial) % p.groups as i64),
        let_(image, task / (panel_blocks as i64 * spatial * p.groups as i64)),
    ];
    if p.form.is_blocked() {
        let configure = kernel.tile(tile::matrices(isa, true));
        body.push(call(configure, []));
    }
    if !p.direct() {
        body.extend(nest.stage(&mut kernel));
    } else if let Some(rest) = rest {
        body.push(nest.stage_rest(&mut kernel, rest));
    }
    let full = p.filters / nr;
    if full > 0 {
        let panel = kernel.var();
        let inner = nest.rows(&mut kernel, panel, nr);
        body.push(for_loop(panel, p0, (Ix::var(p0) + panels).min(full), inner));
    }
    if !p.filters.is_multiple_of(nr) {
        let panel = kernel.var();
        let mut last = vec![let_(panel, full.into())];
        last.extend(nest.rows(&mut kernel, panel, p.filters % nr));
        let (a, b) = (Ix::var(p0) + panels, all_panels.into());
        body.push(Stmt::If { a, rel: Rel::Ge, b, then: last, otherwise: vec![] });
    }
    if p.form.is_blocked() {
        let release = kernel.tile(tile::matrices(isa, false));
        body.push(call(release, []));
    }
    kernel.body = body;
    kernel
}

/// What a call of a tile needs to know.
struct Nest<'a> {
    p: &'a NarrowProduct,
    isa: &'a Isa,
    schedule: Int8Schedule,
    src: Base,
    weights: Base,
    operands: Vec<Base>,
    dst: Base,
    image: Var,
    group: Var,
    /// Where the scratch has the sums of a tile.
    sums: usize,
    /// The first row and column of the block.
    y0: Var,
    x0: Var,
}

impl Nest<'_> {
    /// Rows of the block at hand.
    fn block_rows(&self) -> Ix {
        (Ix::from(self.p.axes[0].out) - Ix::var(self.y0)).min(self.schedule.rows)
    }

    /// Copies the source rows of the block to the start of the scratch.
    fn stage(&self, kernel: &mut Kernel) -> Vec<Stmt> {
        let (p, s) = (self.p, self.schedule);
        let row_bytes = p.staged_row(s.columns);
        let from = self.source();
        let tail = p.axes[1].out % s.columns;
        let mut stmts = vec![];
        let whole = self.stage_rows(kernel, from.clone(), s.columns, row_bytes);
        if tail == 0 {
            stmts.extend(whole);
            return stmts;
        }
        let rest = self.stage_rows(kernel, from, tail, row_bytes);
        let (a, b) = (Ix::var(self.x0) + s.columns, p.axes[1].out.into());
        // Whole blocks end within the row.
        stmts.push(Stmt::If { a: b, rel: Rel::Ge, b: a, then: whole, otherwise: rest });
        stmts
    }

    /// Copies the last pixels to the start of the scratch, in the block that has them.
    fn stage_rest(&self, kernel: &mut Kernel, rest: usize) -> Stmt {
        let w = self.p.axes[1].out;
        let then = self.stage_rows(kernel, self.source_at((w - rest).into()), rest, 0);
        let end = Ix::var(self.x0) + self.schedule.columns;
        Stmt::If { a: end, rel: Rel::Ge, b: w.into(), then, otherwise: vec![] }
    }

    /// Where the first source pixel of the block's columns is, in row 0.
    fn source(&self) -> Ix {
        self.source_at(Ix::var(self.x0))
    }

    /// Where the source pixel of a column is, in row 0.
    fn source_at(&self, column: Ix) -> Ix {
        let (p, strides) = (self.p, self.p.src.strides);
        Ix::var(self.image) * strides[0]
            + Ix::var(self.group) * (p.channels as i64 * strides[4])
            + column * (p.axes[1].stride as i64 * strides[3])
            + p.src.offset
    }

    /// The source rows for `columns` columns of results.
    fn stage_rows(&self, kernel: &mut Kernel, from: Ix, columns: usize, row_bytes: usize) -> Vec<Stmt> {
        let (p, h) = (self.p, self.p.axes[0]);
        let copy = kernel.tile(stage::copy(p, columns, self.isa));
        let line = kernel.var();
        let to = Base::Scratch.at(Ix::var(line) * row_bytes as i64);
        if h == Axis::NONE {
            return vec![let_(line, 0.into()), call(copy, [self.src.at(from), to])];
        }
        let y = Ix::var(self.y0) * h.stride as i64 + line - h.pads[0] as i64;
        let copied = vec![call(copy, [self.src.at(from + y.clone() * p.src.strides[2]), to.clone()])];
        let body = if h.pads == [0, 0] && h.inside() {
            copied
        } else {
            let zero = kernel.tile(stage::zeros(p, columns, self.isa.lanes()));
            let empty = || vec![call(zero, [to.clone()])];
            let below = Stmt::If { a: y.clone(), rel: Rel::Lt, b: h.size.into(), then: copied, otherwise: empty() };
            vec![Stmt::If { a: y, rel: Rel::Ge, b: 0.into(), then: vec![below], otherwise: empty() }]
        };
        let lines = (self.block_rows() - 1) * h.stride as i64 + ((h.kernel - 1) * h.dilation + 1) as i64;
        vec![for_loop(line, 0, lines, body)]
    }

    /// A panel over the block.
    fn rows(&self, kernel: &mut Kernel, panel: Var, cols: usize) -> Vec<Stmt> {
        let (mr, w, columns) = (self.schedule.mr, self.p.axes[1].out, self.schedule.columns);
        let [row, tile] = [(); 2].map(|()| kernel.var());
        let mut body = Vec::new();
        let here = || (Ix::from(w) - Ix::var(self.x0)).min(columns);
        if columns >= mr {
            let whole = self.call(kernel, (panel, row), mr, cols, Ix::var(tile) * mr as i64);
            body.push(for_loop(tile, 0, here() / mr as i64, vec![whole]));
        }
        // Blocks but the last are whole tiles, or all columns.
        if !w.is_multiple_of(mr) {
            let rest = w % mr;
            let at = Ix::from(w - rest) - Ix::var(self.x0);
            let last = vec![self.call(kernel, (panel, row), rest, cols, at)];
            let (a, b) = (Ix::var(self.x0) + columns, w.into());
            body.push(Stmt::If { a, rel: Rel::Ge, b, then: last, otherwise: vec![] });
        }
        vec![for_loop(row, 0, self.block_rows(), body)]
    }

    /// The call of the tile for `pixels` by `cols` from column `at` of a row of the block on.
    fn call(&self, kernel: &mut Kernel, (panel, row): (Var, Var), pixels: usize, cols: usize, at: Ix) -> Stmt {
        let (p, s) = (self.p, self.schedule);
        let row_bytes = p.staged_row(s.columns);
        let tile = kernel.tile(tile::build(p, self.isa, row_bytes, s.nr, pixels, cols));
        let column = at.clone() * p.pixel_step(pixels);
        let a = match (p.in_place(pixels), p.direct()) {
            (true, _) => self.src.at(self.source() + column),
            (false, true) => Base::Scratch.at(Ix::Const(0)),
            (false, false) => Base::Scratch.at(Ix::var(row) * (p.axes[0].stride * row_bytes) as i64 + column),
        };
        let pack = p.pack();
        let mut set = Ix::var(self.group);
        if p.own_weights {
            set = set + Ix::var(self.image) * p.groups as i64;
        }
        let b = set * pack.bytes(s.nr) as i64 + Ix::var(panel) * pack.panel_bytes(s.nr) as i64;
        let mut ptrs = vec![a, self.weights.at(b)];
        let element = |v: &ImageView| {
            let [n, _, h, w, c] = v.strides;
            Ix::var(self.image) * n
                + (Ix::var(self.y0) + row) * h
                + (Ix::var(self.x0) + at.clone()) * w
                + (Ix::var(self.group) * p.filters as i64 + Ix::var(panel) * s.nr as i64) * c
                + v.offset
        };
        ptrs.extend(self.operands.iter().zip(&p.operands).map(|(base, v)| base.at(element(v))));
        ptrs.push(self.dst.at(element(&p.dst)));
        if p.form.is_blocked() {
            ptrs.push(Base::Scratch.at(self.sums as i64));
        }
        call(tile, ptrs)
    }
}
