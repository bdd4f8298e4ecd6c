//! Names and what is known of them, within bounds.

use crate::sql::Name;
use pgpool_shm::ByteHasher;
use std::cell::Cell;
use std::collections::HashMap;

/// "For ever" as an end of life.
pub(super) const FOR_EVER: u32 = u32::MAX;

/// Facts of one kind, one per name. Times are seconds as the shared relation cache counts them.
#[derive(Debug)]
pub(super) struct Names<V> {
    entries: HashMap<Name, Entry<V>, ByteHasher>,
    /// Counts uses, to know the entry that was not used for longest.
    uses: Cell<u64>,
    /// No entry ends before.
    first_end: u32,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    end: u32,
    used: Cell<u64>,
}

impl<V> Default for Names<V> {
    fn default() -> Self {
        Self { entries: HashMap::default(), uses: Cell::new(0), first_end: FOR_EVER }
    }
}

impl<V: Copy> Names<V> {
    /// What is known of `name`.
    pub fn get(&self, name: &Name) -> Option<V> {
        let entry = self.entries.get(name)?;
        entry.used.set(self.next_use());
        Some(entry.value)
    }

    /// Learns a fact that counts until `end`.
    pub fn insert(&mut self, name: &Name, value: V, end: u32) {
        self.first_end = self.first_end.min(end);
        let used = Cell::new(self.next_use());
        self.entries.insert(name.clone(), Entry { value, end, used });
    }

    /// Nothing is known any more.
    pub fn clear(&mut self) {
        if !self.entries.is_empty() {
            *self = Self::default();
        }
    }

    /// Keeps what `keep` says of its value.
    pub fn retain(&mut self, keep: impl Fn(V) -> bool) {
        self.entries.retain(|_, entry| keep(entry.value));
    }

    /// Whether a fact may have an end: otherwise nobody needs to look at the clock.
    pub fn may_expire(&self) -> bool {
        self.first_end != FOR_EVER
    }

    /// Drops what has ended at `now`. Returns whether there was anything.
    pub fn expire(&mut self, now: u32) -> bool {
        let has_any = now >= self.first_end;
        if has_any {
            self.entries.retain(|_, entry| entry.end > now);
            self.first_end = self.entries.values().map(|entry| entry.end).min().unwrap_or(FOR_EVER);
        }
        has_any
    }

    /// Drops the names not used for longest until `size` are left. Returns whether it had to.
    pub fn trim(&mut self, size: usize) -> bool {
        let Some(surplus) = self.entries.len().checked_sub(size).filter(|surplus| *surplus > 0) else { return false };
        let mut uses: Vec<u64> = self.entries.values().map(|entry| entry.used.get()).collect();
        let (_, newest_victim, _) = uses.select_nth_unstable(surplus - 1);
        let newest_victim = *newest_victim;
        self.entries.retain(|_, entry| entry.used.get() > newest_victim);
        true
    }

    fn next_use(&self) -> u64 {
        let next = self.uses.get().wrapping_add(1);
        self.uses.set(next);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(names: &Names<u8>) -> Vec<u8> {
        let mut known: Vec<u8> = names.entries.values().map(|entry| entry.value).collect();
        known.sort_unstable();
        known
    }

    fn name(number: u8) -> Name {
        Name::bare(&number.to_string())
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let mut names = Names::default();
        (0..6).for_each(|number| names.insert(&name(number), number, FOR_EVER));
        assert!(!names.trim(6));
        names.get(&name(0));
        names.get(&name(2));
        assert!(names.trim(4));
        assert_eq!(known(&names), [0, 2, 4, 5]);
        assert!(names.trim(0) && known(&names).is_empty() && !names.trim(0));
    }

    #[test]
    fn each_fact_has_an_end_of_its_own() {
        let mut names = Names::default();
        names.insert(&name(1), 1, FOR_EVER);
        assert!(!names.may_expire());
        names.insert(&name(2), 2, 20);
        names.insert(&name(3), 3, 10);
        names.expire(9);
        assert_eq!(known(&names), [1, 2, 3]);
        names.expire(10);
        assert_eq!(known(&names), [1, 2]);
        assert!(names.may_expire());
        names.expire(20);
        assert_eq!((known(&names), names.may_expire()), (vec![1], false));
    }
}
