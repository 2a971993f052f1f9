//! Mutations: a few steps from a seed, each by a mutator that fits the format or by one that knows nothing.

use std::io::Read;

use flate2::Compression;
use flate2::bufread::{DeflateDecoder, DeflateEncoder};

use crate::random::{Random, one};
use crate::targets::Target;
use crate::{protobuf, text};

/// Where an artifact's deflated part begins, and where its checksum and its summed bytes do.
const HEADER: usize = 32;
const CHECKSUM: usize = 12;
const SUMMED: usize = 16;
/// The most bytes that a layer is drawn from: more than it takes.
const DRAWN: usize = 400;
/// More than the text of any seed.
const LARGEST: u64 = 1 << 20;

/// One input.
pub fn mutate(target: Target, seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    if target == Target::Kernels {
        return (0..random.below(DRAWN)).map(|_| random.bits() as u8).collect();
    }
    let mut input = one(random, seeds).cloned().unwrap_or_default();
    for _ in 0..=random.below(4) {
        if random.once_in(6) {
            bytes(&mut input, seeds, random);
            continue;
        }
        input = match target {
            Target::Onnx | Target::Run => protobuf::mutate(&input, seeds, random),
            Target::Text | Target::Tuning | Target::Program => text::mutate(&input, random),
            Target::Artifact => artifact(&input, random),
            Target::Kernels => input,
        };
    }
    if target == Target::Artifact && !random.once_in(8) {
        fix_checksum(&mut input);
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

/// Mutates header and text of an artifact by token, in its deflated part, keeping the lengths that the file says in step with them.
fn artifact(input: &[u8], random: &mut Random) -> Vec<u8> {
    let parts = (|| {
        let len = u64::from_le_bytes(input.get(SUMMED..SUMMED + 8)?.try_into().ok()?);
        let end = HEADER.checked_add(usize::try_from(len).ok()?)?;
        let mut front = Vec::new();
        DeflateDecoder::new(input.get(HEADER..end)?).take(LARGEST).read_to_end(&mut front).ok()?;
        let len = u64::from_le_bytes(front.get(..8)?.try_into().ok()?);
        let (header, text) = front.get(8..)?.split_at_checked(usize::try_from(len).ok()?)?;
        Some((header.to_vec(), text.to_vec(), input.get(end..)?))
    })();
    let Some((mut header, mut text, rest)) = parts else { return input.to_vec() };
    if random.once_in(2) {
        header = text::mutate(&header, random);
    }
    if random.once_in(2) {
        text = text::mutate(&text, random);
    }
    let front = [&(header.len() as u64).to_le_bytes(), &header[..], &text[..]].concat();
    let mut deflated = DeflateEncoder::new(&front[..], Compression::fast());
    let mut packed = Vec::new();
    if deflated.read_to_end(&mut packed).is_err() {
        return input.to_vec();
    }
    let lengths = [packed.len(), front.len()].map(|n| (n as u64).to_le_bytes());
    [&input[..SUMMED], &lengths.concat(), &packed, rest].concat()
}

fn fix_checksum(input: &mut [u8]) {
    if input.len() >= HEADER {
        let sum = crc32fast::hash(&input[SUMMED..]);
        input[CHECKSUM..SUMMED].copy_from_slice(&sum.to_le_bytes());
    }
}
