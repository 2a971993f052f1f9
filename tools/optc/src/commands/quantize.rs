//! `optc quantize`: calibrates a model on samples and writes it with 8-bit integers.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use optc::{Compiler, Method, Options, QuantizedLayer, Quantizer, Ranges, Val};
use optc_ir::{Dim, Type};
use serde::Serialize;

use crate::exit::{CommandError, Exit, Outcome};
use crate::export::{ExportArgs, data_beside};
use crate::inputs::{InputRole, in_order, read, rows};
use crate::load;
use crate::options::ModelArgs;
use crate::progress::Spinner;
use crate::report::{Format, Report, emit, table, units};
use crate::text_form::write_text;

/// Calibrate a model on samples and write it with 8-bit integers, as a `.optc` artifact or an ONNX model with Q/DQ
/// pairs
#[derive(Debug, clap::Args)]
pub struct QuantizeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Samples: an `.npz` keyed by input name, an `.npy` for a model of one input, or a `test_data_set_N` folder
    #[arg(long, value_name = "C.npz", required_unless_present = "ranges")]
    calib: Option<PathBuf>,
    /// Where to write the model
    #[arg(long, short, value_name = "OUT.optc|OUT.onnx")]
    output: Option<PathBuf>,
    #[command(flatten)]
    export: ExportArgs,
    /// How a range follows from what was seen: `minmax`, or a percentage of the values such as `99.99`
    #[arg(long, default_value = "minmax", value_name = "METHOD")]
    method: CalibrationMethod,
    /// Which products compute with integers
    #[arg(long, value_enum, default_value = "faster")]
    integers: Integers,
    /// Leave this ONNX node in float; may be given several times
    #[arg(long, value_name = "NODE")]
    skip: Vec<String>,
    /// Samples that are run at once where the leading dim is open
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Take the ranges from this JSON file, which `--save-ranges` wrote
    #[arg(long, value_name = "RANGES.json", conflicts_with = "calib")]
    ranges: Option<PathBuf>,
    /// Write the ranges to this JSON file
    #[arg(long, value_name = "RANGES.json")]
    save_ranges: Option<PathBuf>,
}

/// Which products compute with integers, of those that can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Integers {
    /// Those that are faster that way on the target by the cost model
    Faster,
    /// All, also where that is slower: for the smallest file, and the same on every machine.
    Always,
}

/// A [`Method`] as it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
struct CalibrationMethod(Method);

/// A text that is not a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `minmax`, or a percentage above 50")]
struct CalibrationMethodError;

impl FromStr for CalibrationMethod {
    type Err = CalibrationMethodError;

    fn from_str(text: &str) -> Result<CalibrationMethod, CalibrationMethodError> {
        match (text, text.parse::<f64>()) {
            ("minmax", _) => Ok(CalibrationMethod(Method::MinMax)),
            (_, Ok(percent)) if percent > 50.0 && percent <= 100.0 => {
                Ok(CalibrationMethod(Method::Percentile(percent)))
            }
            _ => Err(CalibrationMethodError),
        }
    }
}

