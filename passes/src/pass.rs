//! What a pass is, and what it works with: options, the count of rewrites, errors.

use std::sync::Arc;

use indexmap::IndexMap;
use optc_ir::{Graph, GraphError, OpError};
use optc_tensor::ConstantFacts;

use crate::InputFault;
use crate::machine::{Machine, Reference};

/// A rewrite of the whole graph.
///
/// To add one to this crate: write its file, implement this trait, and add its line to `Registry::standard`. One of
/// your own needs no line here: [`Registry::with`](crate::Registry::with).
pub trait Pass: Sized {
    /// The name in pipelines: a verb in `kebab-case`.
    const NAME: &'static str;
    /// What it does, in one line, with its options.
    const SUMMARY: &'static str;
    /// What the pass may do to results.
    const NUMERICS: Numerics;

    /// The pass with the options that stand in braces after its name.
    ///
    /// # Errors
    /// An option has a bad value. Those that are left over are refused by the caller.
    fn from_options(options: &mut PassArguments) -> Result<Self, OptionError>;

    /// Rewrites the graph.
    ///
    /// # Errors
    /// An op refuses its operands, or a rule does not settle.
    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError>;
}

/// What a pass may do to the graph's results, from strictest to loosest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Numerics {
    /// Every result keeps its value; only the sign of zero may differ.
    BitExact,
    /// Operations may be done in another order, or with other roundings of their constants.
    Reassociates,
    /// Functions are replaced by others that are within `rtol` of the largest result.
    Approximates {
        /// The largest error, relative to the largest magnitude in the result.
        rtol: f64,
    },
    /// Results change: the pass trades accuracy for size or speed.
    Changes,
}

impl Numerics {
    /// The largest error relative to the largest magnitude in a result.
    pub fn tolerance(self) -> f64 {
        match self {
            Numerics::BitExact => 0.0,
            Numerics::Reassociates => 1e-4,
            Numerics::Approximates { rtol } => rtol.max(1e-4),
            Numerics::Changes => f64::INFINITY,
        }
    }
}

/// `key=value` pairs in the order of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassArguments(pub IndexMap<String, String>);

impl PassArguments {
    /// Takes an option out, parsed; `default` where it is not given.
    ///
    /// # Errors
    /// The value does not parse.
    pub fn take<T: std::str::FromStr>(&mut self, key: &str, default: T) -> Result<T, OptionError> {
        Ok(self.take_given(key)?.unwrap_or(default))
    }

    /// Takes the value of `key`, if it is given.
    ///
    /// # Errors
    /// The value does not parse.
    pub fn take_given<T: std::str::FromStr>(&mut self, key: &str) -> Result<Option<T>, OptionError> {
        let Some(text) = self.0.shift_remove(key) else { return Ok(None) };
        let wrong = |_| OptionError { key: key.to_owned(), reason: format!("`{text}` is not a value for it") };
        text.parse().map(Some).map_err(wrong)
    }
}

/// An option that a pass does not take, or a value that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("option `{key}`: {reason}")]
pub struct OptionError {
    /// The option.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

/// Why a pipeline could not be read or run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PassError {
    /// A pipeline names a pass that does not exist.
    #[error("there is no pass or pipeline `{name}`; `optc passes --list` shows all")]
    UnknownPass {
        /// The name.
        name: String,
    },
    /// A pipeline's text is malformed.
    #[error("pipeline `{text}`: {reason}")]
    Syntax {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An option does not fit a pass.
    #[error("pass `{pass}`: {error}")]
    Option {
        /// The pass.
        pass: String,
        /// What is wrong.
        error: OptionError,
    },
    /// An op of the graph refuses its operands.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The concrete types do not fit the graph's inputs.
    #[error("input `{input}`: {fault}")]
    Input {
        /// The input's name.
        input: String,
        /// What does not fit.
        fault: InputFault,
    },
    /// A rule made an op that refuses its operands: a bug in the rule.
    #[error("rule `{rule}` made an op that is not valid: {error}")]
    Rule {
        /// The rule.
        rule: &'static str,
        /// Why the op is refused.
        error: OpError,
    },
    /// Constants or samples that a pass cannot work with.
    #[error("{reason}")]
    Data {
        /// What is wrong, and where.
        reason: String,
    },
    /// A graph cannot be pruned as asked.
    #[error(transparent)]
    Prune(#[from] crate::PruneError),
    /// Rules undo each other: a bug in one of them.
    #[error("rule `{rule}` does not settle after {rewrites} rewrites")]
    DoesNotSettle {
        /// The rule that fired last.
        rule: &'static str,
        /// How many rewrites were made.
        rewrites: usize,
    },
    /// The graph does not verify after a pass, or gives other results: a bug in that pass.
    #[error("pass `{pass}` broke the graph: {}", .failures.join("; "))]
    Broken {
        /// The pass.
        pass: String,
        /// What is wrong.
        failures: Vec<String>,
        /// The graph before the pass, with a `// passes:` line.
        reproducer: String,
    },
}

/// What a pass gets besides the graph: it asks for permission before each rewrite, which counts it.
#[derive(Debug, Default)]
pub struct PassCx {
    stats: IndexMap<&'static str, usize>,
    left: Option<usize>,
    machine: Option<Arc<dyn Machine>>,
    facts: ConstantFacts,
}

impl PassCx {
    /// A context in which at most `limit` rewrites are made.
    pub fn with_limit(limit: Option<usize>) -> PassCx {
        PassCx { left: limit, ..PassCx::default() }
    }

    /// The same context with a machine to ask.
    pub fn with_machine(self, machine: Option<Arc<dyn Machine>>) -> PassCx {
        PassCx { machine, ..self }
    }

    /// The same context, with what is known of constants.
    pub fn with_facts(self, facts: ConstantFacts) -> PassCx {
        PassCx { facts, ..self }
    }

    /// What is known of constants.
    pub fn facts(&self) -> &ConstantFacts {
        &self.facts
    }

    /// The machine that decides between forms.
    pub fn machine(&self) -> &dyn Machine {
        self.machine.as_deref().unwrap_or(&Reference)
    }

    /// Whether one more rewrite by `rule` may be made; counts it. A pass that hears no leaves the place as it is.
    pub fn permit(&mut self, rule: &'static str) -> bool {
        match &mut self.left {
            Some(0) => return false,
            Some(left) => *left -= 1,
            None => {}
        }
        *self.stats.entry(rule).or_default() += 1;
        true
    }

    /// The rewrites by rule since the last call.
    pub fn take_stats(&mut self) -> IndexMap<&'static str, usize> {
        std::mem::take(&mut self.stats)
    }
}
