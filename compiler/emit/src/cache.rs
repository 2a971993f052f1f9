//! Compiled kernels that several plans run: a kernel is compiled once for all plans of a model, however many sets of
//! input shapes these are for.
//!
//! Kernels and tiles are known by 128 bits of a hash whose keys are drawn for each cache, so that nobody can make two
//! that meet. The cache keeps no code: what no plan runs any more is freed.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use optc_kernel::nest::Kernel;
use optc_kernel::target::Target;
use optc_kernel::tile::Tile;
use optc_runtime::kernel::KernelFn;
use optc_runtime::plan::KernelCode;

use super::{Code, EmitError};

/// Compiled kernels that plans share. Clones are the same cache.
#[derive(Clone, Debug, Default)]
pub struct KernelCache(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    hashers: [RandomState; 2],
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The code that has a kernel, and its number there.
    kernels: HashMap<Name, (Weak<Code>, usize)>,
    /// The instructions of tiles that call nothing.
    tiles: HashMap<Name, Weak<[u8]>>,
    /// Entries that there may be before those that are gone are looked for.
    room: usize,
}

/// What a kernel or a tile is known by.
type Name = [u64; 2];

/// Entries that are kept without a look.
const FEW: usize = 256;

impl KernelCache {
    /// The code of kernels, on up to `threads` threads where they are not known.
    ///
    /// # Errors
    /// As [`Code::compile`].
    pub(super) fn compile(
        &self,
        kernels: &[&Kernel],
        target: &Target,
        threads: usize,
    ) -> Result<SharedKernels, EmitError> {
        let of = target.to_string();
        let names: Vec<Name> = kernels.iter().map(|kernel| self.name(&(&of, kernel))).collect();
        let mut codes: HashMap<Name, (Arc<Code>, usize)> = {
            let known = self.known();
            let code = |name: &Name| Some((*name, known.kernel(name)?));
            names.iter().filter_map(code).collect()
        };
        let mut new = Vec::new();
        for (name, kernel) in names.iter().zip(kernels) {
            if !codes.contains_key(name) && !new.iter().any(|(other, _)| other == name) {
                new.push((*name, *kernel));
            }
        }
        if !new.is_empty() {
            let kernels: Vec<&Kernel> = new.iter().map(|(_, kernel)| *kernel).collect();
            let code = Arc::new(Code::compile_with(&kernels, target, threads, Some(self))?);
            let mut known = self.known();
            known.tidy();
            for (i, (name, _)) in new.into_iter().enumerate() {
                known.kernels.insert(name, (Arc::downgrade(&code), i));
                codes.insert(name, (code.clone(), i));
            }
        }
        Ok(SharedKernels(names.iter().filter_map(|name| codes.get(name).cloned()).collect()))
    }

    /// The instructions of a tile, where they are known.
    pub(super) fn tile(&self, tile: &Tile) -> Option<Arc<[u8]>> {
        self.known().tiles.get(&self.tile_name(tile))?.upgrade()
    }

    /// Notes the instructions of a tile, for as long as they are held.
    pub(super) fn add_tile(&self, tile: &Tile, code: &Arc<[u8]>) {
        self.known().tiles.insert(self.tile_name(tile), Arc::downgrade(code));
    }

    /// The name of a tile has nothing to do with its instructions.
    fn tile_name(&self, tile: &Tile) -> Name {
        self.name(&(tile.lanes, tile.features, tile.ptrs, tile.counts, &tile.body))
    }

    fn name(&self, what: &impl Hash) -> Name {
        self.0.hashers.each_ref().map(|hasher| hasher.hash_one(what))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn kernel(&self, name: &Name) -> Option<(Arc<Code>, usize)> {
        let (code, number) = self.kernels.get(name)?;
        Some((code.upgrade()?, *number))
    }

    /// Forgets what is gone, whenever there is twice as much as was left the last time.
    fn tidy(&mut self) {
        if self.kernels.len() + self.tiles.len() >= self.room.max(FEW) {
            self.kernels.retain(|_, (code, _)| code.strong_count() > 0);
            self.tiles.retain(|_, code| code.strong_count() > 0);
            self.room = 2 * (self.kernels.len() + self.tiles.len());
        }
    }
}

/// Kernels of a plan, by their numbers: the code that has each, and its number there.
#[derive(Debug)]
pub(super) struct SharedKernels(Vec<(Arc<Code>, usize)>);

// SAFETY: `Code` keeps to the contract for each of its kernels, which are those that the plan names: they have the same
// buffers, tasks and scratch, since they are equal. It is kept alive.
unsafe impl KernelCode for SharedKernels {
    fn entry(&self, kernel: usize) -> KernelFn {
        let (code, number) = &self.0[kernel];
        code.entry(*number)
    }

    /// All that the plan keeps: kernels of other plans too, where they were compiled with its own.
    fn pieces(&self) -> Vec<(usize, usize)> {
        let mut pieces: Vec<_> = self.0.iter().flat_map(|(code, _)| code.pieces()).collect();
        pieces.sort_unstable();
        pieces.dedup();
        pieces
    }
}
