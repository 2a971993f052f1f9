//! What was measured to be fastest, by machine and by the shape of what is computed.
//!
//! The file is JSON: `{"version": 1, "machines": {MACHINE: {KEY: OPTION}}}`. A machine is the CPU, the instruction set,
//! the caches and the threads that run a model; keys and options are those of [choice
//! points](optc_kernel::program::Point).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use optc_emit::host::cpu_name;
use optc_kernel::target::Target;
use optc_lower::Tuning;
use optc_tensor::write_file;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The version of the file that is written, and the only one that is read.
const VERSION: u32 = 1;

/// The fastest options of kernels on some machines. [`Options::tuning`](crate::Options::tuning) takes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuningCache {
    version: u32,
    machines: BTreeMap<String, BTreeMap<String, String>>,
}

/// Why a text is not a tuning cache.
#[derive(Debug, thiserror::Error)]
pub enum TuningCacheError {
    /// It is not JSON, or has other fields.
    #[error("no tuning cache: {0}")]
    Text(#[from] serde_json::Error),
    /// It is one of another version.
    #[error("version {0}, expected {VERSION}: delete it and tune again")]
    Version(u32),
}

impl Default for TuningCache {
    fn default() -> Self {
        TuningCache { version: VERSION, machines: BTreeMap::new() }
    }
}

impl TuningCache {
    /// Reads a file; what does not exist is empty.
    ///
    /// # Errors
    /// The file cannot be read, is not a tuning cache, or is one of another version.
    pub fn read(path: &Path) -> Result<TuningCache, Error> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(TuningCache::default()),
            Err(error) => return Err(Error::Io { path: path.to_owned(), error }),
        };
        TuningCache::parse(&text).map_err(|error| Error::Tuning { path: path.to_owned(), error })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong with it: it is not a tuning cache, or is one of another version.
    pub fn parse(text: &[u8]) -> Result<TuningCache, TuningCacheError> {
        let cache: TuningCache = serde_json::from_slice(text)?;
        match cache.version {
            VERSION => Ok(cache),
            other => Err(TuningCacheError::Version(other)),
        }
    }

    /// Writes a file, whole or not at all. Folders above it are made.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| Error::Io { path: path.to_owned(), error })?;
        }
        write_json(path, self)
    }

    /// Takes in what another has; where both know a key, the other's option is taken.
    pub fn merge(&mut self, other: TuningCache) {
        for (machine, options) in other.machines {
            self.machines.entry(machine).or_default().extend(options);
        }
    }

    /// Choices that are known, on all machines.
    pub fn len(&self) -> usize {
        self.machines.values().map(BTreeMap::len).sum()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of a machine.
    pub(crate) fn of(&self, machine: &str) -> Tuning {
        Tuning(self.machines.get(machine).cloned().unwrap_or_default())
    }

    /// A cache of one machine.
    pub(crate) fn with(machine: &str, tuning: Tuning) -> TuningCache {
        let machines = if tuning.0.is_empty() { vec![] } else { vec![(machine.to_owned(), tuning.0)] };
        TuningCache { machines: machines.into_iter().collect(), ..TuningCache::default() }
    }
}

/// Writes a value as indented JSON, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let io = |error: std::io::Error| Error::Io { path: path.to_owned(), error };
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| io(e.into()))?;
    text.push(b'\n');
    write_file(path, |file| file.write_all(&text)).map(drop).map_err(io)
}

/// The name under which this machine's choices are kept, for a target and a number of threads.
pub(crate) fn machine_name(target: &Target, threads: usize) -> String {
    let m = target.caches;
    let [l1, l2, l3] = [m.l1, m.l2, m.l3].map(|bytes| bytes >> 10);
    format!("{}, {}, caches of {l1}, {l2} and {l3} KiB, {threads} threads", cpu_name(), target.isa.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(machine: &str, options: &[(&str, &str)]) -> TuningCache {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        TuningCache::with(machine, Tuning(options.collect()))
    }

    #[test]
    fn files_hold_what_was_written_and_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/tuning.json");
        assert!(TuningCache::read(&path).unwrap().is_empty());
        let mut all = cache("a", &[("k", "1"), ("l", "2")]);
        all.merge(cache("a", &[("k", "3")]));
        all.merge(cache("b", &[("k", "4")]));
        all.write(&path).unwrap();
        let read = TuningCache::read(&path).unwrap();
        assert_eq!(read, all);
        assert_eq!(read.of("a").0["k"], "3");
        assert_eq!(read.of("a").0["l"], "2");
        assert!(read.of("c").0.is_empty());
        for bad in ["", "{", "[]", r#"{"version":2,"machines":{}}"#, r#"{"version":1,"machines":{"a":{"k":1}}}"#] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(TuningCache::read(&path), Err(Error::Tuning { .. })), "{bad}");
        }
        assert!(matches!(TuningCache::read(folder.path()), Err(Error::Io { .. })));
    }
}
