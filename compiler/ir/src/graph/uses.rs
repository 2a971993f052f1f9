//! Who reads what: the uses of each value, kept in step with the operands.
//!
//! A use is taken out of its value's list in constant time, however many there are: each slot knows its place in the
//! list.

use std::collections::BTreeMap;

use super::value::{NodeId, Value};

/// The place of a slot that is in no list: it is empty, or its value's node was removed.
const NOWHERE: u32 = u32::MAX;

/// The slots that read a value, in no order.
type List = Vec<(NodeId, u32)>;

/// The uses of all values.
#[derive(Debug, Clone, Default)]
pub(super) struct Uses {
    /// By node: the uses of its first result.
    first: Vec<List>,
    /// Those of other results, which few nodes have.
    others: BTreeMap<Value, List>,
    /// By node and operand slot: the place in the list of the value that it reads.
    places: Vec<Vec<u32>>,
    /// By node: how many slots read something.
    reads: Vec<u32>,
}

impl Uses {
    /// The uses of a value, in no particular order.
    pub fn of(&self, value: Value) -> &[(NodeId, u32)] {
        let list = if value.result == 0 { self.first.get(value.node.index()) } else { self.others.get(&value) };
        list.map_or(&[], |list| list)
    }

    fn list(&mut self, value: Value) -> &mut List {
        match value.result {
            0 => entry(&mut self.first, value.node.index()),
            _ => self.others.entry(value).or_default(),
        }
    }

    /// The users of all results of a node, once for each slot.
    pub fn of_node(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let first = self.first.get(node.index()).into_iter();
        let results = Value { node, result: 1 }..=Value { node, result: u32::MAX };
        let others =
            Some(&self.others).filter(|o| !o.is_empty()).into_iter().flat_map(move |o| o.range(results.clone()));
        first.chain(others.map(|(_, list)| list)).flatten().map(|&(user, _)| user)
    }

    /// How many slots of a node read something.
    pub fn operands(&self, id: NodeId) -> usize {
        self.reads.get(id.index()).map_or(0, |&n| n as usize)
    }

    /// Whether these operands of a node are what is noted of it.
    pub fn agree(&self, id: NodeId, operands: &[Option<Value>]) -> bool {
        let noted = |(slot, value): (usize, &Option<Value>)| {
            let place = self.places.get(id.index()).and_then(|places| places.get(slot)).copied().unwrap_or(NOWHERE);
            match value {
                Some(value) => self.of(*value).get(place as usize) == Some(&(id, slot as u32)),
                None => place == NOWHERE,
            }
        };
        self.operands(id) == operands.iter().flatten().count() && operands.iter().enumerate().all(noted)
    }

    /// Notes that an operand slot reads a value.
    pub fn add(&mut self, user: NodeId, slot: usize, value: Value) {
        let list = self.list(value);
        let place = list.len() as u32;
        list.push((user, slot as u32));
        let places = entry(&mut self.places, user.index());
        if places.len() <= slot {
            places.resize(slot + 1, NOWHERE);
        }
        places[slot] = place;
        *entry(&mut self.reads, user.index()) += 1;
    }

    /// Forgets that an operand slot reads a value.
    pub fn remove(&mut self, user: NodeId, slot: usize, value: Value) {
        let Some(place) = self.places.get_mut(user.index()).and_then(|places| places.get_mut(slot)) else { return };
        let place = std::mem::replace(place, NOWHERE);
        if place == NOWHERE {
            return;
        }
        self.reads[user.index()] -= 1;
        let list = self.list(value);
        list.swap_remove(place as usize);
        if let Some(&(moved, slot)) = list.get(place as usize) {
            self.places[moved.index()][slot as usize] = place;
        }
    }

    /// Forgets a node that reads nothing any more. Slots that still read its results read nothing.
    pub fn remove_node(&mut self, id: NodeId) {
        let mut lists: Vec<List> = self.first.get_mut(id.index()).map(std::mem::take).into_iter().collect();
        while let Some((&value, _)) =
            self.others.range(Value { node: id, result: 1 }..).next().filter(|(v, _)| v.node == id)
        {
            lists.extend(self.others.remove(&value));
        }
        for (user, slot) in lists.into_iter().flatten() {
            self.places[user.index()][slot as usize] = NOWHERE;
            self.reads[user.index()] -= 1;
        }
        if let Some(places) = self.places.get_mut(id.index()) {
            places.clear();
        }
    }
}

/// Element `i`, which is made where it is not there.
fn entry<T: Clone + Default>(list: &mut Vec<T>, i: usize) -> &mut T {
    if list.len() <= i {
        list.resize(i + 1, T::default());
    }
    &mut list[i]
}
