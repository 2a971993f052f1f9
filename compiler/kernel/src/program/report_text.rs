//! Lines that tell what became of a node, as text and back.

use std::fmt::{self, Debug, Display};

use optc_types::{Numbers, Product, Reason, ReasonCode};

use super::parse::{Parser, Result_};
use super::{Choice, Decision, Filtered, NodeReport};

/// What is multiplied, in words.
const NUMBERS: [(Numbers, &str); 3] = [(Numbers::Floats, "f32"), (Numbers::Bytes, "i8"), (Numbers::Halves, "bf16")];

/// The line of a node.
pub(super) struct Line<'a>(pub &'a NodeReport);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.0;
        let results: Vec<_> = node.results.iter().map(ToString::to_string).collect();
        write!(f, "node {} : ({}) ", list(&node.ops), results.join(", "))?;
        match &node.decision {
            Decision::View => write!(f, "view")?,
            Decision::Kernel { names } => write!(f, "kernels {}", list(names))?,
            Decision::Host { reason } => write!(f, "host {} {:?}", reason.code, reason.sentence)?,
        }
        if let Some(Choice { zeros, block: (r, c), sparse, dense_ns, sparse_ns }) = node.choice {
            let form = if sparse { "sparse" } else { "dense" };
            write!(f, " {form} zeros {zeros} block {r} {c} dense_ns {dense_ns} sparse_ns {sparse_ns}")?;
        }
        if let Some(Filtered { outputs, error, direct_ns, filtered_ns }) = node.filtered {
            write!(f, " filtered {outputs} error {error} direct_ns {direct_ns} filtered_ns {filtered_ns}")?;
        }
        if let Some(p) = &node.product {
            product(p, f)?;
        }
        if let Some(why) = &node.apart {
            write!(f, " apart {why:?}")?;
        }
        if let Some(why) = &node.split {
            write!(f, " split {why:?}")?;
        }
        write!(f, " loc {}", list(&node.loc))
    }
}

fn product(p: &Product, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let numbers = NUMBERS.iter().find(|(numbers, _)| *numbers == p.numbers).map_or("", |(_, word)| word);
    write!(f, " product {numbers} {} {} {} {} of {}", p.batch, p.rows, p.depth, p.cols, p.inputs)?;
    if p.staged_bytes > 0 {
        write!(f, " staged {}", p.staged_bytes)?;
    }
    if p.depthwise {
        write!(f, " depthwise")?;
    }
    p.three_by_three.map_or(Ok(()), |[n, h, w]| write!(f, " image {n} {h} {w}"))
}

/// Items between parentheses.
pub(super) fn list(items: &[impl Debug]) -> String {
    let items: Vec<_> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("({})", items.join(", "))
}

impl Parser<'_> {
    /// What comes after `node`.
    pub(super) fn node(&mut self) -> Result_<NodeReport> {
        let ops = self.list(|p| p.cursor.string())?;
        self.cursor.expect(":")?;
        let results = self.list(|p| p.cursor.ty())?;
        let decision = match self.cursor.word("what became of it")? {
            "view" => Decision::View,
            "kernels" => Decision::Kernel { names: self.list(|p| p.cursor.string())? },
            "host" => Decision::Host { reason: Reason::new(self.code()?, self.cursor.string()?) },
            word => return Err(self.cursor.error(format!("there is no decision `{word}`"))),
        };
        let choice = match () {
            () if self.cursor.eat("sparse") => Some(self.choice(true)?),
            () if self.cursor.eat("dense") => Some(self.choice(false)?),
            () => None,
        };
        let filtered = if self.cursor.eat("filtered") { Some(self.filtered()?) } else { None };
        let product = if self.cursor.eat("product") { Some(self.product()?) } else { None };
        let apart = if self.cursor.eat("apart") { Some(self.cursor.string()?) } else { None };
        let split = if self.cursor.eat("split") { Some(self.cursor.string()?) } else { None };
        self.cursor.expect("loc")?;
        let loc = self.list(|p| p.cursor.string())?;
        Ok(NodeReport { ops, loc, results, decision, choice, filtered, product, apart, split })
    }

    fn code(&mut self) -> Result_<ReasonCode> {
        let word = self.cursor.word("the code of a reason")?;
        let known = ReasonCode::ALL.iter().find(|code| code.as_str() == word);
        known.copied().ok_or_else(|| self.cursor.error(format!("there is no reason `{word}`")))
    }

    fn choice(&mut self, sparse: bool) -> Result_<Choice> {
        let zeros = self.labelled("zeros")?;
        self.cursor.expect("block")?;
        let block = (self.cursor.number()?, self.cursor.number()?);
        let (dense_ns, sparse_ns) = (self.labelled("dense_ns")?, self.labelled("sparse_ns")?);
        Ok(Choice { zeros, block, sparse, dense_ns, sparse_ns })
    }

    fn filtered(&mut self) -> Result_<Filtered> {
        let outputs = self.cursor.number()?;
        let [error, direct_ns, filtered_ns] =
            [self.labelled("error")?, self.labelled("direct_ns")?, self.labelled("filtered_ns")?];
        Ok(Filtered { outputs, error, direct_ns, filtered_ns })
    }

    fn labelled(&mut self, label: &str) -> Result_<f64> {
        self.cursor.expect(label)?;
        self.real()
    }

    fn product(&mut self) -> Result_<Product> {
        let word = self.cursor.word("what is multiplied")?;
        let numbers = NUMBERS.iter().find(|(_, known)| *known == word).map(|(numbers, _)| *numbers);
        let numbers = numbers.ok_or_else(|| self.cursor.error(format!("there is no product of `{word}`")))?;
        let [batch, rows, depth, cols] = self.numbers()?;
        self.cursor.expect("of")?;
        let inputs = self.cursor.number()?;
        let staged_bytes = if self.cursor.eat("staged") { self.cursor.number()? } else { 0 };
        let depthwise = self.cursor.eat("depthwise");
        let three_by_three = if self.cursor.eat("image") { Some(self.numbers()?) } else { None };
        Ok(Product { batch, rows, cols, depth, inputs, staged_bytes, depthwise, three_by_three, numbers })
    }

    fn numbers<const N: usize>(&mut self) -> Result_<[usize; N]> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = self.cursor.number()?;
        }
        Ok(numbers)
    }
}
