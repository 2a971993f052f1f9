//! The cells of ONNX as phases. An activation is an expression on operand 0.

use optc_kernel::expr::Expr;
use optc_kernel::tile::Cmp;

use super::{Phase, SequencePlace};

fn apply(activation: &Expr, x: Expr) -> Expr {
    activation.with_operand(0, &x)
}

fn of(i: usize) -> Expr {
    Expr::Operand(i)
}

/// `f(input + R·h)`.
pub fn rnn(f: &Expr) -> Vec<Phase> {
    vec![Phase {
        gates: vec![0],
        starts: vec![SequencePlace::Input(0)],
        from: SequencePlace::Before,
        quantized: false,
        operands: vec![],
        outputs: vec![(f.clone(), SequencePlace::After)],
    }]
}

/// Gates i, o, f, c; the activations are those of the gates, of the candidate and of the cell. With peepholes, rows 0
/// to 2 of the constants are those of i, o and f.
pub fn lstm([gate, candidate, output]: &[Expr; 3], peephole: bool, input_forget: bool) -> Vec<Phase> {
    let mut operands = vec![SequencePlace::Cell];
    let peep = |i: usize, gate: Expr, cell: Expr| if peephole { gate.plus(of(5 + i).times(cell)) } else { gate };
    if peephole {
        operands.extend((0..3).map(SequencePlace::Constant));
    }
    let cell = of(4);
    let input = apply(gate, peep(0, of(0), cell.clone()));
    let forget = match input_forget {
        true => Expr::Const(1.0).minus(input.clone()),
        false => apply(gate, peep(2, of(2), cell.clone())),
    };
    let next = forget.times(cell).plus(input.times(apply(candidate, of(3))));
    let hidden = apply(gate, peep(1, of(1), next.clone())).times(apply(output, next.clone()));
    vec![Phase {
        gates: (0..4).collect(),
        starts: (0..4).map(SequencePlace::Input).collect(),
        from: SequencePlace::Before,
        quantized: false,
        operands,
        outputs: vec![(next, SequencePlace::Cell), (hidden, SequencePlace::After)],
    }]
}

/// Gates z, r, h; the activations are those of the gates and of the candidate. With the reset after the product, row 0
/// of the constants is the candidate's recurrent bias.
pub fn gru([gate, candidate]: &[Expr; 2], linear_before_reset: bool) -> Vec<Phase> {
    let blend = |z: Expr, new: Expr, before: Expr| Expr::Const(1.0).minus(z.clone()).times(new).plus(z.times(before));
    if linear_before_reset {
        let (z, r) = (apply(gate, of(0)), apply(gate, of(1)));
        let new = apply(candidate, of(3).plus(r.times(of(2))));
        return vec![Phase {
            gates: vec![0, 1, 2],
            starts: vec![SequencePlace::Input(0), SequencePlace::Input(1), SequencePlace::Constant(0)],
            from: SequencePlace::Before,
            quantized: false,
            operands: vec![SequencePlace::Input(2), SequencePlace::Before],
            outputs: vec![(blend(z, new, of(4)), SequencePlace::After)],
        }];
    }
    let reset = Phase {
        gates: vec![0, 1],
        starts: vec![SequencePlace::Input(0), SequencePlace::Input(1)],
        from: SequencePlace::Before,
        quantized: false,
        operands: vec![SequencePlace::Before],
        outputs: vec![
            (apply(gate, of(0)), SequencePlace::Scratch(0)),
            (apply(gate, of(1)).times(of(2)), SequencePlace::Scratch(1)),
        ],
    };
    let update = Phase {
        gates: vec![2],
        starts: vec![SequencePlace::Input(2)],
        from: SequencePlace::Scratch(1),
        quantized: false,
        operands: vec![SequencePlace::Scratch(0), SequencePlace::Before],
        outputs: vec![(blend(of(1), apply(candidate, of(0)), of(2)), SequencePlace::After)],
    };
    vec![reset, update]
}

/// Phases whose states are quantized before they are multiplied, by weights that are integers with a scale for each
/// column: rows of the constants from `scales` on, one for each gate.
pub fn dynamic(phases: Vec<Phase>, scales: usize) -> Vec<Phase> {
    phases.into_iter().map(|phase| dynamic_phase(phase, scales)).collect()
}

fn dynamic_phase(phase: Phase, scales: usize) -> Phase {
    let (gates, behind) = (phase.gates.len(), phase.gates.len() + phase.operands.len());
    let (starts, columns, scale) = (behind, behind + gates, behind + 2 * gates);
    let new = |i: usize| match i {
        i if i < gates => of(starts + i).plus(of(i).times(of(scale).times(of(columns + i)))),
        i => of(i),
    };
    let rows = (0..gates).map(|i| SequencePlace::Constant(scales + i));
    let operands = phase.operands.into_iter().chain(phase.starts).chain(rows).chain([SequencePlace::Scale]);
    Phase {
        starts: vec![SequencePlace::Zero; gates],
        quantized: true,
        operands: operands.collect(),
        outputs: phase.outputs.into_iter().map(|(expr, to)| (expr.with_operands(&new), to)).collect(),
        ..phase
    }
}

/// A phase that does nothing to the states of a sequence that does not run.
pub(super) fn bounded_phase(mut phase: Phase) -> Phase {
    let behind = phase.gates.len() + phase.operands.len();
    let stores = |place: SequencePlace| phase.outputs.iter().any(|o| o.1 == place);
    let kept =
        [(SequencePlace::Last, stores(SequencePlace::After)), (SequencePlace::Cell, stores(SequencePlace::Cell))];
    let kept = kept.into_iter().filter_map(|(place, is)| is.then_some(place));
    let added: Vec<SequencePlace> = std::iter::once(SequencePlace::Running).chain(kept).collect();
    let old = |place: SequencePlace| added.iter().position(|&p| p == place).map(|i| of(behind + i));
    let runs = || of(behind).cmp(Cmp::Gt, Expr::Const(0.0));
    let mut outputs = Vec::new();
    for (new, place) in std::mem::take(&mut phase.outputs) {
        let (same, zero) = (old(place), Expr::Const(0.0));
        match (place, old(SequencePlace::Last)) {
            (SequencePlace::After, Some(last)) => {
                outputs.push((runs().select(new.clone(), zero), place));
                outputs.push((runs().select(new, last), SequencePlace::Last));
            }
            _ => outputs.push((same.map_or(new.clone(), |same| runs().select(new, same)), place)),
        }
    }
    phase.operands.extend(added);
    Phase { outputs, ..phase }
}
