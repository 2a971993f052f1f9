//! Linear forms over index variables, and the largest value that one can have.
//!
//! A form is a constant and multiples of *atoms*: variables of loops, and results of operations that are not linear. An
//! atom is bounded by numbers, and where possible by forms over atoms that are older: the last turn of a loop may
//! depend on the loops around it, `min(a, b)` is at most `a`. The largest value of a form is found by replacing its
//! newest atom by such a bound, again and again: so `i + min(8, n - i)` is at most `n`, whatever `i` is.

use smallvec::SmallVec;

/// As much as or more than this is not bounded.
pub(super) const MUCH: i64 = i64::MAX / 4;
/// Forms with larger numbers than this are not followed: products of two of them would not be exact.
const EXACT: i64 = 1 << 55;
/// Replacements in the search for one value; beyond them atoms stand for their numbers.
const FUEL: u32 = 2_000;

/// The number of an atom; later ones are newer.
pub(super) type Atom = usize;

/// The variables that a form depends on, by the depth of their loops.
pub(super) type Deps = u128;

/// A linear form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinearForm {
    pub constant: i64,
    /// By atom, with factors that are not zero.
    terms: SmallVec<[(Atom, i64); 4]>,
}

impl From<i64> for LinearForm {
    fn from(constant: i64) -> LinearForm {
        LinearForm { constant, terms: SmallVec::new() }
    }
}

impl LinearForm {
    pub fn of(atom: Atom) -> LinearForm {
        LinearForm { constant: 0, terms: SmallVec::from_slice(&[(atom, 1)]) }
    }

    /// `self + factor * other`.
    pub fn plus(&self, factor: i64, other: &LinearForm) -> LinearForm {
        let mut terms = SmallVec::with_capacity(self.terms.len() + other.terms.len());
        let (mut a, mut b) = (self.terms.iter().peekable(), other.terms.iter().peekable());
        loop {
            let (atom, sum) = match (a.peek(), b.peek()) {
                (None, None) => break,
                (Some(&&(x, n)), Some(&&(y, m))) if x == y => {
                    a.next();
                    b.next();
                    (x, clamped(n).saturating_add(clamped(m).saturating_mul(factor)))
                }
                (Some(&&(x, n)), other) if other.is_none_or(|&&(y, _)| x < y) => {
                    a.next();
                    (x, n)
                }
                (_, Some(&&(y, m))) => {
                    b.next();
                    (y, m.saturating_mul(factor))
                }
                (Some(_), None) => break,
            };
            if sum != 0 {
                terms.push((atom, sum));
            }
        }
        LinearForm { constant: add(self.constant, times(other.constant, factor)), terms }
    }

    pub fn add(&self, constant: i64) -> LinearForm {
        LinearForm { constant: add(self.constant, constant), terms: self.terms.clone() }
    }

    pub fn times(&self, factor: i64) -> LinearForm {
        LinearForm::from(0).plus(factor, self)
    }

    /// Its value, if it is known.
    pub fn known(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }

    /// The atom that it is, without a factor, and what is added to it.
    pub fn single(&self) -> Option<(Atom, i64, i64)> {
        if let [(atom, factor)] = self.terms[..] { Some((atom, factor, self.constant)) } else { None }
    }

    /// Whether its numbers are not larger than this.
    pub fn is_within(&self, largest: i64) -> bool {
        let small = |n: i64| (-largest..=largest).contains(&n);
        small(self.constant) && self.terms.iter().all(|&(_, n)| small(n))
    }

    /// The greatest common divisor of all factors; 0 for a constant.
    pub fn stride(&self) -> i64 {
        self.terms.iter().fold(0, |g, &(_, n)| gcd(g, n))
    }

    /// Quotient and remainder by terms: `self = k * quotient + rest`, where each factor of `rest` is smaller than `k`.
    fn split(&self, k: i64) -> (LinearForm, LinearForm) {
        let (mut quotient, mut rest) =
            (LinearForm::from(self.constant.div_euclid(k)), LinearForm::from(self.constant.rem_euclid(k)));
        for &(atom, n) in &self.terms {
            match n % k {
                0 => quotient.terms.push((atom, n / k)),
                _ => rest.terms.push((atom, n)),
            }
        }
        (quotient, rest)
    }
}

pub(super) fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.saturating_abs(), b.saturating_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn clamped(n: i64) -> i64 {
    n.clamp(-MUCH, MUCH)
}

/// The sum; where one summand is not bounded, neither is the sum.
fn add(a: i64, b: i64) -> i64 {
    if a.abs() >= MUCH {
        a
    } else if b.abs() >= MUCH {
        b
    } else {
        clamped(a + b)
    }
}

fn times(a: i64, b: i64) -> i64 {
    clamped(a.saturating_mul(b))
}

/// A number that is not below the sum of two such numbers: what is not bounded, on whichever side, bounds nothing.
fn upper(a: i64, b: i64) -> i64 {
    if a.abs() >= MUCH || b.abs() >= MUCH { MUCH } else { clamped(a + b) }
}

