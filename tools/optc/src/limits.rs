//! What a command may use: memory for all that it does, time for each run of a model.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use optc_tensor::{Entered, Memory, OutOfTime};

use crate::exit::Exit;

/// What a run that is over time still gets to end on its own, at the next step or round of tasks.
const GRACE: Duration = Duration::from_secs(1);

/// Limits of every command.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Limits {
    /// Refuse what takes more memory than this, such as `512MiB` or `2G` [default: what the machine has]
    #[arg(long, global = true, value_name = "SIZE", value_parser = bytes)]
    memory_limit: Option<usize>,
}

impl Limits {
    /// Makes them hold for this thread until the result is dropped.
    pub fn enter(&self) -> Option<Entered> {
        self.memory_limit.map(|limit| Memory::with_limit(limit).enter())
    }
}

/// Does `work`, which ends on its own when the limit is over, unless one op takes very long: then the process ends,
/// with the exit code and the message of a run that was given up.
pub fn within<T>(limit: Option<Duration>, work: impl FnOnce() -> T) -> T {
    let Some(limit) = limit else { return work() };
    let (done, waits) = channel::<()>();
    let watch = move || {
        if waits.recv_timeout(limit.saturating_add(GRACE)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("error: {}", OutOfTime { limit });
            std::process::exit(Exit::Run as i32);
        }
    };
    // Without a thread to watch it, the run still ends between its steps.
    let _watch = std::thread::Builder::new().name("optc-time-limit".to_owned()).spawn(watch);
    let result = work();
    drop(done);
    result
}

/// A text that is not a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a size, such as `512MiB` or `2G`")]
struct SizeError;

/// A number of bytes: `4096`, `64KiB`, `1.5GB`; `K`, `M`, `G` and `T` alone are powers of 1024.
fn bytes(text: &str) -> Result<usize, SizeError> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| SizeError)?;
    let unit = unit.trim().to_ascii_lowercase();
    let (prefix, base) = match (unit.strip_suffix("ib"), unit.strip_suffix('b')) {
        (Some(prefix), _) => (prefix, 1024f64),
        (None, Some(prefix)) => (prefix, 1000.0),
        (None, None) => (&unit[..], 1024.0),
    };
    let power = ["", "k", "m", "g", "t"].iter().position(|p| *p == prefix).ok_or(SizeError)?;
    Ok((number * base.powi(power as i32)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let sizes = ["4096", "64KiB", "1.5GB", "2G", "512 MiB", "0"].map(|text| bytes(text).ok());
        let expected = [4096, 64 << 10, 1_500_000_000, 2 << 30, 512 << 20, 0];
        assert_eq!(sizes, expected.map(Some));
        for bad in ["", "G", "-1", "1X", "1.2.3", "1KiBB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn work_within_its_time_gives_its_result() {
        assert_eq!((within(None, || 1), within(Some(Duration::from_secs(3600)), || 2)), (1, 2));
    }
}
