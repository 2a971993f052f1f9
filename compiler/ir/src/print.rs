//! The text form, printed.
//!
//! ```text
//! func @main(%image: tensor<1x1x28x28xf32>) {
//!   %0 = tensor.const {value = @c0 #5d1a9f03} : tensor<8x1x5x5xf32>
//!   %1 = nn.conv %image, %0 {pads = [2, 2, 2, 2]} : tensor<1x8x28x28xf32> loc("conv1") as "features"
//!   return %1 as "y"
//! }
//! ```
//!
//! One op a line, in topological order; values are numbered in that order; attributes sorted by name, defaults left
//! out; absent operands are `_`; `loc` names the nodes of the model that an op came from, `as` the results as the model
//! calls them, and `notes`, after the inputs, what the model's file says of itself. A constant whose elements are all
//! equal prints one of them, `dense<0.5>`. Other constants of more than [`INLINE`] elements, and those with NaN, print
//! as symbols with a hash of their contents, and their data comes beside the text.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use optc_kernel::program::Program;
use optc_tensor::{DType, Tensor};

use crate::{Attr, Graph, NodeId, Op, Value};

/// Constants up to this many elements are printed in the text.
const INLINE: usize = 16;

/// Constants of equal elements are printed as one element up to this many: a line of text makes no larger tensor.
pub(crate) const MAX_SPLAT: usize = 1 << 16;

/// A graph's text and the constants that it names, in the order of their symbols.
#[derive(Debug, Clone, PartialEq)]
pub struct Printed {
    /// The text.
    pub text: String,
    /// `(symbol, data)` of the constants that are not in the text.
    pub constants: Vec<(String, Tensor)>,
}

/// Prints a graph. Equal graphs print equally.
pub fn print(graph: &Graph) -> Printed {
    let mut out = Printed { text: String::new(), constants: vec![] };
    print_func(graph, 0, &mut out);
    out
}

fn print_func(graph: &Graph, indent: usize, out: &mut Printed) {
    let pad = "  ".repeat(indent);
    let mut names = HashMap::new();
    let mut numbers = Numbers { next: 0, taken: graph.inputs().filter_map(|v| graph.input_name(v)).collect() };
    let inputs = graph.inputs().map(|v| {
        let name = format!("%{}", symbol(graph.input_name(v).unwrap_or_default()));
        names.insert(v, name.clone());
        format!("{name}: {}", graph.ty(v))
    });
    let inputs = inputs.collect::<Vec<_>>().join(", ");
    let notes: Vec<String> = graph.notes.iter().map(|(key, text)| format!("{key:?} = {text:?}")).collect();
    let notes = if notes.is_empty() { String::new() } else { format!(" notes({})", notes.join(", ")) };
    let _ = writeln!(out.text, "{pad}func @{}({inputs}){notes} {{", symbol(&graph.name));
    for id in graph.topological_order().unwrap_or_default() {
        if !matches!(graph.node(id).op, Op::Param(_)) {
            print_node(graph, id, indent + 1, &mut names, &mut numbers, out);
        }
    }
    let outputs: Vec<String> =
        graph.outputs.iter().map(|o| format!("{} as {:?}", name(&names, o.value), o.name)).collect();
    let _ = writeln!(out.text, "{pad}  return {}\n{pad}}}", outputs.join(", "));
}

/// The numbers that results are called by: those that are not an input's name, which may be a number.
struct Numbers<'a> {
    next: usize,
    taken: HashSet<&'a str>,
}

impl Numbers<'_> {
    fn take(&mut self) -> String {
        loop {
            let number = self.next.to_string();
            self.next += 1;
            if !self.taken.contains(number.as_str()) {
                return number;
            }
        }
    }
}

fn name(names: &HashMap<Value, String>, value: Value) -> String {
    names.get(&value).cloned().unwrap_or_else(|| "%undefined".to_owned())
}

