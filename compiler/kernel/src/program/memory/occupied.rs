//! Which bytes of the arena are taken, and when: a segment tree over the steps, with sets of intervals of bytes at its
//! nodes.
//!
//! A span of steps is the disjoint union of about `2 log n` nodes of the tree, its *cover*. What a buffer takes is
//! noted at the nodes of its life's cover, for all spans within those, and at the nodes above, for spans around them.
//! So the bytes that are taken at some step of a span are in few sets, each a list of disjoint intervals however many
//! buffers lie side by side.

use std::collections::BTreeMap;

/// The bytes that are taken at each step.
pub(super) struct Occupied {
    /// The number of leaves: a power of two.
    leaves: usize,
    /// By node, the root at 1 and the children of `n` at `2 n`: what is taken throughout the node's steps.
    throughout: Vec<Intervals>,
    /// What is taken at some of them.
    somewhere: Vec<Intervals>,
}

impl Occupied {
    /// Nothing is taken at any of `steps` steps.
    pub fn new(steps: usize) -> Occupied {
        let leaves = steps.max(1).next_power_of_two();
        let empty = || vec![Intervals::default(); 2 * leaves];
        Occupied { leaves, throughout: empty(), somewhere: empty() }
    }

    /// The lowest offset at which `size` bytes are free from step `first` to step `last`.
    pub fn lowest_free(&self, (first, last): (usize, usize), size: usize) -> usize {
        let mut sets: Vec<&Intervals> = vec![];
        for node in self.cover(first, last) {
            sets.push(&self.somewhere[node]);
            sets.extend(ancestors(node).map(|above| &self.throughout[above]));
        }
        sets.retain(|set| !set.is_empty());
        let mut at = 0;
        // Each turn goes past an interval at least; none is left when a whole round finds nothing in the way.
        while let Some(end) = sets.iter().filter_map(|set| set.in_the_way(at, size)).max() {
            at = end;
        }
        at
    }

    /// Takes `size` bytes at `offset` from step `first` to step `last`.
    pub fn take(&mut self, (first, last): (usize, usize), offset: usize, size: usize) {
        for node in self.cover(first, last) {
            self.throughout[node].add(offset, offset + size);
            self.somewhere[node].add(offset, offset + size);
            for above in ancestors(node) {
                self.somewhere[above].add(offset, offset + size);
            }
        }
    }

    /// The fewest nodes whose steps are those from `first` to `last`.
    fn cover(&self, first: usize, last: usize) -> Vec<usize> {
        let (mut low, mut high) = (first + self.leaves, last + self.leaves + 1);
        let mut cover = vec![];
        while low < high {
            if low % 2 == 1 {
                cover.push(low);
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                cover.push(high);
            }
            (low, high) = (low / 2, high / 2);
        }
        cover
    }
}

/// The nodes above a node.
fn ancestors(node: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(node / 2), |n| Some(n / 2)).take_while(|&n| n > 0)
}

/// Disjoint intervals that do not touch, by their beginnings.
#[derive(Clone, Default)]
struct Intervals(BTreeMap<usize, usize>);

impl Intervals {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The end of the first interval that has bytes of `at..at + size`.
    fn in_the_way(&self, at: usize, size: usize) -> Option<usize> {
        let before = self.0.range(..=at).next_back().filter(|&(_, &end)| end > at);
        before.or_else(|| self.0.range(at..at + size).next()).map(|(_, &end)| end)
    }

    /// Adds an interval, joined with those that it meets.
    fn add(&mut self, mut start: usize, mut end: usize) {
        while let Some((&s, &e)) = self.0.range(..=end).next_back().filter(|&(_, &e)| e >= start) {
            if s <= start && end <= e {
                return;
            }
            self.0.remove(&s);
            (start, end) = (start.min(s), end.max(e));
        }
        self.0.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_what_no_buffer_of_the_time_takes() {
        let mut random = 1u64;
        let mut next = |n: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((random >> 33) % n) as usize
        };
        for steps in [1, 2, 7, 64, 100] {
            let (mut occupied, mut taken) = (Occupied::new(steps), vec![]);
            for _ in 0..200 {
                let (a, b) = (next(steps as u64), next(steps as u64));
                let (life, size) = ((a.min(b), a.max(b)), 64 * (1 + next(6)));
                let mut rivals: Vec<(usize, usize)> = taken
                    .iter()
                    .filter(|((first, last), _)| *first <= life.1 && life.0 <= *last)
                    .map(|&(_, place)| place)
                    .collect();
                rivals.sort_unstable();
                let mut lowest = 0;
                for (start, end) in rivals {
                    if start >= lowest + size {
                        break;
                    }
                    lowest = lowest.max(end);
                }
                assert_eq!(occupied.lowest_free(life, size), lowest);
                occupied.take(life, lowest, size);
                taken.push((life, (lowest, lowest + size)));
            }
        }
    }
}
