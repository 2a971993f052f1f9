//! Custom ops: functions of the host that compute ops which optc does not know.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::Arc;

use driver::custom::{
    Attr, AttrValue, Const, CustomCall, CustomError, CustomOp, CustomOperands, Dim, Real, TensorType,
    register_custom_op,
};
use driver::{DType, Tensor, Type, Val};

use crate::error::{CallFailure, OptcStatus, array, exclusive, give, guarded, shared, string};
use crate::session::{OptcTensor, view};
use crate::types::{OptcDtype, dtype_of};

/// A function of a custom op: says the types of the results of a call, or computes them. 0 means that it did; what
/// `optc_call_fail` was told says why it did not. Any thread may call it, several at a time.
pub type OptcCustomFn = Option<unsafe extern "C" fn(state: *mut c_void, call: *mut OptcCall) -> c_int>;

/// A call of a custom op, which its functions ask for operands and attributes and tell their results. Good until the
/// function returns, and all that it gives with it.
#[derive(Debug)]
pub struct OptcCall {
    call: CustomCall,
    operands: Vec<Option<CallOperand>>,
    types: Vec<Option<Type>>,
    results: Vec<Option<Tensor>>,
    failure: Option<String>,
    strings: Vec<CString>,
    tensors: Vec<Tensor>,
}

#[derive(Debug)]
struct CallOperand {
    dtype: OptcDtype,
    /// The dims, -1 for open ones; `None` where their number is not known.
    dims: Option<Vec<i64>>,
    value: Option<Tensor>,
}

/// An operand of a call.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OptcOperand {
    /// Its element type; `OPTC_DTYPE_NONE` where it is absent or not a tensor.
    pub dtype: OptcDtype,
    /// How many dims it has; -1 where that is not known yet.
    pub rank: i64,
    /// The dims, `rank` of them, -1 for those that are not known yet.
    pub dims: *const i64,
    /// The elements, row-major, in `size` bytes; null where they are not known yet.
    pub data: *const u8,
    /// How many bytes there are.
    pub size: usize,
}

impl CallOperand {
    fn new(ty: &Type, value: Option<&Tensor>) -> CallOperand {
        let Some(t) = ty.as_tensor() else {
            return CallOperand { dtype: OptcDtype::None, dims: None, value: None };
        };
        let dim = |d: &Dim| d.known().map_or(-1, |n| n as i64);
        let dims = t.shape.as_ref().map(|shape| shape.iter().map(dim).collect());
        let value = value.filter(|t| t.dtype() != DType::Str).cloned();
        CallOperand { dtype: t.dtype.into(), dims, value }
    }

    fn view(&self) -> OptcOperand {
        let bytes = self.value.as_ref().map(Tensor::bytes);
        OptcOperand {
            dtype: self.dtype,
            rank: self.dims.as_ref().map_or(-1, |d| d.len() as i64),
            dims: self.dims.as_ref().map_or(std::ptr::null(), |d| d.as_ptr()),
            data: bytes.map_or(std::ptr::null(), <[u8]>::as_ptr),
            size: bytes.map_or(0, <[u8]>::len),
        }
    }
}

/// A custom op of the host.
struct HostOp {
    infer: OptcCustomFn,
    eval: OptcCustomFn,
    state: *mut c_void,
}

// SAFETY: the host vouches that any thread may call its functions with its state, several at a time.
unsafe impl Send for HostOp {}
// SAFETY: as above.
unsafe impl Sync for HostOp {}

impl HostOp {
    /// Lets a function of the host work on a call; gives the call back.
    fn run(
        &self,
        function: OptcCustomFn,
        call: &CustomCall,
        operands: Vec<Option<CallOperand>>,
    ) -> Result<OptcCall, CustomError> {
        let mut call = OptcCall {
            call: call.clone(),
            operands,
            types: vec![],
            results: vec![],
            failure: None,
            strings: vec![],
            tensors: vec![],
        };
        let function = function.ok_or("it has no such function")?;
        // SAFETY: the host vouches for its function, and `call` is good until it returns.
        let status = unsafe { function(self.state, &raw mut call) };
        match (status, call.failure.take()) {
            (0, None) => Ok(call),
            (_, Some(message)) => Err(message.into()),
            (status, None) => Err(format!("its function returned {status}").into()),
        }
    }
}

impl CustomOp for HostOp {
    fn infer(&self, call: &CustomCall, operands: &CustomOperands) -> Result<Vec<Type>, CustomError> {
        let given = operands.types.iter().zip(operands.constants);
        let given = given.map(|(ty, value)| ty.map(|ty| CallOperand::new(ty, *value)));
        let call = self.run(self.infer, call, given.collect())?;
        let missing = |i: usize| format!("it did not declare result {i}");
        call.types.into_iter().enumerate().map(|(i, ty)| ty.ok_or_else(|| missing(i).into())).collect()
    }

