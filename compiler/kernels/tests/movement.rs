//! Movement kernels through machine code and the interpreter against copies of single elements.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_kernel::target::Isa;
use optc_kernels::movement::{Movement, Piece, PiecePlace, Source, movement};
use optc_testing::{all_isas, portable, run_here};
use proptest::prelude::*;

fn offsets(shape: &[usize], place: &PiecePlace) -> Vec<usize> {
    let mut at = vec![place.offset];
    for (&n, &stride) in shape.iter().zip(&place.strides) {
        at = at.into_iter().flat_map(|base| (0..n as i64).map(move |i| base + i * stride)).collect();
    }
    at.into_iter().map(|at| at as usize).collect()
}

fn check(m: &Movement) {
    let sources: Vec<Vec<u8>> =
        (1..).zip(&m.sources).map(|(s, &n)| (0..n).map(|i| (i * 7 + i / 251 * 13 + s * 31) as u8).collect()).collect();
    let mut want = vec![0xee; m.dst_bytes];
    for piece in &m.pieces {
        let to = offsets(&piece.shape, &piece.dst);
        match &piece.source {
            Source::Copy(s, from) => {
                for (to, from) in to.into_iter().zip(offsets(&piece.shape, from)) {
                    want[to..to + m.width].copy_from_slice(&sources[*s][from..from + m.width]);
                }
            }
            Source::Fill(value) => {
                to.into_iter().for_each(|to| want[to..to + m.width].copy_from_slice(&value[..m.width]))
            }
        }
    }
    all_isas().into_iter().for_each(|isa| check_on(isa, m, &sources, &want));
}

fn check_on(isa: &Isa, m: &Movement, sources: &[Vec<u8>], want: &Vec<u8>) {
    let kernel = movement(m, isa);
    let mut buffers = sources.to_vec();
    buffers.push(vec![0xee; m.dst_bytes]);
    let mut interpreted = buffers.clone();
    run_here(&kernel, &mut buffers).unwrap();
    assert!(buffers.last() == Some(want), "{m:?}\n{kernel}");
    if m.dst_bytes < 20_000 {
        kernel.interpret(&mut interpreted).unwrap();
        assert!(interpreted.last() == Some(want), "{m:?}\n{kernel}");
    }
}

/// Row-major strides in bytes.
fn dense(shape: &[usize], width: usize) -> Vec<i64> {
    let mut strides = vec![0; shape.len()];
    let mut bytes = width as i64;
    for (stride, &n) in strides.iter_mut().zip(shape).rev() {
        *stride = bytes;
        bytes *= n as i64;
    }
    strides
}

/// Pads `[rows, n]` by a row above, `left` columns on the left and two on the right.
fn pad(width: usize, rows: usize, n: usize, left: usize) -> Movement {
    let (wide, w) = (left + n + 2, width as i64);
    let dst = |row: usize, column: usize, shape: [usize; 2], source: Source| {
        let offset = ((row * wide + column) * width) as i64;
        Piece { shape: shape.to_vec(), source, dst: PiecePlace { offset, strides: vec![wide as i64 * w, w] } }
    };
    let fill = || Source::Fill([1, 2, 3, 4, 5, 6, 7, 8]);
    let copy = Source::Copy(0, PiecePlace { offset: 0, strides: vec![n as i64 * w, w] });
    let pieces = vec![
        dst(0, 0, [1, wide], fill()),
        dst(1, 0, [rows, left], fill()),
        dst(1, left, [rows, n], copy),
        dst(1, left + n, [rows, 2], fill()),
    ];
    Movement { width, sources: vec![rows * n * width], dst_bytes: (rows + 1) * wide * width, pieces }
}

#[test]
fn padding_of_all_widths_and_tails() {
    for width in [1, 2, 4, 8] {
        for n in [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33] {
            check(&pad(width, 3, n, n % 3));
        }
        check(&pad(width, 300, 57, 3));
    }
}

/// Every second element of rows, of which the last one ends the buffer: nothing is read after it.
#[test]
fn every_second_element() {
    for n in [1, 3, 4, 5, 8, 9, 15, 16, 17, 33, 70] {
        let row = 4 * (2 * n as i64 - 1);
        let from = |first: i64| Source::Copy(0, PiecePlace { offset: first, strides: vec![row, 8] });
        let piece = |source, offset| Piece {
            shape: vec![3, n],
            source,
            dst: PiecePlace { offset, strides: vec![4 * n as i64, 4] },
        };
        check(&Movement {
            width: 4,
            sources: vec![3 * row as usize],
            dst_bytes: 12 * n,
            pieces: vec![piece(from(0), 0)],
        });
    }
}

/// Concatenates `[rows, n]` for each `n` along the last dim, the second one transposed.
fn concat(width: usize, rows: usize, ns: &[usize]) -> Movement {
    let w = width as i64;
    let all: usize = ns.iter().sum();
    let mut column = 0;
    let mut pieces = Vec::new();
    for (i, &n) in ns.iter().enumerate() {
        let strides = if i == 1 { vec![w, rows as i64 * w] } else { vec![n as i64 * w, w] };
        pieces.push(Piece {
            shape: vec![rows, n],
            source: Source::Copy(i, PiecePlace { offset: 0, strides }),
            dst: PiecePlace { offset: column * w, strides: vec![all as i64 * w, w] },
        });
        column += n as i64;
    }
    Movement { width, sources: ns.iter().map(|n| rows * n * width).collect(), dst_bytes: rows * all * width, pieces }
}

#[test]
fn concatenations() {
    for width in [1, 2, 4, 8] {
        check(&concat(width, 5, &[3, 9, 1]));
        check(&concat(width, 1, &[7, 4]));
        check(&concat(width, 130, &[64, 33, 200]));
        check(&concat(width, 4, &[0, 5, 0, 3]));
        check(&concat(width, 0, &[2, 2]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn permutations_and_repetitions(
        shape in prop::collection::vec(1usize..8, 1..5),
        seed in any::<u64>(),
        width in prop::sample::select(vec![1usize, 2, 4, 8]),
        repeated in any::<u8>(),
    ) {
        let rank = shape.len();
        let mut perm: Vec<usize> = (0..rank).collect();
        (1..rank).for_each(|d| perm.swap(d, (seed >> (8 * d)) as usize % (d + 1)));
        let outer: Vec<usize> = perm.iter().map(|&d| shape[d]).collect();
        let by_outer = dense(&outer, width);
        let mut strides = vec![0; rank];
        perm.iter().enumerate().for_each(|(at, &d)| strides[d] = by_outer[at]);
        (0..rank).filter(|d| repeated >> d & 1 == 1).for_each(|d| strides[d] = 0);
        let bytes = shape.iter().product::<usize>() * width;
        check(&Movement {
            width,
            sources: vec![bytes],
            dst_bytes: bytes,
            pieces: vec![Piece {
                source: Source::Copy(0, PiecePlace { offset: 0, strides }),
                dst: PiecePlace { offset: 0, strides: dense(&shape, width) },
                shape,
            }],
        });
    }
}

#[test]
fn text_of_a_concatenation() {
    insta::assert_snapshot!(movement(&concat(4, 4, &[5, 4]), portable()));
}
