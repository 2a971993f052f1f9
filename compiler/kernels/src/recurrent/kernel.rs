//! The nest: steps, phases, units and sequences.

use optc_kernel::nest::{Access, Addr, Base, Ix, Kernel, Rel, Stmt, TASK, Var, call, for_loop, for_step, let_};
use optc_kernel::target::Isa;
use optc_kernel::tile::{Count, MemType, Tile, TileBuilder};

use super::tile::{RecurrentTile, build};
use super::{Direction, Phase, RecurrentNest, SequencePlace};
use crate::dynamic::quantize_tile;

/// The kernel whose state is multiplied in `f32`. A sequence that shares its tile with no other has its sums in more
/// parts: their order depends on how many sequences there are.
pub const FLOAT_KERNEL: &str = "recurrent_f32";

/// Blocks of sequences, over all directions, that balance a few threads.
const TASKS: usize = 8;

/// Builds the kernel. Buffers: the products of the operands `[steps, batch, directions, gates * hidden]` with all
/// biases that are added before the gates, the packed recurrent weights, the constants `[directions, rows, hidden]` if
/// there are any, where sequences end at steps of their own which run `[steps, batch]`, the first hidden state and, of
/// an LSTM, the first cell state `[directions, batch, hidden]`, then the results: all states `[steps, directions,
/// batch, hidden]`, the last one, and of an LSTM the last cell state.
pub fn recurrent(r: &RecurrentNest, isa: &Isa) -> Kernel {
    let most = r.directions.iter().flat_map(|d| &d.phases).map(|p| p.gates.len()).max().unwrap_or(1);
    let mr = (8 / most).clamp(1, 4);
    let count = r.directions.len();
    // The range of a state is that of all sequences.
    let blocks = if r.is_quantized() { 1 } else { (TASKS / count).max(1) };
    let rows = r.batch.div_ceil(blocks).next_multiple_of(mr);
    let blocks = r.batch.div_ceil(rows);
    let mut kernel = Kernel::new(if r.is_quantized() { "recurrent_i8" } else { FLOAT_KERNEL }, (count * blocks) as u64);
    let state = 4 * count * r.batch * r.hidden;
    let lanes = isa.lanes();
    let input = kernel.buf("input", 4 * r.steps * r.batch * count * r.gates * r.hidden, Access::Read);
    let weights = kernel.buf("weights", r.weights.bytes() as usize * r.packed_len(lanes), Access::Read);
    let mut optional = |is: bool, name: &str, bytes: usize, access: Access| {
        if is { kernel.buf(name, bytes, access) } else { Base::Scratch }
    };
    let constants = optional(r.constants > 0, "constants", 4 * count * r.constants * r.hidden, Access::Read);
    let running = optional(r.is_bounded(), "running", 4 * r.steps * r.batch, Access::Read);
    let h0 = optional(true, "h0", state, Access::Read);
    let c0 = optional(r.has_cell(), "c0", state, Access::Read);
    let y = optional(true, "y", r.steps * state, Access::Write);
    let h = optional(true, "h", state, Access::Write);
    let c = optional(r.has_cell(), "c", state, Access::Write);
    let scratch = kernel.scratch(4 * r.scratch_vectors() * rows * r.hidden);
    let held = if r.is_bounded() { kernel.scratch(4 * rows * r.hidden) } else { 0 };
    let [integers, scale] = match r.is_quantized() {
        true => [4 * r.batch * r.hidden, 4 * lanes].map(|bytes| kernel.scratch(bytes)),
        false => [0; 2],
    };
    let [b0, sequences] = [(); 2].map(|()| kernel.var());
    let bases = Bases { input, weights, constants, running, h0, c0, y, h, c, scratch, held, integers, scale };
    let nest = Nest { r, lanes, mr, rows, bases, b0, sequences };
    let mut body = vec![
        let_(b0, Ix::var(TASK) % blocks as i64 * rows as i64),
        let_(sequences, (Ix::from(r.batch) - b0).min(rows)),
    ];
    let mut offset = 0;
    let mut directions = Vec::new();
    for (i, direction) in r.directions.iter().enumerate() {
        directions.push(nest.direction(&mut kernel, i, direction, offset));
        offset += direction.phases.iter().map(|p| nest.phase_bytes(p)).sum::<usize>();
    }
    let mut directions = directions.into_iter();
    let (then, otherwise) = (directions.next().unwrap_or_default(), directions.next().unwrap_or_default());
    body.push(Stmt::If { a: TASK.into(), rel: Rel::Lt, b: blocks.into(), then, otherwise });
    kernel.body = body;
    kernel
}