    fn eval(&self, call: &CustomCall, operands: &[Option<Val>]) -> Result<Vec<Val>, CustomError> {
        let given = operands.iter().map(|v| v.as_ref().map(|v| CallOperand::new(&v.ty(), v.as_tensor())));
        let call = self.run(self.eval, call, given.collect())?;
        let missing = |i: usize| format!("it did not give result {i}");
        call.results.into_iter().enumerate().map(|(i, t)| Ok(t.ok_or_else(|| missing(i))?.into())).collect()
    }
}

/// Registers the custom op `name` of `domain` for this process: models that are compiled from now on may use it.
/// `infer` declares the results with `optc_call_declare`, `eval` computes them where `optc_call_result` says;
/// both get `state`, which is good as long as the process. From any thread.
///
/// # Safety
/// `domain` and `name` are null or end in a zero byte; `infer` and `eval` are null or may be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_register_op(
    domain: *const c_char,
    name: *const c_char,
    infer: OptcCustomFn,
    eval: OptcCustomFn,
    state: *mut c_void,
) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let (domain, name) = unsafe { (string(domain, "domain")?, string(name, "name")?) };
        if infer.is_none() || eval.is_none() {
            return Err(CallFailure::null(if infer.is_none() { "infer" } else { "eval" }));
        }
        let op = Arc::new(HostOp { infer, eval, state });
        register_custom_op(domain, name, op).map_err(|e| CallFailure::usage(e.to_string()))
    })
}

/// Says why a function of a custom op cannot do what it is asked for; the function should then return another number
/// than 0.
///
/// # Safety
/// `call` is null or the call that the function got, `message` is null or ends in a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_call_fail(call: *mut OptcCall, message: *const c_char) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let (call, message) = unsafe { (exclusive(call, "call")?, string(message, "message")?) };
        call.failure = Some(message.to_owned());
        Ok(())
    })
}

/// The number of operands of a call; 0 if it is null.
///
/// # Safety
/// `call` is null or the call that the function got.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_call_operand_count(call: *const OptcCall) -> usize {
    // SAFETY: the host vouches for its pointer.
    unsafe { call.as_ref() }.map_or(0, |call| call.operands.len())
}

/// Describes operand `index` of a call in `*operand`.
///
/// # Safety
/// `call` is null or the call that the function got, `operand` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_call_operand(
    call: *const OptcCall,
    index: usize,
    operand: *mut OptcOperand,
) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let operands = &unsafe { shared(call, "call") }?.operands;
        let absent = CallOperand { dtype: OptcDtype::None, dims: None, value: None };
        let missing = || CallFailure::usage(format!("index {index} is out of range: there are {}", operands.len()));
        let view = operands.get(index).ok_or_else(missing)?.as_ref().unwrap_or(&absent).view();
        // SAFETY: as above.
        unsafe { give(operand, || view, "operand") }
    })
}

/// An attribute of a call.
fn attribute<T: AttrValue>(call: &OptcCall, name: &str) -> Result<T, CallFailure> {
    let found = call.call.attribute_as(name);
    found.ok_or_else(|| CallFailure::usage(format!("attribute `{name}` is missing, or not {}", T::expected())))
}

/// Attribute `name` of a call, an integer, in `*value`. `OPTC_STATUS_USAGE` where it is missing or of
/// another kind: `*value` stays as it is.
///
/// # Safety
/// `call` is null or the call that the function got, `name` is null or ends in a zero byte, `value` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_call_int(call: *const OptcCall, name: *const c_char, value: *mut i64) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let (call, name) = unsafe { (shared(call, "call")?, string(name, "name")?) };
        let found = attribute::<i64>(call, name)?;
        // SAFETY: as above.
        unsafe { give(value, || found, "value") }
    })
}

/// Attribute `name` of a call, a float, in `*value`. `OPTC_STATUS_USAGE` where it is missing or of
/// another kind: `*value` stays as it is.
///
/// # Safety
/// `call` is null or the call that the function got, `name` is null or ends in a zero byte, `value` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_call_float(call: *const OptcCall, name: *const c_char, value: *mut f32) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let (call, name) = unsafe { (shared(call, "call")?, string(name, "name")?) };
        let found = attribute::<Real>(call, name)?.0;
        // SAFETY: as above.
        unsafe { give(value, || found, "value") }
    })
}

