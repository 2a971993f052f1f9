//! Compiled models and what they take and give.

use std::ffi::{CString, c_char};
use std::path::Path;

use driver::{Error, Model, Type, ValueInfo};

use crate::error::{CallFailure, OptcStatus, array, give, guarded, shared, string};
use crate::options::{OptcOptions, compiler};
use crate::types::OptcDtype;

/// A compiled model.
#[derive(Debug)]
pub struct OptcModel {
    pub(crate) model: Model,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

/// An input or output as C reads it.
#[derive(Debug)]
struct Port {
    name: CString,
    dtype: OptcDtype,
    /// Open dims are −1; `None` where the rank is open.
    dims: Option<Vec<i64>>,
}

/// What the model says about an input or output. The pointers are borrowed from the model.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OptcPort {
    /// Its name, in UTF-8.
    pub name: *const c_char,
    /// Its element type; `OPTC_DTYPE_NONE` where it is not a tensor.
    pub dtype: OptcDtype,
    /// How many dims it has; −1 where that is open or it is not a tensor.
    pub rank: i64,
    /// The dims, `rank` of them; −1 for an open one.
    pub dims: *const i64,
}

impl Port {
    fn new(info: &ValueInfo) -> Port {
        let name = CString::new(info.name.replace('\0', "?")).unwrap_or_default();
        let Type::Tensor(t) = &info.ty else { return Port { name, dtype: OptcDtype::None, dims: None } };
        let extent = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let dims = t.shape.as_ref().map(|dims| dims.iter().map(|d| d.known().map_or(-1, extent)).collect());
        Port { name, dtype: t.dtype.into(), dims }
    }

    fn view(&self) -> OptcPort {
        let dims = self.dims.as_deref().unwrap_or_default();
        let rank = if self.dims.is_some() { dims.len() as i64 } else { -1 };
        OptcPort { name: self.name.as_ptr(), dtype: self.dtype, rank, dims: dims.as_ptr() }
    }
}

/// Hands a compiled model to the host.
///
/// # Safety
/// `place` is null or may be written.
unsafe fn give_model(
    place: *mut *mut OptcModel,
    compile: impl FnOnce() -> Result<Model, Error>,
) -> Result<(), CallFailure> {
    if place.is_null() {
        return Err(CallFailure::null("model"));
    }
    let model = compile()?;
    let ports = |infos: &[ValueInfo]| infos.iter().map(Port::new).collect();
    let (inputs, outputs) = (ports(model.inputs()), ports(model.outputs()));
    // SAFETY: the caller vouches for the place.
    unsafe { give(place, || Box::into_raw(Box::new(OptcModel { model, inputs, outputs })), "model") }
}

/// Compiles the ONNX model, or loads the `.optc` artifact, in the file at `path` (UTF-8). `options` may be null for the
/// defaults; nothing that it points at is needed after the call. The file is mapped unless the options say `copy`.
/// `*model` is then the caller's, for `optc_model_free`. From any thread.
///
/// # Safety
/// `path` is a string, `options` is null or points at options, `model` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_compile_file(
    path: *const c_char,
    options: *const OptcOptions,
    model: *mut *mut OptcModel,
) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let (path, compiler) = unsafe { (string(path, "path")?, compiler(options)?) };
        // SAFETY: as above.
        unsafe { give_model(model, || compiler.compile_file(Path::new(path))) }
    })
}

/// Compiles an ONNX model of `size` bytes in memory, which are not needed after the call; else as `optc_compile_file`.
/// From any thread.
///
/// # Safety
/// `bytes` points at `size` bytes, `options` is null or points at options, `model` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_compile_bytes(
    bytes: *const u8,
    size: usize,
    options: *const OptcOptions,
    model: *mut *mut OptcModel,
) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let (bytes, compiler) = unsafe { (array(bytes, size, "bytes")?, compiler(options)?) };
        // SAFETY: as above.
        unsafe { give_model(model, || compiler.compile_bytes(bytes)) }
    })
}