#[derive(Debug, Serialize)]
struct QuantizeReport {
    layers: Vec<LayerLine>,
    int8: usize,
    samples: usize,
    model_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct LayerLine {
    node: String,
    op: &'static str,
    precision: &'static str,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<[f32; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sqnr_db: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f32_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    int8_us: Option<f64>,
}

impl From<QuantizedLayer> for LayerLine {
    fn from(l: QuantizedLayer) -> LayerLine {
        LayerLine {
            node: l.name,
            op: l.op,
            precision: if l.int8 { "int8" } else { "float" },
            why: l.reason,
            range: l.range,
            sqnr_db: l.sqnr,
            f32_us: l.times.map(|t| 1e6 * t.f32.seconds()),
            int8_us: l.times.map(|t| 1e6 * t.int8.seconds()),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// The model cannot be used, the samples do not fit or are not finite, or a file cannot be written.
pub fn run(args: &QuantizeArgs, format: Format) -> Outcome {
    let path = &args.model.model;
    let mut options = args.model.how.options(0)?;
    options.integers = match args.integers {
        Integers::Faster => optc::Integers::Faster,
        Integers::Always => optc::Integers::Always,
    };
    if let Some(output) = &args.output {
        check_name(output)?;
    }
    let files = args.model.files().reads(args.calib.as_deref()).reads(args.ranges.as_deref());
    let data = data_beside(args.output.as_deref());
    files.writes(args.output.as_deref()).writes(data.as_deref()).writes(args.save_ranges.as_deref()).check()?;
    let mut working = Spinner::new("compiling for calibration");
    let mut quantizer = Quantizer::new(load::graph(path, options.access())?, &options, &args.skip)?;
    let mut samples = 0;
    let quantized = match (&args.calib, &args.ranges) {
        (Some(calib), _) => {
            for sample in batches(calib, &quantizer, args.batch as usize)? {
                quantizer.observe(&sample)?;
                samples += rows::count(&sample).unwrap_or(1);
                drop(working);
                working = Spinner::new(format!("calibrating: {samples} samples"));
            }
            quantizer.finish(args.method.0)?
        }
        (None, Some(ranges)) => quantizer.with_ranges(read_ranges(ranges)?)?,
        (None, None) => {
            return Err(CommandError::new(Exit::Usage, "give samples with `--calib`, or ranges with `--ranges`"));
        }
    };
    drop(working);
    if let Some(to) = &args.save_ranges {
        write_ranges(to, &quantized.ranges)?;
    }
    let graph = quantized.graph;
    let output_bytes = args.output.as_deref().map(|output| write(args, output, graph, &options)).transpose()?;
    let meta = std::fs::metadata(path).map_err(|e| CommandError::io(path, &e))?;
    let layers: Vec<LayerLine> = quantized.layers.into_iter().map(LayerLine::from).collect();
    let report = QuantizeReport {
        int8: layers.iter().filter(|l| l.precision == "int8").count(),
        layers,
        samples,
        model_bytes: meta.len(),
        output_bytes,
        output: args.output.clone(),
    };
    emit(&report, format)?;
    Ok(Exit::Ok)
}

fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "onnx")
}

fn check_name(output: &Path) -> Outcome<()> {
    if is_onnx(output) || output.extension().is_some_and(|e| e == "optc") {
        return Ok(());
    }
    Err(CommandError::new(Exit::Usage, format!("`{}` is neither `.optc` nor `.onnx`", output.display())))
}

/// Writes the model; returns its bytes.
fn write(args: &QuantizeArgs, output: &Path, graph: optc_ir::Graph, options: &Options) -> Outcome<u64> {
    if is_onnx(output) {
        return args.export.write(&graph, output);
    }
    // An artifact is the graph: machine code for any target is made from it later.
    let compiler = Compiler::new(Options { keep_graph: true, ..options.here() });
    Ok(compiler.compile_graph(graph)?.save(output)?)
}

/// The samples, some rows at a time where the inputs have rows.
fn batches(path: &Path, quantizer: &Quantizer, batch: usize) -> Outcome<Vec<Vec<Val>>> {
    let infos = quantizer.session().model().inputs();
    let values = in_order(read(path, infos, InputRole::Input)?, infos, path)?;
    if values.iter().filter_map(Val::as_tensor).any(|t| t.is_empty()) {
        return Err(CommandError::new(Exit::Run, format!("`{}` has no samples: an array is empty", path.display())));
    }
    let leading = |ty: &Type| match ty {
        Type::Tensor(t) => t.shape.as_ref().and_then(|s| s.first().cloned()),
        Type::Sequence(_) | Type::Optional(_) => None,
    };
    let Some(all) = rows::count(&values) else { return Ok(vec![values]) };
    let fixed = infos.iter().find_map(|info| leading(&info.ty)).and_then(|d: Dim| d.known());
    let step = fixed.unwrap_or(batch);
    if step == 0 || !all.is_multiple_of(step) && fixed.is_some() {
        let message = format!("`{}` has {all} samples, which are not whole batches of {step}", path.display());
        return Err(CommandError::new(Exit::Run, message));
    }
    let part = |from: usize| values.iter().map(|v| rows::slice(v, from, from + step)).collect();
    (0..all).step_by(step).map(part).collect()
}

fn read_ranges(path: &Path) -> Outcome<Ranges> {
    let text = std::fs::read_to_string(path).map_err(|e| CommandError::io(path, &e))?;
    serde_json::from_str(&text)
        .map_err(|e| CommandError::new(Exit::Run, format!("`{}` holds no ranges: {e}", path.display())))
}

fn write_ranges(path: &Path, ranges: &Ranges) -> Outcome<()> {
    let text = serde_json::to_string_pretty(ranges).map_err(|e| CommandError::new(Exit::Io, e.to_string()))?;
    write_text(path, &(text + "\n"))
}

impl Report for QuantizeReport {
    fn text(&self) -> String {
        let number = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), |v| format!("{v:.1}"));
        let row = |l: &LayerLine| {
            let range = l.range.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:.3} … {high:.3}"));
            let times = format!("{} / {}", number(l.f32_us), number(l.int8_us));
            vec![
                l.node.clone(),
                l.op.to_owned(),
                l.precision.to_owned(),
                range,
                number(l.sqnr_db),
                times,
                l.why.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = self.layers.iter().map(row).collect();
        let headers = ["node", "op", "in", "range>", "SQNR dB>", "us f32 / int8>", "why"];
        let mut text = table::render(&headers, &rows);
        text += &format!("{} of {} products in int8, {} samples\n", self.int8, self.layers.len(), self.samples);
        if let (Some(output), Some(bytes)) = (&self.output, self.output_bytes) {
            let share = 100.0 * bytes as f64 / self.model_bytes.max(1) as f64;
            let (from, to) = (units::bytes(self.model_bytes), units::bytes(bytes));
            text += &format!("written {}: {to}, {share:.1} % of the model's {from}\n", output.display());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_named_or_a_percentage() {
        assert_eq!("minmax".parse(), Ok(CalibrationMethod(Method::MinMax)));
        assert_eq!("99.9".parse(), Ok(CalibrationMethod(Method::Percentile(99.9))));
        for bad in ["50", "101", "NaN", "entropy"] {
            assert!(bad.parse::<CalibrationMethod>().is_err(), "{bad}");
        }
    }
}
