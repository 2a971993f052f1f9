//! Machine code: a batch of kernels becomes one [`Code`] object.
//!
//! Cranelift compiles the nests, and the tiles of 128-bit vectors. Tiles of wider vectors are emitted by `x86`; both
//! are functions of the same module.
//!
//! Tiles and nests are separate functions in one Cranelift module; equal tiles of a batch are compiled once. The
//! functions are built first and compiled on as many threads as asked for, then put together into one text.
//!
//! Cranelift runs with `opt_level=none`: with `speed` it moves operations away from where a tile puts them and spills
//! (20-45 % slower contractions, 20 times the compile time).
//!
//! In: programs and kernels. Out: plans that run here, or machine code for another target. This crate must not know
//! graphs or builders of kernels. Start in `backend.rs` and `text.rs`, then `tile.rs` and `x86/mod.rs`.

mod backend;
mod cache;
mod nest;
mod text;
mod tile;
mod x86;

pub use backend::{Backend, BackendError, Jit, Native, load};
pub use cache::KernelCache;
pub use optc_native::{HostError, Regions, Resolver, host};

use cranelift_codegen::ir::{AbiParam, Function, Signature, UserFuncName, types};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa, lookup_by_name};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{CodegenError, Context};
use cranelift_module::{FuncId, Linkage, Module, ModuleReloc};
use optc_kernel::nest::{Kernel, NestError};
use optc_kernel::target::{Arch, Emitter, ISAS, System, Target};
use optc_kernel::tile::{Tile, verify};
use optc_runtime::kernel::KernelFn;
use optc_runtime::plan::KernelCode;
use optc_runtime::{Executable, MachineCode};
use optc_types::{Feature, Features};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use text::TextModule;

/// Why kernels could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// The code generator does not know the target.
    #[error("there is no code generator for {0}: {1}")]
    Target(String, String),
    /// A kernel is not well formed: a bug of its builder.
    #[error("kernel `{0}` is not well formed: {1}")]
    Kernel(String, NestError),
    /// No emitter of the target has a tile's number of lanes, or its features.
    #[error("tile `{0}` has {1} lanes, and uses `{2}`: the target has no such vectors")]
    Lanes(String, usize, Features),
    /// A tile needs more registers at once than there are.
    #[error("tile `{0}` does not fit the registers")]
    Registers(String),
    /// The encoder refused an instruction: a bug of the emitter.
    #[error("tile `{0}` cannot be encoded: {1}")]
    Encode(String, String),
    /// Cranelift refused a function.
    #[error("function `{0}` does not compile: {1}")]
    Compile(String, Box<CodegenError>),
    /// Code of another machine.
    #[error("this machine does not run code for {0}")]
    Elsewhere(String),
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
pub struct Code {
    memory: Executable,
    kernels: usize,
    /// The instructions of its tiles, for those who compile others.
    _tiles: Vec<TileCode>,
}

impl Code {
    /// Compiles kernels of any row that this machine runs, on up to `threads` threads; [`Code::entry`] numbers are
    /// those of `kernels`.
    ///
    /// # Errors
    ///
    /// A kernel that does not verify, and what the code generator refuses.
    pub fn compile(kernels: &[&Kernel], threads: usize) -> Result<Code, EmitError> {
        Code::compile_with(kernels, &host::target(), threads, None)
    }

    /// Compiles kernels for a target that this machine is, but for tiles that are known.
    fn compile_with(
        kernels: &[&Kernel],
        target: &Target,
        threads: usize,
        known: Option<&KernelCache>,
    ) -> Result<Code, EmitError> {
        if !host::runs(target) {
            return Err(EmitError::Elsewhere(target.to_string()));
        }
        let (code, _tiles) = linked(kernels, target, threads, known)?;
        // SAFETY: the entries were compiled from verified kernels, for this machine, with the signature of `KernelFn`.
        // That a kernel keeps to the buffers that it declares is proven before a plan calls it (rule P7 of programs, in
        // `load`).
        let memory = unsafe { Executable::new(&code) }.map_err(EmitError::Memory)?;
        Ok(Code { memory, kernels: code.entries.len(), _tiles })
    }

    /// The entry point of the i-th kernel; it lives as long as `self`.
    pub fn entry(&self, kernel: usize) -> KernelFn {
        self.memory.entry(kernel)
    }

