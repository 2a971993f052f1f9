//! Kernels inside of kernels: what one stores the next reads while it is near.

use super::{Addr, Base, Ix, Kernel, Stmt, TASK, Var};

impl Kernel {
    /// All tasks of `part`, one after the other, as statements of this kernel; `at[i]` is where its buffer `i` begins.
    /// Its tiles and its scratch become this kernel's.
    pub fn inline(&mut self, part: &Kernel, at: &[Addr]) -> Vec<Stmt> {
        let inlined = Inlined {
            at,
            scratch: self.scratch(part.scratch_bytes) as i64,
            tiles: part.tiles.iter().map(|tile| self.tile(tile.clone())).collect(),
            first_var: self.vars,
        };
        self.vars += part.vars;
        let task = inlined.var(TASK);
        let body = inlined.stmts(&part.body);
        if part.tasks == 1 {
            let mut stmts = vec![Stmt::Let { var: task, value: 0.into() }];
            stmts.extend(body);
            return stmts;
        }
        vec![super::for_loop(task, 0, part.tasks as i64, body)]
    }
}

/// What becomes of the names of a kernel inside of another.
struct Inlined<'a> {
    at: &'a [Addr],
    scratch: i64,
    tiles: Vec<usize>,
    first_var: u32,
}

impl Inlined<'_> {
    fn var(&self, var: Var) -> Var {
        Var(var.0 + self.first_var)
    }

    fn ix(&self, ix: &Ix) -> Ix {
        let both = |of: fn(Box<Ix>, Box<Ix>) -> Ix, a: &Ix, b: &Ix| of(Box::new(self.ix(a)), Box::new(self.ix(b)));
        match ix {
            Ix::Const(value) => Ix::Const(*value),
            Ix::Var(var) => Ix::Var(self.var(*var)),
            Ix::Mul(a, c) => Ix::Mul(Box::new(self.ix(a)), *c),
            Ix::Div(a, c) => Ix::Div(Box::new(self.ix(a)), *c),
            Ix::Rem(a, c) => Ix::Rem(Box::new(self.ix(a)), *c),
            Ix::Add(a, b) => both(Ix::Add, a, b),
            Ix::Sub(a, b) => both(Ix::Sub, a, b),
            Ix::Min(a, b) => both(Ix::Min, a, b),
            Ix::Max(a, b) => both(Ix::Max, a, b),
        }
    }

    fn addr(&self, addr: &Addr) -> Addr {
        let offset = self.ix(&addr.offset);
        match addr.base {
            Base::Scratch => Base::Scratch.at(offset + self.scratch),
            Base::Buf(buf) => {
                let at = &self.at[buf as usize];
                at.base.at(at.offset.clone() + offset)
            }
        }
    }

    fn stmts(&self, stmts: &[Stmt]) -> Vec<Stmt> {
        stmts.iter().map(|stmt| self.stmt(stmt)).collect()
    }

    fn stmt(&self, stmt: &Stmt) -> Stmt {
        match stmt {
            Stmt::For { var, start, end, step, body } => Stmt::For {
                var: self.var(*var),
                start: self.ix(start),
                end: self.ix(end),
                step: *step,
                body: self.stmts(body),
            },
            Stmt::If { a, rel, b, then, otherwise } => Stmt::If {
                a: self.ix(a),
                rel: *rel,
                b: self.ix(b),
                then: self.stmts(then),
                otherwise: self.stmts(otherwise),
            },
            Stmt::Let { var, value } => Stmt::Let { var: self.var(*var), value: self.ix(value) },
            Stmt::LoadIndex { var, mem, at } => Stmt::LoadIndex { var: self.var(*var), mem: *mem, at: self.addr(at) },
            Stmt::Call { tile, ptrs, counts } => Stmt::Call {
                tile: self.tiles[*tile],
                ptrs: ptrs.iter().map(|p| self.addr(p)).collect(),
                counts: counts.iter().map(|c| self.ix(c)).collect(),
            },
        }
    }
}
