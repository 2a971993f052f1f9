//! The kernels before and after the products. Both work on a tile at a time, columns first and then rows, with what is
//! between in the scratch: `n` by `n` vectors do not fit the registers.

use optc_kernel::nest::{Access, Base, Ix, Kernel, Rel, Stmt, TASK, Var, call, for_loop};
use optc_kernel::target::Isa;
use optc_kernel::tile::{Count, MemType, Ptr, Reg, Tile, TileBuilder};

use super::Winograd;
use crate::contract::BuiltContract;

impl Winograd<'_> {
    /// The kernel that transforms the pixels, and its table: a row of zeros, then for each tile where its pixels are,
    /// column by column. Buffers: the images, the table, the transformed pixels. A task is a row of tiles.
    pub fn input(&self, isa: &Isa) -> BuiltContract {
        let (c, n) = (self.conv, self.form.inputs());
        let [down, across] = self.tiles_of();
        let table = self.table();
        let mut kernel = Kernel::new(format!("winograd_input_{n}x{n}"), (c.batch * down) as u64);
        let src = kernel.buf("src", c.src.bytes, Access::Read);
        let places = kernel.buf("places", table.len(), Access::Read);
        let dst = kernel.buf("v", self.bytes()[0], Access::Write);
        let scratch = Base::Scratch.at(kernel.scratch(4 * n * n * c.channels));
        let (columns, rows) = (kernel.tile(self.input_columns(isa.lanes())), kernel.tile(self.input_rows(isa.lanes())));
        let x = kernel.var();
        let tile = || Ix::var(TASK) * across as i64 + Ix::var(x);
        let place = places.at(tile() * 4 * (n * n) as i64 + self.zeros());
        let body = vec![
            call(columns, [src.at(0), places.at(0), place, scratch.clone()]),
            call(rows, [scratch, dst.at(tile() * 4 * c.channels as i64)]),
        ];
        kernel.body = vec![for_loop(x, 0, across, body)];
        BuiltContract { kernel, table: Some(table) }
    }

    /// Bytes of the zeros of the table.
    fn zeros(&self) -> usize {
        (4 * self.conv.channels).next_multiple_of(64)
    }

    fn table(&self) -> Vec<u8> {
        let (c, n, m) = (self.conv, self.form.inputs(), self.form.outputs);
        let [down, across] = self.tiles_of();
        let [_, rows, columns] = &c.axes;
        let mut table = vec![0; self.zeros()];
        for i in 0..self.tiles() * n * n {
            let (tile, x, y) = (i / (n * n), i / n % n, i % n);
            let y = (tile / across % down * m + y).checked_sub(rows.pads[0]).filter(|&y| y < rows.size);
            let x = (tile % across * m + x).checked_sub(columns.pads[0]).filter(|&x| x < columns.size);
            let at = y.zip(x).map_or(-1, |(y, x)| {
                let [image, _, row, column, _] = c.src.strides;
                c.src.offset + (tile / (across * down)) as i64 * image + y as i64 * row + x as i64 * column
            });
            // Offsets lie within a buffer whose length is a positive `i32`.
            table.extend((at as i32).to_le_bytes());
        }
        table
    }

    /// `Bᵀ` times the columns of a tile. Pointers: the images, the zeros, the places of the tile, the scratch.
    fn input_columns(&self, lanes: usize) -> Tile {
        let (n, channels) = (self.form.inputs(), self.conv.channels);
        let bytes = 4 * channels as i64;
        let mut b = TileBuilder::new(format!("winograd_input_columns_{n}"), lanes);
        let (src, zeros, places, dst) = (b.ptr(), b.ptr(), b.ptr(), b.ptr());
        b.for_each(Count::Static(n as u32), &[(places, 4 * n as i64), (dst, bytes)], &[], |b, p, _| {
            let pixels: Vec<_> = (0..n as i64).map(|i| b.load_ptr(p[0], 4 * i, src, zeros)).collect();
            over_channels(b, channels, &each(&pixels, p[1]), |b, p, cols| {
                let x: Vec<_> = p[..n].iter().map(|&at| b.load_n(MemType::F32, at, 0, cols)).collect();
                for (i, y) in apply(b, self.form.input, &x).into_iter().enumerate() {
                    b.store_n(MemType::F32, p[n], (i * n) as i64 * bytes, cols, y);
                }
            });
            vec![]
        });
        b.finish()
    }

    /// The rows of a tile times `B`. Pointers: the scratch, where the first element of the tile goes.
    fn input_rows(&self, lanes: usize) -> Tile {
        let (n, channels) = (self.form.inputs(), self.conv.channels);
        let (from, to) = (4 * channels as i64, 4 * (self.tiles() * channels) as i64);
        let mut b = TileBuilder::new(format!("winograd_input_rows_{n}"), lanes);
        let (src, dst) = (b.ptr(), b.ptr());
        b.for_each(Count::Static(n as u32), &[(src, n as i64 * from), (dst, n as i64 * to)], &[], |b, p, _| {
            over_channels(b, channels, &each(&p[..1], p[1]), |b, p, cols| {
                let x: Vec<_> = (0..n as i64).map(|j| b.load_n(MemType::F32, p[0], j * from, cols)).collect();
                for (j, y) in apply(b, self.form.input, &x).into_iter().enumerate() {
                    b.store_n(MemType::F32, p[1], j as i64 * to, cols, y);
                }
            });
            vec![]
        });
        b.finish()
    }

    /// The kernel that makes results from the products. Buffers: the products, the operands of the epilogue, the
    /// result. A task is a row of tiles.
    pub fn output(&self, isa: &Isa) -> Kernel {
        let (c, n, m) = (self.conv, self.form.inputs(), self.form.outputs);
        let [down, across] = self.tiles_of();
        let mut kernel = Kernel::new(format!("winograd_output_{m}x{m}"), (c.batch * down) as u64);
        let src = kernel.buf("m", self.bytes()[1], Access::Read);
        let operands: Vec<_> =
            c.operands.iter().enumerate().map(|(i, o)| kernel.buf(format!("x{i}"), o.bytes, Access::Read)).collect();
        let whole = 4 * c.batch * c.filters * c.axes[1].out * c.axes[2].out == c.dst.bytes;
        let dst = kernel.buf("dst", c.dst.bytes, if whole { Access::Write } else { Access::ReadWrite });
        let scratch = kernel.scratch(4 * m * n * c.filters);
        let columns = kernel.tile(self.output_columns(isa.lanes()));
        let [image, y, x] = [(); 3].map(|()| kernel.var());
        let tile = |kernel: &mut Kernel, pixels: usize, x: Ix| {
            let from = src.at((Ix::var(TASK) * across as i64 + x.clone()) * 4 * c.filters as i64);
            let mut body = vec![call(columns, [from, Base::Scratch.at(scratch)])];
            let rows = kernel.tile(self.output_row(isa.lanes(), pixels));
            body.extend((0..m).map(|row| self.store_row(rows, row, (image, y), &x, (&operands, dst), scratch)));
            body
        };
        let (full, rest) = (c.axes[2].out / m, c.axes[2].out % m);
        let mut body = vec![
            Stmt::Let { var: image, value: Ix::var(TASK) / down as i64 },
            Stmt::Let { var: y, value: Ix::var(TASK) % down as i64 * m as i64 },
        ];
        if full > 0 {
            let all = tile(&mut kernel, m, Ix::var(x));
            body.push(for_loop(x, 0, full, all));
        }
        if rest > 0 {
            body.extend(tile(&mut kernel, rest, full.into()));
        }
        kernel.body = body;
        kernel
    }

    /// Stores row `row` of tile `x`, if the image has it.
    fn store_row(
        &self,
        tile: usize,
        row: usize,
        (image, y): (Var, Var),
        x: &Ix,
        (operands, dst): (&[Base], Base),
        scratch: usize,
    ) -> Stmt {
        let (c, n, m) = (self.conv, self.form.inputs(), self.form.outputs);
        let y = || Ix::var(y) + row;
        let at = |base: Base, view: &crate::window::ImageView| {
            let s = view.strides;
            base.at(Ix::var(image) * s[0] + y() * s[2] + x.clone() * (m as i64 * s[3]) + view.offset)
        };
        let mut ptrs = vec![Base::Scratch.at(scratch + 4 * row * n * c.filters)];
        ptrs.extend(operands.iter().zip(&c.operands).map(|(&base, view)| at(base, view)));
        ptrs.push(at(dst, &c.dst));
        Stmt::If { a: y(), rel: Rel::Lt, b: c.axes[1].out.into(), then: vec![call(tile, ptrs)], otherwise: vec![] }
    }

    /// `Aᵀ` times the columns of a tile. Pointers: the first product of the tile, the scratch.
    fn output_columns(&self, lanes: usize) -> Tile {
        let (n, filters) = (self.form.inputs(), self.conv.filters);
        let (from, to) = (4 * (self.tiles() * filters) as i64, 4 * filters as i64);
        let mut b = TileBuilder::new(format!("winograd_output_columns_{n}"), lanes);
        let (src, dst) = (b.ptr(), b.ptr());
        b.for_each(Count::Static(n as u32), &[(src, from), (dst, to)], &[], |b, p, _| {
            over_channels(b, filters, &each(&p[..1], p[1]), |b, p, cols| {
                let x: Vec<_> = (0..n).map(|i| b.load_n(MemType::F32, p[0], (i * n) as i64 * from, cols)).collect();
                for (i, y) in apply(b, self.form.output, &x).into_iter().enumerate() {
                    b.store_n(MemType::F32, p[1], (i * n) as i64 * to, cols, y);
                }
            });
            vec![]
        });
        b.finish()
    }

    /// A row of a tile times `A`, and the epilogue of its first `pixels` results. Pointers: the row in the scratch, the
    /// operands, the result.
    fn output_row(&self, lanes: usize, pixels: usize) -> Tile {
        let (c, n) = (self.conv, self.form.inputs());
        let mut b = TileBuilder::new(format!("winograd_output_row_{pixels}"), lanes);
        let mut ptrs = vec![(b.ptr(), 4)];
        ptrs.extend(c.operands.iter().map(|o| (b.ptr(), o.strides[4])));
        ptrs.push((b.ptr(), c.dst.strides[4]));
        over_channels(&mut b, c.filters, &ptrs, |b, p, cols| {
            let x: Vec<_> = (0..n).map(|j| b.load_n(MemType::F32, p[0], 4 * (j * c.filters) as i64, cols)).collect();
            let mut shared = vec![None; c.operands.len()];
            let sums = apply(b, self.form.output, &x);
            for (pixel, &sum) in sums[..pixels].iter().enumerate() {
                let value = c.epilogue.emit(b, &mut |b, i| {
                    let Some(i) = i.checked_sub(1) else { return sum };
                    let o = &c.operands[i];
                    if let (0, Some(reg)) = (o.strides[3], shared[i]) {
                        return reg;
                    }
                    let reg = b.load_along(o.mem, p[1 + i], pixel as i64 * o.strides[3], cols, o.strides[4]);
                    shared[i] = Some(reg);
                    reg
                });
                let to = &c.dst;
                b.store_strided(to.mem, p[p.len() - 1], pixel as i64 * to.strides[3], cols, to.strides[4], value);
            }
        });
        b.finish()
    }
}

