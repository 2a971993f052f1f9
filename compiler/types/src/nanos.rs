//! Estimated times.

use std::cmp::Ordering;
use std::ops::{Add, Div, Mul};

/// A time of one core, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Nanos(pub f64);

impl Nanos {
    /// The time of what is not done.
    pub const NEVER: Nanos = Nanos(f64::INFINITY);

    /// In seconds.
    pub fn seconds(self) -> f64 {
        self.0 * 1e-9
    }

    /// The shorter one of two.
    #[must_use]
    pub fn min(self, other: Nanos) -> Nanos {
        Nanos(self.0.min(other.0))
    }

    /// The longer one of two.
    #[must_use]
    pub fn max(self, other: Nanos) -> Nanos {
        Nanos(self.0.max(other.0))
    }

    /// An order of all times.
    pub fn total_cmp(&self, other: &Nanos) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Add for Nanos {
    type Output = Nanos;

    fn add(self, other: Nanos) -> Nanos {
        Nanos(self.0 + other.0)
    }
}

impl Mul<Nanos> for f64 {
    type Output = Nanos;

    fn mul(self, time: Nanos) -> Nanos {
        Nanos(self * time.0)
    }
}

impl Div for Nanos {
    type Output = f64;

    /// How many times as long as the other one it is.
    fn div(self, other: Nanos) -> f64 {
        self.0 / other.0
    }
}
