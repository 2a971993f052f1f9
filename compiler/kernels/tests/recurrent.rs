//! Kernels of recurrent layers through machine code with guards around the buffers, against the interpreter of nests.
//! (What the layers mean is tested where they are lowered.)

use optc_kernel::expr::{Expr, Func};
use optc_kernel::nest::{Buf, parse_kernel};
use optc_kernel::tile::MemType;
use optc_kernels::recurrent::{Direction, Phase, RecurrentNest, bounded, dynamic, gru, lstm, recurrent, rnn};
use optc_testing::{all_isas, bytes_of, floats_of, portable, random_floats, run_here};

fn activations() -> [Expr; 3] {
    [Expr::Operand(0).func(Func::Sigmoid), Expr::Operand(0).func(Func::Tanh), Expr::Operand(0).func(Func::Tanh)]
}

fn problem(phases: Vec<Phase>, gates: usize, constants: usize, batch: usize, hidden: usize) -> RecurrentNest {
    let directions = [false, true].map(|reverse| Direction { reverse, phases: phases.clone() });
    let (weights, directions) = (MemType::F32, directions.to_vec());
    RecurrentNest { steps: 3, batch, hidden, gates, constants, weights, directions }
}

#[test]
fn kernels_match_the_interpreter() {
    let [gate, tanh, _] = activations();
    for (batch, hidden) in [(1, 3), (2, 4), (7, 6), (21, 2)] {
        let problems = [
            problem(lstm(&activations(), true, false), 4, 3, batch, hidden),
            problem(gru(&[gate.clone(), tanh.clone()], false), 3, 0, batch, hidden),
            problem(gru(&[gate.clone(), tanh.clone()], true), 3, 1, batch, hidden),
            problem(rnn(&tanh), 1, 0, batch, hidden),
            // Sequences that run at some steps and not at others.
            problem(bounded(lstm(&activations(), true, false)), 4, 3, batch, hidden),
            problem(bounded(gru(&[gate.clone(), tanh.clone()], false)), 3, 0, batch, hidden),
            problem(bounded(gru(&[gate.clone(), tanh.clone()], true)), 3, 1, batch, hidden),
            problem(bounded(rnn(&tanh)), 1, 0, batch, hidden),
            problem(dynamic(lstm(&activations(), true, true), 3), 4, 7, batch, hidden),
        ];
        for (r, isa) in problems.iter().flat_map(|r| all_isas().into_iter().map(move |isa| (r, isa))) {
            let kernel = recurrent(r, isa);
            let mut found: Vec<_> = (1..)
                .zip(&kernel.bufs)
                .map(|(seed, buf)| match &buf.name[..] {
                    "weights" => bytes_of(&r.pack(&random_floats(2 * r.gates * hidden * hidden, seed), isa.lanes())),
                    _ => bytes_of(&random_floats(buf.bytes / 4, seed)),
                })
                .collect();
            let mut expected = found.clone();
            run_here(&kernel, &mut found).unwrap();
            kernel.interpret(&mut expected).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(floats_of(found), floats_of(expected));
            }
        }
    }
}

#[test]
fn integers_of_a_byte_give_the_bits_that_they_give_as_floats() {
    for (batch, hidden) in [(1, 5), (3, 16), (2, 35)] {
        let floats = problem(dynamic(lstm(&activations(), true, true), 3), 4, 7, batch, hidden);
        let bytes = RecurrentNest { weights: MemType::I8, ..floats.clone() };
        for isa in all_isas() {
            let weights: Vec<f32> = (0..8 * hidden * hidden).map(|i| (i * 37 % 255) as f32 - 127.0).collect();
            let packed = floats.pack(&weights, isa.lanes());
            let narrow: Vec<u8> = packed.iter().map(|&w| w as i8 as u8).collect();
            let results = [(&floats, bytes_of(&packed)), (&bytes, narrow)].map(|(r, weights)| {
                let kernel = recurrent(r, isa);
                let buffer = |(seed, buf): (u64, &Buf)| match &buf.name[..] {
                    "weights" => weights.clone(),
                    _ => bytes_of(&random_floats(buf.bytes / 4, seed)),
                };
                let mut found: Vec<_> = (1..).zip(&kernel.bufs).map(buffer).collect();
                run_here(&kernel, &mut found).unwrap();
                found.into_iter().zip(&kernel.bufs).filter(|(_, buf)| buf.name != "weights").map(|(f, _)| f).collect()
            });
            let [floats, bytes]: [Vec<Vec<u8>>; 2] = results;
            assert!(floats == bytes, "{}: {batch} sequences of {hidden} units", isa.name);
        }
    }
}

#[test]
fn text_of_a_simple_layer() {
    let directions = vec![Direction { reverse: true, phases: rnn(&Expr::Operand(0).relu()) }];
    let r = RecurrentNest { steps: 3, batch: 1, hidden: 2, gates: 1, constants: 0, weights: MemType::F32, directions };
    let kernel = recurrent(&r, portable());
    insta::assert_snapshot!(kernel);
    assert_eq!(parse_kernel(&kernel.to_string()).as_ref(), Ok(&kernel));
}