    /// How many kernels there are.
    pub fn len(&self) -> usize {
        self.kernels
    }

    /// Whether there is no kernel.
    pub fn is_empty(&self) -> bool {
        self.kernels == 0
    }

    /// Bytes of machine code.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }
}

/// The linked machine code of kernels for any target, compiled on up to `threads` threads: the same bytes everywhere.
///
/// # Errors
///
/// A kernel that does not verify, and what the code generator refuses.
pub fn machine_code(kernels: &[&Kernel], target: &Target, threads: usize) -> Result<MachineCode, EmitError> {
    Ok(linked(kernels, target, threads, None)?.0)
}

/// The linked machine code of kernels, and the instructions of their tiles that `known` is to know from now on.
fn linked(
    kernels: &[&Kernel],
    target: &Target,
    threads: usize,
    known: Option<&KernelCache>,
) -> Result<(MachineCode, Vec<TileCode>), EmitError> {
    let isa = cranelift_isa(target)?;
    let mut module = TextModule::new(isa.clone());
    let Jobs { list, entries } = declare(kernels, target, known, &mut module)?;
    let tiles: Vec<Option<&Tile>> = list.iter().map(|job| job.work.tile()).collect();
    let mut kept = Vec::new();
    for ((id, code, relocs), tile) in compile_all(&isa, list, threads.max(1))?.into_iter().zip(tiles) {
        module.define_function_bytes(id, 64, &code, &relocs).map_err(Box::new)?;
        if let (Some(tile), Some(known)) = (tile, known) {
            known.add_tile(tile, &code);
            kept.push(code);
        }
    }
    Ok((module.link(&entries)?, kept))
}

/// What Cranelift compiles for: the target's architecture, its system's calling convention, its features.
fn cranelift_isa(target: &Target) -> Result<OwnedTargetIsa, EmitError> {
    let refused = |e: &dyn std::fmt::Display| EmitError::Target(target.triple(), e.to_string());
    let mut flags = settings::builder();
    let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
    let settings = [
        ("opt_level", "none"),
        ("enable_verifier", verifier),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
    ];
    for (name, value) in settings {
        flags.set(name, value).map_err(|e| refused(&e))?;
    }
    let triple = match (target.arch, target.system) {
        (Arch::X86_64, System::MacOs) => "x86_64-apple-darwin",
        (Arch::X86_64, _) => "x86_64-unknown-linux-gnu",
        (Arch::Aarch64, System::MacOs) => "aarch64-apple-darwin",
        (Arch::Aarch64, _) => "aarch64-unknown-linux-gnu",
        (Arch::Wasm32, _) => "wasm32-unknown-unknown",
    };
    let mut builder = lookup_by_name(triple).map_err(|e| refused(&e))?;
    for flag in target.features.iter().flat_map(cranelift_flags) {
        builder.enable(flag).map_err(|e| refused(&e))?;
    }
    builder.finish(settings::Flags::new(flags)).map_err(|e| refused(&e))
}

/// What a feature is called in Cranelift, with what each CPU that has it has too.
fn cranelift_flags(feature: Feature) -> &'static [&'static str] {
    match feature {
        Feature::Sse41 => &["has_sse3", "has_ssse3", "has_sse41"],
        Feature::Avx2 => &["has_sse42", "has_popcnt", "has_avx", "has_avx2"],
        Feature::Fma => &["has_fma"],
        Feature::Avx512F => &["has_avx512f"],
        Feature::Avx512Dq => &["has_avx512dq"],
        Feature::Avx512Vl => &["has_avx512vl"],
        Feature::AvxVnni => &["has_avx_vnni"],
        Feature::Avx512Vnni => &["has_avx512vnni"],
        Feature::DotProd => &["has_dotprod"],
        Feature::I8mm => &["has_i8mm"],
        // What it knows nothing of, or takes for granted.
        _ => &[],
    }
}

/// The machine code of a tile of 256 or 512 bits on its own, for tests that run it elsewhere.
///
/// # Errors
///
/// A tile that is not well formed, has other vectors, or does not fit the registers.
pub fn tile_code(tile: &Tile) -> Result<Vec<u8>, EmitError> {
    let row = ISAS.iter().find(|isa| isa.runs(tile.lanes, tile.features) && isa.emitter == Emitter::X86);
    row.ok_or_else(|| no_vectors(tile))?;
    let elems = verify::elems(tile).map_err(|e| EmitError::Encode(tile.name.clone(), e.to_string()))?;
    x86::emit(tile, &elems)
}

