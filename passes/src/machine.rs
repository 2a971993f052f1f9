//! What passes ask of a machine. The compiler hands in the target's profile; without one, [`Reference`] decides, the
//! same everywhere.

pub use optc_types::{Change, Form, Machine, Nanos, Numbers, Product};
use optc_types::{Reason, ReasonCode};

/// No machine in particular: a sparse multiply-add costs half as much again as a dense one, in blocks of one row three
/// times as much; bfloat16 takes half the time, and integers are always worth it.
#[derive(Clone, Copy, Debug)]
pub struct Reference;

impl Machine for Reference {
    fn declines(&self, p: &Product, form: Form) -> Option<Reason> {
        match form {
            Form::Sparse { block: (_, cols), .. } if p.numbers == Numbers::Floats && cols > 1 => {
                Some(Reason::new(ReasonCode::Block, "blocks of floats have one column"))
            }
            Form::Filtered { .. } => Some(Reason::new(ReasonCode::NotFiltered, "nothing is filtered")),
            _ => None,
        }
    }

    fn time(&self, p: &Product, form: Form) -> Nanos {
        if self.declines(p, form).is_some() {
            return Nanos::NEVER;
        }
        let Form::Sparse { block: (rows, cols), blocks } = form else {
            let share = if p.numbers == Numbers::Halves { 0.5 } else { 1.0 };
            return Nanos(share * (p.batch * p.cols * p.depth * p.rows) as f64);
        };
        let each = if rows == 1 { 3.0 } else { 1.5 * rows as f64 };
        // Several columns at once take less than one after the other.
        let columns = if cols == 1 { 1.0 } else { 0.7 * cols as f64 };
        let work = (each * columns * blocks as f64 + (p.cols.div_ceil(rows)) as f64) * p.rows as f64;
        Nanos(work) + self.copy(p.staged_bytes as u64)
    }

    fn copy(&self, bytes: u64) -> Nanos {
        Nanos(bytes as f64)
    }

    fn margin(&self, change: Change) -> f64 {
        match change {
            Change::ToSparse => 0.85,
            Change::ToBytes => f64::INFINITY,
            Change::ToHalves | Change::ToFiltered => 0.95,
        }
    }
}
