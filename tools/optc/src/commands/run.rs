//! `optc run`: runs a model once and shows, or keeps, what it gives.

use std::path::{Path, PathBuf};
use std::time::Instant;

use optc::Model;
use optc_ir::Val;
use optc_tensor::npy::{Npz, PackedArray, read_npy, write_npz};
use optc_tensor::{DType, Tensor};
use serde::Serialize;

use crate::execute;
use crate::exit::{CommandError, Exit, Outcome};
use crate::inputs::{InputArgs, rows};
use crate::options::ModelArgs;
use crate::report::{Format, Report, emit};
use crate::stats::ms;
use crate::tune::{TuneArgs, load_tuned};

/// Run a model and show its outputs
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    tune: TuneArgs,
    /// Write the outputs to this `.npz`, keyed by output name
    #[arg(long, short, value_name = "OUT.npz")]
    output: Option<PathBuf>,
    /// Run N rows of the leading axis at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// The right class of each row (`.npy`, or `.npz` with one array or one called `labels`): report top-1 accuracy
    #[arg(long, value_name = "LABELS")]
    labels: Option<PathBuf>,
}

/// Elements that are shown of each output.
const SHOWN: usize = 8;
/// A float output of rank 1 or 2 with at most this many columns is taken for scores of classes.
const MAX_CLASSES: usize = 1000;
/// Rows whose best classes are shown.
const SHOWN_ROWS: usize = 10;

