//! Figures of a process and of repeated runs.

use std::time::Duration;

use serde::Serialize;

/// The most memory that this process has had resident so far, in bytes; `None` where the system does not say.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// A duration in milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Latencies of repeated runs, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// The fastest.
    pub min: f64,
    /// Half of the runs took at most this.
    pub p50: f64,
    /// Nine in ten took at most this.
    pub p90: f64,
    /// 99 in a hundred took at most this.
    pub p99: f64,
    /// The average.
    pub mean: f64,
}

impl Latency {
    /// The figures of at least one run.
    pub fn of(mut runs: Vec<Duration>) -> Latency {
        runs.sort_unstable();
        let at = |percent: usize| {
            let rank = (runs.len() * percent).div_ceil(100).clamp(1, runs.len().max(1));
            runs.get(rank - 1).copied().map_or(0.0, ms)
        };
        let mean = ms(runs.iter().sum::<Duration>()) / runs.len().max(1) as f64;
        Latency { min: at(0), p50: at(50), p90: at(90), p99: at(99), mean }
    }
}

/// The middle of some figures; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let runs = (1..=100).rev().map(Duration::from_millis).collect();
        let latency = Latency::of(runs);
        assert_eq!(latency, Latency { min: 1.0, p50: 50.0, p90: 90.0, p99: 99.0, mean: 50.5 });
        let one = Latency::of(vec![Duration::from_millis(7)]);
        assert_eq!((one.min, one.p99, one.mean), (7.0, 7.0, 7.0));
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(peak_rss_bytes().is_none_or(|n| n > 100_000));
    }
}