/// Attribute `name` of a call, a string, in `*value`; borrowed from the call.
/// `OPTC_STATUS_USAGE` where it is missing or of another kind: `*value` stays as it is.
///
/// # Safety
/// `call` is null or the call that the function got, `name` is null or ends in a zero byte, `value` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_call_string(
    call: *mut OptcCall,
    name: *const c_char,
    value: *mut *const c_char,
) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let (call, name) = unsafe { (exclusive(call, "call")?, string(name, "name")?) };
        let text = CString::new(attribute::<String>(call, name)?);
        call.strings.push(text.map_err(|_| CallFailure::usage(format!("attribute `{name}` has a zero byte")))?);
        let found = call.strings.last().map_or(c"".as_ptr(), |text| text.as_ptr());
        // SAFETY: as above.
        unsafe { give(value, || found, "value") }
    })
}

/// Attribute `name` of a call, a tensor or a list of integers (`int64_t`) or floats, in `*value`; borrowed from the
/// call. `OPTC_STATUS_USAGE` where it is missing or of another kind: `*value` stays as it is.
///
/// # Safety
/// `call` is null or the call that the function got, `name` is null or ends in a zero byte, `value` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_call_tensor(
    call: *mut OptcCall,
    name: *const c_char,
    value: *mut OptcTensor,
) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let (call, name) = unsafe { (exclusive(call, "call")?, string(name, "name")?) };
        let tensor = match call.call.attribute(name) {
            Some(Attr::Ints(ints)) => Tensor::from_slice(&[ints.len()], ints),
            Some(Attr::Reals(reals)) => {
                Tensor::from_slice(&[reals.len()], &reals.iter().map(|r| r.0).collect::<Vec<f32>>())
            }
            _ => Ok(attribute::<Const>(call, name)?.0),
        };
        call.tensors.push(tensor.map_err(|e| CallFailure::new(OptcStatus::Run, e.to_string()))?);
        let found = view(&call.tensors[call.tensors.len() - 1])?;
        // SAFETY: as above.
        unsafe { give(value, || found, "value") }
    })
}

/// Declares result `index` of a call, in the function that says the types: its element type (an `OptcDtype`) and its
/// `rank` dims, -1 for those that are not known yet; a `rank` of -1 where their number is not.
///
/// # Safety
/// `call` is null or the call that the function got, `dims` points at `rank` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_call_declare(
    call: *mut OptcCall,
    index: usize,
    dtype: u32,
    dims: *const i64,
    rank: i64,
) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let call = unsafe { exclusive(call, "call") }?;
        let dtype = numeric(dtype)?;
        let dim = |&n: &i64| usize::try_from(n).map_or(Dim::Unknown, Dim::Known);
        let ty = match usize::try_from(rank) {
            // SAFETY: as above.
            Ok(rank) => TensorType::new(dtype, unsafe { array(dims, rank, "dims") }?.iter().map(dim).collect()),
            Err(_) => TensorType::unranked(dtype),
        };
        *slot(&mut call.types, index)? = Some(ty.into());
        Ok(())
    })
}

/// Makes result `index` of a call, in the function that computes: its element type (an `OptcDtype`) and its `rank`
/// dims. `*data` is where its elements go, row-major; they are zero at first.
///
/// # Safety
/// `call` is null or the call that the function got, `dims` points at `rank` values, `data` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn optc_call_result(
    call: *mut OptcCall,
    index: usize,
    dtype: u32,
    dims: *const usize,
    rank: usize,
    data: *mut *mut u8,
) -> OptcStatus {
    guarded(|| {
        // SAFETY: the host vouches for its pointers.
        let (call, dims) = unsafe { (exclusive(call, "call")?, array(dims, rank, "dims")?) };
        let failed = |e: driver::TensorError| CallFailure::new(OptcStatus::Run, e.to_string());
        let mut tensor = Tensor::zeros(numeric(dtype)?, dims).map_err(failed)?;
        let place = tensor.bytes_mut().map_err(failed)?.as_mut_ptr();
        *slot(&mut call.results, index)? = Some(tensor);
        // SAFETY: as above.
        unsafe { give(data, || place, "data") }
    })
}

/// A dtype that this interface carries.
fn numeric(number: u32) -> Result<DType, CallFailure> {
    let carried = dtype_of(number).filter(|&dtype| dtype != DType::Str);
    carried.ok_or_else(|| CallFailure::usage(format!("{number} is not an element type that is carried")))
}

/// The place of result `index`.
fn slot<T>(results: &mut Vec<Option<T>>, index: usize) -> Result<&mut Option<T>, CallFailure> {
    /// More results than any op has.
    const RESULTS: usize = 1 << 10;
    if index >= RESULTS {
        return Err(CallFailure::usage(format!("result {index}: an op has less than {RESULTS}")));
    }
    if results.len() <= index {
        results.resize_with(index + 1, || None);
    }
    Ok(&mut results[index])
}
