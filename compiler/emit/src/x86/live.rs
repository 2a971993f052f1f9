//! What the allocator must know before it starts: where each register and pointer is used, in a numbering of the
//! instructions in program order, and which loads are operands of the one instruction that uses them.
//!
//! A value that is defined outside of a loop and used in it is used at the loop's end as well: the next turn needs it.
//! The same numbering is made again by the emitter as it walks along.

use super::rules::{grows_from, takes_memory};
use optc_kernel::tile::{Count, Inst, Load, MemType, Ptr, Reg, Tile, TileLoop};
use optc_types::Features;
use std::collections::HashMap;

/// A load that its only user performs itself: where the memory is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folded {
    pub ptr: Ptr,
    pub disp: i64,
}

/// The values of the bank of general registers, in this order: pointers, count parameters, counters of loops.
pub(super) struct Live {
    /// Positions of the uses of each vector register, rising.
    pub regs: Vec<Vec<u32>>,
    /// The same for pointers, count parameters and counters.
    pub general: Vec<Vec<u32>>,
    /// Where the loops end, in the order in which they begin.
    pub ends: Vec<u32>,
    /// Loads that are memory operands.
    pub folded: HashMap<Reg, Folded>,
    /// For each register, the carried one that it should share a machine register with.
    pub wants: Vec<Option<Reg>>,
    /// Pointers that are a constant away from another one.
    pub offsets: HashMap<Ptr, (Ptr, i64)>,
    /// How many pointers there are.
    ptrs: usize,
    counts: usize,
}

impl Live {
    pub fn of(tile: &Tile) -> Live {
        let mut walk = Walk {
            live: Live {
                regs: Vec::new(),
                general: Vec::new(),
                ends: Vec::new(),
                folded: HashMap::new(),
                wants: Vec::new(),
                offsets: HashMap::new(),
                ptrs: 0,
                counts: tile.counts,
            },
            at: 0,
            loops: Vec::new(),
            reg_depth: HashMap::new(),
            ptr_depth: (0..tile.ptrs).map(|p| (Ptr(p as u32), 0)).collect(),
            uses: Vec::new(),
            lanes: tile.lanes,
            features: tile.features,
        };
        let sizes = sizes(&tile.body);
        walk.live.ptrs = sizes.ptrs.max(tile.ptrs);
        walk.live.regs = vec![Vec::new(); sizes.regs];
        walk.live.wants = vec![None; sizes.regs];
        walk.live.general = vec![Vec::new(); walk.live.ptrs + tile.counts + sizes.loops];
        walk.uses = vec![0; sizes.regs];
        count_uses(&tile.body, &mut walk.uses);
        walk.body(&tile.body);
        for uses in walk.live.regs.iter_mut().chain(&mut walk.live.general) {
            uses.sort_unstable();
            uses.dedup();
        }
        walk.live
    }

    pub fn ptr(&self, ptr: Ptr) -> usize {
        ptr.0 as usize
    }

    pub fn count(&self, count: u32) -> usize {
        self.ptrs + count as usize
    }

    /// The counter of a loop.
    pub fn counter(&self, number: usize) -> usize {
        self.ptrs + self.counts + number
    }

    /// The pointer and displacement that `ptr + disp` comes down to.
    pub fn resolve(&self, ptr: Ptr, disp: i64) -> (Ptr, i64) {
        self.offsets.get(&ptr).map_or((ptr, disp), |&(root, more)| (root, disp + more))
    }
}

/// How many of each there are.
#[derive(Default)]
struct Sizes {
    regs: usize,
    ptrs: usize,
    loops: usize,
}

fn sizes(body: &[Inst]) -> Sizes {
    let mut s = Sizes::default();
    for inst in body {
        let reg = |s: &mut Sizes, r: Reg| s.regs = s.regs.max(r.0 as usize + 1);
        let ptr = |s: &mut Sizes, p: Ptr| s.ptrs = s.ptrs.max(p.0 as usize + 1);
        inst.defines().into_iter().for_each(|dst| reg(&mut s, dst));
        inst.defines_ptr().into_iter().for_each(|dst| ptr(&mut s, dst));
        if let Inst::Loop(l) = inst {
            l.carries.iter().for_each(|c| reg(&mut s, c.phi));
            l.inducts.iter().for_each(|i| ptr(&mut s, i.ptr));
            let inner = sizes(&l.body);
            s.regs = s.regs.max(inner.regs);
            s.ptrs = s.ptrs.max(inner.ptrs);
            s.loops += inner.loops + 1;
        }
    }
    s
}

fn count_uses(body: &[Inst], uses: &mut [usize]) {
    for inst in body {
        inst.uses().into_iter().for_each(|r| uses[r.0 as usize] += 1);
        if let Inst::Loop(l) = inst {
            l.carries.iter().for_each(|c| {
                uses[c.init.0 as usize] += 1;
                uses[c.next.0 as usize] += 1;
            });
            count_uses(&l.body, uses);
        }
    }
}

struct Walk {
    live: Live,
    at: u32,
    /// Numbers of the loops around the place.
    loops: Vec<usize>,
    /// Around how many loops each is defined.
    reg_depth: HashMap<Reg, usize>,
    ptr_depth: HashMap<Ptr, usize>,
    /// How often each register is used.
    uses: Vec<usize>,
    lanes: usize,
    features: Features,
}