/// Frees a model; null is allowed. Sessions of the model stay good: they keep what they need. From any thread, while no
/// other uses `model`.
///
/// # Safety
/// `model` is null or came from `optc_compile_...`, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_model_free(model: *mut OptcModel) {
    guarded(|| {
        if !model.is_null() {
            // SAFETY: it was made by `Box::into_raw`, and the host gives it up.
            drop(unsafe { Box::from_raw(model) });
        }
        Ok(())
    });
}

/// How many inputs a model has; 0 for null. From any thread.
///
/// # Safety
/// `model` is null or a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_model_input_count(model: *const OptcModel) -> usize {
    // SAFETY: the host vouches for its pointer.
    unsafe { model.as_ref() }.map_or(0, |m| m.inputs.len())
}

/// How many outputs a model has; 0 for null. From any thread.
///
/// # Safety
/// `model` is null or a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_model_output_count(model: *const OptcModel) -> usize {
    // SAFETY: the host vouches for its pointer.
    unsafe { model.as_ref() }.map_or(0, |m| m.outputs.len())
}

/// Describes input `index` in `*port`, whose pointers are good until the model is freed. From any thread.
///
/// # Safety
/// `model` is null or a model, `port` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_model_input(model: *const OptcModel, index: usize, port: *mut OptcPort) -> OptcStatus {
    // SAFETY: the host vouches for its pointers.
    guarded(|| unsafe { describe(&shared(model, "model")?.inputs, index, port) })
}

/// Describes output `index` in `*port`, whose pointers are good until the model is freed. From any thread.
///
/// # Safety
/// `model` is null or a model, `port` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_model_output(model: *const OptcModel, index: usize, port: *mut OptcPort) -> OptcStatus {
    // SAFETY: the host vouches for its pointers.
    guarded(|| unsafe { describe(&shared(model, "model")?.outputs, index, port) })
}

/// The index of the input called `name` (UTF-8) in `*index`. From any thread.
///
/// # Safety
/// `model` is null or a model, `name` is a string, `index` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_model_find_input(
    model: *const OptcModel,
    name: *const c_char,
    index: *mut usize,
) -> OptcStatus {
    // SAFETY: the host vouches for its pointers.
    guarded(|| unsafe { find(&shared(model, "model")?.inputs, "input", name, index) })
}

/// The index of the output called `name` (UTF-8) in `*index`. From any thread.
///
/// # Safety
/// `model` is null or a model, `name` is a string, `index` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_model_find_output(
    model: *const OptcModel,
    name: *const c_char,
    index: *mut usize,
) -> OptcStatus {
    // SAFETY: the host vouches for its pointers.
    guarded(|| unsafe { find(&shared(model, "model")?.outputs, "output", name, index) })
}

/// # Safety
/// `name` is null or a string, `place` is null or may be written.
unsafe fn find(ports: &[Port], what: &str, name: *const c_char, place: *mut usize) -> Result<(), CallFailure> {
    // SAFETY: the caller vouches for the string.
    let name = unsafe { string(name, "name") }?;
    let at = ports.iter().position(|port| port.name.to_bytes() == name.as_bytes());
    let known = || ports.iter().map(|port| port.name.to_string_lossy()).collect::<Vec<_>>().join(", ");
    let at = at.ok_or_else(|| CallFailure::usage(format!("there is no {what} `{name}`; there are {}", known())))?;
    // SAFETY: the caller vouches for the place.
    unsafe { give(place, || at, "index") }
}

/// # Safety
/// `place` is null or may be written.
unsafe fn describe(ports: &[Port], index: usize, place: *mut OptcPort) -> Result<(), CallFailure> {
    let port = ports.get(index);
    let port =
        port.ok_or_else(|| CallFailure::usage(format!("index {index} is out of range: there are {}", ports.len())))?;
    // SAFETY: the caller vouches for the place.
    unsafe { give(place, || port.view(), "port") }
}
