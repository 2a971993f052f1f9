//! What models are fed with: arrays from files, or seeded random ones.

mod random;
pub mod rows;

use std::path::{Path, PathBuf};

use optc::{Model, RunError, Session, ValueInfo};
use optc_ir::{Dim, TensorType, Type, Val};
use optc_tensor::npy::{Npz, open_npy};
use optc_tensor::{DType, Tensor};

use crate::exit::{CommandError, Exit, Outcome};
use crate::report::note;
use crate::text_form::{convert, is_foreign_to_numpy};

/// Where inputs come from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct InputArgs {
    /// An `.npz` keyed by input name, an `.npy` for a model of one input, or a `test_data_set_N` folder; random without
    /// it
    #[arg(long, value_name = "IN")]
    pub input: Option<PathBuf>,
    /// The seed of random inputs (floats are normal, integers 0 or 1, unknown dims 1), and of what the model draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Use only the first N rows of each input's leading axis
    #[arg(long, value_name = "N")]
    pub rows: Option<usize>,
}

impl InputArgs {
    /// A session of the model that draws what the seed says.
    pub fn session(&self, model: &Model) -> Session {
        let mut session = model.session();
        session.set_seed(self.seed);
        session
    }

    /// One value for each input of `model`, in order.
    ///
    /// # Errors
    /// A file cannot be read or lacks an input, or no value can be made up for one.
    pub fn values(&self, model: &Model) -> Outcome<Vec<Val>> {
        let values = match &self.input {
            Some(path) => in_order(read(path, model.inputs(), InputRole::Input)?, model.inputs(), path)?,
            None => random::values(model.inputs(), self.seed)?,
        };
        match self.rows {
            None => Ok(values),
            Some(n) => values.iter().map(|v| rows::slice(v, 0, n)).collect(),
        }
    }
}

/// Types with every open dim set to 1, for plans that need no data. Says on stderr what it set.
///
/// # Errors
/// An input is not a tensor, or its rank is unknown.
pub fn closed_types(infos: &[ValueInfo]) -> Outcome<Vec<Type>> {
    infos.iter().map(|info| Ok(random::closed(info)?.into())).collect()
}

/// What values are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputRole {
    /// To be fed: they have the declared types, but for the leading dim, of which a run may take a part.
    Input,
    /// To be compared with: where they differ, a comparison says how.
    Output,
}

impl InputRole {
    fn name(self) -> &'static str {
        match self {
            InputRole::Input => "input",
            InputRole::Output => "output",
        }
    }
}

/// Reads named values for what `infos` declares. Of an archive only the arrays that are asked for are unpacked, each
/// once its header says that it fits.
///
/// # Errors
/// The files cannot be read, or hold something else.
pub fn read(path: &Path, infos: &[ValueInfo], role: InputRole) -> Outcome<Vec<(String, Val)>> {
    if path.is_dir() {
        let named: Vec<_> = infos.iter().map(|i| (i.name.as_str(), &i.ty)).collect();
        return Ok(optc_onnx::read_values(path, role.name(), &named)?);
    }
    let array = |e| CommandError::array(path, &e);
    if path.extension().is_some_and(|e| e == "npy") {
        let [info] = infos else {
            let message = format!(
                "`{}` is one array, but the model has {} {}s: give an .npz keyed by name",
                path.display(),
                infos.len(),
                role.name()
            );
            return Err(CommandError::new(Exit::Run, message));
        };
        let packed = open_npy(path).map_err(array)?;
        check_type(packed.dtype(), packed.shape(), info, role)?;
        return Ok(vec![(info.name.clone(), adapt(packed.read().map_err(array)?, info)?)]);
    }
    let mut npz = Npz::open(path).map_err(array)?;
    check_names(&npz.names().collect::<Vec<_>>(), infos, role, path)?;
    let mut values = vec![];
    for name in npz.names().map(str::to_owned).collect::<Vec<_>>() {
        let Some(info) = infos.iter().find(|i| i.name == name) else { continue };
        let packed = npz.array(&name).map_err(array)?;
        check_type(packed.dtype(), packed.shape(), info, role)?;
        values.push((name, adapt(packed.read().map_err(array)?, info)?));
    }
    Ok(values)
}

