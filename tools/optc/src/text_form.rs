//! Graphs as text files: `NAME.mlir`, with the constants that are not in the text beside it in `NAME.npz`.
//!
//! An array is named like its symbol. Where NumPy lacks the dtype, it is added to the name (`c3.bf16`), so that the constant
//! comes back as it was.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use optc_ir::{Graph, Printed, parse_with, print, verify};
use optc_tensor::npy::{NpyError, read_npz, write_atomically, write_npz};
use optc_tensor::{DType, Tensor};

use crate::exit::{Exit, Failure, Outcome};

/// Reads and verifies the graph at `path`; `-` is stdin, which has no constants beside it.
///
/// # Errors
/// The file cannot be read, does not parse, or the graph is not sound.
pub fn read(path: &Path) -> Outcome<Graph> {
    let (text, constants) = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|e| Failure::io(Path::new("stdin"), &e))?;
        (text, HashMap::new())
    } else {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::io(path, &e))?;
        (text, read_constants(path)?)
    };
    let bad = |message: String| Failure::new(Exit::BadModel, format!("{}:{message}", path.display()));
    let graph = parse_with(&text, &constants).map_err(|e| bad(e.to_string()))?;
    let failures = verify(&graph);
    if !failures.is_empty() {
        let list: Vec<String> = failures.iter().map(|f| format!("\n  {}: {}", f.rule, f.message)).collect();
        return Err(bad(format!(" the graph is not sound:{}", list.concat())));
    }
    Ok(graph)
}

fn read_constants(path: &Path) -> Outcome<HashMap<String, Tensor>> {
    let beside = path.with_extension("npz");
    if !beside.exists() {
        return Ok(HashMap::new());
    }
    let arrays = read_npz(&beside).map_err(|e| Failure::array(&beside, &e))?;
    arrays.into_iter().map(|(name, t)| restore(name, t)).collect()
}

/// The symbol and the constant that an array stands for.
fn restore(name: String, t: Tensor) -> Outcome<(String, Tensor)> {
    let lacking = name.rsplit_once('.').and_then(|(symbol, dtype)| Some((symbol, DType::parse(dtype)?)));
    match lacking {
        None => Ok((name, t)),
        Some((symbol, dtype)) => Ok((symbol.to_owned(), convert(&t, dtype)?)),
    }
}

/// The tensor in a dtype that NumPy lacks.
///
/// # Errors
/// The tensor has no numbers.
pub fn convert(t: &Tensor, dtype: DType) -> Outcome<Tensor> {
    Ok(if dtype.is_float() {
        Tensor::from_f64(dtype, t.shape(), &t.to_f64_vec())?
    } else {
        Tensor::from_i64(dtype, t.shape(), &t.to_i64_vec())?
    })
}

/// True for dtypes that `.npz` files hold in a wider one.
pub fn is_foreign_to_numpy(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::I4 | DType::U4)
}

/// Writes the graph's text to `path`, and its larger constants beside it. Both files appear whole or not at all.
///
/// # Errors
/// A file cannot be written.
pub fn write(path: &Path, graph: &Graph, head: &str) -> Outcome<()> {
    let Printed { text, constants } = print(graph);
    if !constants.is_empty() {
        let beside = path.with_extension("npz");
        let named: Vec<(String, &Tensor)> = constants.iter().map(|(symbol, t)| (array_name(symbol, t), t)).collect();
        let arrays = named.iter().map(|(name, t)| (name.as_str(), *t));
        write_npz(&beside, arrays).map_err(|e| Failure::array(&beside, &e))?;
    }
    write_text(path, &format!("{head}{text}"))
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
    write_atomically::<NpyError>(path, |file| Ok(file.write_all(text.as_bytes())?))
        .map_err(|e| Failure::array(path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use optc_ir::ops::tensor::Constant;
    use optc_ir::{Const, Output, TensorType, Value};

    #[test]
    fn constants_come_back_in_their_dtype() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.mlir");
        for dtype in [DType::F32, DType::BF16, DType::I4, DType::Bool, DType::F16] {
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