impl Walk {
    fn use_reg(&mut self, reg: Reg) {
        if let Some(folded) = self.live.folded.get(&reg).copied() {
            return self.use_ptr(folded.ptr);
        }
        self.live.regs[reg.0 as usize].push(self.at);
        let depth = self.reg_depth.get(&reg).copied().unwrap_or(0);
        for outside in depth..self.loops.len() {
            let end = self.live.ends[self.loops[outside]];
            self.live.regs[reg.0 as usize].push(end);
        }
    }

    fn use_ptr(&mut self, ptr: Ptr) {
        let (ptr, _) = self.live.resolve(ptr, 0);
        let depth = self.ptr_depth.get(&ptr).copied().unwrap_or(0);
        let value = self.live.ptr(ptr);
        self.use_general(value, depth);
    }

    fn use_general(&mut self, value: usize, depth: usize) {
        self.live.general[value].push(self.at);
        for outside in depth..self.loops.len() {
            let end = self.live.ends[self.loops[outside]];
            self.live.general[value].push(end);
        }
    }

    fn body(&mut self, body: &[Inst]) {
        self.fold(body);
        for inst in body {
            self.at += 1;
            inst.uses().into_iter().for_each(|r| self.use_reg(r));
            if let Some(dst) = inst.defines() {
                self.reg_depth.insert(dst, self.loops.len());
            }
            match inst {
                Inst::Load { dst, .. } if self.live.folded.contains_key(dst) => {}
                Inst::Offset { dst, ptr, disp } => {
                    let root = self.live.resolve(*ptr, *disp);
                    self.live.offsets.insert(*dst, root);
                }
                Inst::Loop(l) => self.turns(l),
                _ => {
                    inst.uses_ptrs().into_iter().for_each(|p| self.use_ptr(p));
                    if let Some(dst) = inst.defines_ptr() {
                        self.ptr_depth.insert(dst, self.loops.len());
                    }
                }
            }
        }
        self.want(body);
    }

    fn turns(&mut self, l: &TileLoop) {
        let number = self.live.ends.len();
        l.carries.iter().for_each(|c| self.use_reg(c.init));
        l.inducts.iter().for_each(|i| self.use_ptr(i.init));
        if let Count::Param(c) = l.count {
            let value = self.live.count(c);
            self.use_general(value, 0);
        }
        // The end is numbered when the body is known: as many positions as it takes.
        let end = self.at + positions(&l.body) + 1;
        self.live.ends.push(end);
        self.loops.push(number);
        let depth = self.loops.len();
        l.carries.iter().for_each(|c| {
            self.reg_depth.insert(c.phi, depth);
            self.live.wants[c.next.0 as usize] = Some(c.phi);
            self.live.wants[c.init.0 as usize] = Some(c.phi);
        });
        for i in &l.inducts {
            self.ptr_depth.insert(i.ptr, depth);
        }
        self.body(&l.body);
        self.at = end;
        l.carries.iter().for_each(|c| self.use_reg(c.next));
        l.inducts.iter().for_each(|i| self.live.general[i.ptr.0 as usize].push(end));
        let counter = self.live.counter(number);
        self.live.general[counter].push(end);
        self.loops.pop();
        l.carries.iter().for_each(|c| {
            self.reg_depth.insert(c.phi, depth - 1);
        });
        l.inducts.iter().for_each(|i| {
            self.ptr_depth.insert(i.ptr, depth - 1);
        });
    }

    /// What becomes a carried register at the end is best kept in its place all along.
    fn want(&mut self, body: &[Inst]) {
        for inst in body.iter().rev() {
            if let Some((d, x)) = inst.defines().zip(grows_from(inst))
                && let Some(phi) = self.live.wants[d.0 as usize]
                && phi != x
            {
                self.live.wants[x.0 as usize].get_or_insert(phi);
            }
        }
    }

    /// Finds full loads whose only user comes before the next store or loop, and can take them from memory.
    fn fold(&mut self, body: &[Inst]) {
        let mut open: HashMap<Reg, Folded> = HashMap::new();
        for inst in body {
            match inst {
                Inst::Load { dst, mem: MemType::F32 | MemType::I32, ptr, disp, load: Load::Contiguous(n) } => {
                    let full = *n as usize == self.lanes;
                    if full && self.uses[dst.0 as usize] == 1 && i32::try_from(*disp).is_ok() {
                        open.insert(*dst, Folded { ptr: *ptr, disp: *disp });
                    }
                }
                Inst::Store { .. } | Inst::MatStore { .. } | Inst::Loop(_) => open.clear(),
                _ => {
                    let mut one = false;
                    for r in inst.uses() {
                        if let Some(folded) = open.remove(&r)
                            && !one
                            && takes_memory(inst, r, self.features)
                        {
                            one = true;
                            self.live.folded.insert(r, folded);
                        }
                    }
                }
            }
        }
    }
}

/// How many positions a body takes.
pub(super) fn positions(body: &[Inst]) -> u32 {
    body.iter()
        .map(|inst| match inst {
            Inst::Loop(l) => positions(&l.body) + 2,
            _ => 1,
        })
        .sum()
}