/// Pointers to floats, and one after them.
fn each(ptrs: &[Ptr], last: Ptr) -> Vec<(Ptr, i64)> {
    ptrs.iter().chain([&last]).map(|&p| (p, 4)).collect()
}

/// Calls `body` for each vector of `channels` channels with the pointers there and the number of channels; the pointers
/// come with the bytes from a channel to the next.
fn over_channels(
    b: &mut TileBuilder,
    channels: usize,
    ptrs: &[(Ptr, i64)],
    body: impl Fn(&mut TileBuilder, &[Ptr], usize),
) {
    let lanes = b.lanes();
    let mut at: Vec<_> = ptrs.iter().map(|&(p, _)| p).collect();
    if channels >= lanes {
        let steps: Vec<_> = ptrs.iter().map(|&(p, stride)| (p, lanes as i64 * stride)).collect();
        let turns = Count::Static((channels / lanes) as u32);
        at = b
            .for_each_ptrs(turns, &steps, &[], |b, p, _| {
                body(b, p, lanes);
                vec![]
            })
            .0;
    }
    if !channels.is_multiple_of(lanes) {
        body(b, &at, channels % lanes);
    }
}

/// A matrix times a vector of registers; each row of the matrix has a 1.
fn apply(b: &mut TileBuilder, matrix: &[&[f32]], x: &[Reg]) -> Vec<Reg> {
    let row = |factors: &&[f32]| {
        let first = factors.iter().position(|&f| f == 1.0).unwrap_or(0);
        factors.iter().enumerate().filter(|&(i, &f)| i != first && f != 0.0).fold(x[first], |sum, (i, &f)| {
            if f == 1.0 {
                b.add(sum, x[i])
            } else if f == -1.0 {
                b.sub(sum, x[i])
            } else {
                let f = b.f32(f);
                b.fma(f, x[i], sum)
            }
        })
    };
    matrix.iter().map(row).collect()
}
