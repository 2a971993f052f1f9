//! What a graph returns, with an index from values to the outputs that return them.

use std::collections::HashMap;
use std::ops::Deref;

use super::value::Value;

/// A named result of the whole graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The name that users know it by.
    pub name: String,
    /// The value.
    pub value: Value,
}

/// The outputs in order: a list that knows which values it holds.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    list: Vec<Output>,
    /// For each value that is returned, where.
    at: HashMap<Value, Vec<usize>>,
}

impl Outputs {
    /// Adds an output at the end.
    pub fn push(&mut self, output: Output) {
        self.at.entry(output.value).or_default().push(self.list.len());
        self.list.push(output);
    }

    /// Whether a value is among them.
    pub fn holds(&self, value: Value) -> bool {
        self.at.contains_key(&value)
    }

    /// Returns `new` wherever `old` was returned.
    pub fn replace(&mut self, old: Value, new: Value) {
        if old == new {
            return;
        }
        let Some(places) = self.at.remove(&old) else { return };
        places.iter().for_each(|&i| self.list[i].value = new);
        self.at.entry(new).or_default().extend(places);
    }
}

impl Deref for Outputs {
    type Target = [Output];

    fn deref(&self) -> &[Output] {
        &self.list
    }
}

impl FromIterator<Output> for Outputs {
    fn from_iter<I: IntoIterator<Item = Output>>(outputs: I) -> Outputs {
        let mut all = Outputs::default();
        outputs.into_iter().for_each(|output| all.push(output));
        all
    }
}

impl<'a> IntoIterator for &'a Outputs {
    type Item = &'a Output;
    type IntoIter = std::slice::Iter<'a, Output>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl IntoIterator for Outputs {
    type Item = Output;
    type IntoIter = std::vec::IntoIter<Output>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::NodeId;
    use super::*;

    #[test]
    fn values_are_found_and_replaced_wherever_they_are_returned() {
        let value = |node| Value { node: NodeId::new(node), result: 0 };
        let output = |node| Output { name: format!("y{node}"), value: value(node) };
        let mut outputs: Outputs = [output(1), output(2), output(1)].into_iter().collect();
        outputs.replace(value(1), value(2));
        outputs.replace(value(2), value(2));
        assert!(outputs.holds(value(2)) && !outputs.holds(value(1)));
        outputs.replace(value(2), value(3));
        assert!(outputs.iter().all(|o| o.value == value(3)));
    }
}
