//! How a model is compiled.

use std::ffi::{c_char, c_int};
use std::time::Duration;

use driver::{Compiler, Memory, Options};

use crate::error::{CallFailure, array, string};

/// The shape that an input with open dims is to have.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OptcShape {
    /// The input's name.
    pub input: *const c_char,
    /// Its dims, `rank` of them; may be null where `rank` is 0.
    pub dims: *const usize,
    /// How many dims it has.
    pub rank: usize,
}

/// How a model is compiled and run. All zeros are the defaults, but for `size` and `threads`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OptcOptions {
    /// `sizeof(OptcOptions)` where the host was compiled. A library that knows more options takes the defaults for
    /// those; one that knows fewer refuses those that it does not know, unless they are zeros.
    pub size: usize,
    /// Threads that run the model; 0 for as many as the machine has cores.
    pub threads: usize,
    /// The pipeline: a named one (`O0` to `O3`) or a list of passes; null for `O2`.
    pub passes: *const c_char,
    /// The instruction set; null for the best that the machine has.
    pub isa: *const c_char,
    /// Shapes of inputs whose dims the model leaves open, `shape_count` of them; may be null where that is 0.
    pub shapes: *const OptcShape,
    /// How many shapes there are.
    pub shape_count: usize,
    /// Bytes that the model and its runs may have in use; 0 for what the machine has. What does not fit is an error.
    pub memory_limit: usize,
    /// Milliseconds after which a run is given up with `OPTC_STATUS_RUN`; 0 for never.
    pub time_limit_ms: usize,
    /// Not 0: the model's files are read, and their bytes owned. 0: they are mapped, the model's file and files of
    /// external data beside it, for as long as the model or a session of it lives. They may be replaced or removed
    /// meanwhile, but if one is truncated or written in place, the process ends by SIGBUS or results are wrong.
    pub copy: c_int,
    /// Not 0: the machine code that an artifact has for this machine is run, and nothing is compiled. Such code does
    /// what it likes in this process: only for files from people whose programs you would run. 0: the graph is
    /// compiled.
    pub trust: c_int,
}

/// What this library knows of the options of a host that may have been compiled with another version's header.
///
/// # Safety
/// `options` points at as many bytes as it says in `size`.
unsafe fn known(options: *const OptcOptions) -> Result<OptcOptions, CallFailure> {
    const OWN: usize = size_of::<OptcOptions>();
    if !options.is_aligned() {
        return Err(CallFailure::usage("`options` is misaligned"));
    }
    // SAFETY: the caller vouches for the first member.
    let size = unsafe { options.cast::<usize>().read() };
    if !(FIRST..=MOST).contains(&size) {
        return Err(CallFailure::usage(format!("`options.size` is {size}: set it to sizeof(OptcOptions)")));
    }
    // SAFETY: the caller vouches for `size` bytes.
    let bytes = unsafe { array(options.cast::<u8>(), size, "options") }?;
    if bytes.iter().skip(OWN).any(|&byte| byte != 0) {
        return Err(CallFailure::usage("`options` says what this version of the library does not know"));
    }
    let mut all = [0u8; OWN];
    all[..size.min(OWN)].copy_from_slice(&bytes[..size.min(OWN)]);
    // SAFETY: any bytes are options: integers and pointers, which are not looked at here.
    Ok(unsafe { all.as_ptr().cast::<OptcOptions>().read_unaligned() })
}

/// The options of the first version with `size`: those before `trust` are in all versions.
const FIRST: usize = std::mem::offset_of!(OptcOptions, trust) + size_of::<c_int>();
/// No version will have more.
const MOST: usize = 1 << 16;

/// A compiler with these options; null stands for the defaults, with one thread.
///
/// # Safety
/// `options` is null or points at as many bytes as it says; all pointers in it are null or good for the call.
pub(crate) unsafe fn compiler(options: *const OptcOptions) -> Result<Compiler, CallFailure> {
    let mut chosen = Options::default();
    if options.is_null() {
        return Ok(Compiler::new(chosen));
    }
    // SAFETY: not null; the caller vouches for the pointer.
    let options = unsafe { known(options) }?;
    chosen.threads = options.threads;
    if options.memory_limit > 0 {
        chosen.memory = Memory::with_limit(options.memory_limit);
    }
    chosen.time_limit = (options.time_limit_ms > 0).then(|| Duration::from_millis(options.time_limit_ms as u64));
    chosen.copy = options.copy != 0;
    chosen.trust = options.trust != 0;
    if !options.passes.is_null() {
        // SAFETY: as above.
        chosen.passes = unsafe { string(options.passes, "passes") }?.to_owned();
    }
    if !options.isa.is_null() {
        // SAFETY: as above.
        chosen.isa = Some(unsafe { string(options.isa, "isa") }?.to_owned());
    }
    // SAFETY: as above.
    for shape in unsafe { array(options.shapes, options.shape_count, "shapes") }? {
        // SAFETY: as above.
        let (name, dims) = unsafe { (string(shape.input, "input")?, array(shape.dims, shape.rank, "dims")?) };
        chosen.shapes.push((name.to_owned(), dims.to_vec()));
    }
    Ok(Compiler::new(chosen))
}
