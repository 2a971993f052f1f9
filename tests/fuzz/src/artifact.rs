//! Mutations of artifacts: of the header and the texts in the deflated front, with lengths and sums kept in step.

use std::io::Read;

use flate2::Compression;
use flate2::bufread::{DeflateDecoder, DeflateEncoder};
use serde_json::Value;

use crate::random::Random;
use crate::text;

/// Where the front begins, its checksum, and what is summed.
const PREFIX: usize = 32;
const CHECKSUM: usize = 12;
const SUMMED: usize = 16;
/// What the bytes after the front are aligned to.
const ALIGN: usize = 64;
/// More than the text of any seed.
const LARGEST: u64 = 1 << 20;

/// An artifact in parts.
struct Parts {
    header: Vec<u8>,
    texts: Vec<u8>,
    /// What comes after the front, without the zeros before it.
    blobs: Vec<u8>,
}

impl Parts {
    fn of(input: &[u8]) -> Option<Parts> {
        let end = PREFIX.checked_add(length(input.get(SUMMED..)?)?)?;
        let mut front = Vec::new();
        DeflateDecoder::new(input.get(PREFIX..end)?).take(LARGEST).read_to_end(&mut front).ok()?;
        let (header, texts) = front.get(8..)?.split_at_checked(length(&front)?)?;
        let blobs = input.get(end.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some(Parts { header: header.to_vec(), texts: texts.to_vec(), blobs: blobs.to_vec() })
    }

    /// The file, which begins like `input`.
    fn join(&self, input: &[u8]) -> Option<Vec<u8>> {
        let front = [&(self.header.len() as u64).to_le_bytes(), &self.header[..], &self.texts[..]].concat();
        let mut packed = Vec::new();
        DeflateEncoder::new(&front[..], Compression::fast()).read_to_end(&mut packed).ok()?;
        let lengths = [packed.len(), front.len()].map(|n| (n as u64).to_le_bytes());
        let mut file = [&input[..SUMMED], &lengths.concat(), &packed].concat();
        file.resize(file.len().next_multiple_of(ALIGN), 0);
        file.extend_from_slice(&self.blobs);
        Some(file)
    }

    /// Mutates one of the texts, of the graph or of a program, and tells the header its new length.
    fn mutate_text(&mut self, random: &mut Random) -> Option<()> {
        let mut header: Value = serde_json::from_slice(&self.header).ok()?;
        let natives = header["natives"].as_array().map_or(0, Vec::len);
        let lengths: Vec<usize> =
            (0..=natives).map(|i| slot(&mut header, i).as_u64().map(|n| n as usize)).collect::<Option<_>>()?;
        let which = random.below(natives + 1);
        let begin: usize = lengths[..which].iter().sum();
        let end = begin + lengths[which];
        let mutated = text::mutate(self.texts.get(begin..end)?, random);
        *slot(&mut header, which) = mutated.len().into();
        self.texts.splice(begin..end, mutated);
        self.header = serde_json::to_vec(&header).ok()?;
        Some(())
    }

    /// Lets the sums of the blobs be right.
    fn sum_up(&mut self) -> Option<()> {
        let mut header: Value = serde_json::from_slice(&self.header).ok()?;
        let mut at = 0usize;
        for blob in header["blobs"].as_array_mut()? {
            let begin = at.next_multiple_of(ALIGN);
            at = begin.checked_add(usize::try_from(blob["bytes"].as_u64()?).ok()?)?;
            blob["sum"] = crc32fast::hash(self.blobs.get(begin..at)?).into();
        }
        self.header = serde_json::to_vec(&header).ok()?;
        Some(())
    }
}

/// The length of a text in the header: of the graph's for 0, then of the programs'.
fn slot(header: &mut Value, i: usize) -> &mut Value {
    if i == 0 { &mut header["text"] } else { &mut header["natives"][i - 1]["text"] }
}

/// The number that bytes begin with.
fn length(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(*bytes.first_chunk::<8>()?)).ok()
}

/// Mutates the header by token, a text, or what both say of the rest.
pub fn mutate(input: &[u8], random: &mut Random) -> Vec<u8> {
    let Some(mut parts) = Parts::of(input) else { return input.to_vec() };
    match random.below(4) {
        0 => parts.header = text::mutate(&parts.header, random),
        1 => parts.sum_up().unwrap_or_default(),
        _ => parts.mutate_text(random).unwrap_or_default(),
    }
    parts.join(input).unwrap_or_else(|| input.to_vec())
}

/// Lets the checksum of the front be right.
pub fn fix_checksum(input: &mut [u8]) {
    let front = input.get(SUMMED..).and_then(length).and_then(|len| PREFIX.checked_add(len));
    if let Some(summed) = front.and_then(|end| input.get(SUMMED..end)) {
        let sum = crc32fast::hash(summed);
        input[CHECKSUM..SUMMED].copy_from_slice(&sum.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use optc_native::Artifact;

    use super::*;
    use crate::seeds::{artifact, models};

    #[test]
    fn what_is_put_together_again_is_an_artifact_and_most_texts_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let models = models(folder.path()).unwrap();
        let seed = models.iter().find_map(|model| artifact(model, folder.path())).unwrap();
        let mut random = Random::new(1);
        let mut reached = 0;
        for round in 0..200 {
            let mut parts = Parts::of(&seed).unwrap();
            if round > 0 {
                parts.mutate_text(&mut random).unwrap();
            }
            parts.sum_up().unwrap();
            let mut file = parts.join(&seed).unwrap();
            fix_checksum(&mut file);
            let artifact = Artifact::read(Arc::new(file)).unwrap();
            assert!(artifact.constants().is_ok());
            reached += usize::from(artifact.text().is_ok());
        }
        assert!(reached > 150, "{reached}");
    }
}
