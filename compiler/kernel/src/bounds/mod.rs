//! Bounds: a proof that each access of a kernel lies within its buffers.
//!
//! Extents are constants, so the first and the last byte of each access can be found without running anything. Index
//! expressions become [linear forms](linear) over the variables of loops; a tile has a [footprint], the bytes that it
//! reads and writes relative to its pointers; a call of it is right if the smallest address is not before its buffer,
//! and the largest one not beyond it. Where that cannot be seen for all turns of a loop at once, they are halved, down
//! to single ones. Indices and offsets that are read from constant [tables](table) are looked up there; others may be
//! any number, and are right only where the kernel clamps them.
//!
//! What is not proven is refused: it may be right, but nobody can say so.

mod footprint;
mod linear;
mod program;
mod table;

use crate::nest::{Access, Addr, Base, IndexMem, Ix, Kernel, Rel, Stmt, TASK, Var};
use footprint::{Affine, Footprint, Indirect, Root, Span};
use linear::{Atoms, Deps, LinearForm, MUCH, gcd};
use table::{Entries, Tables};

/// The deepest nesting of loops.
const MAX_DEPTH: u32 = 60;
/// Statements that are looked at before a kernel counts as one that cannot be proven.
const BUDGET: u32 = 500_000;
/// The largest number in an index expression.
const LARGEST: i64 = 1 << 48;

/// An access that may lie outside of its buffer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kernel `{kernel}`: {what}")]
pub struct BoundsError {
    /// The kernel.
    pub kernel: String,
    /// The access, and what is known of it.
    pub what: String,
}

/// Why something is not proven (yet).
struct Miss {
    /// The loops whose turns it depends on.
    deps: Deps,
    what: String,
}

type Result_<T> = Result<T, Miss>;

impl Kernel {
    /// Proves that a verified kernel reads and writes within its buffers and its scratch. `contents` are the bytes of
    /// buffers that are constants, by number: index tables must be among them.
    ///
    /// # Errors
    /// The first access that is not proven.
    pub fn prove(&self, contents: &[Option<&[u8]>]) -> Result<(), BoundsError> {
        if self.tasks == 0 {
            return Ok(());
        }
        let mut proof = Proof {
            kernel: self,
            footprints: self.tiles.iter().map(Footprint::of).collect(),
            atoms: Atoms::default(),
            vars: vec![LinearForm::from(0); self.vars as usize],
            tables: Tables::new(contents),
            depth: 0,
            budget: BUDGET,
        };
        let last = LinearForm::from(i64::try_from(self.tasks - 1).unwrap_or(MUCH));
        let proven = proof.turns(TASK, (&LinearForm::from(0), &last), 1, &self.body);
        proven.map_err(|Miss { what, .. }| BoundsError { kernel: self.name.clone(), what })
    }
}

struct Proof<'a> {
    kernel: &'a Kernel,
    footprints: Vec<Footprint>,
    atoms: Atoms,
    /// The value of each variable that is defined.
    vars: Vec<LinearForm>,
    tables: Tables<'a>,
    depth: u32,
    budget: u32,
}

