//! Calls as filetests spell them: `@f([1, -2], 3) == [1, 0], 2x1[4, 5] ~ 1e-5`, or `@f([3]) fails: MESSAGE (C2)`.

use optc_ir::{Graph, TensorType, Type, Val};
use optc_tensor::{DType, Difference, Tensor, element_count};

use crate::TestFailure;

/// A call and what it must give.
pub struct ExpectedCall {
    /// One value an input.
    pub inputs: Vec<Val>,
    expected: Expected,
}

/// What a call must give.
enum Expected {
    /// One value an output, with its shape where the text names one, and the tolerance, absolute and relative; 0 for
    /// equality.
    Values(Vec<Literal>, f64),
    /// An error that says this.
    Failure(String),
}

/// What stands between a call and the message of its failure.
pub const FAILS: &str = " fails: ";

struct Literal {
    shape: Option<Vec<usize>>,
    values: Vec<f64>,
}

/// The parts of a call: what stands between its parentheses, its results, and its tolerance.
pub(crate) struct Parts<'a> {
    pub arguments: &'a str,
    pub results: &'a str,
    pub tolerance: f64,
}

/// Splits `@NAME(ARGUMENTS) == RESULTS ~ TOLERANCE`, the text after `// run: `.
pub(crate) fn parts<'a>(text: &'a str, expected: &str) -> Result<Parts<'a>, TestFailure> {
    let (text, tolerance) = match text.split_once('~') {
        Some((text, t)) => (text, t.trim().parse().map_err(|_| format!("`{t}` is not a tolerance"))?),
        None => (text, 0.0),
    };
    let (call, results) = text.split_once("==").ok_or("expected `==`")?;
    Ok(Parts { arguments: arguments_of(call, expected)?, results, tolerance })
}

/// What stands between the parentheses of `@NAME(ARGUMENTS)`.
fn arguments_of<'a>(call: &'a str, expected: &str) -> Result<&'a str, TestFailure> {
    let (name, arguments) = call.trim().split_once('(').ok_or("expected `(`")?;
    if name != format!("@{expected}") {
        return Err(format!("`{name}` is called, but it is @{expected}").into());
    }
    Ok(arguments.strip_suffix(')').ok_or("expected `)` at the end of the call")?)
}

/// Parses the text after `// run: `.
///
/// # Errors
/// The text is malformed, or the values do not fit the graph's inputs.
pub fn parse_call(text: &str, graph: &Graph) -> Result<ExpectedCall, TestFailure> {
    let (arguments, expected) = match text.split_once(FAILS) {
        Some((call, message)) => (arguments_of(call, &graph.name)?, Expected::Failure(message.trim().to_owned())),
        None => {
            let Parts { arguments, results, tolerance } = parts(text, &graph.name)?;
            (arguments, Expected::Values(literals(results)?, tolerance))
        }
    };
    let arguments = literals(arguments)?;
    if arguments.len() != graph.inputs().len() {
        return Err(format!("expected {} arguments, found {}", graph.inputs().len(), arguments.len()).into());
    }
    let inputs = graph.inputs().zip(&arguments).map(|(v, l)| value(l, graph.ty(v))).collect::<Result<_, _>>()?;
    Ok(ExpectedCall { inputs, expected })
}

impl ExpectedCall {
    /// Compares what the interpreter gave with what the call must give.
    ///
    /// # Errors
    /// Says the difference.
    pub fn check(&self, outcome: Result<Vec<Val>, TestFailure>) -> Result<(), TestFailure> {
        match (&self.expected, outcome) {
            (Expected::Values(expected, tolerance), results) => compare(&results?, expected, *tolerance),
            (Expected::Failure(message), Err(error)) if error.to_string().contains(message) => Ok(()),
            (Expected::Failure(message), Err(error)) => Err(format!("it says `{error}`, expected `{message}`").into()),
            (Expected::Failure(message), Ok(_)) => Err(format!("it gives a result, expected `{message}`").into()),
        }
    }

