//! The tile: the sums of a phase's gates for one vector of units of a few sequences, and its expressions.

use optc_kernel::expr::RegisterScope;
use optc_kernel::tile::{Count, MemType, Ptr, Reg, Tile, TileBuilder, Unary};

use super::{Phase, SequencePlace};

/// Units of the state in one turn of the loop.
const UNROLL: usize = 4;
/// Independent sums that hide the latency of the FMA units.
const CHAINS: usize = 8;

/// What a tile does.
pub(super) struct RecurrentTile<'a> {
    pub phase: &'a Phase,
    pub hidden: usize,
    /// What a weight is.
    pub weights: MemType,
    /// Sequences.
    pub rows: usize,
    /// Units.
    pub units: usize,
    /// Bytes from one sequence to the next of what is multiplied, of the starts, the operands and the outputs.
    pub from: i64,
    pub starts: Vec<i64>,
    pub operands: Vec<i64>,
    pub outputs: Vec<i64>,
}

/// Builds the tile. Pointers: the weights of the vector of units, what they are multiplied by (its first unit), then
/// the starts, the operands and the outputs.
pub(super) fn build(s: &RecurrentTile, lanes: usize) -> Tile {
    let phase = s.phase;
    let mut b = TileBuilder::new(format!("recurrent_{}x{}", s.rows, phase.gates.len()), lanes);
    let (weights, from) = (b.ptr(), b.ptr());
    let starts: Vec<_> = phase.starts.iter().map(|_| b.ptr()).collect();
    let operands: Vec<_> = phase.operands.iter().map(|_| b.ptr()).collect();
    let outputs: Vec<_> = phase.outputs.iter().map(|_| b.ptr()).collect();
    let gates = phase.gates.len();
    let sums = s.rows * gates;
    let chains = (CHAINS / sums).clamp(1, UNROLL);
    let zero = b.f32(0.0);
    let mut acc = vec![zero; sums * chains];
    for row in 0..s.rows {
        for gate in 0..gates {
            if phase.starts[gate] != SequencePlace::Zero {
                acc[row * gates + gate] = b.load_n(MemType::F32, starts[gate], row as i64 * s.starts[gate], s.units);
            }
        }
    }
    let step = |b: &mut TileBuilder, weights, from, u: usize, acc: &mut [Reg]| {
        let column = |gate: usize| column(b, s.weights, weights, (u * gates + gate) * lanes);
        let columns: Vec<_> = (0..gates).map(column).collect();
        for row in 0..s.rows {
            let x = b.broadcast(MemType::F32, from, row as i64 * s.from + 4 * u as i64);
            for (gate, &column) in columns.iter().enumerate() {
                let sum = &mut acc[u % chains * sums + row * gates + gate];
                *sum = b.fma(x, column, *sum);
            }
        }
    };
    let turn = s.weights.bytes() * (UNROLL * gates * lanes) as i64;
    let advance = [(weights, turn), (from, 4 * UNROLL as i64)];
    let (ptrs, mut acc) = b.for_each_ptrs(Count::Static((s.hidden / UNROLL) as u32), &advance, &acc, |b, p, acc| {
        let mut acc = acc.to_vec();
        (0..UNROLL).for_each(|u| step(b, p[0], p[1], u, &mut acc));
        acc
    });
    (0..s.hidden % UNROLL).for_each(|u| step(&mut b, ptrs[0], ptrs[1], u, &mut acc));
    for chain in 1..chains {
        for i in 0..sums {
            acc[i] = b.add(acc[i], acc[chain * sums + i]);
        }
    }
    for row in 0..s.rows {
        let mut scope = RegisterScope::default();
        let mut leaf = |b: &mut TileBuilder, i: usize| match i.checked_sub(gates) {
            None => acc[row * gates + i],
            Some(i) if phase.operands[i] == SequencePlace::Running => {
                b.broadcast(MemType::F32, operands[i], row as i64 * s.operands[i])
            }
            Some(i) => b.load_n(MemType::F32, operands[i], row as i64 * s.operands[i], s.units),
        };
        let values: Vec<_> = phase.outputs.iter().map(|(expr, _)| scope.emit(expr, &mut b, &mut leaf)).collect();
        for (i, value) in values.into_iter().enumerate() {
            b.store_n(MemType::F32, outputs[i], row as i64 * s.outputs[i], s.units, value);
        }
    }
    b.finish()
}

/// The weights of a vector of units, as floats, this many elements from a pointer.
fn column(b: &mut TileBuilder, mem: MemType, weights: Ptr, at: usize) -> Reg {
    let column = b.load(mem, weights, mem.bytes() * at as i64);
    if mem == MemType::F32 { column } else { b.unary(Unary::ToFloat, column) }
}
