//! Mutations: a few steps from a seed, each by a mutator that fits the format or by one that knows nothing.

use crate::random::{Random, one};
use crate::targets::FuzzTarget;
use crate::{artifact, protobuf, text};

/// The most bytes that a layer is drawn from: more than it takes.
const DRAWN: usize = 400;

/// One input.
pub fn mutate(target: FuzzTarget, seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    if target == FuzzTarget::Kernels {
        return (0..random.below(DRAWN)).map(|_| random.bits() as u8).collect();
    }
    let mut input = one(random, seeds).cloned().unwrap_or_default();
    for _ in 0..=random.below(4) {
        if random.once_in(6) {
            bytes(&mut input, seeds, random);
            continue;
        }
        input = match target {
            FuzzTarget::Onnx | FuzzTarget::Run => protobuf::mutate(&input, seeds, random),
            FuzzTarget::Text | FuzzTarget::Tuning | FuzzTarget::Program => text::mutate(&input, random),
            FuzzTarget::Artifact => artifact::mutate(&input, random),
            FuzzTarget::Kernels => input,
        };
    }
    if target == FuzzTarget::Artifact && !random.once_in(8) {
        artifact::fix_checksum(&mut input);
    }
    input
}

/// Flips, writes, cuts, repeats or splices bytes.
fn bytes(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len());
    let len = random.below(1 + (input.len() - at).min(32));
    match random.below(5) {
        0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        1 if !input.is_empty() => input[at] = random.bits() as u8,
        2 => input.truncate(at),
        3 => {
            let part = input[at..at + len].to_vec();
            input.splice(at..at, part);
        }
        _ => {
            let other = one(random, seeds).map_or(&[][..], Vec::as_slice);
            let from = random.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}