struct Bases {
    input: Base,
    weights: Base,
    constants: Base,
    running: Base,
    h0: Base,
    c0: Base,
    y: Base,
    h: Base,
    c: Base,
    scratch: usize,
    /// Where the scratch has the states before a step, of sequences that end at steps of their own: what a step gives
    /// is zero after their ends, so that it is not the state before the next one.
    held: usize,
    /// Where the scratch has a state as integers, and their scale.
    integers: usize,
    scale: usize,
}

struct Nest<'a> {
    r: &'a RecurrentNest,
    lanes: usize,
    /// Sequences of a tile, and of a task.
    mr: usize,
    rows: usize,
    bases: Bases,
    /// The first sequence of the task, and how many it has.
    b0: Var,
    sequences: Var,
}

/// A step: its direction, its time, and the time before it; none before the first.
struct Step {
    direction: usize,
    time: Ix,
    before: Option<Ix>,
}

impl Nest<'_> {
    fn phase_bytes(&self, phase: &Phase) -> usize {
        let units = self.r.hidden.next_multiple_of(self.lanes);
        self.r.weights.bytes() as usize * phase.gates.len() * units * self.r.hidden
    }

    /// All steps of a direction, whose weights begin at `offset`.
    fn direction(&self, kernel: &mut Kernel, i: usize, direction: &Direction, offset: usize) -> Vec<Stmt> {
        let r = self.r;
        let last = r.steps as i64 - 1;
        let time = |s: Ix| if direction.reverse { Ix::from(last) - s } else { s };
        let mut body = Vec::new();
        let sequence = |row: Var| Ix::var(self.b0) + Ix::var(row);
        if r.has_cell() {
            body.push(self.copy_rows(kernel, |row| {
                let at = self.state(i, sequence(row));
                [self.bases.c0.at(at.clone()), self.bases.c.at(at)]
            }));
        }
        if r.is_bounded() {
            return self.bounded_steps(kernel, i, direction, offset, body);
        }
        let first = Step { direction: i, time: time(0.into()), before: None };
        body.extend(self.step(kernel, direction, &first, offset));
        let s = kernel.var();
        let step = Step { direction: i, time: time(s.into()), before: Some(time(Ix::var(s) - 1)) };
        let rest = self.step(kernel, direction, &step, offset);
        body.push(for_loop(s, 1, r.steps, rest));
        body.push(self.copy_rows(kernel, |row| {
            let from = self.states(&time(last.into()), i, sequence(row));
            [self.bases.y.at(from), self.bases.h.at(self.state(i, sequence(row)))]
        }));
        body
    }

    /// The same where sequences end at steps of their own: the last state is kept beside what the steps give.
    fn bounded_steps(
        &self,
        kernel: &mut Kernel,
        i: usize,
        direction: &Direction,
        offset: usize,
        mut body: Vec<Stmt>,
    ) -> Vec<Stmt> {
        let state = |row: Var| self.state(i, Ix::var(self.b0) + Ix::var(row));
        let held = |row: Var| Base::Scratch.at(Ix::var(row) * (4 * self.r.hidden) as i64 + self.bases.held);
        body.push(self.copy_rows(kernel, |row| [self.bases.h0.at(state(row)), self.bases.h.at(state(row))]));
        let s = kernel.var();
        let last = self.r.steps as i64 - 1;
        let time = if direction.reverse { Ix::from(last) - Ix::var(s) } else { s.into() };
        let mut turn = vec![self.copy_rows(kernel, |row| [self.bases.h.at(state(row)), held(row)])];
        turn.extend(self.step(kernel, direction, &Step { direction: i, time, before: None }, offset));
        body.push(for_loop(s, 0, self.r.steps, turn));
        body
    }

    fn step(&self, kernel: &mut Kernel, direction: &Direction, step: &Step, mut offset: usize) -> Vec<Stmt> {
        let mut stmts = Vec::new();
        for phase in &direction.phases {
            if phase.quantized {
                let tile = kernel.tile(quantize_tile(self.r.batch * self.r.hidden, self.lanes));
                let places = [phase.from, SequencePlace::Integers, SequencePlace::Scale];
                stmts.push(call(tile, places.map(|p| self.place(p, step, &0.into(), &0.into()))));
            }
            let unit = kernel.var();
            let (whole, tail) = (self.r.hidden / self.lanes * self.lanes, self.r.hidden % self.lanes);
            if whole > 0 {
                let body = self.sequences(kernel, phase, step, offset, &unit.into(), self.lanes);
                stmts.push(for_step(unit, 0, whole, self.lanes as i64, body));
            }
            if tail > 0 {
                stmts.extend(self.sequences(kernel, phase, step, offset, &whole.into(), tail));
            }
            offset += self.phase_bytes(phase);
        }
        stmts
    }

    /// One vector of units of all sequences of the task.
    fn sequences(
        &self,
        kernel: &mut Kernel,
        phase: &Phase,
        step: &Step,
        offset: usize,
        unit: &Ix,
        units: usize,
    ) -> Vec<Stmt> {
        let mr = self.mr;
        let (row, tail) = (kernel.var(), self.r.batch % mr);
        let all = Ix::var(self.sequences);
        let mut stmts = Vec::new();
        if self.r.batch >= mr {
            let body = vec![self.call(kernel, phase, step, offset, unit, units, row.into(), mr)];
            stmts.push(for_step(row, 0, all.clone() + (1 - mr as i64), mr as i64, body));
        }
        if tail > 0 {
            let at = all.clone() - tail;
            let then = vec![self.call(kernel, phase, step, offset, unit, units, at, tail)];
            stmts.push(Stmt::If { a: all % mr as i64, rel: Rel::Eq, b: tail.into(), then, otherwise: vec![] });
        }
        stmts
    }

    #[expect(clippy::too_many_arguments, reason = "the coordinates of a tile, each of its own kind")]
    fn call(
        &self,
        kernel: &mut Kernel,
        phase: &Phase,
        step: &Step,
        offset: usize,
        unit: &Ix,
        units: usize,
        row: Ix,
        rows: usize,
    ) -> Stmt {
        let stride = |p: &SequencePlace| self.row_stride(*p);
        let from = if phase.quantized { SequencePlace::Integers } else { phase.from };
        let spec = RecurrentTile {
            phase,
            hidden: self.r.hidden,
            weights: self.r.weights,
            rows,
            units,
            from: self.row_stride(from),
            starts: phase.starts.iter().map(stride).collect(),
            operands: phase.operands.iter().map(stride).collect(),
            outputs: phase.outputs.iter().map(|(_, p)| stride(p)).collect(),
        };
        let tile = kernel.tile(build(&spec, self.lanes));
        let panel = unit.clone() * (self.r.weights.bytes() * (phase.gates.len() * self.r.hidden) as i64);
        let mut ptrs = vec![self.bases.weights.at(panel + offset), self.place(from, step, &row, &0.into())];
        let outputs = phase.outputs.iter().map(|(_, p)| p);
        ptrs.extend(
            phase.starts.iter().chain(&phase.operands).chain(outputs).map(|&p| self.place(p, step, &row, unit)),
        );
        call(tile, ptrs)
    }

    fn row_stride(&self, place: SequencePlace) -> i64 {
        let row = 4 * self.r.hidden as i64;
        match place {
            SequencePlace::Input(_) => row * (self.r.gates * self.r.directions.len()) as i64,
            SequencePlace::Constant(_) | SequencePlace::Scale | SequencePlace::Zero => 0,
            SequencePlace::Running => 4,
            SequencePlace::Before
            | SequencePlace::After
            | SequencePlace::Cell
            | SequencePlace::Last
            | SequencePlace::Scratch(_)
            | SequencePlace::Integers => row,
        }
    }

    /// Where unit `unit` of sequence `row` of the task is.
    fn place(&self, place: SequencePlace, step: &Step, row: &Ix, unit: &Ix) -> Addr {
        let (r, b) = (self.r, &self.bases);
        let row_bytes = 4 * r.hidden as i64;
        let sequence = Ix::var(self.b0) + row.clone();
        let unit = unit.clone() * 4;
        match place {
            SequencePlace::Input(gate) => {
                let cell = (step.time.clone() * r.batch as i64 + sequence) * r.directions.len() as i64 + step.direction;
                b.input.at(cell * (row_bytes * r.gates as i64) + unit + gate as i64 * row_bytes)
            }
            SequencePlace::Constant(i) => b.constants.at(unit + (step.direction * r.constants + i) as i64 * row_bytes),
            SequencePlace::Before if self.r.is_bounded() => Base::Scratch.at(row.clone() * row_bytes + unit + b.held),
            SequencePlace::Running => b.running.at((step.time.clone() * r.batch as i64 + sequence) * 4),
            SequencePlace::Last => b.h.at(self.state(step.direction, sequence) + unit),
            SequencePlace::Before => match &step.before {
                None => b.h0.at(self.state(step.direction, sequence) + unit),
                Some(before) => b.y.at(self.states(before, step.direction, sequence) + unit),
            },
            SequencePlace::After => b.y.at(self.states(&step.time, step.direction, sequence) + unit),
            SequencePlace::Cell => b.c.at(self.state(step.direction, sequence) + unit),
            SequencePlace::Integers => Base::Scratch.at(row.clone() * row_bytes + b.integers),
            // Nothing is read for zeros.
            SequencePlace::Scale | SequencePlace::Zero => Base::Scratch.at(b.scale),
            SequencePlace::Scratch(i) => {
                Base::Scratch.at(row.clone() * row_bytes + unit + (b.scratch + i * self.rows * 4 * r.hidden))
            }
        }
    }

    /// The first byte of a sequence in `[directions, batch, hidden]`.
    fn state(&self, direction: usize, sequence: Ix) -> Ix {
        (sequence + direction * self.r.batch) * (4 * self.r.hidden) as i64
    }

    /// The first byte of a sequence at a time in `[steps, directions, batch, hidden]`.
    fn states(&self, time: &Ix, direction: usize, sequence: Ix) -> Ix {
        let step = (4 * self.r.directions.len() * self.r.batch * self.r.hidden) as i64;
        time.clone() * step + self.state(direction, sequence)
    }

    /// Copies the units of each sequence of the task; `addrs` gives where from and where to.
    fn copy_rows(&self, kernel: &mut Kernel, addrs: impl Fn(Var) -> [Addr; 2]) -> Stmt {
        let tile = kernel.tile(copy(self.r.hidden, self.lanes));
        let row = kernel.var();
        for_loop(row, 0, self.sequences, vec![call(tile, addrs(row))])
    }
}

/// Copies `n` floats.
fn copy(n: usize, lanes: usize) -> Tile {
    let mut b = TileBuilder::new("copy_state", lanes);
    let (src, dst) = (b.ptr(), b.ptr());
    let step = 4 * lanes as i64;
    let (ptrs, _) = b.for_each_ptrs(Count::Static((n / lanes) as u32), &[(src, step), (dst, step)], &[], |b, p, _| {
        let x = b.load(MemType::F32, p[0], 0);
        b.store(MemType::F32, p[1], 0, x);
        vec![]
    });
    if !n.is_multiple_of(lanes) {
        let x = b.load_n(MemType::F32, ptrs[0], 0, n % lanes);
        b.store_n(MemType::F32, ptrs[1], 0, n % lanes, x);
    }
    b.finish()
}
