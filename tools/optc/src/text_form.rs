//! Graphs as text files: `NAME.mlir`, with the constants that are not in the text beside it in `NAME.npz`.
//!
//! An array is named like its symbol. Where NumPy lacks the dtype, it is added to the name (`c3.bf16`), so that the
//! constant comes back as it was.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use optc_ir::{Graph, Printed, Verified, parse_with, print};
use optc_tensor::npy::{Npz, PackedArray, write_npz};
use optc_tensor::{DType, Tensor, open_plain, write_file};

use crate::exit::{CommandError, Exit, Outcome};

/// Reads and verifies the graph at `path`; `-` is stdin, which has no constants beside it.
///
/// # Errors
/// The file cannot be read, does not parse, or the graph is not sound.
pub fn read(path: &Path) -> Outcome<Graph> {
    let mut text = String::new();
    let constants = match constants_beside(path) {
        None => {
            std::io::stdin().read_to_string(&mut text).map_err(|e| CommandError::io(Path::new("stdin"), &e))?;
            HashMap::new()
        }
        Some(beside) => {
            let file = open_plain(path).and_then(|mut file| file.read_to_string(&mut text));
            file.map_err(|e| CommandError::io(path, &e))?;
            read_constants(&beside, &text)?
        }
    };
    let bad = |message: String| CommandError::new(Exit::BadModel, format!("{}:{message}", path.display()));
    let graph = parse_with(&text, &constants).map_err(|e| bad(e.to_string()))?;
    Ok(Verified::new(graph).map_err(|e| bad(format!(" {e}")))?.into_graph())
}

/// The file that holds the larger constants of the text at `path`, if there are any; stdin has none.
pub fn constants_beside(path: &Path) -> Option<PathBuf> {
    (path != Path::new("-")).then(|| path.with_extension("npz"))
}

/// The constants that the text speaks of; other arrays are not unpacked.
fn read_constants(beside: &Path, text: &str) -> Outcome<HashMap<String, Tensor>> {
    let array = |e| CommandError::array(beside, &e);
    if !beside.exists() {
        return Ok(HashMap::new());
    }
    let mut npz = Npz::open(beside).map_err(array)?;
    let symbols = symbols(text);
    let mut constants = HashMap::new();
    for name in npz.names().map(str::to_owned).collect::<Vec<_>>() {
        let (symbol, dtype) = meaning(&name);
        if !symbols.contains(symbol) && !text.contains(&format!("@{symbol:?}")) {
            continue;
        }
        let t = npz.array(&name).and_then(PackedArray::read).map_err(array)?;
        constants.insert(symbol.to_owned(), if let Some(dtype) = dtype { convert(&t, dtype)? } else { t });
    }
    Ok(constants)
}

/// The words after an `@`: the symbols of a text but for those in quotes.
fn symbols(text: &str) -> HashSet<&str> {
    let is_end = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    text.split('@').skip(1).filter_map(|rest| rest.split(is_end).next()).collect()
}

/// The symbol and, where NumPy lacks it, the dtype that the name of an array stands for.
fn meaning(name: &str) -> (&str, Option<DType>) {
    let lacking = name.rsplit_once('.').and_then(|(symbol, dtype)| Some((symbol, DType::parse(dtype)?)));
    lacking.map_or((name, None), |(symbol, dtype)| (symbol, Some(dtype)))
}

/// The tensor in a dtype that NumPy lacks.
///
/// # Errors
/// The tensor has no numbers.
pub fn convert(t: &Tensor, dtype: DType) -> Outcome<Tensor> {
    Ok(if dtype.is_real() {
        Tensor::from_f64(dtype, t.shape(), &t.to_f64_vec())?
    } else {
        Tensor::from_i64(dtype, t.shape(), &t.to_i64_vec())?
    })
}

/// True for dtypes that `.npz` files hold in a wider one.
pub fn is_foreign_to_numpy(dtype: DType) -> bool {
    dtype == DType::BF16 || dtype.is_small_float() || dtype.is_packed()
}

/// Writes the graph's text to `path`, and its larger constants beside it. Both files appear whole or not at all.
///
/// # Errors
/// A file cannot be written.
pub fn write(path: &Path, graph: &Graph, head: &str) -> Outcome<()> {
    let Printed { text, constants } = print(graph);
    write_with(path, &format!("{head}{text}"), &constants)
}

/// Writes a text to `path`, and its constants beside it. Both files appear whole or not at all.
///
/// # Errors
/// A file cannot be written.
pub fn write_with(path: &Path, text: &str, constants: &[(String, Tensor)]) -> Outcome<()> {
    if !constants.is_empty() {
        let beside = path.with_extension("npz");
        let named: Vec<(String, &Tensor)> = constants.iter().map(|(symbol, t)| (array_name(symbol, t), t)).collect();
        let arrays = named.iter().map(|(name, t)| (name.as_str(), *t));
        write_npz(&beside, arrays).map_err(|e| CommandError::array(&beside, &e))?;
    }
    write_text(path, text)
}

fn array_name(symbol: &str, t: &Tensor) -> String {
    if is_foreign_to_numpy(t.dtype()) { format!("{symbol}.{}", t.dtype()) } else { symbol.to_owned() }
}

/// Writes a text file, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write_text(path: &Path, text: &str) -> Outcome<()> {
    use std::io::Write;
    let written = write_file(path, |file| file.write_all(text.as_bytes()));
    written.map(drop).map_err(|e| CommandError::io(path, &e))
}

#[cfg(test)]
mod tests {
    use optc_ir::ops::tensor::Constant;
    use optc_ir::{Const, Output, TensorType, Value};

    use super::*;

    #[test]
    fn constants_come_back_in_their_dtype() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.mlir");
        for dtype in
            [DType::F32, DType::BF16, DType::I4, DType::U2, DType::F8E4M3FN, DType::F4E2M1FN, DType::Bool, DType::F16]
        {
            let t = Tensor::from_i64(dtype, &[20], &[1; 20]).unwrap();
            let mut graph = Graph::new("g");
            let ty = TensorType::fixed(dtype, &[20]).into();
            let node = graph.add(Constant { value: Const(t), zeros: 0 }, &[], vec![ty]);
            graph.outputs.push(Output { name: "y".into(), value: Value { node, result: 0 } });
            write(&path, &graph, "// a comment\n").unwrap();
            assert_eq!(print(&read(&path).unwrap()), print(&graph), "{dtype}");
        }
    }
}
