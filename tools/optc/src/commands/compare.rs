//! `optc compare`: outputs against expected values, or against another way to run the model.

use std::path::{Path, PathBuf};

use optc::{Compiler, Model, Options, Precision};
use optc_ir::Val;
use optc_tensor::{DType, Difference, Tolerance};
use serde::Serialize;

use crate::execute;
use crate::exit::{CommandError, Exit, Outcome};
use crate::inputs::{self, InputArgs, InputRole};
use crate::load::{self, load};
use crate::options::ModelArgs;
use crate::progress::Spinner;
use crate::report::{Format, Report, emit, note, table, units};

/// Compare a model's outputs with expected ones, or with another pipeline, instruction set or model
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("reference").required(true).multiple(true))]
pub struct CompareArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: InputArgs,
    /// Run N rows of the leading axis at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Expected outputs: an `.npz` keyed by output name, an `.npy`, or a `test_data_set_N` folder
    #[arg(long, value_name = "EXP", group = "reference", conflicts_with = "against_any")]
    expect: Option<PathBuf>,
    /// A `test_data_set_N` folder with both inputs and expected outputs
    #[arg(long, value_name = "DIR", group = "reference", conflicts_with_all = ["against_any", "expect", "input"])]
    data: Option<PathBuf>,
    #[command(flatten)]
    against: Against,
    #[command(flatten)]
    limits: Limits,
}

/// The reference is computed, not read.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("against_any").multiple(true))]
struct Against {
    /// Compare with this pipeline
    #[arg(long, value_name = "PIPELINE", groups = ["reference", "against_any"])]
    against_passes: Option<String>,
    /// Compare with this instruction set
    #[arg(long, value_name = "NAME", groups = ["reference", "against_any"])]
    against_isa: Option<String>,
    /// Compare with this model
    #[arg(long, value_name = "MODEL2", groups = ["reference", "against_any"])]
    against: Option<PathBuf>,
    /// Compare with the reference interpreter on the graph before all passes
    #[arg(long, groups = ["reference", "against_any"], conflicts_with_all = ["against_passes", "against_isa"])]
    against_interpreter: bool,
}

/// What is still equal. What is given holds for all outputs; without any of these each is held to the [`Tolerance`] of
/// its dtype.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Limits {
    /// Largest error of an element relative to the expected one. Without any limit: 1e-3 for f64, f32 and f16, 2^-6 for
    /// bf16, 0 for integers
    #[arg(long, value_name = "R")]
    rtol: Option<f64>,
    /// Largest absolute error of an element, added to what `--rtol` allows. Without any limit: 1e-5 for floats, 0 for
    /// integers
    #[arg(long, value_name = "A")]
    atol: Option<f64>,
    /// Smallest cosine between found and expected output
    #[arg(long, value_name = "C")]
    min_cosine: Option<f64>,
    /// Largest absolute error relative to the expected output's range
    #[arg(long, value_name = "R")]
    max_range_error: Option<f64>,
}

#[derive(Debug, Serialize)]
struct CompareReport {
    reference: String,
    /// Whether all outputs are within the limits.
    passed: bool,
    outputs: Vec<OutputReport>,
}