#[derive(Debug, Serialize)]
struct RunReport {
    outputs: Vec<OutputReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<Accuracy>,
    run_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct OutputReport {
    name: String,
    r#type: String,
    /// The first elements.
    values: Vec<serde_json::Value>,
    elements: usize,
    /// For scores of classes: the best five of each of the first rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top5: Vec<Vec<Class>>,
}

#[derive(Debug, Serialize)]
struct Class {
    index: usize,
    score: f64,
}

#[derive(Debug, Serialize)]
struct Accuracy {
    top1: f64,
    correct: usize,
    count: usize,
}

/// Runs the command.
///
/// # Errors
/// The model or an input cannot be used, the run fails, or the outputs cannot be written.
pub fn run(args: &RunArgs, format: Format) -> Outcome {
    let files = args.model.files().reads(args.input.input.as_deref()).reads(args.labels.as_deref());
    files.writes(args.output.as_deref()).check()?;
    let compiling = args.tune.compiling();
    let model = load_tuned(&args.model, &args.tune, &args.input, args.model.how.options(0)?)?.0.model;
    drop(compiling);
    let values = args.input.values(&model)?;
    let labels = args.labels.as_deref().map(read_labels).transpose()?;
    let start = Instant::now();
    let outputs = execute::in_batches(&mut args.input.session(&model), &values, args.batch.map(|n| n as usize))?;
    let run_ms = ms(start.elapsed());
    let accuracy = labels.map(|labels| accuracy(&outputs, &labels)).transpose()?;
    if let Some(path) = &args.output {
        write(path, &model, &outputs)?;
    }
    let outputs = model.outputs().iter().zip(&outputs).map(|(info, value)| output_report(&info.name, value));
    let report = RunReport { outputs: outputs.collect(), accuracy, run_ms, written: args.output.clone() };
    emit(&report, format)?;
    Ok(Exit::Ok)
}

fn write(path: &Path, model: &Model, outputs: &[Val]) -> Outcome<()> {
    let mut arrays = vec![];
    for (info, value) in model.outputs().iter().zip(outputs) {
        match value {
            Val::Tensor(t) if t.dtype() != DType::Str => arrays.push((info.name.as_str(), t)),
            other => {
                let message = format!("output `{}` is {}, which an .npz cannot hold", info.name, other.ty());
                return Err(CommandError::new(Exit::Unsupported, message));
            }
        }
    }
    write_npz(path, arrays).map_err(|e| CommandError::array(path, &e))
}

fn read_labels(path: &Path) -> Outcome<Vec<i64>> {
    let array = |e| CommandError::array(path, &e);
    if path.extension().is_some_and(|e| e == "npy") {
        return Ok(read_npy(path).map_err(array)?.to_i64_vec());
    }
    let mut npz = Npz::open(path).map_err(array)?;
    let names: Vec<String> = npz.names().map(str::to_owned).collect();
    let name = match &names[..] {
        [only] => Some(only),
        many => many.iter().find(|name| *name == "labels"),
    };
    let missing = || CommandError::new(Exit::Run, format!("`{}` has no array `labels`", path.display()));
    let labels = npz.array(name.ok_or_else(missing)?).and_then(PackedArray::read).map_err(array)?;
    Ok(labels.to_i64_vec())
}

/// The share of rows of the first output whose largest score is at the label; the first of equal ones counts.
fn accuracy(outputs: &[Val], labels: &[i64]) -> Outcome<Accuracy> {
    let scores = outputs.first().and_then(Val::as_tensor).filter(|t| t.rank() == 2 && t.shape()[1] > 0);
    let scores = scores.ok_or_else(|| CommandError::new(Exit::Run, "the first output is not a matrix of scores"))?;
    let (rows, classes) = (scores.shape()[0], scores.shape()[1]);
    if rows != labels.len() || rows == 0 {
        let message = format!("there are {} labels for {rows} rows of scores", labels.len());
        return Err(CommandError::new(Exit::Run, message));
    }
    let scores = scores.to_f64_vec();
    let best = |row: &[f64]| ranked(row).first().map(|c| c.index as i64);
    let correct = scores.chunks(classes).zip(labels).filter(|(row, label)| best(row) == Some(**label)).count();
    Ok(Accuracy { top1: correct as f64 / rows as f64, correct, count: rows })
}

/// Classes by falling score, NaN last; equal ones by index.
fn ranked(scores: &[f64]) -> Vec<Class> {
    let mut classes: Vec<Class> = scores.iter().enumerate().map(|(index, &score)| Class { index, score }).collect();
    let key = |c: &Class| if c.score.is_nan() { f64::NEG_INFINITY } else { c.score };
    classes.sort_by(|a, b| key(b).total_cmp(&key(a)));
    classes
}

fn output_report(name: &str, value: &Val) -> OutputReport {
    let (values, elements) = match value {
        Val::Tensor(t) => (first_values(t), t.len()),
        Val::Seq(_, items) => (items.iter().take(SHOWN).map(|v| v.ty().to_string().into()).collect(), items.len()),
        Val::Opt(_, item) => (item.iter().map(|v| v.ty().to_string().into()).collect(), usize::from(item.is_some())),
    };
    let top5 = value.as_tensor().map(best_classes).unwrap_or_default();
    OutputReport { name: name.to_owned(), r#type: value.ty().to_string(), values, elements, top5 }
}

/// The first `n` elements, or all: a result may be as large as memory, and what is shown of it is widened.
fn head(t: &Tensor, n: usize) -> Option<Tensor> {
    let flat = t.reshaped(&[t.len()]).ok()?;
    rows::slice(&flat.into(), 0, n).ok()?.as_tensor().cloned()
}

fn first_values(t: &Tensor) -> Vec<serde_json::Value> {
    let Some(t) = head(t, SHOWN) else { return vec![] };
    if let Ok(strings) = t.strings() {
        return strings.iter().map(|s| s.clone().into()).collect();
    }
    match t.dtype() {
        DType::Bool => t.bytes().iter().map(|&b| (b != 0).into()).collect(),
        // Through text: an `f32` reads as its own shortest form, and values that are not finite stay what they are.
        DType::F32 => t.to_f64_vec().iter().map(|&v| real(v, format!("{}", v as f32))).collect(),
        d if d.is_real() => t.to_f64_vec().iter().map(|&v| real(v, format!("{v}"))).collect(),
        _ => t.to_i64_vec().iter().map(|&v| v.into()).collect(),
    }
}

fn real(value: f64, text: String) -> serde_json::Value {
    let number = text.parse().ok().filter(|_| value.is_finite()).and_then(serde_json::Number::from_f64);
    number.map_or(serde_json::Value::String(text), serde_json::Value::Number)
}

fn best_classes(t: &Tensor) -> Vec<Vec<Class>> {
    let classes = t.shape().last().copied().unwrap_or(0);
    if !t.dtype().is_float() || !matches!(t.rank(), 1 | 2) || !(2..=MAX_CLASSES).contains(&classes) {
        return vec![];
    }
    let rows = head(t, SHOWN_ROWS * classes).map(|t| t.to_f64_vec()).unwrap_or_default();
    rows.chunks(classes).map(|row| ranked(row).into_iter().take(5).collect()).collect()
}

impl Report for RunReport {
    fn text(&self) -> String {
        let mut text = String::new();
        for output in &self.outputs {
            let values: Vec<String> = output.values.iter().map(ToString::to_string).collect();
            let more = if output.elements > values.len() { ", …" } else { "" };
            text += &format!("{}: {} = [{}{more}]\n", output.name, output.r#type, values.join(", "));
            for (row, classes) in output.top5.iter().enumerate() {
                let best: Vec<String> = classes.iter().map(|c| format!("{} ({:.4})", c.index, c.score)).collect();
                text += &format!("  row {row}: top {}\n", best.join(", "));
            }
        }
        if let Some(a) = &self.accuracy {
            text += &format!("top-1 accuracy: {:.4} ({} of {})\n", a.top1, a.correct, a.count);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ranked_with_ties_by_index_and_nan_last() {
        let order: Vec<usize> = ranked(&[1.0, f64::NAN, 3.0, 3.0, -2.0]).iter().map(|c| c.index).collect();
        assert_eq!(order, [2, 3, 0, 4, 1]);
    }

    #[test]
    fn the_first_elements_alone_are_shown() {
        let t = Tensor::from_slice(&[3, 4], &(0..12).collect::<Vec<i64>>()).unwrap();
        assert_eq!(first_values(&t), (0..8).map(serde_json::Value::from).collect::<Vec<_>>());
        let scores = Tensor::from_slice(&[20, 3], &[1f32, 3.0, 2.0].repeat(20)).unwrap();
        let best = best_classes(&scores);
        assert!(best.len() == SHOWN_ROWS && best.iter().all(|row| row[0].index == 1 && row.len() == 3));
        assert!(best_classes(&Tensor::zeros(DType::F32, &[0, 3]).unwrap()).is_empty());
    }

    #[test]
    fn accuracy_counts_rows() {
        let scores: Val = Tensor::from_slice(&[2, 2], &[1f32, 2.0, 5.0, 0.0]).unwrap().into();
        let a = accuracy(std::slice::from_ref(&scores), &[1, 1]).unwrap();
        assert_eq!((a.correct, a.count, a.top1), (1, 2, 0.5));
        assert!(accuracy(&[scores], &[1]).is_err());
    }

    #[test]
    fn values_that_are_not_finite_are_shown() {
        let t = Tensor::from_slice(&[3], &[0.1f32, f32::NAN, f32::INFINITY]).unwrap();
        let shown: Vec<String> = first_values(&t).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["0.1", "\"NaN\"", "\"inf\""]);
    }
}