    /// Compares what the compiled model gave with what the call must give: a failure, which a kernel may say in its own
    /// words, with the same constraint.
    ///
    /// # Errors
    /// Says the difference.
    pub fn check_compiled(&self, outcome: Result<Vec<Val>, TestFailure>) -> Result<(), TestFailure> {
        let constraint = |message: &str| message.rfind('(').map(|at| message[at..].to_owned());
        match (&self.expected, &outcome) {
            (Expected::Failure(message), Err(error))
                if constraint(message).is_some_and(|c| error.to_string().contains(&c)) =>
            {
                Ok(())
            }
            _ => self.check(outcome),
        }
    }
}

/// Compares results with what they must be.
fn compare(results: &[Val], expected: &[Literal], tolerance: f64) -> Result<(), TestFailure> {
    if results.len() != expected.len() {
        return Err(format!("{} results, expected {}", results.len(), expected.len()).into());
    }
    for (i, (found, expected)) in results.iter().zip(expected).enumerate() {
        let found = found.as_tensor().ok_or("a result is no tensor")?;
        let shape = expected.shape.clone().unwrap_or_else(|| found.shape().to_vec());
        let wanted = tensor(found.dtype(), &shape, &expected.values)?;
        let near = Difference::between(found, &wanted, tolerance, tolerance);
        if !near.is_some_and(|d| d.within_tolerance()) {
            return Err(format!("result {i} is {found:?}, expected {wanted:?}").into());
        }
    }
    Ok(())
}

/// The lines after `// run: `.
///
/// # Errors
/// There is none.
pub fn run_lines(text: &str) -> Result<Vec<&str>, TestFailure> {
    let lines: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("// run: ")).collect();
    if lines.is_empty() { Err("there is no `// run:` line".into()) } else { Ok(lines) }
}

/// The text without comments, blank lines and indentation at both ends.
pub fn code(text: &str) -> String {
    let lines = text.lines().filter(|l| !l.trim_start().starts_with("//") && !l.trim().is_empty());
    lines.map(|l| format!("{l}\n")).collect()
}

fn value(literal: &Literal, ty: &Type) -> Result<Val, TestFailure> {
    let t = ty.as_tensor().ok_or_else(|| format!("cannot write a {ty}"))?;
    let shape = literal.shape.clone().or_else(|| TensorType::static_shape(t));
    tensor(t.dtype, &shape.ok_or_else(|| format!("write the shape of the {ty}, as in `2x3[...]`"))?, &literal.values)
        .map(Val::Tensor)
}

fn tensor(dtype: DType, shape: &[usize], values: &[f64]) -> Result<Tensor, TestFailure> {
    if element_count(shape) != Some(values.len()) {
        return Err(format!("{} values do not fill the shape {shape:?}", values.len()).into());
    }
    Ok(Tensor::from_f64(dtype, shape, values)?)
}

/// Literals with commas between them.
fn literals(text: &str) -> Result<Vec<Literal>, TestFailure> {
    let (mut all, mut rest) = (vec![], text.trim());
    while !rest.is_empty() {
        let (literal, after) = match rest.find(['[', ',']) {
            Some(at) if rest[at..].starts_with('[') => {
                let end = rest.find(']').ok_or("a `[` has no `]`")?;
                let shape = match rest[..at].trim() {
                    "" => None,
                    dims => Some(optc_passes::parse_shape(dims).ok_or_else(|| format!("`{dims}` is not a shape"))?),
                };
                (Literal { shape, values: numbers(&rest[at + 1..end])? }, &rest[end + 1..])
            }
            at => {
                let end = at.unwrap_or(rest.len());
                (Literal { shape: None, values: numbers(&rest[..end])? }, &rest[end..])
            }
        };
        all.push(literal);
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Ok(all)
}

/// Numbers and truth values with commas between them.
pub(crate) fn numbers(text: &str) -> Result<Vec<f64>, TestFailure> {
    let number = |word: &str| match word {
        "true" => Ok(1.0),
        "false" => Ok(0.0),
        word => word.parse().map_err(|_| format!("`{word}` is not a number").into()),
    };
    text.split(',').map(str::trim).filter(|w| !w.is_empty()).map(number).collect()
}
