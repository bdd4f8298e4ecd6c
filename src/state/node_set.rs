//! A set of node ids.

use super::MAX_NODES;
use std::fmt;

/// Some of the nodes 0 to 127.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct NodeSet(u128);

impl NodeSet {
    /// No node.
    pub const EMPTY: Self = Self(0);

    /// Just this node; none if the id is out of range.
    pub fn of(node: usize) -> Self {
        Self(if node < MAX_NODES { 1 << node } else { 0 })
    }

    /// Adds a node.
    pub fn insert(&mut self, node: usize) {
        self.0 |= Self::of(node).0;
    }

    /// Takes a node out.
    pub fn remove(&mut self, node: usize) {
        self.0 &= !Self::of(node).0;
    }

    /// Whether the node is in it.
    pub fn contains(self, node: usize) -> bool {
        self.0 & Self::of(node).0 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The nodes of either.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The ids, in ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let node = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(node)
        })
    }

    pub(super) fn halves(self) -> [u64; 2] {
        [self.0 as u64, (self.0 >> 64) as u64]
    }

    pub(super) fn from_halves([low, high]: [u64; 2]) -> Self {
        Self(u128::from(high) << 64 | u128::from(low))
    }
}

impl FromIterator<usize> for NodeSet {
    fn from_iter<I: IntoIterator<Item = usize>>(nodes: I) -> Self {
        nodes.into_iter().fold(Self::EMPTY, |set, node| set.union(Self::of(node)))
    }
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_set_of_128() {
        let mut set: NodeSet = [0, 3, 127, 128, 3].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 127]);
        set.remove(3);
        assert!(!set.contains(3) && set.contains(127) && set.len() == 2);
        assert_eq!(NodeSet::from_halves(set.halves()), set);
    }
}
