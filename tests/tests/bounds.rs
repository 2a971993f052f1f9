//! The proof of bounds, against the interpreter: kernels with an error of one element planted in them are refused, or
//! they stay within their buffers nevertheless. (Other tests show that kernels without one are proven: a program whose
//! kernels are not does not load.)
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use optc_ir::Verified;
use optc_kernel::nest::{Access, Ix, Kernel, Stmt};
use optc_kernel::program::Program;
use optc_kernel::target::{ISAS, Target};
use optc_kernel::tile::Inst;
use optc_kernel::tile::interp::InterpError;
use optc_lower::{LowerOptions, lower};
use optc_passes::{PassManager, PassOptions, Pipeline};
use optc_tensor::Random;
use optc_tests::nest_shapes::{KINDS, case};
use optc_types::steps::{ArenaPlace, KernelStep, Step};

/// Where an error is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Spot {
    Loads,
    Stores,
    /// Words of constants, of kernels that address by what they read.
    Tables,
    /// Bounds of loops, conditions, and what is computed of them: tails and padding.
    Bounds,
    /// Any numbers of the nest and its tiles, several at once, and not by one element only.
    Numbers,
}

const SPOTS: [Spot; 5] = [Spot::Loads, Spot::Stores, Spot::Tables, Spot::Bounds, Spot::Numbers];
/// Errors that are planted in each kernel of a case.
const ERRORS: usize = 6;

/// The program of a case for a row.
fn program(kind: usize, seed: u64) -> Option<Program> {
    let case = case(&KINDS[kind], seed);
    let mut graph = case.graph;
    let passes = Pipeline::parse(case.passes).unwrap();
    PassManager::new(PassOptions::default()).run(&passes, &mut graph).ok()?;
    let isa = &ISAS[seed as usize % ISAS.len()];
    lower(Verified::new(graph).ok()?, &Target::of(isa), LowerOptions::default()).ok()
}

/// The places of a tile where it loads or stores, with the bytes of an element.
fn accesses(body: &mut [Inst], spot: Spot) -> Vec<(&mut i64, i64)> {
    let mut found = vec![];
    for inst in body {
        match inst {
            Inst::Load { mem, disp, .. } if spot == Spot::Loads => found.push((disp, mem.bytes())),
            Inst::MatLoad { disp, .. } if spot == Spot::Loads => found.push((disp, 4)),
            Inst::Store { mem, disp, .. } if spot == Spot::Stores => found.push((disp, mem.bytes())),
            Inst::MatStore { disp, .. } if spot == Spot::Stores => found.push((disp, 4)),
            Inst::Loop(l) => found.extend(accesses(&mut l.body, spot)),
            _ => {}
        }
    }
    found
}

/// The constants of an index expression, or, if `all` are wanted, its factors and divisors too.
fn numbers(ix: &mut Ix, all: bool) -> Vec<&mut i64> {
    match ix {
        Ix::Const(c) => vec![c],
        Ix::Var(_) => vec![],
        Ix::Mul(a, c) | Ix::Div(a, c) | Ix::Rem(a, c) => numbers(a, all).into_iter().chain(all.then_some(c)).collect(),
        Ix::Add(a, b) | Ix::Sub(a, b) | Ix::Min(a, b) | Ix::Max(a, b) => {
            numbers(a, all).into_iter().chain(numbers(b, all)).collect()
        }
    }
}

/// The constants that decide how far a nest goes, or, if `all` are wanted, all its numbers: steps and addresses too.
fn nest_numbers(body: &mut [Stmt], all: bool) -> Vec<&mut i64> {
    let mut found = vec![];
    for stmt in body {
        match stmt {
            Stmt::For { start, end, step, body, .. } => {
                found.extend(numbers(start, all).into_iter().chain(numbers(end, all)).chain(all.then_some(step)));
                found.extend(nest_numbers(body, all));
            }
            Stmt::If { a, b, then, otherwise, .. } => {
                found.extend(numbers(a, all).into_iter().chain(numbers(b, all)));
                found.extend(nest_numbers(then, all).into_iter().chain(nest_numbers(otherwise, all)));
            }
            Stmt::Let { value, .. } => found.extend(numbers(value, all)),
            Stmt::LoadIndex { at, .. } if all => found.extend(numbers(&mut at.offset, all)),
            Stmt::LoadIndex { .. } => {}
            Stmt::Call { ptrs, counts, .. } => {
                if all {
                    found.extend(ptrs.iter_mut().flat_map(|at| numbers(&mut at.offset, all)));
                }
                found.extend(counts.iter_mut().flat_map(|count| numbers(count, all)));
            }
        }
    }
    found
}

/// Distances and displacements of a tile.
fn tile_numbers(body: &mut [Inst]) -> Vec<&mut i64> {
    let mut found = vec![];
    for inst in body {
        match inst {
            Inst::Load { disp, .. } | Inst::MatLoad { disp, .. } | Inst::LoadPtr { disp, .. } => found.push(disp),
            Inst::Store { disp, stride, .. } | Inst::MatStore { disp, stride, .. } => found.extend([disp, stride]),
            Inst::Offset { disp, .. } => found.push(disp),
            Inst::Loop(l) => {
                found.extend(l.inducts.iter_mut().map(|induct| &mut induct.step));
                found.extend(tile_numbers(&mut l.body));
            }
            _ => {}
        }
    }
    found
}

