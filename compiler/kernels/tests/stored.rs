//! Products whose right side is stored in fewer bits, against those of the same numbers in `f32`: the same bits, on all
//! tails and on every row.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first failure")]

use optc_kernel::target::{Caches, Isa};
use optc_kernel::tile::MemType;
use optc_kernels::contract::{Contract, ContractSchedule, PackB, Scaled, ScaledIntegers, contract, pack_b, packed_len};
use optc_tensor::{bf16, f16};
use optc_testing::{all_isas, bytes_of, floats_of, random_floats, run_here};

/// The result of a product with a packed right side.
fn run(c: &Contract, isa: &Isa, s: ContractSchedule, a: &[f32], b: Vec<u8>) -> Vec<f32> {
    let kernel = contract(c, isa, s).unwrap().kernel;
    let mut buffers = vec![bytes_of(a), b, vec![0; c.c_bytes]];
    run_here(&kernel, &mut buffers).unwrap();
    if c.m * c.n * c.k < 2000 {
        let mut interpreted = vec![bytes_of(a), buffers[1].clone(), vec![0; c.c_bytes]];
        kernel.interpret(&mut interpreted).unwrap();
        assert_eq!(interpreted[2], buffers[2], "{}", isa.name);
    }
    floats_of(&buffers[2])
}

fn packed<T: Copy + Default + Send + Sync>(b: &[T], k: usize, n: usize, lanes: usize) -> Vec<T> {
    let mut packed = vec![T::default(); packed_len(1, k, n, lanes)];
    pack_b(b, &PackB { taps: 1, k, n, tap_stride: 0, k_stride: n, n_stride: 1 }, lanes, 1, &mut packed);
    packed
}

/// Rows, columns and depths around those of a row's tile.
fn shapes(isa: &Isa) -> Vec<[usize; 3]> {
    let (mr, nr) = (isa.contract_f32.0, isa.contract_f32.1 * isa.lanes());
    let (rows, columns) = ([1, 2, 2 * mr + 1], [1, isa.lanes() + 1, 2 * nr + 3]);
    let all = rows.into_iter().flat_map(|m| columns.map(|n| [m, n]));
    all.flat_map(|[m, n]| [1, 7, 32, 70].map(|k| [m, n, k])).collect()
}

#[test]
fn halves_are_widened_in_the_product() {
    for isa in all_isas() {
        for [m, n, k] in shapes(isa) {
            let exact = Contract::matmul(1, m, n, k);
            let s = ContractSchedule::choose(&exact, isa, &Caches::default());
            let a = random_floats(m * k, 1);
            let weights = random_floats(k * n, 2);
            for mem in [MemType::F16, MemType::Bf16] {
                let bits = |w: &f32| match mem {
                    MemType::F16 => f16::from_f32(*w).to_bits(),
                    _ => bf16::from_f32(*w).to_bits(),
                };
                let value = |bits: &u16| match mem {
                    MemType::F16 => f16::from_bits(*bits).to_f32(),
                    _ => bf16::from_bits(*bits).to_f32(),
                };
                let halves: Vec<u16> = weights.iter().map(bits).collect();
                let floats: Vec<f32> = halves.iter().map(value).collect();
                let want = run(&exact, isa, s, &a, bytes_of(&packed(&floats, k, n, isa.lanes())));
                let stored = packed(&halves, k, n, isa.lanes()).into_iter().flat_map(u16::to_le_bytes).collect();
                let c = Contract { b_mem: mem, ..exact.clone() };
                assert_eq!(run(&c, isa, s, &a, stored), want, "{m}x{n}x{k} of {mem:?} on {}", isa.name);
            }
        }
    }
}

/// How integers may be kept for products of this depth.
fn forms(k: usize) -> Vec<Scaled> {
    let mut forms = Vec::new();
    for nibbles in [false, true] {
        for group in [k, 4, 32].into_iter().filter(|&group| group <= k) {
            forms.extend([Some(8 * i32::from(nibbles)), None].map(|zero| Scaled { nibbles, group, zero }));
        }
    }
    forms
}

#[test]
fn integers_are_dequantized_in_the_product() {
    for isa in all_isas() {
        for [m, n, k] in shapes(isa) {
            let exact = Contract::matmul(1, m, n, k);
            let s = ContractSchedule::choose(&exact, isa, &Caches::default());
            let a = random_floats(m * k, 1);
            for scaled in forms(k) {
                let value = |row: usize, col: usize| match scaled.nibbles {
                    true => (row * 7 + col * 5) as i32 % 16,
                    false => (row * 77 + col * 51) as i32 % 256 - 128,
                };
                let scale = |group: usize, col: usize| 0.01 + 0.001 * (group * 3 + col) as f32;
                let each = |group: usize, col: usize| (group + col) as f32 % 5.0;
                let zero = |group: usize, col: usize| scaled.zero.map_or_else(|| each(group, col), |zero| zero as f32);
                let float = |i: usize| {
                    let (row, col) = (i / n, i % n);
                    (value(row, col) as f32 - zero(row / scaled.group, col)) * scale(row / scaled.group, col)
                };
                let floats: Vec<f32> = (0..k * n).map(float).collect();
                let want = run(&exact, isa, s, &a, bytes_of(&packed(&floats, k, n, isa.lanes())));
                let c = Contract { scaled: Some(scaled), ..exact.clone() };
                let mut stored = vec![0; c.b_bytes(isa.lanes())];
                scaled.pack(&ScaledIntegers { k, n, value, scale, zero }, isa.lanes(), &mut stored);
                assert_eq!(run(&c, isa, s, &a, stored), want, "{m}x{n}x{k} as {scaled:?} on {}", isa.name);
            }
        }
    }
}