/// `n / k`, where what is not bounded stays so.
fn part(n: i64, k: i64) -> i64 {
    if n.abs() >= MUCH { n } else { n / k }
}

/// What an atom is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// A variable between two forms.
    Var(LinearForm, LinearForm),
    /// Something of which nothing but numbers is known.
    Number,
    Min(LinearForm, LinearForm),
    Div(LinearForm, i64),
    Rem(LinearForm, i64),
}

#[derive(Clone, Debug)]
struct Info {
    node: Node,
    low: i64,
    high: i64,
    /// Whether the numbers say more than the node.
    narrowed: bool,
    deps: Deps,
}

/// The atoms that are known in a place of a kernel.
#[derive(Default)]
pub(super) struct Atoms {
    list: Vec<Info>,
}

impl Atoms {
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Forgets atoms.
    pub fn truncate(&mut self, len: usize) {
        self.list.truncate(len);
    }

    /// A variable between two forms and between two numbers, of a loop of this depth.
    pub fn var(
        &mut self,
        (start, last): (LinearForm, LinearForm),
        (low, high): (i64, i64),
        narrowed: bool,
        depth: u32,
    ) -> LinearForm {
        let deps = self.deps(&start) | self.deps(&last) | 1 << depth.min(Deps::BITS - 1);
        self.push(Node::Var(start, last), low, high, narrowed, deps)
    }

    /// Something between two numbers.
    pub fn number(&mut self, low: i64, high: i64, deps: Deps) -> LinearForm {
        self.push(Node::Number, low, high, true, deps)
    }

    fn push(&mut self, node: Node, low: i64, high: i64, narrowed: bool, deps: Deps) -> LinearForm {
        self.list.push(Info { node, low, high, narrowed, deps });
        LinearForm::of(self.list.len() - 1)
    }

    /// The atom of an operation, the same for the same operands.
    fn operation(&mut self, node: Node, low: i64, high: i64, deps: Deps) -> LinearForm {
        match self.list.iter().rposition(|info| info.node == node) {
            Some(atom) => LinearForm::of(atom),
            None => self.push(node, low, high, false, deps),
        }
    }

    pub fn min(&mut self, a: LinearForm, b: LinearForm) -> LinearForm {
        let difference = a.plus(-1, &b);
        if self.largest(&difference) <= 0 {
            return a;
        }
        if self.smallest(&difference) >= 0 {
            return b;
        }
        let low = self.smallest(&a).min(self.smallest(&b));
        let (high, deps) = (self.largest(&a).min(self.largest(&b)), self.deps(&a) | self.deps(&b));
        self.operation(Node::Min(a, b), low, high, deps)
    }

    /// `max(a, b)` is `-min(-a, -b)`: one kind of atom serves both.
    pub fn max(&mut self, a: LinearForm, b: LinearForm) -> LinearForm {
        self.min(a.times(-1), b.times(-1)).times(-1)
    }

    /// `a / k` for a form that is not negative, and a positive `k`.
    pub fn div(&mut self, a: &LinearForm, k: i64) -> LinearForm {
        let (quotient, rest) = a.split(k);
        if self.smallest(&rest) < 0 {
            let (low, high) = (part(self.smallest(a), k), part(self.largest(a), k));
            return self.operation(Node::Div(a.clone(), k), low, high, self.deps(a));
        }
        let (low, high) = (part(self.smallest(&rest), k), part(self.largest(&rest), k));
        match low == high {
            true => quotient.add(low),
            false => quotient.plus(1, &self.operation(Node::Div(rest.clone(), k), low, high, self.deps(&rest))),
        }
    }

    /// `a % k` for a form that is not negative, and a positive `k`.
    pub fn rem(&mut self, a: &LinearForm, k: i64) -> LinearForm {
        let (_, rest) = a.split(k);
        let (low, high) = (self.smallest(&rest), self.largest(&rest));
        if low >= 0 && low / k == high / k {
            return rest.add(-(low / k * k));
        }
        let a = if low < 0 { a.clone() } else { rest };
        let (high, deps) = ((k - 1).min(self.largest(&a)), self.deps(&a));
        self.operation(Node::Rem(a, k), 0, high, deps)
    }

    /// Lets an atom be between two numbers; gives what it was between, for [`Atoms::restore`].
    pub fn narrow(&mut self, atom: Atom, low: i64, high: i64) -> (Atom, i64, i64, bool) {
        let info = &mut self.list[atom];
        let before = (atom, info.low, info.high, info.narrowed);
        (info.low, info.high, info.narrowed) = (info.low.max(low), info.high.min(high), true);
        before
    }

    pub fn restore(&mut self, (atom, low, high, narrowed): (Atom, i64, i64, bool)) {
        let info = &mut self.list[atom];
        (info.low, info.high, info.narrowed) = (low, high, narrowed);
    }

    /// An atom that is a remainder: what is divided, if it is itself an atom, and by how much.
    pub fn rest_of(&self, atom: Atom) -> Option<(Atom, i64)> {
        match &self.list[atom].node {
            Node::Rem(a, k) => {
                a.single().filter(|&(_, factor, constant)| (factor, constant) == (1, 0)).map(|(a, ..)| (a, *k))
            }
            _ => None,
        }
    }