fn print_node(
    graph: &Graph,
    id: NodeId,
    indent: usize,
    names: &mut HashMap<Value, String>,
    numbers: &mut Numbers,
    out: &mut Printed,
) {
    let node = graph.node(id);
    let results: Vec<String> = (0..node.results.len())
        .map(|result| {
            let text = format!("%{}", numbers.take());
            names.insert(Value { node: id, result: result as u32 }, text.clone());
            text
        })
        .collect();
    let operands: Vec<String> = node.operands.iter().map(|v| v.map_or("_".to_owned(), |v| name(names, v))).collect();
    let _ = write!(out.text, "{}{} = {}", "  ".repeat(indent), results.join(", "), node.op.name());
    if !operands.is_empty() {
        let _ = write!(out.text, " {}", operands.join(", "));
    }
    let attrs: Vec<String> =
        node.op.attrs().into_iter().map(|(n, a)| format!("{n} = {}", print_attr(&a, &mut out.constants))).collect();
    if !attrs.is_empty() {
        let _ = write!(out.text, " {{{}}}", attrs.join(", "));
    }
    let types: Vec<String> = node.results.iter().map(|r| r.ty.to_string()).collect();
    let _ = write!(out.text, " : {}", types.join(", "));
    if !node.loc.is_empty() {
        let _ = write!(out.text, " loc({})", quoted(&node.loc));
    }
    if node.names.iter().any(|name| !name.is_empty()) {
        let _ = write!(out.text, " as {}", quoted(&node.names));
    }
    for region in &node.regions {
        out.text.push_str(" region\n");
        print_func(region, indent, out);
        out.text.pop();
    }
    out.text.push('\n');
}

/// Strings with commas between.
fn quoted(strings: &[String]) -> String {
    strings.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ")
}

/// A name as it stands after `%` or `@`: quoted where it is not plain.
fn symbol(name: &str) -> String {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let plain = first && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    if plain { name.to_owned() } else { format!("{name:?}") }
}

fn print_attr(attr: &Attr, constants: &mut Vec<(String, Tensor)>) -> String {
    match attr {
        Attr::Int(v) => v.to_string(),
        Attr::Real(v) => format!("{:?}", v.0),
        Attr::Bool(v) => v.to_string(),
        Attr::Str(v) => format!("{v:?}"),
        Attr::Ints(v) => format!("{v:?}"),
        Attr::Reals(v) => format!("{v:?}"),
        Attr::Strs(v) => format!("{v:?}"),
        Attr::DType(v) => v.to_string(),
        Attr::Type(v) => v.to_string(),
        Attr::Const(c) => print_constant(&c.0, constants),
    }
}

fn print_constant(t: &Tensor, constants: &mut Vec<(String, Tensor)>) -> String {
    let ty = crate::TensorType::fixed(t.dtype(), t.shape());
    if let Some(one) = splat(t) {
        return format!("dense<{}> : {ty}", elements(&one).join(", "));
    }
    let finite = || t.to_f64_vec().iter().all(|v| v.is_finite());
    if t.len() > INLINE || t.dtype() == DType::Str || !finite() {
        let symbol = format!("c{}", constants.len());
        constants.push((symbol.clone(), t.clone()));
        return format!("@{symbol} #{:08x}", Program::checksum(t));
    }
    format!("dense<[{}]> : {ty}", elements(t).join(", "))
}

/// The one element of a constant of several equal ones, all of the same bits and finite.
fn splat(t: &Tensor) -> Option<Tensor> {
    if t.len() < 2 || t.len() > MAX_SPLAT || t.dtype() == DType::Str {
        return None;
    }
    let width = t.bytes().len() / t.len();
    let first =
        t.bytes().get(..width).filter(|first| width > 0 && t.bytes().chunks_exact(width).all(|e| e == *first))?;
    let one = Tensor::from_bytes(t.dtype(), &[1], first).ok()?;
    one.to_f64_vec().iter().all(|v| v.is_finite()).then_some(one)
}

/// The elements as numbers that read as the same values.
fn elements(t: &Tensor) -> Vec<String> {
    match t.dtype() {
        DType::F32 => t.to_f64_vec().iter().map(|&v| format!("{:?}", v as f32)).collect(),
        d if d.is_real() => t.to_f64_vec().iter().map(|v| format!("{v:?}")).collect(),
        _ => t.to_i64_vec().iter().map(|v| v.to_string()).collect(),
    }
}
