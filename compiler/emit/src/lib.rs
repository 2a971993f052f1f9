//! Machine code: a batch of kernels becomes one [`Code`] object.
//!
//! Cranelift compiles the nests, and the tiles of 128-bit vectors. Tiles of wider vectors are emitted by `x86`; both are
//! functions of the same module.
//!
//! Tiles and nests are separate functions in one Cranelift module; equal tiles of a batch are compiled once. The
//! functions are built first and compiled on as many threads as asked for, then put together to one text.
//!
//! Cranelift runs with `opt_level=none`: with `speed` it moves operations away from where a tile puts them and spills
//! (20-45 % slower contractions, 20 times the compile time).

pub mod host;
mod load;
mod nest;
mod text;
mod tile;
mod x86;

pub use load::{LoadError, Resolver, load};

use cranelift_codegen::ir::{AbiParam, Function, Signature, UserFuncName, types};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{CodegenError, Context};
use cranelift_module::{FuncId, Linkage, Module, ModuleReloc};
use optc_kernel::nest::{Kernel, NestError};
use optc_kernel::target::{Emitter, ISAS, Level};
use optc_kernel::tile::{Tile, verify};
use optc_runtime::kernel::KernelFn;
use optc_runtime::plan::KernelCode;
use optc_runtime::{Executable, MachineCode};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use text::TextModule;

/// Why kernels could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// The host is not supported by the code generator.
    #[error("the host cannot be compiled for: {0}")]
    Host(String),
    /// A kernel is not well formed: a bug of its builder.
    #[error("kernel `{0}` is not well formed: {1}")]
    Kernel(String, NestError),
    /// No emitter has a tile's number of lanes, or its level, on this machine.
    #[error("tile `{0}` has {1} lanes at level `{level}`, which no vectors of this machine have", level = .2.word())]
    Lanes(String, usize, Level),
    /// A tile needs more registers at once than there are.
    #[error("tile `{0}` does not fit the registers")]
    Registers(String),
    /// The encoder refused an instruction: a bug of the emitter.
    #[error("tile `{0}` cannot be encoded: {1}")]
    Encode(String, String),
    /// Cranelift refused a function.
    #[error("function `{0}` does not compile: {1}")]
    Compile(String, Box<CodegenError>),
    /// Functions do not fit together: a bug of the emitter.
    #[error("the code cannot be linked: {0}")]
    Link(String),
    /// The system gives no memory for code.
    #[error("no memory that code may run in: {0}")]
    Memory(std::io::Error),
    /// The module refused a function.
    #[error("module: {0}")]
    Module(#[from] Box<cranelift_module::ModuleError>),
}

/// Executable memory with the machine code of a batch of kernels.
#[derive(Debug)]
pub struct Code(Executable, usize);

impl Code {
    /// Compiles kernels on up to `threads` threads; [`Code::entry`] numbers are those of `kernels`.
    ///
    /// # Errors
    ///
    /// A kernel that does not verify, and what the code generator refuses.
    pub fn compile(kernels: &[&Kernel], threads: usize) -> Result<Code, EmitError> {
        let code = machine_code(kernels, threads)?;
        // SAFETY: the entries were compiled from verified kernels, for this machine, with the signature of `KernelFn`.
        // What a kernel reads and writes is within the buffers that it declares, which tests check for every kind.
        Ok(Code(unsafe { Executable::new(&code) }.map_err(EmitError::Memory)?, code.entries.len()))
    }

    /// The entry point of the i-th kernel; it lives as long as `self`.
    pub fn entry(&self, kernel: usize) -> KernelFn {
        self.0.entry(kernel)
    }

    /// How many kernels.
    pub fn len(&self) -> usize {
        self.1
    }

    /// Whether there is no kernel.
    pub fn is_empty(&self) -> bool {
        self.1 == 0
    }

    /// Bytes of machine code.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// The linked machine code of kernels, compiled on up to `threads` threads.
fn machine_code(kernels: &[&Kernel], threads: usize) -> Result<MachineCode, EmitError> {
    let isa = host_isa()?;
    let mut module = TextModule::new(isa.clone());
    let entries = define(kernels, &isa, &mut module, threads)?;
    module.link(&entries)
}

/// Defines the functions of kernels in a module; its entries by the kernels' numbers.
fn define(
    kernels: &[&Kernel],
    isa: &OwnedTargetIsa,
    module: &mut impl Module,
    threads: usize,
) -> Result<Vec<FuncId>, EmitError> {
    let Jobs { list, entries } = declare(kernels, module)?;
    for (id, code, relocs) in compile_all(isa, list, threads.max(1))? {
        module.define_function_bytes(id, 64, &code, &relocs).map_err(Box::new)?;
    }
    Ok(entries)
}

/// Flags of the module, with everything that this machine has.
fn host_isa() -> Result<OwnedTargetIsa, EmitError> {
    let host = |e: &dyn std::fmt::Display| EmitError::Host(e.to_string());
    let mut flags = settings::builder();
    let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
    let settings = [
        ("opt_level", "none"),
        ("enable_verifier", verifier),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
    ];
    for (name, value) in settings {
        flags.set(name, value).map_err(|e| host(&e))?;
    }
    let builder = cranelift_native::builder().map_err(|e| host(&e))?;
    builder.finish(settings::Flags::new(flags)).map_err(|e| host(&e))
}

/// The machine code of a tile of 256 or 512 bits by itself, for tests that run it elsewhere.
///
/// # Errors
///
/// A tile that is not well formed, has other vectors, or does not fit the registers.
pub fn tile_code(tile: &Tile) -> Result<Vec<u8>, EmitError> {
    let row = ISAS.iter().find(|isa| isa.runs(tile.lanes, tile.level) && isa.emitter == Emitter::X86);
    row.ok_or_else(|| EmitError::Lanes(tile.name.clone(), tile.lanes, tile.level))?;
    let elems = verify::elems(tile).map_err(|e| EmitError::Encode(tile.name.clone(), e.to_string()))?;
    x86::emit(tile, &elems)
}

/// The emitter for a tile's number of lanes and level, if this machine has such a row.
fn emitter(tile: &Tile) -> Result<Emitter, EmitError> {
    let row = ISAS.iter().find(|isa| isa.runs(tile.lanes, tile.level) && crate::host::has(isa));
    row.map(|isa| isa.emitter).ok_or_else(|| EmitError::Lanes(tile.name.clone(), tile.lanes, tile.level))
}

/// A function to be compiled.
struct Job<'a> {
    id: FuncId,
    name: String,
    work: Work<'a>,
}