    /// What a form depends on.
    pub fn deps(&self, form: &LinearForm) -> Deps {
        form.terms.iter().fold(0, |deps, &(atom, _)| deps | self.list[atom].deps)
    }

    /// A number that the form is not above.
    pub fn largest(&self, form: &LinearForm) -> i64 {
        let mut fuel = FUEL;
        self.bound(form, &mut fuel)
    }

    /// A number that the form is not below.
    pub fn smallest(&self, form: &LinearForm) -> i64 {
        -self.largest(&form.times(-1))
    }

    fn bound(&self, form: &LinearForm, fuel: &mut u32) -> i64 {
        let Some((&(atom, n), _)) = form.terms.split_last() else { return upper(form.constant, 0) };
        let info = &self.list[atom];
        let mut rest = form.clone();
        rest.terms.pop();
        let number = times(if n > 0 { info.high } else { info.low }, n);
        if *fuel == 0 {
            return upper(self.bound(&rest, fuel), number);
        }
        *fuel -= 1;
        let with = |fuel: &mut u32, form: &LinearForm, by: i64| {
            let sum = rest.plus(by, form);
            if sum.is_within(EXACT) { self.bound(&sum, fuel) } else { MUCH }
        };
        let best = match &info.node {
            Node::Number => MUCH,
            Node::Var(start, last) => {
                let bound = if n > 0 { last } else { start };
                if bound.known().is_some() { MUCH } else { with(fuel, bound, n) }
            }
            Node::Min(a, b) if n > 0 => with(fuel, a, n).min(with(fuel, b, n)),
            Node::Min(a, b) => with(fuel, a, n).max(with(fuel, b, n)),
            // k * (a / k) is at most a, and at least a - (k - 1).
            Node::Div(a, k) if n % k == 0 && n > 0 => with(fuel, a, n / k),
            Node::Div(a, k) if n % k == 0 => upper(with(fuel, a, n / k), times(k - 1, -n / k)),
            Node::Div(..) => MUCH,
            // a % k is at most a.
            Node::Rem(a, _) if n > 0 => with(fuel, a, n),
            Node::Rem(..) => MUCH,
        };
        // The number bounds the atom, so that only the rest is left: a second search, where it may find something.
        if best >= MUCH || info.narrowed || matches!(info.node, Node::Div(..) | Node::Rem(..)) {
            return best.min(upper(self.bound(&rest, fuel), number));
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `for i in 0..=last step 1` at depth 0.
    fn var(atoms: &mut Atoms, (start, last): (LinearForm, LinearForm), depth: u32) -> LinearForm {
        let range = (atoms.smallest(&start), atoms.largest(&last));
        atoms.var((start, last), range, false, depth)
    }

    #[test]
    fn a_tail_ends_where_the_whole_ends() {
        let mut atoms = Atoms::default();
        let i = var(&mut atoms, (0.into(), 99.into()), 0);
        let rows = atoms.min(8.into(), i.times(-1).add(100));
        assert_eq!(atoms.largest(&i.plus(1, &rows)), 100);
        assert_eq!((atoms.smallest(&rows), atoms.largest(&rows)), (1, 8));
    }

    #[test]
    fn a_loop_that_begins_at_another_is_near_it() {
        let mut atoms = Atoms::default();
        let i = var(&mut atoms, (0.into(), 99.into()), 0);
        let end = atoms.min(i.add(8), 100.into());
        let j = var(&mut atoms, (i.clone(), end.add(-1)), 1);
        let between = j.plus(-1, &i);
        assert_eq!((atoms.smallest(&between), atoms.largest(&between), atoms.largest(&j)), (0, 7, 99));
        assert_eq!(atoms.deps(&j), 0b11);
    }

    #[test]
    fn quotients_and_rests_share_what_they_divide() {
        let mut atoms = Atoms::default();
        let task = var(&mut atoms, (0.into(), 59.into()), 0);
        let (row, column) = (atoms.div(&task, 12), atoms.rem(&task, 12));
        assert_eq!((atoms.largest(&row), atoms.largest(&column)), (4, 11));
        assert_eq!(atoms.largest(&row.times(12).plus(1, &column)), 59);
        // Multiples of the divisor are quotients on their own.
        assert_eq!(atoms.div(&task.times(24).add(5), 12), task.times(2));
        assert_eq!(atoms.rem(&task.times(24).add(5), 12).known(), Some(5));
    }

    #[test]
    fn what_is_unknown_is_bounded_by_a_clamp() {
        let mut atoms = Atoms::default();
        let index = atoms.number(-MUCH, MUCH, 0);
        let clamped = atoms.max(index.add(7), 0.into());
        let clamped = atoms.min(clamped, 9.into());
        assert_eq!((atoms.smallest(&clamped), atoms.largest(&clamped)), (0, 9));
        assert!(atoms.largest(&index.times(3)) >= MUCH);
    }
}