/// Refuses an archive with arrays that the model does not know.
fn check_names(names: &[&str], infos: &[ValueInfo], role: InputRole, path: &Path) -> Outcome<()> {
    let Some(unknown) = names.iter().find(|&&name| infos.iter().all(|i| i.name != name)) else { return Ok(()) };
    let (path, role) = (path.display(), role.name());
    let message = match infos.iter().find(|info| !names.contains(&&*info.name)) {
        Some(ValueInfo { name, ty }) => {
            format!("`{path}` has no array for {role} `{name}`, which is {ty}; it has an array `{unknown}`")
        }
        None => {
            let known = infos.iter().map(|i| format!("`{}`", i.name)).collect::<Vec<_>>().join(", ");
            format!("`{path}` has an array `{unknown}`, but the model has no such {role}; it has {known}")
        }
    };
    Err(CommandError::new(Exit::Run, message))
}

/// Refuses an input whose type cannot be made the declared one by taking some of its rows.
fn check_type(dtype: DType, shape: &[usize], info: &ValueInfo, role: InputRole) -> Outcome<()> {
    let fits = |t: &TensorType| {
        let rows = |dims: &[Dim]| dims.len() == shape.len() && dims.iter().zip(shape).skip(1).all(fits_dim);
        (dtype == t.dtype || is_foreign_to_numpy(t.dtype)) && t.shape.as_deref().is_none_or(rows)
    };
    if role == InputRole::Output || info.ty.as_tensor().is_some_and(fits) {
        return Ok(());
    }
    let found = TensorType::fixed(dtype, shape).into();
    Err(RunError::InputType { name: info.name.clone(), found, expected: info.ty.clone() }.into())
}

fn fits_dim((dim, &n): (&Dim, &usize)) -> bool {
    dim.known().is_none_or(|d| d == n)
}

/// The array as a value of the declared dtype, where NumPy has no such dtype.
fn adapt(t: Tensor, info: &ValueInfo) -> Outcome<Val> {
    match &info.ty {
        Type::Tensor(TensorType { dtype, .. }) if is_foreign_to_numpy(*dtype) => Ok(convert(&t, *dtype)?.into()),
        _ => Ok(t.into()),
    }
}

/// Named values in the order of the model's inputs; every one must be there.
///
/// # Errors
/// One is missing.
pub fn in_order(mut named: Vec<(String, Val)>, infos: &[ValueInfo], path: &Path) -> Outcome<Vec<Val>> {
    let wrong = |what: String| CommandError::new(Exit::Run, format!("`{}` {what}", path.display()));
    let values = infos.iter().map(|info| {
        let at = named.iter().position(|(name, _)| *name == info.name);
        let at = at.ok_or_else(|| wrong(format!("has no array for input `{}`, which is {}", info.name, info.ty)))?;
        Ok(named.swap_remove(at).1)
    });
    values.collect()
}

/// Advice for values that do not fit because of their leading axis.
pub fn explain_rows(failure: CommandError, model: &Model, values: &[Val]) -> CommandError {
    let misfit = model.inputs().iter().zip(values).any(|(info, value)| only_rows_differ(info, value));
    if failure.exit == Exit::Run && misfit {
        return failure
            .hint("the model's leading dim is fixed: take its rows with `--rows`, or run in parts with `--batch`");
    }
    failure
}

/// Whether a value has the declared dims but for the leading one, which is fixed.
fn only_rows_differ(info: &ValueInfo, value: &Val) -> bool {
    let (Type::Tensor(TensorType { shape: Some(dims), .. }), Val::Tensor(t)) = (&info.ty, value) else { return false };
    match (&dims[..], t.shape()) {
        ([first, dims @ ..], [n, shape @ ..]) => {
            !fits_dim((first, n)) && dims.len() == shape.len() && dims.iter().zip(shape).all(fits_dim)
        }
        _ => false,
    }
}

/// Says which dims were set to 1.
fn say_closed(info: &ValueInfo, shape: &[usize]) {
    note(&format!("input `{}` is {}: its open dims are set to 1, shape {shape:?} (see --shape)", info.name, info.ty));
}
