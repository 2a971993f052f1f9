//! Sessions: inputs in, a run, outputs out.

use driver::{DType, RunError, Session, Tensor, TensorError, Type, Val};

use crate::error::{CallFailure, OptcStatus, array, exclusive, give, guarded, shared};
use crate::model::OptcModel;
use crate::types::{OptcDtype, dtype_of};

/// What one thread at a time runs a model with.
#[derive(Debug)]
pub struct OptcSession {
    session: Session,
    inputs: Vec<Option<Val>>,
    outputs: Vec<Val>,
}

/// A tensor that a session holds. The pointers are borrowed from the session.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OptcTensor {
    /// Its element type.
    pub dtype: OptcDtype,
    /// How many dims it has.
    pub rank: usize,
    /// The dims, `rank` of them.
    pub dims: *const usize,
    /// The elements, row-major, in `size` bytes.
    pub data: *const u8,
    /// How many bytes there are.
    pub size: usize,
}

/// Makes a session for `model`; `*session` is then the caller's, for `optc_session_free`. It stays good when the model
/// is freed. From any thread.
///
/// # Safety
/// `model` is null or a model, `session` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_session_new(model: *const OptcModel, session: *mut *mut OptcSession) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let model = &unsafe { shared(model, "model") }?.model;
        let inputs = vec![None; model.inputs().len()];
        let made = || Box::into_raw(Box::new(OptcSession { session: model.session(), inputs, outputs: Vec::new() }));
        // SAFETY: as above.
        unsafe { give(session, made, "session") }
    })
}

/// Frees a session, and with it the outputs that were borrowed from it; null is allowed. From any thread, while no
/// other uses `session`.
///
/// # Safety
/// `session` is null or came from `optc_session_new`, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_session_free(session: *mut OptcSession) {
    guarded(|| {
        if !session.is_null() {
            // SAFETY: it was made by `Box::into_raw`, and the host gives it up.
            drop(unsafe { Box::from_raw(session) });
        }
        Ok(())
    });
}

/// Sets input `index` for the runs that follow: elements of type `dtype` (an `OptcDtype`), row-major, in the shape of
/// the `rank` dims. `size` is the length of `data` in bytes and must fit dtype and shape. The data is copied: `dims`
/// and `data` are not needed after the call. Whether the shape fits the model shows when it is run. From one thread at
/// a time.
///
/// # Safety
/// `session` is null or a session, `dims` points at `rank` values, `data` at `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_session_set_input(
    session: *mut OptcSession,
    index: usize,
    dtype: u32,
    dims: *const usize,
    rank: usize,
    data: *const u8,
    size: usize,
) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let session = unsafe { exclusive(session, "session") }?;
        // SAFETY: as above.
        let (dims, bytes) = unsafe { (array(dims, rank, "dims")?, array(data, size, "data")?) };
        let _memory = session.session.model().memory().enter();
        let count = session.inputs.len();
        let place = session.inputs.get_mut(index);
        let place =
            place.ok_or_else(|| CallFailure::usage(format!("index {index} is out of range: there are {count}")))?;
        let dtype = dtype_of(dtype).ok_or_else(|| CallFailure::usage(format!("there is no dtype {dtype}")))?;
        set(place, dtype, dims, bytes)
    })
}

/// Copies bytes to where the input is, into the memory that it has where that fits.
fn set(place: &mut Option<Val>, dtype: DType, dims: &[usize], bytes: &[u8]) -> Result<(), CallFailure> {
    if dtype == DType::Str {
        return Err(CallFailure::new(OptcStatus::Unsupported, "strings are not carried by the C interface"));
    }
    if dtype == DType::Bool && bytes.iter().any(|&b| b > 1) {
        return Err(CallFailure::new(OptcStatus::Run, "a boolean is neither 0 nor 1"));
    }
    let no_memory = |e: TensorError| CallFailure::new(OptcStatus::Run, e.to_string());
    match place {
        Some(Val::Tensor(t))
            if t.dtype() == dtype && t.shape() == dims && t.bytes().len() == bytes.len() && t.is_unique() =>
        {
            t.bytes_mut().map_err(no_memory)?.copy_from_slice(bytes);
        }
        _ => {
            *place = Some(Tensor::from_bytes(dtype, dims, bytes).map_err(no_memory)?.into());
        }
    }
    Ok(())
}

/// Sets the seed of the random numbers that the next runs draw, for models that draw any; 0 at first. Runs with one
/// seed and the same inputs give the same outputs. From one thread at a time.
///
/// # Safety
/// `session` is null or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_session_set_seed(session: *mut OptcSession, seed: u64) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointer.
        unsafe { exclusive(session, "session") }?.session.set_seed(seed);
        Ok(())
    })
}

/// Runs the model on the inputs that were set, which stay set. The outputs of the run before are gone. From one thread
/// at a time.
///
/// # Safety
/// `session` is null or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_session_run(session: *mut OptcSession) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointer.
        let OptcSession { session, inputs, outputs } = unsafe { exclusive(session, "session") }?;
        outputs.clear();
        for (input, info) in inputs.iter_mut().zip(session.model().inputs()) {
            // An optional input may be absent: nothing stands for it.
            if let (None, Type::Optional(of)) = (&input, &info.ty) {
                *input = Some(Val::Opt((**of).clone(), None));
            }
        }
        let given: Vec<Val> = inputs.iter().flatten().cloned().collect();
        if given.len() < inputs.len() {
            let missing = inputs.iter().position(Option::is_none).and_then(|i| session.model().inputs().get(i));
            let name = missing.map(|info| info.name.clone()).unwrap_or_default();
            return Err(driver::Error::from(RunError::MissingInput(name)).into());
        }
        *outputs = session.run_values(&given)?;
        Ok(())
    })
}

/// Describes output `index` of the last run in `*tensor`, whose pointers are good until the session runs again or is
/// freed. From one thread at a time.
///
/// # Safety
/// `session` is null or a session, `tensor` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_session_output(
    session: *const OptcSession,
    index: usize,
    tensor: *mut OptcTensor,
) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let outputs = &unsafe { shared(session, "session") }?.outputs;
        let missing =
            || CallFailure::usage(format!("index {index} is out of range: the last run gave {}", outputs.len()));
        let output = outputs.get(index).ok_or_else(missing)?;
        let Val::Tensor(output) = output else {
            let message = format!("the output is {}, not a tensor", output.ty());
            return Err(CallFailure::new(OptcStatus::Unsupported, message));
        };
        let view = view(output)?;
        // SAFETY: as above.
        unsafe { give(tensor, || view, "tensor") }
    })
}

/// A tensor as the host sees it; borrowed.
pub(crate) fn view(t: &Tensor) -> Result<OptcTensor, CallFailure> {
    if t.dtype() == DType::Str {
        return Err(CallFailure::new(OptcStatus::Unsupported, "strings are not carried by the C interface"));
    }
    let (dims, bytes) = (t.shape(), t.bytes());
    let (rank, size) = (dims.len(), bytes.len());
    Ok(OptcTensor { dtype: t.dtype().into(), rank, dims: dims.as_ptr(), data: bytes.as_ptr(), size })
}
