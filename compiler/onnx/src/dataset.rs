//! `test_data_set_N` folders, as ONNX test cases ship them: `input_J.pb` and `output_J.pb` beside a model.

use std::path::Path;

use optc_ir::{Type, Val};

use crate::proto::ValueInfoProto;
use crate::{Diagnostic, ModelFile, Stored, StoredKind, read_type, read_value_pb};

/// Reads `KIND_0.pb`, `KIND_1.pb` and so on from `folder`: one value for each name, of the type beside it.
///
/// # Errors
/// A file is missing or cannot be read as a value of its type.
pub fn read_values(folder: &Path, kind: &str, infos: &[(&str, &Type)]) -> Result<Vec<(String, Val)>, Diagnostic> {
    let read = |(i, (name, ty)): (usize, &(&str, &Type))| {
        let stored = match ty {
            Type::Tensor(_) => StoredKind::Tensor,
            Type::Sequence(_) => StoredKind::Sequence,
            Type::Optional(_) => StoredKind::Optional,
        };
        let (_, value) = read_value_pb(&folder.join(format!("{kind}_{i}.pb")), stored)?;
        let mismatch = || Diagnostic::new("read", format!("{kind} `{name}`: the stored value is not a {ty}"));
        Ok(((*name).to_owned(), to_val(value, ty).ok_or_else(mismatch)?))
    };
    infos.iter().enumerate().map(read).collect()
}

/// Named values that a model is fed with, and what it should give.
#[derive(Debug, Clone, Default)]
pub struct DataSet {
    /// One value a graph input, in order.
    pub inputs: Vec<(String, Val)>,
    /// One value a graph output, in order; empty where the folder has none.
    pub outputs: Vec<(String, Val)>,
}

/// Reads the data set in `folder` for the inputs and outputs that `model` declares.
///
/// # Errors
/// A file is missing or cannot be read as a value of the declared type.
pub fn read_data_set(model: &ModelFile, folder: &Path) -> Result<DataSet, Diagnostic> {
    let graph = model.graph();
    let initialized = |name: &str| graph.initializer.iter().any(|t| t.name() == name);
    let inputs: Vec<_> = graph.input.iter().filter(|i| !initialized(i.name())).collect();
    let outputs: Vec<_> = graph.output.iter().collect();
    let has_outputs = folder.join("output_0.pb").exists();
    let expected = if has_outputs { outputs } else { vec![] };
    Ok(DataSet { inputs: read_all(&inputs, folder, "input")?, outputs: read_all(&expected, folder, "output")? })
}

fn read_all(infos: &[&ValueInfoProto], folder: &Path, kind: &str) -> Result<Vec<(String, Val)>, Diagnostic> {
    let declared = |info: &&ValueInfoProto| {
        let bad = |reason: &str| Diagnostic::unsupported("read", format!("{kind} `{}`: {reason}", info.name()));
        let declared = info.r#type.as_ref().ok_or_else(|| bad("it has no declared type"))?;
        StoredKind::of_type(declared).ok_or_else(|| bad("values of this type are not supported"))?;
        read_type(declared).map_err(|e| bad(&e.to_string()))
    };
    let types = infos.iter().map(declared).collect::<Result<Vec<_>, _>>()?;
    let named: Vec<_> = infos.iter().zip(&types).map(|(info, ty)| (info.name(), ty)).collect();
    read_values(folder, kind, &named)
}

/// A stored value as one of the declared type; `None` when it is of another kind.
fn to_val(stored: Stored, ty: &Type) -> Option<Val> {
    match (stored, ty) {
        (Stored::Tensor(t), Type::Tensor(_)) => Some(t.into()),
        (Stored::Sequence(items), Type::Sequence(of)) => {
            let items = items.into_iter().map(|item| to_val(item, of)).collect::<Option<_>>()?;
            Some(Val::Seq((**of).clone(), items))
        }
        (Stored::Optional(item), Type::Optional(of)) => {
            let item = match item {
                Some(item) => Some(Box::new(to_val(*item, of)?)),
                None => None,
            };
            Some(Val::Opt((**of).clone(), item))
        }
        _ => None,
    }
}
