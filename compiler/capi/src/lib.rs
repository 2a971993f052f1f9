//! The C ABI of optc: models are compiled from files or memory, and run through sessions.
//!
//! `include/optc.h` is made from this crate by cbindgen; its head has the rules on ownership and threads. Nothing
//! unwinds into the host: a panic becomes [`OptcStatus::Internal`]. Pointers are checked for null, strings for UTF-8,
//! lengths against shapes; that they point at what they claim to is the host's part.
//!
//! In: pointers and lengths. Out: opaque handles, status codes, borrowed bytes. It is a layer on the crate `optc` and
//! must not know what is below it. Start in `model.rs` and `session.rs`; `tests/c_programs.rs` compiles programs in C,
//! and writes the header with `UPDATE_HEADER=1`.

mod custom;
mod error;
#[cfg(test)]
mod layout;
mod model;
mod options;
mod session;
mod types;

pub use custom::{
    OptcCall, OptcCustomFn, OptcOperand, optc_call_declare, optc_call_fail, optc_call_float, optc_call_int,
    optc_call_operand, optc_call_operand_count, optc_call_result, optc_call_string, optc_call_tensor, optc_register_op,
};
pub use error::{OptcStatus, optc_last_error};
pub use model::{
    OptcModel, OptcPort, optc_compile_bytes, optc_compile_file, optc_model_find_input, optc_model_find_output,
    optc_model_free, optc_model_input, optc_model_input_count, optc_model_output, optc_model_output_count,
};
pub use options::{OptcOptions, OptcShape};
pub use session::{
    OptcSession, OptcTensor, optc_session_free, optc_session_new, optc_session_output, optc_session_run,
    optc_session_set_input, optc_session_set_seed,
};
pub use types::OptcDtype;

use std::ffi::{CStr, c_char};

/// The version, all of it, with the zero that C wants.
const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version has no zero bytes"),
};

/// The version of the library, such as `0.1.0`; good for as long as the program runs. From any thread.
#[unsafe(no_mangle)]
pub extern "C" fn optc_version() -> *const c_char {
    VERSION.as_ptr()
}