impl Proof<'_> {
    fn miss<T>(&self, deps: Deps, what: String) -> Result_<T> {
        Err(Miss { deps, what })
    }

    fn body(&mut self, body: &[Stmt]) -> Result_<()> {
        let known = self.atoms.len();
        let proven = body.iter().try_for_each(|stmt| self.stmt(stmt));
        self.atoms.truncate(known);
        proven
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result_<()> {
        if self.budget == 0 {
            return self.miss(0, "it is too large to be proven".to_owned());
        }
        self.budget -= 1;
        match stmt {
            Stmt::For { var, start, end, step, body } => {
                let (start, end) = (self.ix(start)?, self.ix(end)?);
                let last = match end.plus(-1, &start).known() {
                    Some(length) => start.add((length - 1).div_euclid(*step) * step),
                    None => end.add(-1),
                };
                self.turns(*var, (&start, &last), *step, body)
            }
            Stmt::If { a, rel, b, then, otherwise } => {
                let (a, b) = (self.ix(a)?, self.ix(b)?);
                self.branches(&a.plus(-1, &b), *rel, then, otherwise)
            }
            Stmt::Let { var, value } => {
                self.vars[var.0 as usize] = self.ix(value)?;
                Ok(())
            }
            Stmt::LoadIndex { var, mem, at } => {
                self.vars[var.0 as usize] = self.load_index(*mem, at)?;
                Ok(())
            }
            Stmt::Call { tile, ptrs, counts } => self.call(*tile, ptrs, counts),
        }
    }

    /// A loop's body for all turns, from the start to the last.
    fn turns(&mut self, var: Var, (start, last): (&LinearForm, &LinearForm), step: i64, body: &[Stmt]) -> Result_<()> {
        if self.atoms.largest(&last.plus(-1, start)) < 0 {
            return Ok(()); // not one
        }
        if self.depth == MAX_DEPTH {
            return self.miss(0, "its loops are too deep".to_owned());
        }
        let (low, high) = (self.atoms.smallest(start), self.atoms.largest(last));
        self.depth += 1;
        let proven = self.some_turns(var, (start, last), (low, high), step, body);
        self.depth -= 1;
        proven
    }

    /// The turns between two numbers; halves of them, where that is too much at once.
    fn some_turns(
        &mut self,
        var: Var,
        of: (&LinearForm, &LinearForm),
        (low, high): (i64, i64),
        step: i64,
        body: &[Stmt],
    ) -> Result_<()> {
        let known = self.atoms.len();
        let depth = self.depth - 1;
        let bounds = (of.0.clone(), of.1.clone());
        let whole = self.atoms.smallest(of.0) == low && self.atoms.largest(of.1) == high;
        self.vars[var.0 as usize] = match low == high {
            true => LinearForm::from(low),
            false => self.atoms.var(bounds, (low, high), !whole, depth),
        };
        let proven = self.body(body);
        self.atoms.truncate(known);
        match proven {
            Err(miss) if miss.deps >> depth & 1 == 1 && low < high => {
                let middle = low + (high - low) / step / 2 * step;
                self.some_turns(var, of, (low, middle), step, body)?;
                // Turns begin at the start only where that is one number.
                let next = if of.0.known().is_some() { middle + step } else { middle + 1 };
                if next > high { Ok(()) } else { self.some_turns(var, of, (next, high), step, body) }
            }
            Err(miss) => {
                Err(Miss { deps: miss.deps & !(1 << depth) | self.atoms.deps(of.0) | self.atoms.deps(of.1), ..miss })
            }
            Ok(()) => Ok(()),
        }
    }

    /// Both branches, as far as they can be taken, with what is known in each of a difference that is compared with
    /// zero.
    fn branches(&mut self, difference: &LinearForm, rel: Rel, then: &[Stmt], otherwise: &[Stmt]) -> Result_<()> {
        let (low, high) = (self.atoms.smallest(difference), self.atoms.largest(difference));
        let (least, most) = (-MUCH, MUCH);
        let (holds, fails): ((i64, i64), &[(i64, i64)]) = match rel {
            Rel::Eq => ((0, 0), &[(least, -1), (1, most)]),
            Rel::Lt => ((least, -1), &[(0, most)]),
            Rel::Ge => ((0, most), &[(least, -1)]),
        };
        self.branch(difference, (low, high), holds, then)?;
        fails.iter().try_for_each(|&range| self.branch(difference, (low, high), range, otherwise))
    }

    /// A branch that is taken where a form, which `can` be between other numbers, lies between these two.
    fn branch(&mut self, form: &LinearForm, can: (i64, i64), (low, high): (i64, i64), body: &[Stmt]) -> Result_<()> {
        if body.is_empty() || can.1 < low || can.0 > high {
            return Ok(());
        }
        let mut narrowed = vec![];
        if let Some((atom, factor, constant)) = form.single() {
            let bound = |n: i64| if n.abs() >= MUCH { n } else { n - constant };
            let (low, high) = match factor {
                1 => (bound(low), bound(high)),
                -1 => (-bound(high), -bound(low)),
                _ => (-MUCH, MUCH),
            };
            narrowed.push(self.atoms.narrow(atom, low, high));
            // What is divided is at least as large as the remainder.
            if let Some((divided, _)) = self.atoms.rest_of(atom) {
                narrowed.push(self.atoms.narrow(divided, low, MUCH));
            }
        }
        let proven = self.body(body);
        narrowed.into_iter().rev().for_each(|before| self.atoms.restore(before));
        proven.map_err(|miss| Miss { deps: miss.deps | self.atoms.deps(form), ..miss })
    }

    fn ix(&mut self, ix: &Ix) -> Result_<LinearForm> {
        let form = match ix {
            Ix::Const(c) => LinearForm::from(*c),
            Ix::Var(var) => self.vars[var.0 as usize].clone(),
            Ix::Add(a, b) => self.ix(a)?.plus(1, &self.ix(b)?),
            Ix::Sub(a, b) => self.ix(a)?.plus(-1, &self.ix(b)?),
            Ix::Mul(a, c) => self.ix(a)?.times(*c),
            Ix::Div(a, c) | Ix::Rem(a, c) => {
                let a = self.ix(a)?;
                if self.atoms.smallest(&a) < 0 {
                    return self.miss(self.atoms.deps(&a), "what is divided may be negative".to_owned());
                }
                if matches!(ix, Ix::Div(..)) { self.atoms.div(&a, *c) } else { self.atoms.rem(&a, *c) }
            }
            Ix::Min(a, b) => {
                let (a, b) = (self.ix(a)?, self.ix(b)?);
                self.atoms.min(a, b)
            }
            Ix::Max(a, b) => {
                let (a, b) = (self.ix(a)?, self.ix(b)?);
                self.atoms.max(a, b)
            }
        };
        if form.is_within(LARGEST) { Ok(form) } else { self.miss(0, "an index is too large".to_owned()) }
    }

    /// The buffer's name and size; the scratch has none.
    fn room(&self, base: Base) -> (&str, usize) {
        match base {
            Base::Scratch => ("scratch", self.kernel.scratch_bytes),
            Base::Buf(b) => {
                let buf = &self.kernel.bufs[b as usize];
                (&buf.name, buf.bytes)
            }
        }
    }

    /// That bytes from a first one to before a last one lie in a buffer.
    fn within(&self, base: Base, first: &LinearForm, end: &LinearForm) -> Result_<()> {
        let (low, high) = (self.atoms.smallest(first), self.atoms.largest(end));
        let (name, bytes) = self.room(base);
        if low >= 0 && i64::try_from(bytes).is_ok_and(|bytes| high <= bytes) {
            return Ok(());
        }
        let far = |n: i64| if n.abs() >= MUCH { "anywhere".to_owned() } else { n.to_string() };
        let what = format!("an access from {} to {} of `{name}`, which has {bytes} bytes", far(low), far(high));
        self.miss(self.atoms.deps(first) | self.atoms.deps(end), what)
    }

    fn load_index(&mut self, mem: IndexMem, at: &Addr) -> Result_<LinearForm> {
        let bytes = if mem == IndexMem::I32 { 4 } else { 8 };
        let offset = self.ix(&at.offset)?;
        self.within(at.base, &offset, &offset.add(bytes))?;
        let deps = self.atoms.deps(&offset);
        if let Base::Buf(b) = at.base
            && self.tables.knows(b as usize)
        {
            let entries = self.entries(&offset, &offset, offset.stride(), bytes as usize);
            if let Some(found) = self.tables.offsets(b as usize, entries) {
                return Ok(match found.least == found.most {
                    true => LinearForm::from(found.least),
                    false => self.atoms.number(found.least.max(-MUCH), found.most.min(MUCH), deps),
                });
            }
        }
        let most = if mem == IndexMem::I32 { 1 << 31 } else { MUCH };
        Ok(self.atoms.number(-most, most, 0))
    }

    /// The entries of a table from a first to a last one, which lie at a distance from the first form's constant.
    fn entries(&self, first: &LinearForm, last: &LinearForm, stride: i64, bytes: usize) -> Entries {
        // Bounds are not entries: those within them are.
        let (low, high) = (self.atoms.smallest(first), self.atoms.largest(last));
        let step = stride.max(1);
        let first_entry = low + (first.constant - low).rem_euclid(step);
        Entries { first: first_entry, last: high - (high - first.constant).rem_euclid(step), stride, bytes }
    }

    fn call(&mut self, tile: usize, ptrs: &[Addr], counts: &[Ix]) -> Result_<()> {
        let counts = counts.iter().map(|count| self.ix(count)).collect::<Result_<Vec<_>>>()?;
        for count in &counts {
            if self.atoms.smallest(count) < 0 {
                return self.miss(self.atoms.deps(count), "a number of turns may be negative".to_owned());
            }
        }
        let ptrs = ptrs.iter().map(|at| Ok((at.base, self.ix(&at.offset)?))).collect::<Result_<Vec<_>>>()?;
        let footprint = std::mem::take(&mut self.footprints[tile]);
        let call = Call { ptrs: &ptrs, counts: &counts };
        let proven = self.accesses(&footprint, &call);
        self.footprints[tile] = footprint;
        proven
            .map_err(|miss| Miss { what: format!("{} in tile `{}`", miss.what, self.kernel.tiles[tile].name), ..miss })
    }

    fn accesses(&mut self, footprint: &Footprint, call: &Call) -> Result_<()> {
        for access in &footprint.accesses {
            let happens =
                |(i, count): (usize, &LinearForm)| access.within >> i.min(63) & 1 == 0 || self.atoms.largest(count) > 0;
            if !call.counts.iter().enumerate().all(happens) {
                continue;
            }
            let bytes = (&access.first, &access.end);
            match access.root {
                Root::Param(p) => self.access(&call.ptrs[p], bytes, call, access.written)?,
                Root::Read(r) => {
                    for from in self.pointers(&footprint.reads[r], call)? {
                        self.access(&from, bytes, call, access.written)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn access(&self, at: &Place, (first, end): (&Affine, &Affine), call: &Call, written: bool) -> Result_<()> {
        let (base, offset) = at;
        if let (Base::Buf(b), true) = (base, written)
            && self.kernel.bufs[*b as usize].access == Access::Read
        {
            return self.miss(0, format!("`{}`, which is only read, is written", self.kernel.bufs[*b as usize].name));
        }
        self.within(*base, &offset.plus(1, &call.value(first)?), &offset.plus(1, &call.value(end)?))
    }

    /// Where pointers that are read from a table may point: between the least and the largest offset, at both of which
    /// an access is looked at.
    fn pointers(&mut self, read: &Indirect, call: &Call) -> Result_<Vec<Place>> {
        let (Base::Buf(b), first, last) = call.span(&read.table)? else {
            return self.miss(0, "a pointer is read from scratch".to_owned());
        };
        let stride = gcd(read.table.stride, gcd(first.stride(), last.stride()));
        let entries = self.entries(&first, &last, stride, 4);
        let deps = self.atoms.deps(&first) | self.atoms.deps(&last);
        let Some(offsets) = self.tables.offsets(b as usize, entries) else {
            return self.miss(deps, "a pointer is read from what is no constant table".to_owned());
        };
        let (base, base_first, base_last) = call.span(&read.base)?;
        let mut places = vec![];
        let least = if read.other.is_some() { offsets.least_natural } else { offsets.least };
        if least <= offsets.most {
            for (offset, from) in [(least, &base_first), (offsets.most, &base_last)] {
                // What an offset depends on shows in the atoms of the pointer only if it is one.
                let number = self.atoms.number(offset, offset, deps);
                places.push((base, from.plus(1, &number)));
            }
        }
        if let (Some(other), true) = (&read.other, offsets.least < 0) {
            let (base, first, last) = call.span(other)?;
            places.extend([(base, first), (base, last)]);
        }
        Ok(places)
    }
}

/// A buffer and an offset.
type Place = (Base, LinearForm);

/// The arguments of a call.
struct Call<'a> {
    ptrs: &'a [Place],
    counts: &'a [LinearForm],
}

impl Call<'_> {
    fn value(&self, affine: &Affine) -> Result_<LinearForm> {
        let small = |n: i128| {
            let n = i64::try_from(n).ok().filter(|n| (-LARGEST..=LARGEST).contains(n));
            n.ok_or_else(|| Miss { deps: 0, what: "a distance is too large".to_owned() })
        };
        let mut sum = LinearForm::from(small(affine.constant)?);
        for (&factor, count) in affine.counts.iter().zip(self.counts) {
            sum = sum.plus(small(factor)?, count);
        }
        Ok(sum)
    }

    /// The buffer of a pointer, and where it is at first and at last.
    fn span(&self, span: &Span) -> Result_<(Base, LinearForm, LinearForm)> {
        let Root::Param(p) = span.root else {
            return Err(Miss { deps: 0, what: "a pointer is read by a pointer that is read".to_owned() });
        };
        let (base, offset) = &self.ptrs[p];
        Ok((*base, offset.plus(1, &self.value(&span.first)?), offset.plus(1, &self.value(&span.last)?)))
    }
}
