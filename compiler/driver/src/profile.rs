//! What a machine's cores do in a microsecond, by instruction set, as a file: the figures for a machine that is not
//! the one that they were measured on.
//!
//! The file is JSON: `{"version": 1, "machine": CPU, "targets": {ISA: FIGURES}}`, see [`Figures`].

use std::collections::BTreeMap;
use std::path::Path;

use optc_emit::host::cpu_name;
use optc_kernel::target::{ISAS, Isa};
use optc_kernels::profile::{Figures, Profile};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The version of the file that is written, and the only one that is read.
const VERSION: u32 = 2;

/// Figures of instruction sets. [`Options::profile`](crate::Options::profile) takes one; what it does not name has the
/// figures that optc comes with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineProfile {
    version: u32,
    machine: String,
    targets: BTreeMap<String, Figures>,
}

/// Why a text is not a machine profile.
#[derive(Debug, thiserror::Error)]
pub enum MachineProfileError {
    /// It is not JSON, or has other fields.
    #[error("no machine profile: {0}")]
    Text(#[from] serde_json::Error),
    /// It is one of another version.
    #[error("version {0}, expected {VERSION}: measure the machine again")]
    Version(u32),
    /// An instruction set does not exist.
    #[error("there is no instruction set `{name}`")]
    Isa {
        /// The name.
        name: String,
    },
    /// A figure cannot be.
    #[error("`{figure}` of `{isa}` is zero, or not what there are kernels for")]
    Figure {
        /// Its name.
        figure: &'static str,
        /// The instruction set.
        isa: String,
    },
}

impl Default for MachineProfile {
    fn default() -> Self {
        MachineProfile { version: VERSION, machine: String::new(), targets: BTreeMap::new() }
    }
}

impl MachineProfile {
    /// Measures the instruction sets that this machine has, on one thread and in some seconds. Other work on the
    /// machine slows the forms of a product down, but not always alike: measure an idle one.
    ///
    /// # Errors
    /// The machine cannot be compiled for.
    pub fn measure() -> Result<MachineProfile, Error> {
        let here = ISAS.iter().filter(|isa| optc_emit::host::has(isa));
        let figures = |isa: &'static Isa| Ok((isa.name.to_owned(), optc_hwbench::figures::measure(isa)?));
        let targets = here.map(figures).collect::<Result<_, optc_emit::EmitError>>();
        let targets = targets.map_err(optc_emit::BackendError::Emit)?;
        Ok(MachineProfile { version: VERSION, machine: cpu_name(), targets })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, is not a profile, or is one of another version.
    pub fn read(path: &Path) -> Result<MachineProfile, Error> {
        let text = std::fs::read(path).map_err(|error| Error::Io { path: path.to_owned(), error })?;
        MachineProfile::parse(&text).map_err(|error| Error::Profile { path: path.to_owned(), error })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong with it: it is not a profile, is one of another version, names an instruction set that does not
    /// exist, or has a figure that cannot be.
    pub fn parse(text: &[u8]) -> Result<MachineProfile, MachineProfileError> {
        let profile: MachineProfile = serde_json::from_slice(text)?;
        if profile.version != VERSION {
            return Err(MachineProfileError::Version(profile.version));
        }
        for (name, figures) in &profile.targets {
            if Isa::by_name(name).is_none() {
                return Err(MachineProfileError::Isa { name: name.clone() });
            }
            if let Some(figure) = figures.fault() {
                return Err(MachineProfileError::Figure { figure, isa: name.clone() });
            }
        }
        Ok(profile)
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        crate::tuning::write_json(path, self)
    }

    /// The instruction sets that it names, and their figures.
    pub fn targets(&self) -> impl Iterator<Item = (&str, Figures)> {
        self.targets.iter().map(|(name, figures)| (name.as_str(), *figures))
    }

    /// An instruction set with its figures: those of the file, or those that optc comes with.
    pub fn of(&self, isa: &'static Isa) -> Profile {
        self.targets.get(isa.name).map_or_else(|| Profile::of(isa), |figures| Profile::new(isa, *figures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_what_was_written_and_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine.json");
        let [avx2, portable] = ["avx2", "portable"].map(|name| Isa::by_name(name).unwrap());
        let figures = Figures { f32: 1, int8: 2, staged: 3, ..optc_kernels::profile::of(avx2).figures };
        let targets = [("avx2".to_owned(), figures)].into_iter().collect();
        let profile = MachineProfile { machine: "a machine".to_owned(), targets, ..MachineProfile::default() };
        profile.write(&path).unwrap();
        let read = MachineProfile::read(&path).unwrap();
        assert_eq!(read, profile);
        assert_eq!((read.of(avx2), read.of(portable)), (Profile::new(avx2, figures), Profile::of(portable)));
        let text = std::fs::read_to_string(&path).unwrap();
        let with = |what: &str, other: &str| {
            assert!(text.contains(what), "{what} in {text}");
            text.replacen(what, other, 1)
        };
        let bad = [
            with("\"f32\": 1", "\"f32\": 0"),
            with("\"f32\": 1,", "\"f32\": 1, \"other\": 1,"),
            with("\"rows\": 4", "\"rows\": 3"),
            with("avx2", "mmx"),
            with("\"version\": 2", "\"version\": 1"),
        ];
        for bad in ["", "{", "[]"].into_iter().chain(bad.iter().map(String::as_str)) {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(MachineProfile::read(&path), Err(Error::Profile { .. })), "{bad}");
        }
        assert!(matches!(MachineProfile::read(&folder.path().join("none.json")), Err(Error::Io { .. })));
    }
}
