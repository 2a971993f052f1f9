//! Runs a model on values, whole or in parts of a few rows.

use optc::{RunError, Session};
use optc_ir::Val;

use crate::exit::{CommandError, Exit, Outcome};
use crate::inputs::{explain_rows, rows};
use crate::limits::within;

/// One run; an input whose leading dim does not fit comes with advice.
///
/// # Errors
/// The values do not fit, or an op refuses its operands.
pub fn once(session: &mut Session, values: &[Val]) -> Outcome<Vec<Val>> {
    let limit = session.model().time_limit();
    let outputs = within(limit, || session.run_values(values));
    outputs.map_err(|e| explain_rows(e.into(), session.model(), values))
}

/// Refuses values of other types than the model's, before anything is compiled for them.
///
/// # Errors
/// A value does not fit.
pub fn check(session: &Session, values: &[Val]) -> Outcome<()> {
    for (info, value) in session.model().inputs().iter().zip(values) {
        let found = value.ty();
        if !info.ty.admits(&found) {
            let error = RunError::InputType { name: info.name.clone(), found, expected: info.ty.clone() };
            return Err(explain_rows(error.into(), session.model(), values));
        }
    }
    Ok(())
}

/// Runs `batch` rows at a time (all at once without one) and puts the outputs together.
///
/// # Errors
/// As [`once`]; or inputs or outputs have no common leading axis.
pub fn in_batches(session: &mut Session, values: &[Val], batch: Option<usize>) -> Outcome<Vec<Val>> {
    let Some(batch) = batch else { return once(session, values) };
    let common = rows::count(values);
    let total = common.ok_or_else(|| CommandError::new(Exit::Run, "`--batch` needs inputs with equal leading dims"))?;
    let mut sizes = vec![];
    let mut parts: Vec<Vec<Val>> = vec![vec![]; session.model().outputs().len()];
    for from in (0..total).step_by(batch) {
        let to = total.min(from + batch);
        let part = values.iter().map(|v| rows::slice(v, from, to)).collect::<Outcome<Vec<_>>>()?;
        for (parts, output) in parts.iter_mut().zip(once(session, &part)?) {
            parts.push(output);
        }
        sizes.push(to - from);
    }
    let outputs = session.model().outputs().iter().zip(&parts);
    outputs.map(|(info, parts)| rows::concat(&info.name, parts, &sizes)).collect()
}