/// Plants an error of one element; whether there was a place for it.
fn plant(kernel: &mut Kernel, buffers: &mut [Vec<u8>], spot: Spot, random: &mut Random) -> bool {
    let sign = if random.once_in(2) { 1 } else { -1 };
    match spot {
        Spot::Loads | Spot::Stores => {
            let mut places: Vec<_> = kernel.tiles.iter_mut().flat_map(|t| accesses(&mut t.body, spot)).collect();
            let n = places.len();
            let Some((disp, bytes)) = places.get_mut(random.below(n)) else { return false };
            **disp += sign * *bytes;
        }
        Spot::Bounds => {
            let mut places = nest_numbers(&mut kernel.body, false);
            let n = places.len();
            let Some(limit) = places.get_mut(random.below(n)) else { return false };
            **limit += sign;
        }
        Spot::Numbers => {
            let mut places = nest_numbers(&mut kernel.body, true);
            places.extend(kernel.tiles.iter_mut().flat_map(|tile| tile_numbers(&mut tile.body)));
            for _ in 0..=random.below(3) {
                let n = places.len();
                let Some(number) = places.get_mut(random.below(n)) else { return false };
                **number = match random.below(4) {
                    0 => **number + sign * (1 + random.below(70) as i64),
                    1 => -**number,
                    2 => **number * 2,
                    _ => **number / 2,
                };
            }
        }
        Spot::Tables => {
            let read: Vec<usize> = (0..buffers.len())
                .filter(|&b| kernel.bufs[b].access == Access::Read && buffers[b].len() >= 4)
                .collect();
            if read.is_empty() {
                return false;
            }
            let buffer = &mut buffers[random.pick(&read)];
            let at = random.below(buffer.len() / 4) * 4;
            let word = i32::from_le_bytes(buffer[at..at + 4].try_into().unwrap());
            buffer[at..at + 4].copy_from_slice(&word.wrapping_add(4 * sign as i32).to_le_bytes());
        }
    }
    true
}

/// The buffers of a call: constants as they are, what else there is at random.
fn buffers(program: &Program, step: &KernelStep, random: &mut Random) -> (Vec<Vec<u8>>, Vec<bool>) {
    let kernel = &program.kernels[step.kernel];
    let buffer = |(buf, at): (&optc_kernel::nest::Buf, &optc_types::steps::BufRef)| match program.flow.buffers[at.buf]
        .place
    {
        ArenaPlace::Constant(i) => (program.flow.constants[i].tensor.bytes()[at.offset..][..buf.bytes].to_vec(), true),
        _ => ((0..buf.bytes).map(|_| random.below(256) as u8).collect(), false),
    };
    kernel.bufs.iter().zip(&step.args).map(buffer).unzip()
}

/// How many errors were planted, how many of them refused, and how many of these lead out of a buffer.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    planted: usize,
    refused: usize,
    outside: usize,
}

/// Plants errors in a kernel; what is proven nevertheless must run within its buffers.
fn check(program: &Program, step: &KernelStep, random: &mut Random, counts: &Mutex<BTreeMap<Spot, Count>>) {
    for spot in SPOTS.into_iter().flat_map(|spot| [spot; ERRORS]) {
        let mut kernel = program.kernels[step.kernel].clone();
        let (mut buffers, constant) = buffers(program, step, random);
        if !plant(&mut kernel, &mut buffers, spot, random) || kernel.verify().is_err() {
            continue;
        }
        let known: Vec<_> = buffers.iter().zip(&constant).map(|(b, &known)| known.then_some(&b[..])).collect();
        let refused = kernel.prove(&known).is_err();
        // What is refused after any change need not end within a test.
        let outside = refused && spot == Spot::Numbers || leads_outside(&kernel, &mut buffers);
        assert!(refused || !outside, "an error in the {spot:?} of this kernel is not found:\n{kernel}");
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(spot).or_default();
        count.planted += 1;
        count.refused += usize::from(refused);
        count.outside += usize::from(outside);
    }
}

/// Whether the interpreter comes to an access outside of a buffer.
fn leads_outside(kernel: &Kernel, buffers: &mut [Vec<u8>]) -> bool {
    match kernel.interpret(buffers) {
        Ok(()) => false,
        Err(InterpError::Bounds { .. }) => true,
        Err(other) => panic!("kernel `{}`: {other}", kernel.name),
    }
}

#[test]
fn planted_errors_are_refused() {
    // Cases of each kind.
    let cases = std::env::var("OPTC_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let (next, counts) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(n) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&n| n < cases * KINDS.len()) {
            let mut random = Random::new(n as u64);
            let Some(program) = program(n % KINDS.len(), n as u64) else { continue };
            for step in &program.flow.steps {
                if let Step::Kernel(step) = step {
                    check(&program, step, &mut random, &counts);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(work);
        }
    });
    let counts = counts.into_inner().unwrap();
    println!("{counts:?}");
    for spot in SPOTS {
        let found = counts.get(&spot).copied().unwrap_or_default();
        assert!(found.outside > 10, "too few errors in {spot:?} lead out of a buffer: {found:?}");
    }
}