enum Work<'a> {
    Clif(Box<Function>),
    X86(&'a Tile),
}

struct Jobs<'a> {
    list: Vec<Job<'a>>,
    entries: Vec<FuncId>,
}

/// Declares and builds all functions of a batch, equal tiles once.
fn declare<'a>(kernels: &[&'a Kernel], module: &mut impl Module) -> Result<Jobs<'a>, EmitError> {
    let config = module.isa().frontend_config();
    let mut list = Vec::new();
    let mut entries = Vec::new();
    let mut known = HashMap::new();
    for (k, kernel) in kernels.iter().enumerate() {
        kernel.verify().map_err(|e| EmitError::Kernel(kernel.name.clone(), e))?;
        let mut tiles = Vec::new();
        for tile in &kernel.tiles {
            let key = (tile.lanes, tile.level, tile.ptrs, tile.counts, &tile.body);
            if let Some(&id) = known.get(&key) {
                tiles.push(id);
                continue;
            }
            let (id, mut func) = function(module, format!("tile{}", known.len()), tile::signature(module, tile))?;
            let work = match emitter(tile)? {
                Emitter::Clif => {
                    tile::build(tile, config, &mut func);
                    Work::Clif(Box::new(func))
                }
                Emitter::X86 => Work::X86(tile),
            };
            known.insert(key, id);
            tiles.push(id);
            list.push(Job { id, name: tile.name.clone(), work });
        }
        let (id, mut func) = function(module, format!("kernel{k}"), nest::signature(module))?;
        let refs: Vec<_> = tiles.iter().map(|&id| module.declare_func_in_func(id, &mut func)).collect();
        nest::build(kernel, &refs, config, &mut func);
        list.push(Job { id, name: kernel.name.clone(), work: Work::Clif(Box::new(func)) });
        entries.push(id);
    }
    Ok(Jobs { list, entries })
}

fn function(module: &mut impl Module, name: String, sig: Signature) -> Result<(FuncId, Function), EmitError> {
    let id = module.declare_function(&name, Linkage::Local, &sig).map_err(Box::new)?;
    Ok((id, Function::with_name_signature(UserFuncName::user(0, id.as_u32()), sig)))
}

/// A signature of `params` 64-bit integers and no result.
fn integers(module: &impl Module, params: usize) -> Signature {
    let mut sig = Signature::new(CallConv::triple_default(module.isa().triple()));
    sig.params = vec![AbiParam::new(types::I64); params];
    sig
}

type Compiled = (FuncId, Vec<u8>, Vec<ModuleReloc>);

/// Compiles on several threads; the order of the result is that of the jobs, whatever the threads did.
fn compile_all(isa: &OwnedTargetIsa, jobs: Vec<Job>, threads: usize) -> Result<Vec<Compiled>, EmitError> {
    let slots: Vec<Mutex<Option<Result<Compiled, EmitError>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let jobs: Vec<Mutex<Option<Job>>> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut context = Context::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(i) else { return };
            let Some(job) = job.lock().ok().and_then(|mut job| job.take()) else { return };
            let result = compile_one(isa, job, &mut context);
            if let Ok(mut slot) = slots[i].lock() {
                *slot = Some(result);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(jobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    slots.into_iter().filter_map(|slot| slot.into_inner().ok().flatten()).collect()
}

fn compile_one(isa: &OwnedTargetIsa, job: Job, context: &mut Context) -> Result<Compiled, EmitError> {
    let func = match job.work {
        Work::Clif(func) => func,
        Work::X86(tile) => return Ok((job.id, tile_code(tile)?, Vec::new())),
    };
    context.clear();
    context.func = *func;
    let mut plane = Default::default();
    let compiled =
        context.compile(isa.as_ref(), &mut plane).map_err(|e| EmitError::Compile(job.name, Box::new(e.inner)))?;
    let bytes = compiled.code_buffer().to_vec();
    let relocs: Vec<_> = compiled.buffer.relocs().to_vec();
    let relocs = relocs.iter().map(|r| ModuleReloc::from_mach_reloc(r, &context.func, job.id)).collect();
    Ok((job.id, bytes, relocs))
}

// SAFETY: entries keep to the contract (`Code::compile`); the code lives as long as `self`.
unsafe impl KernelCode for Code {
    fn entry(&self, kernel: usize) -> KernelFn {
        self.0.entry(kernel)
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}
