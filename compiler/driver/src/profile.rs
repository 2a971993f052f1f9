//! What a machine's cores do in a microsecond, by instruction set, as a file: the cost model's rates for a machine that
//! is not the one that they were measured on.
//!
//! The file is JSON: `{"version": 1, "machine": CPU, "targets": {ISA: {"f32": N, "int8": N, "staged": N}}}`, see
//! [`Rates`].

use std::collections::BTreeMap;
use std::path::Path;

use optc_emit::host::cpu_name;
use optc_kernel::target::{ISAS, Isa};
use optc_kernels::cost::int8::Rates;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The version of the file that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Rates of instruction sets. [`Options::profile`](crate::Options::profile) takes one; what it does not name has the
/// rates that optc comes with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineProfile {
    version: u32,
    machine: String,
    targets: BTreeMap<String, Rates>,
}

impl Default for MachineProfile {
    fn default() -> Self {
        MachineProfile { version: VERSION, machine: String::new(), targets: BTreeMap::new() }
    }
}

impl MachineProfile {
    /// Measures the instruction sets that this machine has, on one thread and in less than a second. Other work on the
    /// machine slows both forms of a product down, but not always alike: measure an idle one.
    ///
    /// # Errors
    /// The machine cannot be compiled for.
    pub fn measure() -> Result<MachineProfile, Error> {
        let here = ISAS.iter().filter(|isa| optc_emit::host::has(isa));
        let rates = |isa: &Isa| Ok((isa.name.to_owned(), optc_hwbench::rates::measure(isa)?));
        let targets = here.map(rates).collect::<Result<_, optc_emit::EmitError>>();
        let targets = targets.map_err(optc_emit::LoadError::Emit)?;
        Ok(MachineProfile { version: VERSION, machine: cpu_name(), targets })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, is no profile, or is one of another version.
    pub fn read(path: &Path) -> Result<MachineProfile, Error> {
        let text = std::fs::read(path).map_err(|error| Error::Io { path: path.to_owned(), error })?;
        MachineProfile::parse(&text).map_err(|reason| Error::Profile { path: path.to_owned(), reason })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong with it: it is no profile, is one of another version, names an instruction set that there is not,
    /// or has a rate of zero.
    pub fn parse(text: &[u8]) -> Result<MachineProfile, String> {
        let profile: MachineProfile = serde_json::from_slice(text).map_err(|e| format!("no machine profile: {e}"))?;
        if profile.version != VERSION {
            return Err(format!("version {}, expected {VERSION}: measure the machine again", profile.version));
        }
        for (name, rates) in &profile.targets {
            if Isa::by_name(name).is_none() {
                return Err(format!("there is no instruction set `{name}`"));
            }
            if !rates.are_positive() {
                return Err(format!("a rate of `{name}` is zero"));
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

    /// The instruction sets that it names, and their rates.
    pub fn targets(&self) -> impl Iterator<Item = (&str, Rates)> {
        self.targets.iter().map(|(name, rates)| (name.as_str(), *rates))
    }

    /// The rates of an instruction set: those of the file, or those that optc comes with.
    pub fn rates(&self, isa: &Isa) -> Rates {
        self.targets.get(isa.name).copied().unwrap_or_else(|| Rates::of(isa))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_what_was_written_and_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine.json");
        let rates = Rates { f32: 1, int8: 2, staged: 3 };
        let targets = [("avx2".to_owned(), rates)].into_iter().collect();
        let profile = MachineProfile { machine: "a machine".to_owned(), targets, ..MachineProfile::default() };
        profile.write(&path).unwrap();
        let read = MachineProfile::read(&path).unwrap();
        assert_eq!(read, profile);
        let [avx2, portable] = ["avx2", "portable"].map(|name| Isa::by_name(name).unwrap());
        assert_eq!((read.rates(avx2), read.rates(portable)), (rates, Rates::of(portable)));
        let with = |rates: &str| format!(r#"{{"version":1,"machine":"","targets":{{"avx2":{rates}}}}}"#);
        let zero = with(r#"{"f32":0,"int8":1,"staged":1}"#);
        let more = with(r#"{"f32":1,"int8":1,"staged":1,"other":1}"#);
        let name = with(r#"{"f32":1,"int8":1,"staged":1}"#).replace("avx2", "mmx");
        let version = r#"{"version":2,"machine":"","targets":{}}"#;
        for bad in ["", "{", "[]", version, &zero, &more, &name] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(MachineProfile::read(&path), Err(Error::Profile { .. })), "{bad}");
        }
        assert!(matches!(MachineProfile::read(&folder.path().join("none.json")), Err(Error::Io { .. })));
    }
}
