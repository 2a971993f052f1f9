//! The transpose of a square of registers.

use optc_kernel::tile::{Reg, TileBuilder};

/// Register `i` of the result has lane `i` of each of the `lanes` given ones.
///
/// Two rounds of unpacking within blocks of four lanes, in the order that `unpcklps` and `unpcklpd` have, then the
/// blocks of wider registers are exchanged pairwise.
pub(super) fn transpose(b: &mut TileBuilder, rows: &[Reg]) -> Vec<Reg> {
    let lanes = rows.len();
    let mut regs = rows.to_vec();
    for square in regs.chunks_exact_mut(4) {
        let [p, q, r, s] = [square[0], square[1], square[2], square[3]];
        let mut pick = |x: Reg, y: Reg, of: [usize; 4]| {
            // Lanes 4.. of `of` stand for the second register.
            let from = |lane: usize| (lane / 4 * 4 + of[lane % 4] % 4 + of[lane % 4] / 4 * lanes) as u8;
            b.permute(x, y, &(0..lanes).map(from).collect::<Vec<_>>())
        };
        let [pq, pq_high] = [[0, 4, 1, 5], [2, 6, 3, 7]].map(|of| pick(p, q, of));
        let [rs, rs_high] = [[0, 4, 1, 5], [2, 6, 3, 7]].map(|of| pick(r, s, of));
        let (low, high) = ([0, 1, 4, 5], [2, 3, 6, 7]);
        square.copy_from_slice(&[
            pick(pq, rs, low),
            pick(pq, rs, high),
            pick(pq_high, rs_high, low),
            pick(pq_high, rs_high, high),
        ]);
    }
    let mut half = 4;
    while half < lanes {
        for i in (0..lanes).filter(|i| i & half == 0) {
            let (x, y) = (regs[i], regs[i + half]);
            let low: Vec<_> = (0..lanes).map(|l| if l & half == 0 { l } else { l - half + lanes } as u8).collect();
            let high: Vec<_> = (0..lanes).map(|l| if l & half == 0 { l + half } else { l + lanes } as u8).collect();
            regs[i] = b.permute(x, y, &low);
            regs[i + half] = b.permute(x, y, &high);
        }
        half *= 2;
    }
    regs
}
