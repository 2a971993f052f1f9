//! The calling convention of compiled kernels: the one door between the runtime and machine code.

/// The machine code of one kernel: performs the parallel tasks `begin..end` of the kernel.
///
/// - `args[i]` is the address of the kernel's i-th buffer, 64-byte aligned and at least as long as the kernel declares.
/// - `scratch` is the address of bytes private to the calling worker, 64-byte aligned, as many as the kernel declares;
///   its contents are undefined on entry.
/// - `begin <= end <= tasks`. Tasks are independent: they may run in any order and on any thread.
///
/// Every shape, stride and trip count is a constant in the code, so there are no further parameters.
///
/// # Safety
///
/// The buffers must be as large and as aligned as the kernel declares, writable ones unaliased with any other except
/// where the kernel allows it, the task range within bounds, and the code object alive during the call.
pub type KernelFn = unsafe extern "C" fn(args: *const *mut u8, scratch: *mut u8, begin: u64, end: u64);
