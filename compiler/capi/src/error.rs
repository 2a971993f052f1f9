//! Status codes, the last error of each thread, and the boundary that no panic crosses.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use driver::{Error, Status};

/// How a call ended. The numbers are the exit codes of the command `optc`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptcStatus {
    /// All went well.
    Ok = 0,
    /// An argument is wrong: a null pointer, an index without an input, an unknown pass or instruction set.
    Usage = 2,
    /// The model or artifact is not valid.
    BadModel = 3,
    /// The model is valid, but uses what is not supported.
    Unsupported = 4,
    /// A pass or the code generator failed.
    Compile = 5,
    /// Inputs do not fit, or a run failed.
    Run = 6,
    /// A file could not be read.
    Io = 7,
    /// A bug in optc: a panic that was caught.
    Internal = 101,
}

impl From<Status> for OptcStatus {
    fn from(status: Status) -> OptcStatus {
        match status {
            Status::Usage => OptcStatus::Usage,
            Status::BadModel => OptcStatus::BadModel,
            Status::Unsupported => OptcStatus::Unsupported,
            Status::Compile => OptcStatus::Compile,
            Status::Run => OptcStatus::Run,
            Status::Io => OptcStatus::Io,
        }
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct CallFailure {
    status: OptcStatus,
    message: String,
}

impl CallFailure {
    pub fn new(status: OptcStatus, message: impl Into<String>) -> CallFailure {
        CallFailure { status, message: message.into() }
    }

    /// An argument that is wrong.
    pub fn usage(message: impl Into<String>) -> CallFailure {
        CallFailure::new(OptcStatus::Usage, message)
    }

    /// A null pointer where one is not allowed.
    pub fn null(argument: &str) -> CallFailure {
        CallFailure::usage(format!("`{argument}` is null"))
    }
}

impl From<Error> for CallFailure {
    fn from(error: Error) -> CallFailure {
        CallFailure::new(error.status().into(), error.to_string())
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// What was wrong in the last call of this thread that did not return `OPTC_STATUS_OK`, as text; empty before the
/// first. Borrowed: good until the next call of this thread that fails.
#[unsafe(no_mangle)]
pub extern "C" fn optc_last_error() -> *const c_char {
    LAST.try_with(|last| last.try_borrow().map_or(c"".as_ptr(), |text| text.as_ptr())).unwrap_or(c"".as_ptr())
}

/// Runs the body of a function of the ABI: keeps what went wrong for `optc_last_error`, and stops panics.
pub(crate) fn guarded(body: impl FnOnce() -> Result<(), CallFailure>) -> OptcStatus {
    // A panic leaves at worst a session without outputs; nothing else is changed in place.
    let result = catch_unwind(AssertUnwindSafe(body));
    let failure = match result {
        Ok(Ok(())) => return OptcStatus::Ok,
        Ok(Err(failure)) => failure,
        Err(_) => CallFailure::new(OptcStatus::Internal, "a bug in optc: it panicked; details are on the error output"),
    };
    let text = CString::new(failure.message.replace('\0', "?")).unwrap_or_default();
    // A thread that is being torn down has no place for the text any more.
    let _ = LAST.try_with(|last| *last.borrow_mut() = text);
    failure.status
}

/// A string of the host.
///
/// # Safety
/// `text` is null, or points at a string that ends in a zero byte and lives as long as the result.
pub(crate) unsafe fn string<'a>(text: *const c_char, argument: &str) -> Result<&'a str, CallFailure> {
    if text.is_null() {
        return Err(CallFailure::null(argument));
    }
    // SAFETY: not null, and the caller vouches for the rest.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| CallFailure::usage(format!("`{argument}` is not UTF-8")))
}

/// An array of the host; null only where it is empty.
///
/// # Safety
/// `items` is null, or points at `count` values that live as long as the result and do not change meanwhile.
pub(crate) unsafe fn array<'a, T>(items: *const T, count: usize, argument: &str) -> Result<&'a [T], CallFailure> {
    if count == 0 {
        return Ok(&[]);
    }
    if items.is_null() {
        return Err(CallFailure::null(argument));
    }
    if !items.is_aligned() || count.checked_mul(size_of::<T>()).is_none_or(|n| n > isize::MAX as usize) {
        return Err(CallFailure::usage(format!(
            "`{argument}` is not an array of {count} items: misaligned or too long"
        )));
    }
    // SAFETY: not null, aligned, of a length that fits an address space; the caller vouches for the rest.
    Ok(unsafe { std::slice::from_raw_parts(items, count) })
}

/// What a pointer of the host points at.
///
/// # Safety
/// `object` is null, or points at a value that lives as long as the result and is not written meanwhile.
pub(crate) unsafe fn shared<'a, T>(object: *const T, argument: &str) -> Result<&'a T, CallFailure> {
    // SAFETY: the caller vouches for what is not null.
    unsafe { object.as_ref() }.ok_or_else(|| CallFailure::null(argument))
}

/// What a pointer of the host points at, to be changed.
///
/// # Safety
/// `object` is null, or points at a value that lives as long as the result and that nothing else uses meanwhile.
pub(crate) unsafe fn exclusive<'a, T>(object: *mut T, argument: &str) -> Result<&'a mut T, CallFailure> {
    // SAFETY: the caller vouches for what is not null.
    unsafe { object.as_mut() }.ok_or_else(|| CallFailure::null(argument))
}

/// Writes a result where the host wants it.
///
/// # Safety
/// `place` is null, or may be written.
pub(crate) unsafe fn give<T>(place: *mut T, value: impl FnOnce() -> T, argument: &str) -> Result<(), CallFailure> {
    if place.is_null() {
        return Err(CallFailure::null(argument));
    }
    // SAFETY: not null, and the caller vouches for the rest. What was there is not dropped: it may be uninitialised.
    unsafe { place.write(value()) };
    Ok(())
}
