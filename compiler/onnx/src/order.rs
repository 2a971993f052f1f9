//! The names of one ONNX graph: order of evaluation, captures, and the errors that names can have.
//!
//! The format asks for topologically sorted nodes; exporters do not always comply, so nodes are sorted here, stably:
//! a sorted graph keeps its order. What a subgraph uses from outside counts as an input of the node that holds it.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::rc::Rc;

use crate::Diagnostic;
use crate::proto::{GraphProto, NodeProto};

/// The deepest nesting of subgraphs that is read.
const MAX_DEPTH: usize = 32;

/// What subgraphs capture, found once for each: a subgraph is asked for where it stands and at each level around it.
/// Graphs are told apart by where they are, so they must outlive this and stay there.
#[derive(Debug, Default)]
pub struct Names(RefCell<HashMap<*const GraphProto, Rc<BTreeSet<String>>>>);

impl Names {
    /// The names that a subgraph uses but does not define, sorted.
    ///
    /// # Errors
    /// Subgraphs are nested too deeply.
    pub fn captures(&self, graph: &GraphProto) -> Result<Rc<BTreeSet<String>>, Diagnostic> {
        self.captures_at(graph, 0)
    }

    fn captures_at(&self, graph: &GraphProto, depth: usize) -> Result<Rc<BTreeSet<String>>, Diagnostic> {
        if depth > MAX_DEPTH {
            return Err(Diagnostic::unsupported("import", format!("subgraphs are nested deeper than {MAX_DEPTH}")));
        }
        if let Some(known) = self.0.borrow().get(&std::ptr::from_ref(graph)) {
            return Ok(known.clone());
        }
        let mut defined: HashSet<&str> = graph.input.iter().map(|v| v.name()).collect();
        defined.extend(graph.initializer.iter().map(|t| t.name()));
        defined.extend(graph.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name())));
        defined.extend(graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str)));
        let mut used = BTreeSet::new();
        for node in &graph.node {
            self.each_use(node, depth, &mut |name| {
                if !defined.contains(name) && !used.contains(name) {
                    used.insert(name.to_owned());
                }
                Ok(())
            })?;
        }
        used.extend(graph.output.iter().map(|o| o.name().to_owned()));
        used.retain(|name| !name.is_empty() && !defined.contains(name.as_str()));
        let used = Rc::new(used);
        self.0.borrow_mut().insert(std::ptr::from_ref(graph), used.clone());
        Ok(used)
    }

    /// Hands each name that a node uses to `f`: its inputs, and what its subgraphs capture. One that is used twice
    /// comes twice.
    fn each_use(
        &self,
        node: &NodeProto,
        depth: usize,
        f: &mut dyn FnMut(&str) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        node.input.iter().filter(|n| !n.is_empty()).try_for_each(|name| f(name))?;
        for graph in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
            self.captures_at(graph, depth + 1)?.iter().try_for_each(|name| f(name))?;
        }
        Ok(())
    }
}

/// The order in which to evaluate `nodes`, given the names that are `defined` beforehand.
///
/// # Errors
/// A name is defined twice, a name that is used is never defined, or nodes depend on each other in a circle.
pub fn evaluation_order(
    nodes: &[NodeProto],
    names: &Names,
    defined: impl Fn(&str) -> bool,
) -> Result<Vec<usize>, Diagnostic> {
    let at = |i: usize, d: Diagnostic| d.at_node(nodes[i].name(), nodes[i].op_type(), None);
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|n| !n.is_empty()) {
            if producer.insert(name, i).is_some() || defined(name) {
                return Err(at(i, Diagnostic::new("import", format!("value `{name}` is defined twice"))));
            }
        }
    }
    let mut waiting = vec![0usize; nodes.len()];
    let mut consumers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        names.each_use(node, 0, &mut |name| {
            if let Some(&p) = producer.get(name) {
                consumers[p].push(i);
                waiting[i] += 1;
            } else if !defined(name) {
                let reason = format!("input `{name}` is not defined by any node, input or initializer");
                return Err(at(i, Diagnostic::new("import", reason)));
            }
            Ok(())
        })?;
    }
    let mut ready: BinaryHeap<_> = (0..nodes.len()).filter(|&i| waiting[i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &c in &consumers[i] {
            waiting[c] -= 1;
            if waiting[c] == 0 {
                ready.push(Reverse(c));
            }
        }
    }
    match (0..nodes.len()).find(|&i| waiting[i] > 0) {
        Some(stuck) => Err(at(stuck, Diagnostic::new("import", "the node depends on its own result, through a cycle"))),
        None => Ok(order),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{AttributeProto, ValueInfoProto};

    fn node(inputs: &[&str], outputs: &[&str]) -> NodeProto {
        let own = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        NodeProto { input: own(inputs), output: own(outputs), op_type: Some("Op".into()), ..NodeProto::default() }
    }

    #[test]
    fn sorted_graphs_keep_their_order_and_others_are_sorted() {
        let nodes = [node(&["x"], &["a"]), node(&["x"], &["b"]), node(&["a", "b", ""], &["c"])];
        assert_eq!(evaluation_order(&nodes, &Names::default(), |n| n == "x").unwrap(), [0, 1, 2]);
        let nodes = [node(&["a"], &["b"]), node(&["x"], &["a"])];
        assert_eq!(evaluation_order(&nodes, &Names::default(), |n| n == "x").unwrap(), [1, 0]);
    }

    #[test]
    fn bad_names_are_errors() {
        let reason = |nodes: &[NodeProto]| {
            evaluation_order(nodes, &Names::default(), |n| n == "x").unwrap_err().reason().to_owned()
        };
        assert!(reason(&[node(&["y"], &["a"])]).contains("`y` is not defined"));
        assert!(reason(&[node(&[], &["a"]), node(&[], &["a"])]).contains("`a` is defined twice"));
        assert!(reason(&[node(&[], &["x"])]).contains("`x` is defined twice"));
        assert!(reason(&[node(&["a"], &["b"]), node(&["b"], &["a"])]).contains("cycle"));
    }

    #[test]
    fn subgraphs_capture_what_they_do_not_define() {
        let output = |n: &str| ValueInfoProto { name: Some(n.into()), ..ValueInfoProto::default() };
        let body = GraphProto {
            node: vec![node(&["outer", "p"], &["inner"])],
            input: vec![output("p")],
            output: vec![output("inner"), output("direct")],
            ..GraphProto::default()
        };
        assert_eq!(Names::default().captures(&body).unwrap().iter().collect::<Vec<_>>(), ["direct", "outer"]);
        let mut nested = body;
        for _ in 0..40 {
            let holder = AttributeProto { g: Some(nested), ..AttributeProto::default() };
            let n = NodeProto { attribute: vec![holder], ..node(&[], &["y"]) };
            nested = GraphProto { node: vec![n], ..GraphProto::default() };
        }
        assert!(Names::default().captures(&nested).is_err());
    }
}
