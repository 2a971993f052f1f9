//! What constant tables hold: indices and offsets that kernels read, and address by.

use std::collections::HashMap;

/// Constant buffers of a kernel, by number, and what was found in them.
#[derive(Default)]
pub(super) struct Tables<'a> {
    contents: Vec<Option<&'a [u8]>>,
    ranges: HashMap<(usize, Entries), Option<Offsets>>,
}

/// Entries of a table: from the first byte of the first one to that of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entries {
    pub first: i64,
    pub last: i64,
    /// Bytes from one to the next; 0 where there is one.
    pub stride: i64,
    /// Bytes of an entry: 4 or 8.
    pub bytes: usize,
}

/// What some entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offsets {
    pub least: i64,
    pub most: i64,
    /// The smallest of those that are not negative; above `most` where all are.
    pub least_natural: i64,
}

impl<'a> Tables<'a> {
    pub fn new(contents: &[Option<&'a [u8]>]) -> Tables<'a> {
        Tables { contents: contents.to_vec(), ranges: HashMap::new() }
    }

    /// Whether the contents of a buffer are known.
    pub fn knows(&self, buf: usize) -> bool {
        self.contents.get(buf).is_some_and(Option::is_some)
    }

    /// What entries of a buffer are; `None` where that is not known, or they lie outside.
    pub fn offsets(&mut self, buf: usize, entries: Entries) -> Option<Offsets> {
        let contents = (*self.contents.get(buf)?)?;
        *self.ranges.entry((buf, entries)).or_insert_with(|| read(contents, entries))
    }
}

fn read(contents: &[u8], entries: Entries) -> Option<Offsets> {
    let Entries { first, last, stride, bytes } = entries;
    let (first, last) = (usize::try_from(first).ok()?, usize::try_from(last).ok()?);
    if last < first {
        return None;
    }
    let stride = if first == last { bytes } else { usize::try_from(stride).ok().filter(|&s| s > 0)? };
    contents.get(..last.checked_add(bytes)?)?;
    let mut found = Offsets { least: i64::MAX, most: i64::MIN, least_natural: i64::MAX };
    for at in (first..=last).step_by(stride) {
        let raw = &contents[at..at + bytes];
        let value = match raw.first_chunk::<8>() {
            Some(raw) => i64::from_le_bytes(*raw),
            None => i64::from(i32::from_le_bytes(*raw.first_chunk::<4>()?)),
        };
        found.least = found.least.min(value);
        found.most = found.most.max(value);
        if value >= 0 {
            found.least_natural = found.least_natural.min(value);
        }
    }
    Some(found)
}