fn no_vectors(tile: &Tile) -> EmitError {
    EmitError::Lanes(tile.name.clone(), tile.lanes, tile.features)
}

/// The emitter for a tile's number of lanes and its features, if the target has such a row.
fn emitter(tile: &Tile, target: &Target) -> Result<Emitter, EmitError> {
    let mut rows = ISAS.iter().filter(|isa| isa.runs_on(target.arch, target.features));
    let row = rows.find(|isa| isa.runs(tile.lanes, tile.features));
    row.map(|isa| isa.emitter).ok_or_else(|| no_vectors(tile))
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
    /// A tile that was compiled before.
    Known(&'a Tile, TileCode),
}

impl<'a> Work<'a> {
    /// The tile whose instructions stand for themselves.
    fn tile(&self) -> Option<&'a Tile> {
        match self {
            Work::Clif(_) => None,
            Work::X86(tile) | Work::Known(tile, _) => Some(tile),
        }
    }
}

struct Jobs<'a> {
    list: Vec<Job<'a>>,
    entries: Vec<FuncId>,
}

/// Declares and builds all functions of a batch, equal tiles once.
fn declare<'a>(
    kernels: &[&'a Kernel],
    target: &Target,
    compiled: Option<&KernelCache>,
    module: &mut impl Module,
) -> Result<Jobs<'a>, EmitError> {
    let config = module.isa().frontend_config();
    let fused = target.arch != Arch::X86_64 || target.features.contains(Features::of(&[Feature::Fma]));
    let mut list = Vec::new();
    let mut entries = Vec::new();
    let mut known = HashMap::new();
    for (k, kernel) in kernels.iter().enumerate() {
        kernel.verify().map_err(|e| EmitError::Kernel(kernel.name.clone(), e))?;
        let mut tiles = Vec::new();
        for tile in &kernel.tiles {
            let key = (tile.lanes, tile.features, tile.ptrs, tile.counts, &tile.body);
            if let Some(&id) = known.get(&key) {
                tiles.push(id);
                continue;
            }
            let (id, mut func) = function(module, format!("tile{}", known.len()), tile::signature(module, tile))?;
            let work = match emitter(tile, target)? {
                Emitter::Clif => {
                    tile::build(tile, fused, config, &mut func);
                    Work::Clif(Box::new(func))
                }
                Emitter::X86 => match compiled.and_then(|cache| cache.tile(tile)) {
                    Some(code) => Work::Known(tile, code),
                    None => Work::X86(tile),
                },
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

/// A signature with `params` 64-bit integers and no result.
fn integers(module: &impl Module, params: usize) -> Signature {
    let mut sig = Signature::new(CallConv::triple_default(module.isa().triple()));
    sig.params = vec![AbiParam::new(types::I64); params];
    sig
}

/// The instructions of a tile.
type TileCode = Arc<[u8]>;
type Compiled = (FuncId, TileCode, Vec<ModuleReloc>);

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
        Work::X86(tile) => return Ok((job.id, tile_code(tile)?.into(), Vec::new())),
        Work::Known(_, code) => return Ok((job.id, code, Vec::new())),
    };
    context.clear();
    context.func = *func;
    let mut plane = Default::default();
    let compiled =
        context.compile(isa.as_ref(), &mut plane).map_err(|e| EmitError::Compile(job.name, Box::new(e.inner)))?;
    let bytes = compiled.code_buffer().into();
    let relocs: Vec<_> = compiled.buffer.relocs().to_vec();
    let relocs = relocs.iter().map(|r| ModuleReloc::from_mach_reloc(r, &context.func, job.id)).collect();
    Ok((job.id, bytes, relocs))
}

// SAFETY: entries keep to the contract (`Code::compile`); the code lives as long as `self`.
unsafe impl KernelCode for Code {
    fn entry(&self, kernel: usize) -> KernelFn {
        self.memory.entry(kernel)
    }

    fn pieces(&self) -> Vec<(usize, usize)> {
        self.memory.pieces()
    }
}