/// One output. Figures that are not finite are `null` in JSON: the SQNR of equal outputs, errors where one side is NaN.
#[derive(Debug, Serialize)]
struct OutputReport {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    figures: Option<Figures>,
    passed: bool,
    /// Why it did not pass.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

#[derive(Debug, Serialize)]
struct Figures {
    max_abs: f64,
    /// The largest error relative to the range of the expected output.
    max_abs_of_range: f64,
    rmse: f64,
    cosine: f64,
    sqnr_db: f64,
    max_ulp: f64,
}

/// Runs the command.
///
/// # Errors
/// A model or an input cannot be used, or a run fails.
pub fn run(args: &CompareArgs, format: Format) -> Outcome {
    let compiling = Spinner::new("compiling");
    let compiler = args.model.how.compiler()?;
    let model = load(&args.model.model, &compiler)?.model;
    drop(compiling);
    let input = match &args.data {
        Some(folder) => &InputArgs { input: Some(folder.clone()), ..args.input.clone() },
        None => &args.input,
    };
    let values = input.values(&model)?;
    let batch = args.batch.map(|n| n as usize);
    let found = execute::in_batches(&mut input.session(&model), &values, batch)?;
    let names = model.outputs().iter().map(|o| o.name.clone());
    let found: Vec<(String, Val)> = names.zip(found).collect();
    let (reference, expected) = match args.expect.as_ref().or(args.data.as_ref()) {
        Some(path) => (path.display().to_string(), inputs::read(path, model.outputs(), InputRole::Output)?),
        None => computed(args, &compiler, &model, &values)?,
    };
    let outputs = compare(&found, &expected, args.limits)?;
    let report = CompareReport { reference, passed: outputs.iter().all(|o| o.passed), outputs };
    emit(&report, format)?;
    Ok(if report.passed { Exit::Ok } else { Exit::CheckFailed })
}

/// The outputs of the other way to run the model, and what it is called.
fn computed(
    args: &CompareArgs,
    compiler: &Compiler,
    model: &Model,
    values: &[Val],
) -> Outcome<(String, Vec<(String, Val)>)> {
    let how = &args.against;
    let path: &Path = how.against.as_ref().unwrap_or(&args.model.model);
    let batch = args.batch.map(|n| n as usize);
    if how.against_interpreter {
        let graph = load::inferred(load::graph(path, compiler.options().access())?)?;
        let outputs = optc_ir::run(&graph, values).map_err(|e| CommandError::new(Exit::Run, e.to_string()))?;
        let names = graph.outputs.iter().map(|o| o.name.clone());
        return Ok(("the interpreter".to_owned(), names.zip(outputs).collect()));
    }
    let mut options: Options = compiler.options().clone();
    let mut reference = vec![];
    if how.against.is_some() || how.against_passes.is_some() {
        // The comparison is to show what another precision costs.
        options.precision = Precision::F32;
    }
    if let Some(other) = &how.against {
        reference.push(other.display().to_string());
    }
    if let Some(passes) = &how.against_passes {
        options.passes.clone_from(passes);
        reference.push(format!("pipeline {passes}"));
    }
    if let Some(isa) = &how.against_isa {
        options.isa = Some(isa.clone());
        reference.push(format!("isa {isa}"));
    }
    let other = load(path, &Compiler::new(options))?.model;
    // The other model's inputs need not come in the same order.
    let named: Vec<_> = model.inputs().iter().map(|i| i.name.as_str()).zip(values.iter().cloned()).collect();
    let mut session = args.input.session(&other);
    let values = session.in_order(&named)?;
    let outputs = execute::in_batches(&mut session, &values, batch)?;
    let names = other.outputs().iter().map(|o| o.name.clone());
    Ok((reference.join(", "), names.zip(outputs).collect()))
}

fn compare(found: &[(String, Val)], expected: &[(String, Val)], limits: Limits) -> Outcome<Vec<OutputReport>> {
    if let Some((name, _)) = expected.iter().find(|(name, _)| !found.iter().any(|(n, _)| n == name)) {
        let known = found.iter().map(|(n, _)| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let message = format!("the reference has `{name}`, but the model has no such output; it has {known}");
        return Err(CommandError::new(Exit::Run, message));
    }
    let mut reports = vec![];
    for (name, value) in found {
        match expected.iter().find(|(n, _)| n == name) {
            Some((_, expected)) => judge(name, value, expected, limits, &mut reports),
            None => note(&format!("the reference has no output `{name}`: it is not compared")),
        }
    }
    if reports.is_empty() {
        return Err(CommandError::new(Exit::Run, "the reference has no outputs"));
    }
    Ok(reports)
}

/// Compares one output; the items of sequences and optionals get a line each.
fn judge(name: &str, found: &Val, expected: &Val, limits: Limits, reports: &mut Vec<OutputReport>) {
    match (found, expected) {
        (Val::Tensor(f), Val::Tensor(e)) => {
            let tolerance = limits.tolerance(f.dtype());
            reports.push(match Difference::between(f, e, tolerance.rtol, tolerance.atol) {
                None => mismatch(name, found, expected),
                Some(d) => limits.judge(name, tolerance, &d),
            });
        }
        (Val::Seq(_, f), Val::Seq(_, e)) if f.len() == e.len() => {
            for (i, (f, e)) in f.iter().zip(e).enumerate() {
                judge(&format!("{name}[{i}]"), f, e, limits, reports);
            }
        }
        (Val::Opt(_, Some(f)), Val::Opt(_, Some(e))) => judge(name, f, e, limits, reports),
        (Val::Opt(_, None), Val::Opt(_, None)) => {
            reports.push(OutputReport { name: name.to_owned(), figures: None, passed: true, reason: String::new() });
        }
        (Val::Opt(_, Some(f)), e @ Val::Tensor(_)) => judge(name, f, e, limits, reports),
        _ => reports.push(mismatch(name, found, expected)),
    }
}

fn mismatch(name: &str, found: &Val, expected: &Val) -> OutputReport {
    let length =
        |v: &Val| if let Val::Seq(_, items) = v { format!(" of {} items", items.len()) } else { String::new() };
    let describe = |v: &Val| format!("{}{}", v.ty(), length(v));
    let reason = format!("found {}, expected {}", describe(found), describe(expected));
    OutputReport { name: name.to_owned(), figures: None, passed: false, reason }
}

impl Limits {
    /// What elements of a dtype are held to.
    fn tolerance(&self, dtype: DType) -> Tolerance {
        match (self.rtol, self.atol) {
            (None, None) => Tolerance::of(dtype),
            (rtol, atol) => Tolerance { rtol: rtol.unwrap_or(0.0), atol: atol.unwrap_or(0.0) },
        }
    }

    /// Whether elements are held to a tolerance: asked for, or nothing else is.
    fn by_element(&self) -> bool {
        self.rtol.or(self.atol).is_some() || (self.min_cosine.is_none() && self.max_range_error.is_none())
    }

    fn judge(&self, name: &str, tolerance: Tolerance, d: &Difference) -> OutputReport {
        let of_range = if d.max_abs == 0.0 { 0.0 } else { d.max_abs / d.range };
        let mut reasons = vec![];
        if self.by_element() && !d.within_tolerance() {
            let Tolerance { rtol, atol } = tolerance;
            reasons.push(format!(
                "an element is off by {} more than rtol {rtol}, atol {atol} allow",
                units::error(d.excess)
            ));
        }
        // NaN is below no bound, and must not pass.
        if let Some(least) = self.min_cosine.filter(|&least| d.cosine.is_nan() || d.cosine < least) {
            reasons.push(format!("the cosine is {:.9}, expected at least {least}", d.cosine));
        }
        if let Some(most) = self.max_range_error.filter(|&most| of_range.is_nan() || of_range > most) {
            reasons
                .push(format!("the largest error is {} of the range, expected at most {most}", units::error(of_range)));
        }
        let figures = Figures {
            max_abs: d.max_abs,
            max_abs_of_range: of_range,
            rmse: d.rmse,
            cosine: d.cosine,
            sqnr_db: d.sqnr,
            max_ulp: d.ulp,
        };
        let (passed, reason) = (reasons.is_empty(), reasons.join("; "));
        OutputReport { name: name.to_owned(), figures: Some(figures), passed, reason }
    }
}

impl Report for CompareReport {
    fn text(&self) -> String {
        let headers = ["output", "max abs>", "of range>", "rmse>", "cosine>", "SQNR dB>", "ulp>", "verdict"];
        let row = |o: &OutputReport| {
            let verdict = if o.passed { "ok" } else { "FAILED" }.to_owned();
            let Some(f) = &o.figures else {
                let dash = || "-".to_owned();
                return vec![o.name.clone(), dash(), dash(), dash(), dash(), dash(), dash(), verdict];
            };
            let (cosine, sqnr, ulp) =
                (format!("{:.9}", f.cosine), format!("{:.1}", f.sqnr_db), format!("{}", f.max_ulp));
            let (max, of_range, rmse) =
                (units::error(f.max_abs), units::error(f.max_abs_of_range), units::error(f.rmse));
            vec![o.name.clone(), max, of_range, rmse, cosine, sqnr, ulp, verdict]
        };
        let rows: Vec<Vec<String>> = self.outputs.iter().map(row).collect();
        let reasons = self.outputs.iter().filter(|o| !o.passed).map(|o| format!("`{}`: {}\n", o.name, o.reason));
        format!("against {}\n{}{}", self.reference, table::render(&headers, &rows), reasons.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_tensor::Tensor;

    const NONE: Limits = Limits { rtol: None, atol: None, min_cosine: None, max_range_error: None };

    fn passes(found: &[f32], expected: &[f32], limits: Limits) -> bool {
        let val = |v: &[f32]| vec![("y".to_owned(), Tensor::from_slice(&[v.len()], v).unwrap().into())];
        compare(&val(found), &val(expected), limits).unwrap().iter().all(|o| o.passed)
    }

    #[test]
    fn only_the_limits_that_are_asked_for_count() {
        let (found, expected) = (&[1.0, 2.1], &[1.0, 2.0]);
        assert!(!passes(found, expected, NONE));
        assert!(passes(found, expected, Limits { min_cosine: Some(0.99), ..NONE }));
        assert!(!passes(found, expected, Limits { min_cosine: Some(0.999_999), ..NONE }));
        assert!(passes(found, expected, Limits { atol: Some(0.2), ..NONE }));
        assert!(!passes(found, expected, Limits { rtol: Some(0.01), min_cosine: Some(0.9), ..NONE }));
        assert!(passes(found, expected, Limits { max_range_error: Some(0.2), ..NONE }));
        assert!(!passes(found, expected, Limits { max_range_error: Some(0.05), ..NONE }));
    }

    #[test]
    fn each_dtype_has_a_tolerance_unless_one_is_given() {
        let val = |dtype, v: f64| vec![("y".to_owned(), Tensor::from_f64(dtype, &[1], &[v]).unwrap().into())];
        let passes = |dtype, found, expected, limits| {
            compare(&val(dtype, found), &val(dtype, expected), limits).unwrap().iter().all(|o| o.passed)
        };
        let next = 1.0 + 2.0 / 128.0; // two units in the last place of bf16
        assert!(passes(DType::BF16, next, 1.0, NONE) && !passes(DType::F32, next, 1.0, NONE));
        assert!(!passes(DType::BF16, next, 1.0, Limits { rtol: Some(1e-3), ..NONE }));
        assert!(!passes(DType::I64, 5001.0, 5000.0, NONE));
        assert!(passes(DType::I64, 5001.0, 5000.0, Limits { atol: Some(1.0), ..NONE }));
    }

    #[test]
    fn nan_passes_no_limit() {
        for limits in [NONE, Limits { max_range_error: Some(1e9), ..NONE }] {
            assert!(!passes(&[f32::NAN, 1.0], &[1.0, 1.0], limits));
            assert!(passes(&[f32::NAN, 1.0], &[f32::NAN, 1.0], limits));
        }
    }

    #[test]
    fn shapes_that_differ_do_not_pass() {
        assert!(!passes(&[1.0], &[1.0, 1.0], Limits { atol: Some(9.0), ..NONE }));
    }
}
